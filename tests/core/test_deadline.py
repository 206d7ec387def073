"""The hour: what fits into it by the configured bandwidth and by the measured rate."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.config.units import UNLIMITED
from uploaderd.core.deadline import Open, begin_in_s, capacity, hopeless, lower, may_open, the_sum
from uploaderd.core.meter import LEARNT_S, MEMORY_S, Goodput
from uploaderd.core.timetable import Timetable

HOUR = 3_600
SLOW_BY_DAY = Timetable(((8 * HOUR, 1_000), (18 * HOUR, None)))
STEPS = Timetable(((0, 100), (6 * HOUR, 200), (12 * HOUR, 50)))


def test_without_a_limit_everything_fits() -> None:
    """An unlimited hour is begun at once, whatever the size."""
    assert capacity(UNLIMITED, 0.0, HOUR) == math.inf
    assert begin_in_s(UNLIMITED, 5.0, 1 << 62, HOUR) == 0


@pytest.mark.parametrize(("size", "wait_s"), [(3_600_000, 0.0), (3_600_001, None)])
def test_one_rate_for_the_whole_day_fits_or_never_does(size: int, wait_s: float | None) -> None:
    """What an hour at that rate does not carry is never begun."""
    assert begin_in_s(Timetable(((0, 1_000),)), 0.0, size, HOUR) == wait_s


def test_a_session_waits_for_an_hour_that_carries_it() -> None:
    """Ten in the morning is too slow for it, the evening is not."""
    wait_s = begin_in_s(SLOW_BY_DAY, 10.0 * HOUR, 1 << 40, HOUR)
    assert wait_s == 8 * HOUR  # 18:00
    wait_s = begin_in_s(STEPS, 12.0 * HOUR, 200 * HOUR, HOUR)
    assert wait_s == 18 * HOUR  # 06:00 of the next day


@given(
    day_s=st.floats(0, 86_399),
    size=st.integers(1, 200 * HOUR),
    life_s=st.sampled_from([60.0, 3_600.0, 7_200.0]),
)
def test_what_begins_then_fits_then(day_s: float, size: int, life_s: float) -> None:
    """The moment that is named carries the bytes; None only where no moment of a day does."""
    wait_s = begin_in_s(STEPS, day_s, size, life_s)
    if wait_s is not None:
        assert capacity(STEPS, day_s + wait_s, life_s) >= size
    else:
        assert all(capacity(STEPS, s, life_s) < size for s in range(0, 86_400, 600))


def test_a_new_session_waits_until_the_open_ones_leave_it_room() -> None:
    """At 10 B/s an hour has room for 36,000 bytes, those of the open sessions included."""
    others = [Open(left=20_000, remaining_s=2_500)]
    assert may_open(16_000, HOUR, others, 10.0)
    assert not may_open(16_001, HOUR, others, 10.0)


def test_with_nothing_else_open_a_session_is_tried() -> None:
    """The measured rate is no promise that it stays; neither is one that is not known."""
    assert may_open(1 << 40, HOUR, [], 10.0)
    assert may_open(1 << 40, HOUR, [Open(left=0, remaining_s=9.0)], 10.0)
    assert may_open(1 << 40, HOUR, [Open(left=5, remaining_s=9.0)], None)


def test_a_limit_counts_before_it_is_measured() -> None:
    """The lower of both is reckoned with; without a limit and a measure nothing is known."""
    assert lower(None, math.inf) is None
    assert lower(None, 5.0) == 5.0
    assert lower(9.0, 5.0) == 5.0
    assert lower(3.0, 5.0) == 3.0
    assert lower(3.0, math.inf) == 3.0


def test_a_session_without_hope_keeps_no_other_waiting() -> None:
    """What cannot be in time anyway takes part in no sum."""
    assert may_open(10, HOUR, [Open(left=1 << 40, remaining_s=60.0)], 10.0)
    assert hopeless(601, 60.0, 10.0)
    assert not hopeless(600, 60.0, 10.0)
    assert not hopeless(601, 60.0, None)


def test_the_sum_names_its_terms() -> None:
    """Size, life, what gets through, and the rate that would do."""
    said = the_sum(7_200_000, 3_600.0, 3_600_000.0)
    assert "7200000 bytes" in said
    assert "3600000 bytes" in said
    assert "2000 bytes a second" in said


def test_the_goodput_counts_busy_time_alone() -> None:
    """Idle time and bytes that moved in vain do not count; a short while says nothing."""
    link = Goodput()
    link.begin(0.0)
    link.add(100, LEARNT_S - 1)
    assert link.rate_bps() is None
    link.add(400, LEARNT_S)
    link.end(LEARNT_S)
    assert link.rate_bps() == 500 / LEARNT_S
    link.begin(1_000.0)
    link.add(-500, 1_000.0)
    link.add(1_000, 1_000.0 + LEARNT_S)
    assert link.rate_bps() == 1_000 / (2 * LEARNT_S)


def test_the_goodput_forgets() -> None:
    """A link that became slow is believed to be slow after some minutes."""
    link = Goodput()
    link.begin(0.0)
    for second in range(1, 10 * int(MEMORY_S)):
        link.add(1_000 if second < 5 * MEMORY_S else 10, float(second))
    rate = link.rate_bps()
    assert rate is not None
    assert rate < 100
