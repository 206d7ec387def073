"""All of it together: one seed from the first drop to the last check."""

from __future__ import annotations

import asyncio
import gc
import warnings
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

from tests.simulation.aftercare import HOOKS, Aftercare
from tests.simulation.checks import GRACE_S, Checks
from tests.simulation.clock import SimClock
from tests.simulation.disk import Disk
from tests.simulation.filing import SimFiling
from tests.simulation.invariants import examine, unfinished
from tests.simulation.life import Life
from tests.simulation.loop import SimLoop, StuckError
from tests.simulation.network import Network, SimClient
from tests.simulation.operator import Operator
from tests.simulation.producers import Producers
from tests.simulation.service import SimService
from tests.simulation.spool import SimPlace, SimTree, SimWatcher
from tests.simulation.store import JournalFile
from tests.simulation.trace import Trace, listening
from uploaderd.config import Retry, Transfer, Watch
from uploaderd.config.settings import AfterUpload
from uploaderd.engine.context import Context, Service
from uploaderd.engine.engine import Engine
from uploaderd.engine.view import EngineView
from uploaderd.errors import JournalError
from uploaderd.keeper import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.simulation.scenario import Death, Scenario, Window
    from uploaderd.journal import Journal
    from uploaderd.spool.filing import Filing
    from uploaderd.spool.tree import Tree
    from uploaderd.spool.watcher import Watcher

    Script = Callable[["World"], Coroutine[Any, Any, None]]

WATCH = Path("/spool")
STORED = (
    "SELECT f.path, p.offset FROM files f JOIN parts p ON p.upload = f.upload"
    " WHERE f.state = 'uploading' AND p.state = 'stored' ORDER BY f.id, p.number"
)
LIMIT_S = 2 * 3600.0
LOOK_S = 1.0
LONGEST_LOOK_S = 20.0


class DeathError(Exception):
    """The process ended by itself, and nothing that the scenario has can be why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one seed came to; ``broken`` names the invariants that did not hold.

    Attributes:
        stored: how many parts the checks knew to be stored.
    """

    seed: int
    broken: tuple[str, ...]
    digest: str
    steps: int
    virtual_s: float
    lives: int
    uploaded: int
    stored: int = 0


def play(scenario: Scenario, script: Script | None = None, *, loud: bool = False) -> Outcome:
    """Run a scenario to its end; ``script`` is what happens besides, told by hand."""
    gc.disable()  # when it would run is not the seed's to say
    loop = SimLoop()
    trace = Trace(loop.time, loud=loud)
    rng = Random(f"world {scenario.seed}")
    try:
        with warnings.catch_warnings(), listening(trace), JournalFile(rng) as store:
            warnings.simplefilter("ignore", RuntimeWarning)  # a dead process awaits nothing more
            world = World(scenario, loop, trace, store, rng)
            world.script = script
            loop.set_exception_handler(world.unhandled)
            try:
                loop.run_until_complete(world.run())
            except (StuckError, DeathError) as error:
                world.broken.append(f"{type(error).__name__}: {error}")
            broken = [*world.broken, *world.checks.broken, *world.service.wrong]
            broken += [f"trouble: {told}" for told in trace.troubles]
            broken += store.weak[:1]
            return Outcome(
                seed=scenario.seed,
                broken=tuple(dict.fromkeys(broken)),
                digest=trace.digest(),
                steps=trace.steps,
                virtual_s=loop.time(),
                lives=world.lives,
                uploaded=len(world.service.files),
                stored=world.checks.stored,
            )
    finally:
        loop.close()
        gc.enable()


