"""The local week: clocks that jump, weeks that go round, and what the moment of change is."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.core.deadline import begin_in_s, capacity
from uploaderd.core.timetable import DAY_S, WEEK_S, Timetable, holds_until, weekly

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3_600
RATES = st.none() | st.integers(1, 4)
MINUTES = st.integers(0, 1439).map(lambda minute: minute * 60)
TABLES = st.builds(
    weekly,
    st.dictionaries(MINUTES, RATES, min_size=1, max_size=4),
    st.dictionaries(st.tuples(st.integers(0, 6), MINUTES), RATES, max_size=5),
)


def week_s(wall_s: float) -> float:
    """Where in its local week Berlin is at a wall time."""
    local = datetime.fromtimestamp(wall_s, BERLIN)
    day_s = local.hour * HOUR + local.minute * 60 + local.second
    return local.weekday() * DAY_S + day_s + local.microsecond / 1e6


def berlin(text: str, fold: int = 0) -> float:
    """A wall time, from what the clock on the wall shows there."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


NIGHT = weekly({2 * HOUR + 1800: 1, 6 * HOUR: None}, {})


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-06-01T01:00", berlin("2026-06-01T02:30")),  # an ordinary night
        ("2026-03-29T01:00", berlin("2026-03-29T03:00")),  # 02:30 is skipped: it holds at once
        ("2026-03-28T23:00", berlin("2026-03-29T03:00")),
        ("2026-10-25T03:30", berlin("2026-10-25T06:00")),
        ("2026-10-24T22:00", berlin("2026-10-25T02:30")),  # the first of the two
        ("2026-10-25T12:00", berlin("2026-10-26T02:30")),
    ],
)
def test_the_moment_of_change_is_right_across_a_jump_of_the_clock(now: str, until: float) -> None:
    """In spring an hour is missing, in autumn one is there twice."""
    found = holds_until(NIGHT, berlin(now), week_s)
    assert found == pytest.approx(until, abs=1.0)


def test_an_hour_that_comes_twice_holds_twice() -> None:
    """The clock on the wall decides, which is put back from 03:00 to 02:00."""
    first, again = berlin("2026-10-25T02:45"), berlin("2026-10-25T02:15", fold=1)
    assert again > first
    assert NIGHT.rate_at(week_s(first)) == 1
    assert NIGHT.rate_at(week_s(again)) is None
    until = holds_until(NIGHT, again, week_s)
    assert until == pytest.approx(berlin("2026-10-25T02:30", fold=1), abs=1.0)


@given(TABLES, st.floats(1_770_000_000, 1_810_000_000))
def test_until_then_one_rate_holds_and_then_another(table: Timetable, wall_s: float) -> None:
    """Whatever the table and the season; None only where no other rate ever comes."""
    rate, until = table.rate_at(week_s(wall_s)), holds_until(table, wall_s, week_s)
    if until is None:
        assert {one for _, one in table.entries} == {rate}
        return
    assert wall_s < until <= wall_s + WEEK_S + 2 * HOUR
    assert table.rate_at(week_s(until)) != rate
    assert table.rate_at(week_s(max(wall_s, until - 1.0))) == rate


@given(TABLES, st.floats(0, WEEK_S - 1))
def test_a_daily_table_is_the_same_week_written_shorter(table: Timetable, at_s: float) -> None:
    """Each day's own entries tell the same rate at each moment of the week."""
    days = {(day, start_s): rate for day, start_s, rate in table.by_day()}
    assert weekly({}, days) == table
    starts = sorted((day * DAY_S + start_s, rate) for (day, start_s), rate in days.items())
    begun = [rate for start_s, rate in starts if start_s <= at_s]
    assert table.rate_at(at_s) == (begun[-1] if begun else starts[-1][1])


WEEKEND = weekly({}, {(0, 0): 1_000, (5, 0): 10_000})


def test_a_file_waits_for_the_weekend() -> None:
    """An hour of a working day is too slow for it, one of Saturday is not, one of none is never."""
    size = 10_000 * HOUR
    assert begin_in_s(WEEKEND, 1 * DAY_S, size, HOUR) == 4 * DAY_S
    assert begin_in_s(WEEKEND, 6 * DAY_S, size, HOUR) == 0
    assert begin_in_s(WEEKEND, WEEK_S - 1800, size, HOUR) == 4 * DAY_S + DAY_S + 1800
    assert begin_in_s(WEEKEND, 0.0, size + 1, HOUR) is None


def test_what_leaves_around_the_end_of_the_week_is_summed_up() -> None:
    """Half an hour of Sunday and half an hour of Monday."""
    assert capacity(WEEKEND, WEEK_S - 1800, HOUR) == 1800 * 11_000


@given(TABLES, st.floats(0, WEEK_S - 1), st.integers(1, 5 * HOUR))
def test_what_begins_then_fits_then(table: Timetable, at_s: float, size: int) -> None:
    """The moment that is named carries the bytes; None only where no moment of a week does."""
    wait_s = begin_in_s(table, at_s, size, HOUR)
    if wait_s is not None:
        assert capacity(table, at_s + wait_s, HOUR) >= size
    else:
        assert all(capacity(table, s, HOUR) < size for s in range(0, WEEK_S, 3 * HOUR))
