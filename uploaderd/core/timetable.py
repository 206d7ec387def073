"""Which bandwidth is in force at which local time of the week; pure, so the time is told to it.

The week begins on Monday at midnight by the clock on the wall. An hour that this clock skips in
spring is skipped here as well, and one that it shows twice in autumn holds twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DAY_S = 86_400
WEEK_S = 7 * DAY_S
_AGAIN = 4  # looks more than there are entries, since a clock that is put back comes to one twice
_EXACT_S = 0.5


@dataclass(frozen=True, slots=True)
class Timetable:
    """Rates and from when on they hold.

    Attributes:
        entries: pairs (second of the period from which it holds, bytes a second or None for
            unlimited), ascending and at least one; before the first of the period, the last holds.
        period_s: ``DAY_S``, or ``WEEK_S`` where the days differ.
    """

    entries: tuple[tuple[int, int | None], ...] = ((0, None),)
    period_s: int = DAY_S

    def rate_at(self, week_s: float) -> int | None:
        """Bytes a second in force at a local second of the week; None is unlimited."""
        at_s = week_s % self.period_s
        begun = [rate for start, rate in self.entries if start <= at_s]
        return begun[-1] if begun else self.entries[-1][1]

    def change_in_s(self, week_s: float) -> float | None:
        """Seconds until the next entry begins, or None if the rate never changes."""
        if len(self.entries) == 1:
            return None
        at_s = week_s % self.period_s
        later = [start for start, _ in self.entries if start > at_s]
        return (later[0] if later else self.entries[0][0] + self.period_s) - at_s

    def by_day(self) -> Iterator[tuple[int, int, int | None]]:
        """Every entry as (day, second of the day, rate), Monday being 0; each day's own."""
        for start_s, rate in self.entries:
            for day in range(start_s // DAY_S, 7, self.period_s // DAY_S):
                yield day, start_s % DAY_S, rate


def weekly(
    daily: Mapping[int, int | None], days: Mapping[tuple[int, int], int | None]
) -> Timetable:
    """Put together what holds on each day and what holds on one of them.

    Args:
        daily: rates by the second of the day from which they hold, on every day.
        days: the same by day (Monday is 0) and second; they beat what ``daily`` says of the same
            second of that day, and nothing else.
    """
    every = {(day, start_s): rate for day in range(7) for start_s, rate in daily.items()}
    every |= days
    kept = {day * DAY_S + start_s: every[day, start_s] for day, start_s in sorted(every)}
    if len(set(kept.values())) == 1:
        return Timetable(((0, next(iter(kept.values()))),))
    first = {start_s: rate for start_s, rate in kept.items() if start_s < DAY_S}
    alike = {day * DAY_S + s: rate for day in range(7) for s, rate in first.items()} == kept
    return Timetable(tuple((first if alike else kept).items()), DAY_S if alike else WEEK_S)


def holds_until(table: Timetable, wall_s: float, week_s: Callable[[float], float]) -> float | None:
    """The wall time at which another rate comes into force; None where none ever does.

    Exact to half a second, also where the local clock jumps before it.

    Args:
        table: the timetable.
        wall_s: now.
        week_s: says which second of the local week a wall time is.
    """
    rate, early_s, late_s = table.rate_at(week_s(wall_s)), wall_s, wall_s
    for _ in range(_AGAIN + len(table.entries)):  # an entry may bring the rate that was there
        early_s, late_s = late_s, late_s + (table.change_in_s(week_s(late_s)) or 0.0)
        if table.rate_at(week_s(late_s)) != rate:
            break
    else:
        return None
    while late_s - early_s > _EXACT_S:  # the clock may have jumped in between
        middle_s = (early_s + late_s) / 2
        if table.rate_at(week_s(middle_s)) == rate:
            early_s = middle_s
        else:
            late_s = middle_s
    return late_s
