"""Sizes, durations, rates and timetables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.config import units
from uploaderd.core.timetable import DAY_S, WEEK_S, Timetable, weekly

RATES = st.none() | st.integers(1, 2**45)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1_048_576),
        ("512B", 512),
        ("512KiB", 524_288),
        ("1MiB", 1_048_576),
        ("64MiB", 67_108_864),
        ("4MB", 4_000_000),
        ("4kB", 4_000),
        ("4KB", 4_000),
        ("1.5GiB", 1_610_612_736),
    ],
)
def test_size(text: str, size: int) -> None:
    """A size is read exactly, with binary and decimal units kept apart."""
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "MiB", "-1MiB", "1 MiB", "1mib", "1Mb", "1M", "1e3", "1.5", "0.3B", "1_0", "٣", "1MiB\n"],
)
def test_size_refused(text: str) -> None:
    """What could be meant in two ways, or is no size, is refused."""
    with pytest.raises(ValueError, match=r"^(a size is|that is not)"):
        units.parse_size(text)


@given(st.integers(0, 2**49))
def test_size_round_trip(size: int) -> None:
    """Every size is written in a form that is read as the same size."""
    assert units.parse_size(units.format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("2s", 2.0),
        ("500ms", 0.5),
        ("15m", 900.0),
        ("1h", 3600.0),
        ("30d", 2_592_000.0),
        ("1h30m", 5400.0),
        ("1d2h3m4s5ms", 93_784.005),
        ("1.5h", 5400.0),
        ("0.25s", 0.25),
        ("90m", 5400.0),
    ],
)
def test_duration(text: str, duration_s: float) -> None:
    """A duration is one or several numbers with units."""
    assert units.parse_duration(text) == duration_s


@pytest.mark.parametrize(
    "text",
    ["", "10", "s", "-1s", "1 s", "30m1h", "1s1s", "1w", "1S", "1h30", "0.0001s", "٣s", "1s\n"],
)
def test_duration_refused(text: str) -> None:
    """A number without its unit is not guessed, nor are units in disorder."""
    with pytest.raises(ValueError, match=r"^(a duration is|the units are|nothing finer)"):
        units.parse_duration(text)


@given(st.integers(0, 10**12))
def test_duration_round_trip(ms: int) -> None:
    """Every duration in milliseconds is written in a form that is read as the same."""
    assert units.parse_duration(units.format_duration(ms / 1000)) == ms / 1000


@given(RATES)
def test_rate_round_trip(rate_bps: int | None) -> None:
    """Every rate is written in a form that is read as the same rate."""
    assert units.parse_rate(units.format_rate(rate_bps)) == rate_bps


@pytest.mark.parametrize(
    "text",
    ["", "10", "10MiB", "10/s", "10MiB/m", "10MiB/s/s", "0B/s", "Unlimited", "none", "0", "off"],
)
def test_rate_refused(text: str) -> None:
    """A rate without its unit or its second, and a rate of nothing, are refused."""
    with pytest.raises(ValueError, match=r"^(a rate is|a size is|at a rate of nothing)"):
        units.parse_rate(text)


@pytest.mark.parametrize(
    ("time_of_day_s", "rate_bps"),
    [
        (0, None),
        (8 * 3600 - 0.001, None),
        (8 * 3600, 2 * 2**20),
        (18 * 3600 - 0.001, 2 * 2**20),
        (18 * 3600, None),
        (86_399.9, None),
    ],
)
def test_timetable_rate_at(time_of_day_s: float, rate_bps: int | None) -> None:
    """The latest entry at or before the time of day is in force; the night belongs to the last."""
    table = units.parse_timetable("08:00,2MiB/s 18:00,unlimited")
    assert table.rate_at(time_of_day_s) == rate_bps


def test_timetable_order_does_not_matter() -> None:
    """Entries may be written in any order."""
    assert units.parse_timetable("18:00,unlimited 08:00,2MiB/s") == units.parse_timetable(
        "08:00,2MiB/s 18:00,unlimited"
    )


@pytest.mark.parametrize("text", ["3MiB/s", "12:00,3MiB/s"])
def test_timetable_single_rate(text: str) -> None:
    """One rate, with or without a time, holds all day and never changes."""
    table = units.parse_timetable(text)
    assert table == Timetable(((0, 3 * 2**20),))
    assert table.change_in_s(50_000) is None


@pytest.mark.parametrize(
    "text",
    [
        "08:00,2MiB/s 08:00,unlimited",
        "24:00,2MiB/s 08:00,unlimited",
        "8:00,2MiB/s",
        "08:60,2MiB/s",
        "08:00,2MiB/s unlimited",
        "08:00,2MiB/s, 18:00,unlimited",
        ",",
        " , ",
    ],
)
def test_timetable_refused(text: str) -> None:
    """An entry that is there twice, or that is no HH:MM,RATE, is refused."""
    with pytest.raises(ValueError, match=r"twice|HH:MM,RATE|a rate is|a size is"):
        units.parse_timetable(text)


@pytest.mark.parametrize("text", ["0", "off", "none"])
def test_a_word_with_two_meanings_is_refused(text: str) -> None:
    """To some tools it means no limit, to others no bytes: both ways out are named."""
    with pytest.raises(ValueError, match=r'write "unlimited", or stop with `uploaderd pause`'):
        units.parse_timetable(f"08:00,2MiB/s 18:00,{text}")


def test_days_that_differ() -> None:
    """From Monday morning to Friday evening it is slow; the week goes round."""
    table = units.parse_timetable("Mon-08:00,2MiB/s Fri-18:00,unlimited")
    hour = 3600.0
    assert table.period_s == WEEK_S
    for day, clock, rate in [(0, 7.9, None), (0, 8, 2 << 20), (3, 0, 2 << 20), (4, 17.9, 2 << 20),
                             (4, 18, None), (6, 23.9, None)]:  # fmt: skip
        assert table.rate_at(day * DAY_S + clock * hour) == rate
    assert table.change_in_s(4 * DAY_S + 18 * hour) == 2 * DAY_S + 14 * hour


def test_an_entry_without_a_day_is_there_on_each_day() -> None:
    """One with a day takes the place of the one without at that very time, and no other's."""
    table = units.parse_timetable("08:00,2MiB/s 18:00,unlimited Sat-08:00,5MiB/s Sun-12:00,1MiB/s")
    hour = 3600
    for day in range(5):
        assert table.rate_at(day * DAY_S + 8 * hour) == 2 << 20
    assert table.rate_at(5 * DAY_S + 8 * hour) == 5 << 20
    assert table.rate_at(5 * DAY_S + 18 * hour) is None
    assert table.rate_at(6 * DAY_S + 11 * hour) == 2 << 20
    assert table.rate_at(6 * DAY_S + 13 * hour) == 1 << 20
    text = "08:00,2MiB/s 18:00,unlimited Sat-08:00,5MiB/s Sun-12:00,1MiB/s"
    assert units.format_timetable(table) == text


