"""Tree, watcher and source over the simulated file system."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, cast

from tests.simulation.disk import DEV
from uploaderd.core.model import Arrival
from uploaderd.core.settle import Writers
from uploaderd.engine.context import SMALL_BYTES, Place
from uploaderd.errors import ChangedError, GoneError, SpoolError
from uploaderd.spool.ignore import Ignore
from uploaderd.spool.known import Known
from uploaderd.spool.tree import Look
from uploaderd.spool.watcher import Mode, Sighting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from random import Random

    from tests.simulation.disk import Disk, Inode
    from tests.simulation.life import Life
    from tests.simulation.scenario import Scenario
    from uploaderd.config import Watch
    from uploaderd.core.model import Identity
    from uploaderd.source import Source

SCAN_STEP = 4


class SimTree:
    """What ``spool.tree.Tree`` says, of the simulated file system."""

    def __init__(self, disk: Disk, *, leases: bool) -> None:
        self._disk = disk
        self._leases = leases

    def identify(self, path: bytes) -> Identity:
        """As ``Tree.identify``."""
        return self._disk.at(path).identity

    def device_of(self, _: bytes) -> int:
        """As ``Tree.device_of``: nothing else is mounted here."""
        return DEV

    def look(self, path: bytes) -> Look:
        """As ``Tree.look``."""
        inode = self._disk.readable(path)
        writers = Writers.UNKNOWN
        if self._leases:
            writers = Writers.OPEN if inode.writers else Writers.NONE
        return Look(identity=inode.identity, writers=writers)


class SimSource:
    """What ``source.Source`` is, for one inode; it follows the inode, not the name."""

    def __init__(self, inode: Inode) -> None:
        self.inode = inode
        self._closed = False
        self.identity = inode.identity
        self.loaded: bytes | None = None

    def load(self, most_bytes: int) -> None:
        """As ``Source.load``."""
        if self.identity.size <= most_bytes:
            self.loaded = self.pread(0, self.identity.size)

    def identity_now(self) -> Identity:
        """As ``Source.identity_now``."""
        assert not self._closed, "the source is closed"
        return self.inode.identity

    def pread(self, offset: int, length: int) -> bytes:
        """As ``Source.pread``."""
        assert not self._closed, "the source is closed"
        data = self.inode.data if self.loaded is None else self.loaded
        data = data[offset : offset + length]
        if len(data) < length:
            raise ChangedError(f"The file became shorter: it ends before {offset + length}.")
        return data

    def readinto(self, buffer: memoryview, offset: int) -> None:
        """As ``Source.readinto``."""
        buffer[:] = self.pread(offset, len(buffer))

    def readinto_cached(self, buffer: memoryview, offset: int) -> int:
        """As ``Source.readinto_cached``; what was not loaded is nowhere in memory."""
        if self.loaded is None:
            return 0
        self.readinto(buffer, offset)
        return len(buffer)

    def close(self) -> None:
        """As ``Source.close``."""
        self._closed = True


class SimPlace(Place):
    """A place whose sources are simulated."""

    __slots__ = ("disk",)
    disk: Disk

    def open_source(self, path: bytes) -> Source:
        """As ``Place.open_source``."""
        if self.disk.full:
            raise SpoolError("It cannot be opened: Too many open files.")
        source = SimSource(self.disk.readable(path))
        if source.inode.number % 2:  # the others go the way of large files
            source.load(SMALL_BYTES)
        return cast("Source", source)


class SimWatcher:
    """What ``spool.watcher.Watcher`` yields: events while they are kept, and scans behind them."""

    def __init__(
        self, life: Life, disk: Disk, settings: Watch, scenario: Scenario, rng: Random
    ) -> None:
        self.mode = Mode.INOTIFY if scenario.inotify else Mode.POLLING
        self.why = ""
        self.overflows = 0
        self.scans = 0
        self.known = Known()
        self._life = life
        self._disk = disk
        self._ignored = Ignore(settings.ignore)
        self._scenario = scenario
        self._rescan_s = settings.rescan_s
        self._rng = rng
        self._wake = asyncio.Event()
        self._due = True
        self._news: dict[bytes, Arrival | None] = {}
        self._left: list[bytes] | None = None
        self.lossy = True

    async def rescan_now(self) -> None:
        """As ``Watcher.rescan_now``."""
        self._due = True
        self._wake.set()

    def hear(self, path: bytes, arrival: Arrival | None, went: bool) -> None:
        """Something happened; the kernel keeps it, as long as there is room."""
        if not self._life.alive or self.mode is not Mode.INOTIFY or self._passed_over(path):
            return
        lost = self.lossy and self._rng.random() < self._scenario.event_loss
        if lost or len(self._news) >= self._scenario.queue_limit:
            self._life.trace.say("inotify", "overflows")
            self._news.clear()
            self.known.clear()
            self.overflows += 1
            self._due = True
        elif arrival is not None or went:
            self._news[path] = arrival
        else:
            self._news.setdefault(path, None)
        self._wake.set()

    async def sightings(self) -> AsyncGenerator[list[Sighting], None]:
        """As ``Watcher.sightings``."""
        loop = asyncio.get_running_loop()
        self._disk.tell = self.hear
        self._due, self._left = True, None
        self.known.clear()
        next_scan = loop.time()
        while True:
            batch, scanned = await self._life.disk(self._turn)
            if scanned:
                self.scans += 1
                next_scan = loop.time() + self._rescan_s
            if batch:
                yield batch
            if scanned:
                yield []
            if self._idle:
                try:
                    async with asyncio.timeout_at(next_scan):
                        await self._wake.wait()
                except TimeoutError:
                    self._due = True
                self._wake.clear()

    @property
    def _idle(self) -> bool:
        return self._left is None and not self._news and not self._due

    def _turn(self) -> tuple[list[Sighting], bool]:
        """Read the events, then go on with the scan."""
        batch = [self._sighting(path, arrival) for path, arrival in self._news.items()]
        self._news = {}
        if self._due and self._left is None:
            self._due = False
            self._left = [path for path in self._disk.paths if not self._passed_over(path)]
            self._rng.shuffle(self._left)
        scanned = False
        if self._left is not None:
            step, self._left = self._left[:SCAN_STEP], self._left[SCAN_STEP:]
            for path in step:
                inode = self._disk.paths.get(path)
                if inode is not None and not self.known.holds(path, inode.identity):
                    batch.append(Sighting(path=path, arrival=Arrival.FOUND, seen=inode.identity))
            if not self._left:
                self._left, scanned = None, True
        return batch, scanned

    def _sighting(self, path: bytes, arrival: Arrival | None) -> Sighting:
        seen = None
        if arrival is not None:
            with contextlib.suppress(GoneError):
                seen = self._disk.at(path).identity
        return Sighting(path=path, arrival=arrival or Arrival.FOUND, seen=seen)

    def _passed_over(self, path: bytes) -> bool:
        top = path.partition(b"/")[0]
        return self._ignored(path) or (top != path and self._ignored(top))
