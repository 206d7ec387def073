"""Which files somebody asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a file must be like; what is empty or None says nothing.

    Attributes:
        states: it is in one of these.
        watch: it was dropped below this folder.
        path: it was there: absolute as a person says it, below ``watch`` for the journal.
        target: it goes to this one.
        code: its reason's code is this, or begins with this and a dot.
    """

    states: tuple[str, ...] = ()
    watch: str | None = None
    path: bytes | None = None
    target: str | None = None
    code: str | None = None

    def has_code(self, code: str) -> bool:
        """Whether a reason's code is asked for."""
        return self.code is None or code == self.code or code.startswith(f"{self.code}.")
