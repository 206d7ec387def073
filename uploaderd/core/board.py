"""The parts of one session on the way: which is next, which are proved, is it all there."""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING

from uploaderd.core.model import PartState
from uploaderd.core.report import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uploaderd.core.model import Part


class Finding(StrEnum):
    """What comparing a stored part with the bytes on disk says.

    A part that an earlier run stored and that differs is sent again. One that was sent in this
    run and differs from what the ordered pass read means that the file changed between the two.
    """

    OPEN = "open"
    SAME = "same"
    RESEND = "resend"
    CHANGED = "changed"


class Board:
    """Keeps the book; mutated synchronously, it does nothing by itself."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts = {part.number: part for part in parts}
        self._todo = deque(
            number for number, part in self._parts.items() if part.state is not PartState.STORED
        )
        self._flying: set[int] = set()
        self._fresh: set[int] = set()
        self._ids = {part.part_id for part in self._parts.values() if part.part_id is not None}
        self._seen: dict[int, bytes] = {}
        self._stored_bytes = sum(p.length for p in self._parts.values() if _is_stored(p))
        self._stored = sum(1 for p in self._parts.values() if _is_stored(p))
        self._front = max(
            (p.offset + p.length for p in self._parts.values() if _is_stored(p)), default=0
        )

    @property
    def waiting(self) -> bool:
        """Whether a part is still to be sent."""
        return bool(self._todo)

    @property
    def flying(self) -> int:
        """How many parts are being sent."""
        return len(self._flying)

    @property
    def front(self) -> int:
        """The furthest byte offset that was, or is being, sent."""
        return self._front

    @property
    def untouched(self) -> bool:
        """Whether no request for any part ever left."""
        return not any(part.sends for part in self._parts.values())

    @property
    def stored_afresh(self) -> bool:
        """Whether this run stored anything."""
        return bool(self._fresh)

    @property
    def complete(self) -> bool:
        """Whether every part is stored and proved by the ordered pass."""
        there = self._stored == len(self._parts) == len(self._seen)
        # A part that was just found to differ counts as stored until the journal forgot it.
        return there and all(p.digest == self._seen[n] for n, p in self._parts.items())

    @property
    def parts(self) -> list[Part]:
        """All of them, in the order of the file."""
        return [part for _, part in sorted(self._parts.items())]

    @property
    def part_ids(self) -> list[str]:
        """The ids of the stored parts, in the order of the file."""
        return [
            part.part_id for part in self.parts if part.part_id is not None and _is_stored(part)
        ]

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(
            total=len(self._parts),
            stored=self._stored,
            in_flight=len(self._flying),
            bytes_stored=self._stored_bytes,
        )

    def take(self) -> Part:
        """The next part to send; it counts as flying from now on.

        Raises:
            IndexError: none is waiting.
        """
        number = self._todo.popleft()
        part = self._parts[number]
        self._flying.add(number)
        self._front = max(self._front, part.offset + part.length)
        return part

    def claim(self, part_id: str) -> bool:
        """Note a part's id; False if another part bears it, since replies may be mistaken."""
        if part_id in self._ids:
            return False
        self._ids.add(part_id)
        return True

    def update(self, part: Part) -> None:
        """Note a step of a part that goes on flying."""
        self._parts[part.number] = part

    def landed(self, number: int) -> Finding:
        """Note that a part flies no more: it is stored, or to be sent again."""
        self._flying.discard(number)
        part = self._parts[number]
        if not _is_stored(part):
            self._todo.appendleft(number)
            return Finding.OPEN
        self._stored += 1
        self._stored_bytes += part.length
        self._fresh.add(number)
        return self._compare(number)

    def seen(self, number: int, digest: bytes) -> Finding:
        """Note the digest that the ordered pass found on disk."""
        self._seen[number] = digest
        return self._compare(number)

    def disproved(self, part: Part) -> None:
        """Note that a stored part was forgotten, because the disk says otherwise."""
        self._parts[part.number] = part
        self._stored -= 1
        self._stored_bytes -= part.length
        self._todo.appendleft(part.number)

    def part(self, number: int) -> Part:
        """The part of this number."""
        return self._parts[number]

    def _compare(self, number: int) -> Finding:
        part, seen = self._parts[number], self._seen.get(number)
        if seen is None or not _is_stored(part):
            return Finding.OPEN
        if seen == part.digest:
            return Finding.SAME
        return Finding.CHANGED if number in self._fresh else Finding.RESEND


def _is_stored(part: Part) -> bool:
    return part.state is PartState.STORED
