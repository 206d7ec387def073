"""The plan of parts: contiguous ranges that cover a file exactly once, in order."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
MIN_PART_BYTES = 1 * MIB
MAX_PART_BYTES = 64 * MIB  # the SDK sends 67,108,864 bytes as "64 MB" (protocol note 3)
AUTO_PART_BYTES = 8 * MIB
AUTO_PARTS = 512
LEAST_WORK_S = 3.0  # in which a part's own cost, some round trips, is lost
WORK_S = 10.0  # of one connection: little is lost with it, and few parts cost little


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


def measured_part_bytes(
    size: int,
    rate_bps: float | None,
    places: int,
    *,
    smallest: int = MIN_PART_BYTES,
    largest: int = MAX_PART_BYTES,
    step: int = MIB,
) -> int:
    """Choose a part size in bytes for a file by what one connection was seen to carry.

    It is ten seconds' work, or less where a file that is alone would else leave places unused; but
    then three seconds' at least.

    Args:
        size: the file's, in bytes.
        rate_bps: of one connection, in bytes a second; None where it is not known.
        places: how many parts may fly at once.
        smallest: the least that is chosen.
        largest: the most that is chosen.
        step: it is a multiple of this.
    """
    if rate_bps is None:
        return auto_part_bytes(size)
    work = round(rate_bps * WORK_S / step) * step
    least = round(rate_bps * LEAST_WORK_S / step) * step
    share = -(-size // (places * step)) * step
    return max(smallest, min(work, max(share, least), largest))
