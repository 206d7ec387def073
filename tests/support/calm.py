"""Event loops in asyncio's debug mode, and what of ours took them long.

In that mode asyncio looks at the clock around each callback. A loaded machine makes any of them
slow, so only those count in whose round of the loop the thread really used a processor for as long
(``watched.Slow``), and only if they are the daemon's: a test may take its time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tests.support.watched import Rounds, Slow

if TYPE_CHECKING:
    import asyncio

OURS, NOT_OURS = "/uploaderd/", ("/tests/", "/uploaderd/emulator/")


class DebugLoops:
    """Makes loops in debug mode, one at a time, and keeps what is slow in the newest one."""

    def __init__(self) -> None:
        self._slow: Slow | None = None

    def new(self) -> asyncio.AbstractEventLoop:
        """Make a loop."""
        rounds = Rounds()
        self.stop()
        self._slow = Slow(rounds)
        logging.getLogger("asyncio").addFilter(self._slow)
        loop = rounds.new_loop()
        loop.set_debug(True)
        return loop

    def stop(self) -> list[str]:
        """Look no more; return what of ours was slow since the newest loop was made."""
        slow, self._slow = self._slow, None
        if slow is None:
            return []
        logging.getLogger("asyncio").removeFilter(slow)
        return [line for line in slow.told if _is_ours(line)]


def _is_ours(line: str) -> bool:
    # What follows says who made it, which may be a test.
    head = line.partition(" created at ")[0]
    return OURS in head and not any(other in head for other in NOT_OURS)
