"""The token bucket: even, whoever comes late or rests, and whatever becomes of the rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.core.pace import (
    CATCH_UP,
    GRAIN_S,
    LEAST_BYTES,
    LONGEST_STEP_S,
    SLACK_S,
    STEP_S,
    Pace,
)

MOST = 256 * 1024
RATES = st.integers(1, 1 << 30)


def stretch(rate_bps: int, seconds: float) -> float:
    """What may leave in a stretch of time: its own, what was missed, and one grant."""
    return rate_bps * (seconds + SLACK_S + GRAIN_S) + grant_at(rate_bps) + 1


def grant_at(rate_bps: int) -> float:
    """What is granted at once, at most."""
    return min(MOST, rate_bps * LONGEST_STEP_S, max(LEAST_BYTES, rate_bps * STEP_S))


@given(RATES, st.lists(st.floats(0, 2.0), min_size=1, max_size=80))
def test_in_no_stretch_of_time_more_leaves_than_a_second_longer_would_carry(
    rate_bps: int, rests: list[float]
) -> None:
    """However long anybody comes late or rests between two grants."""
    pace, now_s, left = Pace(), 100.0, []
    pace.change(rate_bps, now_s)
    for rest_s in rests:
        now_s += pace.wait_s(now_s) + rest_s
        left.append((now_s, pace.grant(MOST, now_s)))
    for first in range(len(left)):
        total = 0
        for at_s, count in left[first:]:
            total += count
            seconds = at_s - left[first][0]
            assert total <= stretch(rate_bps, seconds)
            assert total <= rate_bps * (seconds + 1.0) + 1  # never a second's worth ahead


@given(RATES, st.integers(1, MOST), st.floats(0, 0.1))
def test_who_is_a_little_late_each_time_keeps_the_rate(
    rate_bps: int, most: int, late_s: float
) -> None:
    """A loop that wakes late loses nothing, so long as it is faster than the rate on the whole."""
    pace, now_s, total = Pace(), 7.0, 0
    pace.change(rate_bps, now_s)
    slow = min(most, grant_at(rate_bps)) / rate_bps
    began_s = now_s
    for turn in range(200):
        now_s += pace.wait_s(now_s)
        if turn % 10 == 0:
            now_s += min(late_s, slow * 5)
        total += pace.grant(most, now_s)
    took_s = now_s - began_s
    assert total >= rate_bps * (took_s - 5 * slow - 0.1 - GRAIN_S) - 1


def test_what_was_missed_is_made_up_for_at_twice_the_rate() -> None:
    """Half a second that a loop was busy does not leave in one piece."""
    pace, now_s = Pace(), 0.0
    pace.change(1 << 20, now_s)
    left: list[tuple[float, int]] = []
    while now_s < 3.0:
        left.append((now_s, pace.grant(MOST, now_s)))
        now_s += pace.wait_s(now_s)
        if len(left) == 10:
            now_s += 0.4
    for first, _ in left:
        tenth = sum(count for at_s, count in left if first <= at_s < first + 0.1)
        assert tenth <= (1 << 20) * (0.1 * CATCH_UP + STEP_S * (CATCH_UP + 1))
    assert sum(count for _, count in left) >= 2.9 * (1 << 20)


def test_after_a_rest_the_first_second_carries_no_more_than_a_second() -> None:
    """An idle bucket saves nothing up."""
    pace = Pace()
    pace.change(1 << 20, 0.0)
    pace.grant(MOST, 0.0)
    now_s, total = 60.0, 0
    while now_s < 61.0:
        total += pace.grant(MOST, now_s)
        now_s += pace.wait_s(now_s)
    assert total <= (1 << 20) * (1 + 2 * STEP_S)


@given(st.none() | RATES, RATES, st.integers(0, 20))
def test_a_changed_rate_holds_from_then_on(before: int | None, after: int, grants: int) -> None:
    """Nobody waits longer for what left at the old rate than the new one would make it wait."""
    pace, now_s = Pace(), 5.0
    pace.change(before, now_s)
    for _ in range(grants):
        now_s += pace.wait_s(now_s)
        pace.grant(MOST, now_s)
    old_s = pace.wait_s(now_s)
    pace.change(after, now_s)
    wait_s = pace.wait_s(now_s)
    assert wait_s <= old_s
    assert wait_s <= MOST / after + GRAIN_S + 1e-6
    now_s += wait_s
    began_s, total = now_s, 0
    for _ in range(30):
        total += pace.grant(MOST, now_s)
        now_s += pace.wait_s(now_s)
    assert total <= stretch(after, now_s - began_s)


@pytest.mark.parametrize(("before", "after"), [(10_240, None), (10_240, 50 << 20), (1, 1_000)])
def test_a_raise_ends_a_long_wait(before: int, after: int | None) -> None:
    """What waits by the old rate does not wait it out."""
    pace = Pace()
    pace.change(before, 0.0)
    pace.grant(MOST, 0.0)
    assert pace.wait_s(0.0) > 0.05
    pace.change(after, 0.0)
    assert pace.wait_s(0.0) <= 0.01


def test_without_a_limit_all_may_leave_at_once() -> None:
    """Whatever was granted before."""
    pace = Pace()
    assert (pace.wait_s(0.0), pace.grant(MOST, 0.0)) == (0.0, MOST)
    pace.change(1, 0.0)
    pace.grant(MOST, 0.0)
    pace.change(None, 0.1)
    assert (pace.wait_s(0.1), pace.grant(MOST, 0.1)) == (0.0, MOST)


@given(RATES, st.integers(1, MOST))
def test_a_grant_is_small_and_never_nothing(rate_bps: int, most: int) -> None:
    """At most what was asked for, and at most a second's worth."""
    pace = Pace()
    pace.change(rate_bps, 0.0)
    assert 1 <= pace.grant(most, 0.0) <= min(most, rate_bps)


@pytest.mark.parametrize("rate_bps", [5 << 20, 50 << 20, 200 << 20])
def test_timers_that_are_always_late_do_not_keep_it_below_the_rate(rate_bps: int) -> None:
    """Each wait takes five milliseconds more than it was told, longer than a grant lasts."""
    pace, now_s, total = Pace(), 0.0, 0
    pace.change(rate_bps, now_s)
    while now_s < 2.0:
        wait_s = pace.wait_s(now_s)
        if wait_s:
            now_s += wait_s + 0.005
            continue
        total += pace.grant(MOST, now_s)
    assert total >= 0.97 * 2.0 * rate_bps
