"""Whether the engine gets on: what a watchdog may be told.

It does if bytes moved, if a timer is pending that will be followed, or if there is nothing to do.
A loop that waits has such a timer; one that works has not, unless a request is under way (its
stall timer ends it). What the journal or a loop never comes back from is what is looked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LATE_S = 30.0  # a step of a loop, or one call of the journal, may take so long


class Pulse:
    """The promises of the loops: by when each is heard of again.

    Args:
        time_s: seconds of the clock that the loops' timers follow: it stands still in a suspend,
            as the watchdog's does.
    """

    def __init__(self, time_s: Callable[[], float]) -> None:
        self._time_s = time_s
        self._by: dict[str, float] = {}

    def working(self, loop: str) -> None:
        """A loop begins a step."""
        self._by[loop] = self._time_s()

    def waiting(self, loop: str, wait_s: float) -> None:
        """A loop begins to wait, for so long at most."""
        self._by[loop] = self._time_s() + wait_s

    def beats(self, *, moving: bool, asking: bool, kept_since_s: float | None) -> bool:
        """Whether it gets on.

        Args:
            moving: bytes moved within the last seconds.
            asking: a request is under way.
            kept_since_s: since when the journal's oldest call waits, or None.
        """
        if moving:
            return True
        late_s = self._time_s() - LATE_S
        if kept_since_s is not None and kept_since_s < late_s:
            return False
        return asking or all(by_s >= late_s for by_s in self._by.values())
