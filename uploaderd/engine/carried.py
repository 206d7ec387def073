"""The sessions of files that this process has just carried: their receipts need not read them.

It only spares questions to the journal: what is not known here is read there, and says the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uploaderd.core.model import Part, Upload

MOST = 128  # sessions; who comes too late to be filed reads the journal
FEW = 16  # parts; for those of a big file one question more is nothing


class Carried:
    """Sessions between their ``complete`` and their receipt, by their key."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Upload, tuple[Part, ...]]] = {}

    def keep(self, upload: Upload, parts: Sequence[Part]) -> None:
        """Remember a session whose parts are all stored, in the order of the file."""
        if len(parts) > FEW:
            return
        while len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[upload.key] = (upload, tuple(parts))

    def session(self, key: str) -> tuple[Upload, tuple[Part, ...]] | None:
        """What is known of a session."""
        return self._known.get(key)

    def drop(self, key: str) -> None:
        """Forget a session: its receipt is written, or somebody else is to write it."""
        self._known.pop(key, None)
