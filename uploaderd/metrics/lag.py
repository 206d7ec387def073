"""How late the event loop is: whatever holds it up, holds up every file.

Nothing wakes the loop to find out. Its selector sees when the loop begins to wait and when it goes
on; what lies between is work, and whoever is due meanwhile waits until it is done. So at each of
many moments, equally far apart, it is known by how much somebody due just then was late. While
nothing happens this costs nothing: those moments are counted when the loop wakes for its own sake.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

GRID_S: Final = 0.01
BOUNDS_S: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


class Lag:
    """What was found out about one loop; ``counts`` may be read from any thread.

    Attributes:
        counts: how many moments had a lag up to each of ``BOUNDS_S`` and above the one before; the
            last one is what was later than all of them.
        total_s: the sum of all lags, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0
        self._next_s = clock()

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Make the loop that is looked at."""
        self._next_s = self.clock()
        return asyncio.SelectorEventLoop(_Selector(self))

    def rested(self, until_s: float) -> None:
        """The loop waited until then: whoever was due was served at once."""
        behind_s = until_s - self._next_s
        if behind_s >= 0:
            moments = int(behind_s / GRID_S) + 1
            self.counts[0] += moments
            self._next_s += moments * GRID_S

    def worked(self, until_s: float) -> None:
        """The loop had its hands full until then: whoever was due waited until now.

        A process that was stopped for longer than the last bound counts as one that late.
        """
        if until_s - self._next_s > BOUNDS_S[-1]:
            self.counts[-1] += 1
            self.total_s += until_s - self._next_s
            self._next_s = until_s - BOUNDS_S[-1]
        while (late_s := until_s - self._next_s) >= 0:
            self.counts[bisect_left(BOUNDS_S, late_s)] += 1
            self.total_s += late_s
            self._next_s += GRID_S


class _Selector(selectors.DefaultSelector):
    """Tells when the loop waits."""

    def __init__(self, lag: Lag) -> None:
        super().__init__()
        self._lag = lag

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        lag = self._lag
        began_s = lag.clock()
        lag.worked(began_s)
        found = super().select(timeout)
        ended_s = lag.clock()
        if not found and timeout is not None:
            # Nobody called, so a timer is due: what went by since then is lateness too.
            ended_s = min(ended_s, began_s + max(timeout, 0.0))
        lag.rested(ended_s)
        return found