class World:
    """Holds what outlives a death of the process, and lets the lives follow each other."""

    def __init__(
        self, scenario: Scenario, loop: SimLoop, trace: Trace, store: JournalFile, rng: Random
    ) -> None:
        seed = scenario.seed
        self.broken: list[str] = []
        self.lives = 0
        self.clock = SimClock(loop)
        self.service = SimService(scenario.rules, self.clock, Random(f"service {seed}"), trace)
        self.network = Network(scenario, loop, self.service, Random(f"network {seed}"), trace)
        self.disk = Disk(self.clock, trace)
        self.checks = Checks(self.service, self.disk, loop.time)
        self.checks.slack_s = 30.0 if scenario.slow_disk else GRACE_S
        self.checks.slow = bool(scenario.operator or scenario.suspends)
        self.producers = Producers(scenario, self.disk, Random(f"producers {seed}"))
        self.operator = Operator(self, scenario, loop, trace)
        self._scenario = scenario
        self._loop = loop
        self._trace = trace
        self._store = store
        self._rng = rng
        self.script: Script | None = None
        self._ids = 0
        self._calm = False
        self.engine: Engine | None = None
        self._watcher: SimWatcher | None = None
        self._journal_full = False
        self.aftercare = Aftercare(Random(f"aftercare {seed}"))
        self._settings = Watch(
            path=WATCH,
            settle_s=scenario.settle_s,
            rescan_s=scenario.rescan_s,
            after_upload=AfterUpload(scenario.after_upload),
        )

    def unhandled(self, _: asyncio.AbstractEventLoop, facts: dict[str, Any]) -> None:
        """An exception that nobody took."""
        if not self._trace.deaf:
            self.broken.append(f"unhandled: {facts.get('message')}: {facts.get('exception')!r}")

    async def run(self) -> None:
        """From the first drop to the last check."""
        action = self._loop.create_task(self._act())
        deaths = list(self._scenario.deaths)
        while not await self._live(deaths.pop(0) if deaths else None, action):
            pass
        await action

    async def _act(self) -> None:
        """Let everything happen that the scenario has, then let the trouble end."""
        scenario, loop = self._scenario, self._loop
        tasks = [loop.create_task(self.producers.one()) for _ in range(scenario.producers)]
        tasks += [loop.create_task(self._trouble(window)) for window in scenario.windows]
        tasks += [loop.create_task(self.operator.act(n)) for n in range(scenario.operator)]
        tasks += [loop.create_task(self.operator.limit(n)) for n in range(scenario.limits)]
        for at_s, by_s in scenario.jumps:
            loop.call_later(at_s, self.jump, by_s)
        for at_s, for_s in scenario.suspends:
            loop.call_later(at_s, self._suspend, for_s)
        if self.script is not None:
            tasks.append(loop.create_task(self.script(self)))
        await asyncio.sleep(scenario.action_s)
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            task.result()
        self._trace.say("world", "the trouble ends")
        self._calm = True
        self.network.faults = None
        if self._watcher is not None:
            self._watcher.lossy = False
        await self.operator.resume()
        if scenario.limits:
            await self.operator.unlimit()

    def jump(self, by_s: float) -> None:
        """Somebody sets the wall clock."""
        self._trace.say("clock", f"the wall clock jumps by {by_s} s")
        self.clock.jump(by_s)

    def _suspend(self, for_s: float) -> None:
        self._trace.say("clock", f"the machine sleeps for {for_s} s")
        self.clock.suspend(for_s)

    async def _trouble(self, window: Window) -> None:
        await asyncio.sleep(window.begin_s)
        self._set_trouble(window.what, there=True)
        await asyncio.sleep(window.end_s - window.begin_s)
        self._set_trouble(window.what, there=False)

    def _set_trouble(self, what: str, *, there: bool) -> None:
        self._trace.say("world", f"{what}: {'begins' if there else 'ends'}")
        if what == "journal":
            self._journal_full = there
            self._store.room(there=not there)
        elif what == "spool":
            self.disk.full = there
        elif there:
            self.network.trouble.add(what)
        else:
            self.network.trouble.discard(what)

    # The lives

    async def _live(self, death: Death | None, action: asyncio.Task[None]) -> bool:
        """One life of the process; True if it was the last one."""
        self.lives += 1
        self.life = life = Life(
            self._loop,
            Random(f"life {self.lives} {self._scenario.seed}"),
            self._trace,
            self.checks,
            steps=None if death is None or self._calm else death.steps,
            slow_disk=self._scenario.slow_disk,
            meddle=self._meddle,
        )
        self._trace.say("process", f"life {self.lives} begins")
        ends = asyncio.Event()
        if death is not None and death.steps is None:
            self._loop.call_later(death.at_s, ends.set)
        work = self._loop.create_task(self._work(life))
        watch = [
            self._loop.create_task(life.ended.wait()),
            self._loop.create_task(ends.wait()),
            self._loop.create_task(self._until_drained(life, action)),
        ]
        done, _ = await asyncio.wait({work, *watch}, return_when=asyncio.FIRST_COMPLETED)
        finished = watch[2] in done and life.alive and work not in done
        if finished:
            self.broken += examine(
                self._scenario,
                self.clock,
                self.disk,
                self.service,
                self._journal,
                self.aftercare.forgotten,
            )
            if self._scenario.hooks:
                self.broken += self.aftercare.examine(self._journal)
        elif death is not None and death.drained and life.alive and self.engine is not None:
            await self._stop(self.engine, work)
        stored = self.rows(STORED)
        self.engine = None
        life.die()
        for task in (work, *watch):
            task.cancel()
        await asyncio.wait({work, *watch})
        self._judge(work)
        watch[2].cancelled() or watch[2].result()
        if finished:
            return True
        power = death is not None and death.power
        self._trace.say("process", f"is gone{', and so is the power' if power else ''}")
        self.checks.journal = None
        if self._store.journal is not None:
            self._store.killed(power=power)
        if power:
            self.clock.reboot()
        if stored and self._rng.random() < self._scenario.bit_rot:
            part = self._rng.choice(stored)
            self.disk.rot(bytes(part["path"]), part["offset"])
        await asyncio.sleep(1.0 if death is None else death.down_s)
        return False

    async def _stop(self, engine: Engine, work: asyncio.Task[None]) -> None:
        """As on SIGTERM."""
        self._trace.say("process", "is asked to stop")
        drain = self._loop.create_task(engine.drain(20.0))
        await asyncio.wait({drain, work}, return_when=asyncio.FIRST_COMPLETED)
        work.cancel()
        await asyncio.wait({drain, work})
        if not drain.cancelled() and drain.exception() is None:
            self._trace.say("process", f"drained: {drain.result()}")

    def _judge(self, work: asyncio.Task[None]) -> None:
        """A process may be killed, or find its journal's disk full as it starts; nothing else."""
        error = None if work.cancelled() else work.exception()
        if isinstance(error, JournalError) and self._journal_full:
            return
        if isinstance(error, Exception):
            raise DeathError(f"the process ended with {error!r}") from error

    async def _work(self, life: Life) -> None:
        journal = self._store.new()
        await life.keep(journal.open)
        self._store.opened()
        self._store.room(there=not self._journal_full)
        self.checks.journal = journal
        if self._scenario.keep_s is not None:
            self.aftercare.follow(journal)
        engine = self._wire(life, journal)
        await engine.recover()
        if self._rng.random() < self._scenario.recover_twice:
            before = self._store.dump()
            await engine.recover()
            if self._store.dump() != before:
                self.broken.append("I5: recovering twice is not recovering once")
        self.engine = engine
        await engine.run()

    def _wire(self, life: Life, journal: Journal) -> Engine:
        scenario = self._scenario
        self._watcher = SimWatcher(
            life, self.disk, self._settings, scenario, Random(f"inotify {self.lives}")
        )
        self._watcher.lossy = not self._calm
        tree = cast("Tree", SimTree(self.disk, leases=scenario.leases))
        place = SimPlace(
            name=str(WATCH),
            settings=self._settings,
            tree=tree,
            watcher=cast("Watcher", self._watcher),
            filing=cast("Filing", SimFiling(life, self.disk, leases=scenario.leases)),
        )
        place.disk = self.disk
        client = SimClient(life, self.network, stall_s=scenario.stall_s)
        keep = Keeper(life.keep, self._loop.time)
        keep.together = journal.together
        return Engine(
            Context(
                journal=journal,
                keep=keep,
                disk=life.disk,
                clock=self.clock,
                chance=self._rng.random,
                new_id=self._new_id,
                week_s=lambda wall_s: wall_s % 604_800.0,
                owner="here",
                places={place.name: place},
                services={"openai": Service(name="openai", flavour="openai", client=client)},
                transfer=Transfer(
                    part_bytes=scenario.part_bytes,
                    parts_in_flight=scenario.parts_in_flight,
                    files_in_flight=scenario.files_in_flight,
                    stall_timeout_s=scenario.stall_s,
                ),
                retry=Retry(
                    attempts=scenario.attempts,
                    max_wait_s=scenario.max_wait_s,
                    defer_max_s=scenario.defer_max_s,
                ),
                hooks=HOOKS if scenario.hooks else (),
                keep_s=scenario.keep_s,
                run_hook=self.aftercare.runner(life, journal),
            )
        )

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._rng.getrandbits(16):04x}-{self._ids}"

    def _meddle(self, path: bytes) -> None:
        if not self._calm:
            self.producers.meddle(path)

    @property
    def _journal(self) -> Journal:
        assert self._store.journal is not None
        return self._store.journal

    def rows(self, query: str) -> list[Any]:
        """Ask the journal, if there is one now."""
        if self._store.journal is None or self.engine is None:
            return []
        return self._journal.connection.execute(query).fetchall()

    async def until(self, query: str) -> None:
        """Wait until the journal has such a row."""
        while not self.rows(query):
            await asyncio.sleep(0.02)

    async def _until_drained(self, life: Life, action: asyncio.Task[None]) -> None:
        """Wait until there is nothing left to do, or until it is clear that this never ends."""
        await asyncio.wait({action})
        life.steps_left = None
        began_s = self._loop.time()
        while True:
            waited_s = self._loop.time() - began_s
            await asyncio.sleep(min(LOOK_S + waited_s / 20, LONGEST_LOOK_S))
            if self.engine is None or self._watcher is None:
                continue
            left = unfinished(self.disk, self._journal, self._settings)
            if not left:
                status = await EngineView(self.engine, version="").status()
                if status["drained"]:
                    self._trace.say("world", "all is done")
                    return
                left = ["all is done, but the status does not say drained"]
            if waited_s > LIMIT_S or self._trace.troubles:
                self.broken += [f"I6: {one}" for one in left]
                return
