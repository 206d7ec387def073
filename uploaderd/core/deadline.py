"""Whether a session of so many bytes can be finished within its life (design, decision 9).

Two questions, asked before a byte is sent: whether the configured bandwidth allows it at all, and
whether the measured rate leaves room beside the sessions that are open already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from uploaderd.core.timetable import Timetable


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A session that is open already: bytes still to be stored, and seconds that it has left."""

    left: int
    remaining_s: float


def capacity(bandwidth: Timetable, week_s: float, life_s: float) -> float:
    """Bytes that may leave within ``life_s`` from a local second of the week on; inf if unlimited.

    A clock that jumps meanwhile is not thought of: a file that waits is looked at again.
    """
    total, at_s, left_s = 0.0, week_s, life_s
    while left_s > 0:
        rate = bandwidth.rate_at(at_s)
        if rate is None:
            return math.inf
        step_s = min(bandwidth.change_in_s(at_s) or left_s, left_s)
        total += rate * step_s
        left_s -= step_s
        at_s += step_s
    return total


def begin_in_s(bandwidth: Timetable, week_s: float, size: int, life_s: float) -> float | None:
    """Seconds until a session of ``size`` bytes can be begun and finished; None means never.

    0 where it can be begun at once.
    """
    return next(
        (s for s in _beginnings(bandwidth, week_s, life_s)
         if capacity(bandwidth, week_s + s, life_s) >= size),
        None,
    )  # fmt: skip


def _beginnings(bandwidth: Timetable, week_s: float, life_s: float) -> Iterator[float]:
    """The moments worth trying, within a period: between two of them the capacity has no peak."""
    yield 0.0  # which is nearly always the answer
    moments, passed_s, period_s = set[float](), 0.0, bandwidth.period_s
    while (step_s := bandwidth.change_in_s(week_s + passed_s)) is not None:
        passed_s += step_s
        if passed_s > period_s + life_s:
            break
        moments |= {passed_s, passed_s - life_s}
    yield from sorted(m for m in moments if 0 < m <= period_s)


def hopeless(left: int, remaining_s: float, rate_bps: float | None) -> bool:
    """Whether a session cannot end in time even with the whole measured rate to itself."""
    return rate_bps is not None and left > rate_bps * remaining_s


def lower(measured_bps: float | None, allowed_bps: float) -> float | None:
    """The rate to reckon with: a limit that was just set is not measured yet; None is unknown."""
    if measured_bps is None or allowed_bps < measured_bps:
        return allowed_bps if math.isfinite(allowed_bps) else None
    return measured_bps


def may_open(size: int, life_s: float, others: Iterable[Open], rate_bps: float | None) -> bool:
    """Whether a new session can be finished after those that are open, at the measured rate.

    The senders serve the session that ends first, so a new one delays no other and has to wait
    for all of them. One that has no hope left takes part in no sum; with nothing else open, or no
    rate known, a session is always tried: the link may be better than it was.
    """
    if rate_bps is None:
        return True
    waiting = [o.left for o in others if o.left and not hopeless(o.left, o.remaining_s, rate_bps)]
    return not waiting or sum(waiting) + size <= rate_bps * life_s


def the_sum(size: int, life_s: float, bytes_within: float) -> str:
    """The sum in words: what it has, and what the bandwidth lets through in a session's life."""
    hours = f"{life_s / 3600:g} h"
    return (
        f"It has {size} bytes, and its target's sessions live {hours}, in which the limit of "
        f"bandwidth lets at most {int(bytes_within)} bytes through"
        f" ({math.ceil(size / life_s)} bytes a second would do)."
    )
