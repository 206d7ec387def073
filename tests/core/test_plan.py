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
    measured_part_bytes,
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


@pytest.mark.parametrize(
    ("rate_bps", "size", "places", "parts_of"),
    [
        (None, 3 * MIB, 4, 8),  # nothing is known: the rule by size
        (None, 8 * GIB, 4, 16),
        (2.5 * MIB, 8 * GIB, 4, 25),  # ten seconds' work
        (30_000, 8 * GIB, 4, 1),  # a slow link: the least
        (100 * MIB, 8 * GIB, 4, 64),  # a fast one: the most that the service takes
        (4 * MIB, 80 * MIB, 4, 20),  # a file that is alone keeps all places busy
        (4 * MIB, 8 * MIB, 4, 12),  # but three seconds' work it is
        (4 * MIB, 81 * MIB, 4, 21),
        (0.04 * MIB, 8 * MIB, 32, 1),
    ],
)
def test_a_part_is_ten_seconds_of_one_connections_work(
    rate_bps: float | None, size: int, places: int, parts_of: int
) -> None:
    """In whole MiB; literal numbers."""
    assert measured_part_bytes(size, rate_bps, places) == parts_of * MIB


@given(st.integers(0, 9 * GIB), st.one_of(st.none(), st.floats(0.0, 1e12)), st.integers(1, 64))
def test_whatever_was_measured_the_service_takes_the_part(
    size: int, rate_bps: float | None, places: int
) -> None:
    """Between 1 MiB and 64 MiB, in whole MiB, and never more than ten thousand of them."""
    chosen = measured_part_bytes(size, rate_bps, places)
    assert MIN_PART_BYTES <= chosen <= MAX_PART_BYTES
    assert chosen % MIB == 0
    assert len(ranges(size, chosen)) < 10_000
