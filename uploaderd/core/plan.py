"""The plan of parts: contiguous ranges that cover a file exactly once, in order."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
MIN_PART_BYTES = 1 * MIB
MAX_PART_BYTES = 64 * MIB  # the SDK sends 67,108,864 bytes as "64 MB" (protocol note 3)
AUTO_PART_BYTES = 8 * MIB
AUTO_PARTS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """One part's place: ``length`` bytes from ``offset``; numbers count from 1."""

    number: int
    offset: int
    length: int


def ranges(size: int, part_bytes: int) -> tuple[Range, ...]:
    """Cut ``size`` bytes into parts of ``part_bytes``; only the last may be shorter.

    Raises:
        ValueError: a size below zero or a part below one byte.
    """
    if size < 0 or part_bytes < 1:
        raise ValueError(f"cannot cut {size} bytes into parts of {part_bytes}")
    return tuple(
        Range(number=index + 1, offset=offset, length=min(part_bytes, size - offset))
        for index, offset in enumerate(range(0, size, part_bytes))
    )


def auto_part_bytes(
    size: int,
    *,
    smallest: int = AUTO_PART_BYTES,
    largest: int = MAX_PART_BYTES,
    parts: int = AUTO_PARTS,
    step: int = MIB,
) -> int:
    """Choose a part size in bytes for a file, a multiple of ``step``.

    It is small enough to lose little when a link breaks, and large enough that a file has at
    most about ``parts`` of them.
    """
    wanted = -(-size // parts)
    rounded = -(-wanted // step) * step
    return max(smallest, min(largest, rounded))
