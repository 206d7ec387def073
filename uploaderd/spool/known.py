"""What a scan need not tell again: the names whose file is at work as it stands there.

For each name that was dealt with this keeps two numbers of 64 bits: the hash of its path, and one
of what stood there (device, inode, size, mtime, ctime). A full scan passes over a name whose two
numbers fit. That this loses nothing hangs on two rules:

- a name is put in only once the journal holds a row for it that goes on by itself, with that very
  identity, or one that says that this content is not wanted;
- whatever ends or forgets such a row doubts its name, and the next scan tells it again.

Hashes of Python's are keyed and live as long as the process; a wrong match needs 64 equal bits.
"""

from __future__ import annotations

import os
from array import array
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from uploaderd.core.model import Identity

_FULL = 2**64 - 1
_SEGMENTS_BITS = 8  # so that growing never takes long at a time
_SHIFT = 64 - _SEGMENTS_BITS
_SMALLEST = 8
_SPARE = 8192  # names that were taken away from under us; more are not kept for nothing

_Segment = tuple["array[int]", "array[int]"]


def key_of(path: str) -> int:
    """The number of a path below the watch, decoded as ``os.fsdecode`` does."""
    return hash(path) & _FULL or 1


def mark_of(key: int, dev: int, inode: int, size: int, mtime_ns: int, ctime_ns: int) -> int:
    """The number of what stands at the path of ``key``."""
    return hash((key, dev, inode, size, mtime_ns, ctime_ns)) & _FULL or 1


class Known:
    """The names of one watch that are dealt with, some 16 to 48 bytes each.

    It changes on the event loop only; a scan asks it on any thread. What it is told while it is
    asked may count at once or from the next scan on.
    """

    def __init__(self) -> None:
        self._segments: list[_Segment] = []
        self._used: list[int] = []
        self._opinions: set[Opinion] = set()
        self.count = 0
        self.clear()

    def clear(self) -> None:
        """Let the next scan tell everything."""
        self._segments = [_empty(_SMALLEST) for _ in range(1 << _SEGMENTS_BITS)]
        self._used = [0] * (1 << _SEGMENTS_BITS)
        self.count = 0
        for opinion in self._opinions:
            opinion.void = True

    def has(self, key: int, mark: int) -> bool:
        """Whether what stands at a path is dealt with."""
        keys, marks = self._segments[key >> _SHIFT]
        mask = len(keys) - 1
        at = key & mask
        while there := keys[at]:
            if there == key:
                return marks[at] == mark
            at = (at + 1) & mask
        return False

    def holds(self, path: bytes, identity: Identity) -> bool:
        """The same, of a path and an identity."""
        key = key_of(os.fsdecode(path))
        return self.has(key, _mark(key, identity))

    def doubt(self, path: bytes) -> None:
        """Let the next scan tell what stands at this path, whatever it is."""
        key = key_of(os.fsdecode(path))
        for opinion in self._opinions:
            opinion.doubted.add(key)
        keys, marks = self._segments[key >> _SHIFT]
        at = _find(keys, key)
        if keys[at] and marks[at]:
            marks[at] = 0
            self.count -= 1

    def opinion(self) -> Opinion:
        """Begin to form an opinion of some names; what is doubted meanwhile is left out of it."""
        return Opinion(self)

    def scanned(self, passed: int) -> None:
        """A full scan came to its end and passed over so many names: are there many more?"""
        if self.count > 2 * passed + _SPARE:
            self.clear()

    def opened(self, opinion: Opinion) -> None:
        """Tell an opinion of doubts from now on."""
        self._opinions.add(opinion)

    def closed(self, opinion: Opinion) -> None:
        """Tell it no more."""
        self._opinions.discard(opinion)

    def put(self, key: int, mark: int) -> None:
        """Note what stands at a path; ``Opinion.keep`` is for that."""
        number = key >> _SHIFT
        keys, marks = self._segments[number]
        at = _find(keys, key)
        self.count += not (keys[at] and marks[at])
        marks[at] = mark  # before the key: a scan may look at this very moment
        if not keys[at]:
            keys[at] = key
            self._used[number] += 1
            if self._used[number] * 4 > len(keys) * 3:
                self._grow(number)

    def _grow(self, number: int) -> None:
        keys, marks = self._segments[number]
        there = [(key, mark) for key, mark in zip(keys, marks, strict=True) if mark]
        size = _SMALLEST
        while size < 2 * len(there):
            size *= 2
        segment = _empty(size)
        for key, mark in there:
            at = _find(segment[0], key)
            segment[0][at], segment[1][at] = key, mark
        self._segments[number], self._used[number] = segment, len(there)


class Opinion:
    """What one batch of sightings came to, kept unless it was doubted before it was whole.

    Attributes:
        void: all was doubted meanwhile.
    """

    def __init__(self, known: Known) -> None:
        self.doubted: set[int] = set()
        self.void = False
        self._known = known

    def __enter__(self) -> Self:
        """Listen to doubts from here on: before the journal is asked."""
        self._known.opened(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Listen no more."""
        self._known.closed(self)

    def keep(self, path: bytes, identity: Identity) -> None:
        """The journal holds a row that goes on by itself for what stands at a path."""
        key = key_of(os.fsdecode(path))
        if not self.void and key not in self.doubted:
            self._known.put(key, _mark(key, identity))


def _mark(key: int, identity: Identity) -> int:
    return mark_of(
        key,
        identity.dev,
        identity.inode,
        identity.size,
        identity.mtime_ns,
        identity.ctime_ns,
    )


def _empty(size: int) -> _Segment:
    return array("Q", bytes(8 * size)), array("Q", bytes(8 * size))


def _find(keys: array[int], key: int) -> int:
    """Where a key stands, or the free slot that it would get."""
    mask = len(keys) - 1
    at = key & mask
    while (there := keys[at]) and there != key:
        at = (at + 1) & mask
    return at
