"""What every part of the engine works with; ``app`` makes it, once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from uploaderd import logs
from uploaderd.core import model
from uploaderd.core.errands import falls_due
from uploaderd.core.fitness import LIFE_S, purpose_of
from uploaderd.core.gate import Gate
from uploaderd.core.lifecycle import decide, tells
from uploaderd.core.link import Link
from uploaderd.core.meter import Meter
from uploaderd.core.model import FileState
from uploaderd.core.transitions import Effect
from uploaderd.engine.carried import Carried
from uploaderd.engine.limiting import Limiter
from uploaderd.engine.telling import Telling
from uploaderd.hooks import Programs
from uploaderd.seams import NoTally
from uploaderd.source import Source

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from uploaderd.client import Client
    from uploaderd.config import Hook, Retry, Transfer, Watch
    from uploaderd.core.events import Event
    from uploaderd.core.lifecycle import Decision
    from uploaderd.core.model import File, Identity
    from uploaderd.hooks import Ended, Order
    from uploaderd.journal import Journal
    from uploaderd.seams import Clock, Offload, Tally
    from uploaderd.spool.filing import Filing
    from uploaderd.spool.tree import Tree
    from uploaderd.spool.watcher import Watcher

log = logs.get(__name__)

SMALL_BYTES = 64 * 1024  # what takes no longer to digest than a change of threads


@dataclass(slots=True, kw_only=True)
class Place:
    """One watched folder and the adapters that reach into it.

    Attributes:
        leaving: it is not configured any more, and goes once nothing of it is on its way.
    """

    name: str
    settings: Watch
    tree: Tree
    watcher: Watcher
    filing: Filing
    leaving: bool = False

    def purpose_of(self, path: bytes) -> str:
        """What a file at this path below the watch is for, by the configuration of today."""
        by_folder = self.settings.purpose_by_folder
        return purpose_of(path, self.settings.purpose, by_folder=by_folder)

    def open_source(self, path: bytes) -> Source:
        """Open the file at a path below the watch for reading; the caller closes it.

        A small one is read at once: that spares a stay on a thread for each time it is needed.

        Raises:
            SpoolError: as ``Tree.open_fd`` says.
        """
        source = Source(self.tree.open_fd(path))
        try:
            source.load(SMALL_BYTES)
        except BaseException:
            source.close()
            raise
        return source

    @property
    def watching(self) -> str:
        """The subject of trouble with taking in what is there: until then nobody knows all."""
        return f"{self.name} watching"

    @property
    def filing_away(self) -> str:
        """The subject of trouble with receipts and moves."""
        return f"{self.name} filing"


@dataclass(slots=True, kw_only=True)
class Service:
    """One target.

    Attributes:
        asking: how many outcomes of a complete are being asked for.
        life_s: how long its sessions live, as the last one told.
        link: what its network carries.
    """

    name: str
    flavour: str
    client: Client
    gate: Gate = field(default_factory=Gate)
    asking: int = 0
    link: Link = field(default_factory=Link)
    life_s: float = field(init=False)

    def __post_init__(self) -> None:
        """Nothing was told yet."""
        self.life_s = LIFE_S[self.flavour]


@dataclass(slots=True, kw_only=True)
class Wakes:
    """What each loop waits for besides its timer; ``news`` rings when the history has grown."""

    due: asyncio.Event = field(default_factory=asyncio.Event)
    admission: asyncio.Event = field(default_factory=asyncio.Event)
    cancels: asyncio.Event = field(default_factory=asyncio.Event)
    errands: asyncio.Event = field(default_factory=asyncio.Event)
    retention: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Wire:
    """Counts what has left or is about to, until its outcome is journalled.

    ``idle`` is set while there is nothing: then the process can end without an unknown outcome.
    """

    def __init__(self) -> None:
        self._count = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def __enter__(self) -> None:
        """Something is about to leave."""
        self._count += 1
        self.idle.clear()

    def __exit__(self, *_: object) -> None:
        """Its outcome is journalled."""
        self._count -= 1
        if self._count == 0:
            self.idle.set()


@dataclass(slots=True, kw_only=True)
class Context:
    """The seams, the adapters and the settings.

    Attributes:
        keep: runs a journal method on the journal's own thread.
        disk: runs a blocking call on one of the disk threads.
        chance: a number in [0, 1) for jitter.
        new_id: an id that no other machine makes either.
        week_s: seconds since Monday, 00:00 local time, at a wall time, for the timetable.
        trouble: what is wrong with the daemon's surroundings now, by subject.
        go: set unless the operator paused the daemon; no request leaves without it.
        alone: a lock for each name and purpose that is being completed at a target.
        missed: files that arrived and were not found under their name when they were to be moved,
            with the count of the watch's scans then.
        passed: files that are being filed and at whose path something was seen meanwhile.
        carried: the sessions of files that have arrived and are to be filed.
        proved: under which identity an uncertain file was read again and was the same.
        resting: until when (wall time) nothing is filed in a watch, where nothing can be.
        renewing: another configuration is being made ready: no watch is let go meanwhile.
        full: the watches whose disk takes nothing: until it does, nothing new is begun there.
        returning: what the operator has tried again, by watch, device and inode, until it is seen.
        absent: since when (CLOCK_BOOTTIME) a file that the operator holds is not where it was.
        writing: since when (CLOCK_BOOTTIME) a settling file is held open for writing.
        hooks: what is run when a file has ended.
        cached_bytes: what the page cache may well keep between two readings.
        keep_s: what ended longer ago is forgotten; None: nothing is.
        run_hook: runs a hook's program.
        tally: counts what happens.
    """

    journal: Journal
    keep: Offload
    disk: Offload
    clock: Clock
    chance: Callable[[], float]
    new_id: Callable[[], str]
    week_s: Callable[[float], float]
    owner: str
    places: dict[str, Place]
    services: dict[str, Service]
    transfer: Transfer
    retry: Retry
    hooks: tuple[Hook, ...] = ()
    cached_bytes: int = 256 << 20
    keep_s: float | None = None
    run_hook: Callable[[Order], Awaitable[Ended]] = field(default_factory=Programs)
    tally: Tally = field(default_factory=NoTally)
    wakes: Wakes = field(default_factory=Wakes)
    meter: Meter = field(default_factory=Meter)
    limiter: Limiter = field(init=False)
    wire: Wire = field(default_factory=Wire)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    trouble: dict[str, str] = field(default_factory=dict)
    telling: Telling = field(default_factory=Telling)
    returning: dict[tuple[str, int, int], File] = field(default_factory=dict)
    absent: dict[str, float] = field(default_factory=dict)
    writing: dict[str, float] = field(default_factory=dict)
    resting: dict[str, float] = field(default_factory=dict)
    renewing: bool = False
    full: set[str] = field(default_factory=set)
    missed: dict[str, int] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)
    carried: Carried = field(default_factory=Carried)
    proved: dict[str, Identity] = field(default_factory=dict)
    alone: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = field(
        default_factory=WeakValueDictionary
    )

    def __post_init__(self) -> None:
        """The configuration may be another one at any time."""
        self.limiter = Limiter(self.clock, self.week_s, lambda: self.transfer.bandwidth)

    @property
    def watched(self) -> dict[str, Place]:
        """The watches that are configured now."""
        return {name: place for name, place in self.places.items() if not place.leaving}

    @property
    def scanned(self) -> bool:
        """Whether every watch was scanned once; before that nobody knows what was dropped.

        While the journal takes nothing, nobody knows either.
        """
        return all(
            place.watcher.scans
            and self.trouble.keys().isdisjoint((name, place.watching, "journal"))
            for name, place in self.watched.items()
        )

    @property
    def wall_s(self) -> float:
        """The wall time now."""
        return self.clock.now().wall_s

    async def apply(self, file: File, event: Event) -> File:
        """Decide, journal, and wake whoever performs the effects; return the file as journalled.

        Raises:
            IllegalTransitionError: the table has no such pair.
            StaleError: the file went on meanwhile; read it again.
            JournalError: the journal refused; nothing changed.
        """
        decision = decide(file, event, self.clock.now())
        name = type(event).__name__.lower()
        owed = self._owed(file, decision.file)
        try:
            after = await self.keep(self.journal.record, file, decision, name, owed)
        finally:  # also where whoever asked is cancelled
            if decision.file.state in model.TERMINAL:
                self.doubt(file)
        if owed:
            self.wakes.errands.set()
        self.applied(file, decision, after)
        return after

    def applied(self, before: File, decision: Decision, after: File) -> None:
        """Count and tell of what was journalled, and wake whoever performs its effects."""
        self.tally.file(before, after)
        self.announce(before, after)
        self.perform(decision.effects)

    def _owed(self, before: File, after: File) -> list[tuple[str, ...]] | None:
        """The commands of the hooks that wait for this step; None where no hook could."""
        if not falls_due(before, after):
            return None
        return [hook.command for hook in self.hooks if hook.on.value == after.state.value]

    def announce(self, before: File | None, after: File) -> None:
        """Log a change of state; what only moved a timer stays silent."""
        self.wakes.news.set()
        if after.state is not FileState.SETTLING:
            self.writing.pop(after.id, None)
        if after.state is not FileState.HELD:
            self.absent.pop(after.id, None)
        if after.state not in {FileState.COMPLETING, FileState.UNCERTAIN}:
            self.proved.pop(after.id, None)
        if after.filing is not model.Filing.PENDING:
            self.missed.pop(after.id, None)
            if after.upload is not None:
                self.carried.drop(after.upload)
        if after.state in model.TERMINAL:
            self.doubt(after)
        if before is None or tells(before, after):
            self.telling.tell(after)

    def doubt(self, file: File) -> None:
        """What its watch knows of its name may not hold any more (``spool/known.py``)."""
        place = self.places.get(file.watch)
        if place is not None:
            place.watcher.known.doubt(file.path)

    def perform(self, effects: tuple[Effect, ...]) -> None:
        """Wake the loop that each effect belongs to."""
        for effect in effects:
            match effect:
                case Effect.LOOK | Effect.WAKE | Effect.RECONCILE | Effect.FILE_AWAY:
                    self.wakes.due.set()
                case Effect.ADMIT:
                    self.wakes.admission.set()
                case Effect.CANCEL_UPLOAD:
                    self.wakes.cancels.set()
                case Effect.TRANSMIT | Effect.COMPLETE:
                    pass  # the transfer that asked goes on by itself

    def in_trouble(self, subject: str, error: Exception) -> None:
        """Note what is wrong with the surroundings, and say so once."""
        if self.trouble.get(subject) != str(error):
            log.error("daemon.trouble", subject=subject, text=str(error))
        self.trouble[subject] = str(error)

    def is_well(self, subject: str) -> None:
        """Note that it is not wrong any more."""
        if self.trouble.pop(subject, None) is not None:
            log.info("daemon.well", subject=subject)

    @property
    def rate_bps(self) -> int | None:
        """The bandwidth of now, or None where it is not limited."""
        return self.limiter.rate_bps


async def wait_for(wake: asyncio.Event, timeout_s: float | None) -> None:
    """Wait until ``wake`` is set or the time is over, and clear it."""
    try:
        async with asyncio.timeout(timeout_s):
            await wake.wait()
    except TimeoutError:
        pass
    wake.clear()
