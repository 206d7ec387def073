"""What happens in one watched folder, as a stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from uploaderd.spool.ignore import Ignore
from uploaderd.spool.known import Known
from uploaderd.spool.lookout import BATCH, Lookout, Mode, Sighting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from uploaderd.seams import Offload
    from uploaderd.spool.tree import Tree

READINGS_PER_S = 40.0  # of events that never end: nobody waits longer than 25 ms for his
READINGS = 20.0  # at once, after a pause
NAMES_PER_S = 1_000.0  # that scans behind inotify go through on the average: 1 % of a core

__all__ = ["BATCH", "Mode", "Sighting", "Watcher"]


class Watcher:
    """One watch's sightings.

    Attributes:
        mode: how changes are noticed now.
        why: why it is polling; empty with inotify.
        overflows: how often the kernel's queue overflowed, so that everything was scanned anew.
        scans: how many full scans came to their end; before the first, the folder is not known.
        known: what a full scan need not tell again; whoever takes in the sightings says so.
    """

    def __init__(
        self,
        tree: Tree,
        *,
        ignore: tuple[str, ...],
        recursive: bool,
        rescan_s: float,
        offload: Offload,
        report: Callable[[str, dict[str, object]], None],
    ) -> None:
        self.mode = Mode.POLLING
        self.why = "The first scan is not done yet."
        self.overflows = 0
        self.scans = 0
        self.known = Known()
        self._tree = tree
        self._ignored = Ignore(ignore)
        self._recursive = recursive
        self._rescan_s = rescan_s
        self._offload = offload
        self._report = report
        self._wake = asyncio.Event()
        self._asked = False
        self._lookout: Lookout | None = None

    @property
    def folders(self) -> int:
        """How many folders the kernel watches for us; 0 when polling."""
        return 0 if self._lookout is None else self._lookout.folders

    async def rescan_now(self) -> None:
        """Ask for a full scan at once; returns when it is asked for, not when it is done."""
        self._asked = True
        self._wake.set()

    async def sightings(self) -> AsyncGenerator[list[Sighting], None]:
        """Yield what is seen, for ever, in batches of at most ``BATCH``; one caller at a time.

        Watching begins before the first scan, and events are read between the steps of a scan.
        An empty batch marks the end of a full scan: whatever was not told by then was not there.
        While the consumer is busy nothing is read: the backlog waits in the kernel's bounded
        queue, and an overflow of that brings a scan. Once cancelled, call it again: it begins
        with a scan, and nothing is known then.
        """
        # A step that was cancelled runs to its end in its thread, so each call has a lookout of
        # its own that no older step can touch.
        lookout = Lookout(
            self._tree, ignored=self._ignored, recursive=self._recursive, known=self.known
        )
        self._lookout = lookout
        loop = asyncio.get_running_loop()
        next_scan = loop.time()
        rest = _Rest()
        try:
            while True:
                lookout.due |= self._asked
                self._asked = False
                turn = await self._offload(lookout.turn)
                self.mode, self.why = lookout.mode, lookout.why
                self.overflows += turn.overflowed
                self.scans += turn.scanned
                for event, facts in turn.told:
                    self._report(event, facts)
                if turn.forget:
                    self.known.clear()
                elif turn.scanned:
                    self.known.scanned(turn.names)
                if turn.scanned or lookout.lost:
                    next_scan = loop.time() + self._pause_s(turn.names)
                if turn.batch:
                    yield turn.batch
                if turn.scanned:
                    yield []
                if turn.idle and turn.batch:
                    await asyncio.sleep(rest.taken(loop.time()))
                if turn.idle and await self._waited_out(lookout.fd, next_scan):
                    lookout.due = True
        finally:
            lookout.close()

    def _pause_s(self, names: int) -> float:
        """How long to leave it to inotify, if it tells of changes: big folders longer."""
        least_s = names / NAMES_PER_S if self.mode is Mode.INOTIFY else 0.0
        return max(self._rescan_s, least_s)

    async def _waited_out(self, fd: int | None, until: float) -> bool:
        """Wait for an event or ``rescan_now``; True if instead the time of the next scan came."""
        loop = asyncio.get_running_loop()
        if fd is not None:
            loop.add_reader(fd, self._wake.set)
        try:
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        except TimeoutError:
            return True
        finally:
            if fd is not None:
                loop.remove_reader(fd)
        self._wake.clear()
        return False


class _Rest:
    """How long to let events gather: not at all, unless they come without an end.

    A writer that opens and closes a file a thousand times a second would else cost as many looks.
    """

    def __init__(self) -> None:
        self._credit, self._since = READINGS, 0.0

    def taken(self, now: float) -> float:
        """A batch was taken; return the seconds until the next one may be."""
        saved = (now - self._since) * READINGS_PER_S
        self._credit = min(self._credit + saved, READINGS) - 1.0
        self._since = now
        return max(-self._credit / READINGS_PER_S, 0.0)