def test_days_in_any_case_and_all_alike_are_a_day() -> None:
    """Seven days that are alike are the same as entries without a day."""
    days = ("mon", "TUE", "Wed", "Thu", "Fri", "Sat", "sun")
    text = " ".join(f"{day}-08:00,2MiB/s {day}-18:00,unlimited" for day in days)
    assert units.parse_timetable(text) == units.parse_timetable("08:00,2MiB/s 18:00,unlimited")


@pytest.mark.parametrize("text", ["Mon-Fri-08:00,2MiB/s", "Monday-08:00,2MiB/s", "Mo-08:00,2MiB/s",
                                  "Mon 08:00,2MiB/s", "Mon,2MiB/s"])  # fmt: skip
def test_other_names_of_days_are_refused(text: str) -> None:
    """What may be meant is told with an example."""
    with pytest.raises(ValueError, match="Mon-HH:MM,RATE"):
        units.parse_timetable(text)


MINUTES = st.integers(0, 1439).map(lambda minute: minute * 60)
TABLES = st.builds(
    weekly,
    st.dictionaries(MINUTES, RATES, min_size=1, max_size=4),
    st.dictionaries(st.tuples(st.integers(0, 6), MINUTES), RATES, max_size=5),
)


@given(TABLES)
def test_timetable_round_trip(table: Timetable) -> None:
    """Every timetable is written in a form that is read as the same timetable."""
    assert units.parse_timetable(units.format_timetable(table)) == table


@given(TABLES, st.floats(0, WEEK_S - 0.001))
def test_timetable_next_change(table: Timetable, week_s: float) -> None:
    """Nothing changes before the announced moment, and that moment begins an entry."""
    wait_s = table.change_in_s(week_s)
    if wait_s is None:
        assert len(table.entries) == 1
        return
    assert 0 < wait_s <= table.period_s
    starts = [start for start, _ in table.entries]
    assert any(abs((week_s + wait_s - start) % table.period_s) < 1e-4
               or abs((week_s + wait_s - start) % table.period_s - table.period_s) < 1e-4
               for start in starts)  # fmt: skip
    assert table.rate_at(week_s + wait_s / 2) == table.rate_at(week_s)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_572_864, "1.5 MiB"),
        (2**20 - 1, "1.0 MiB"),
        (8 * 2**30, "8.0 GiB"),
        (2**52, "4096.0 TiB"),
    ],
)
def test_human_bytes(size: int, text: str) -> None:
    """A size for people has the unit that leaves less than 1024 of it."""
    assert units.human_bytes(size) == text


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (-3.0, "0s"),
        (0.0, "0s"),
        (0.2, "0.2s"),
        (2.0, "2s"),
        (9.96, "10s"),
        (45.4, "45s"),
        (59.7, "1m"),
        (5400.0, "1h 30m"),
        (3605.0, "1h"),
        (180_000.0, "2d 2h"),
    ],
)
def test_human_duration(duration_s: float, text: str) -> None:
    """A duration for people has its largest unit and the one right below."""
    assert units.human_duration(duration_s) == text


def test_human_rate() -> None:
    """A rate for people is a size a second, or the word unlimited."""
    assert units.human_rate(10 * 2**20) == "10.0 MiB/s"
    assert units.human_rate(None) == "unlimited"
