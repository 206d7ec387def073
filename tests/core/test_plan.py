"""The plan of parts: every size at scaled-down limits, chosen ones at the real limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.core.plan import (
    MAX_PART_BYTES,
    MIB,
    MIN_PART_BYTES,
    auto_part_bytes,
    ranges,
)

GIB = 1 << 30


def covers(size: int, part_bytes: int) -> None:
    """Check that the parts cover a file exactly once, in order."""
    parts = ranges(size, part_bytes)
    offset = 0
    for number, part in enumerate(parts, start=1):
        assert part.number == number
        assert part.offset == offset
        assert 0 < part.length <= part_bytes
        assert part.length == part_bytes or number == len(parts)
        offset += part.length
    assert offset == size


def test_every_size_and_every_part_size_is_covered_exactly_once_in_order() -> None:
    """At limits scaled down to 64 bytes in parts of 1 to 17."""
    for size in range(65):
        for part_bytes in range(1, 18):
            covers(size, part_bytes)


@given(
    size=st.integers(0, 8 * GIB),
    part_bytes=st.integers(MIN_PART_BYTES, MAX_PART_BYTES),
)
def test_real_sizes_are_covered_exactly_once_in_order(size: int, part_bytes: int) -> None:
    """From 0 bytes to 8 GB in parts of 1 MiB to 64 MiB."""
    covers(size, part_bytes)


@pytest.mark.parametrize("part_bytes", [MIN_PART_BYTES, 64 * MIB])
@pytest.mark.parametrize("near", [-1, 0, 1])
def test_the_edges_of_a_part_are_no_trouble(part_bytes: int, near: int) -> None:
    """One byte less or more than a whole number of parts."""
    covers(3 * part_bytes + near, part_bytes)
    covers(part_bytes + near, part_bytes)


@pytest.mark.parametrize(("size", "part_bytes"), [(-1, 1), (1, 0), (1, -5)])
def test_nonsense_is_refused(size: int, part_bytes: int) -> None:
    """No negative size, no part without bytes."""
    with pytest.raises(ValueError, match="cannot cut"):
        ranges(size, part_bytes)


def test_the_chosen_part_size_grows_with_the_file_at_scaled_down_limits() -> None:
    """For every size: within the limits, a multiple of the step, never more parts than needed."""
    before = 0
    for size in range(2_000):
        chosen = auto_part_bytes(size, smallest=8, largest=64, parts=10, step=4)
        assert 8 <= chosen <= 64
        assert chosen % 4 == 0
        assert chosen >= before
        if chosen < 64:
            assert len(ranges(size, chosen)) <= 10
        before = chosen


@given(st.integers(0, 9 * GIB))
def test_the_chosen_part_size_is_one_that_the_service_takes(size: int) -> None:
    """Between 1 MiB and 64 MiB, whatever the file."""
    assert MIN_PART_BYTES <= auto_part_bytes(size) <= MAX_PART_BYTES
