"""The operator: pauses, resumes and cancels at any moment, and is told what came of it."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

from uploaderd.core.verbs import Verb
from uploaderd.errors import NotApplicableError, UploaderdError

if TYPE_CHECKING:
    from tests.simulation.loop import SimLoop
    from tests.simulation.scenario import Scenario
    from tests.simulation.trace import Trace
    from tests.simulation.world import World
    from uploaderd.engine.engine import Engine

RATES_BPS = (7, 60, 1_000, None)


class Operator:
    """Speaks to whichever daemon lives; a dead one does not answer."""

    def __init__(self, world: World, scenario: Scenario, loop: SimLoop, trace: Trace) -> None:
        self._world = world
        self._scenario = scenario
        self._loop = loop
        self._trace = trace

    async def act(self, number: int) -> None:
        """Do one thing at some moment."""
        rng = Random(f"operator {number} {self._scenario.seed}")
        await asyncio.sleep(rng.random() * self._scenario.action_s)
        engine = self._world.engine
        if engine is None:
            return
        if rng.random() < 0.5:
            await self.pause()
            await asyncio.sleep(rng.choice((1.0, 30.0)) * rng.random())
            await self.resume()
            return
        rows = self._world.rows("SELECT id FROM files ORDER BY id")
        if not rows:
            return
        file_id = rng.choice(rows)["id"]
        verb = rng.choice(list(Verb))
        await self._ask(engine, verb, file_id)
        if verb is Verb.HOLD:
            await asyncio.sleep(rng.choice((1.0, 60.0, 4_000.0)) * rng.random())
            await self.release(file_id)

    async def limit(self, number: int) -> None:
        """Limit the bandwidth at some moment."""
        rng = Random(f"limit {number} {self._scenario.seed}")
        await asyncio.sleep(rng.random() * self._scenario.action_s)
        engine = self._world.engine
        if engine is not None:
            await self._ask(engine, "limit", rng.choice(RATES_BPS))

    async def unlimit(self) -> None:
        """As often as it takes, as for ``resume``."""
        while True:
            engine = self._world.engine
            if engine is not None and await self._ask(engine, "unlimit"):
                return
            await asyncio.sleep(1.0)

    async def release(self, file_id: str) -> None:
        """As often as it takes, as for ``resume``."""
        while True:
            engine = self._world.engine
            if engine is not None and await self._ask(engine, Verb.RELEASE, file_id):
                return
            await asyncio.sleep(1.0)

    async def pause(self) -> None:
        """Once that is answered, nothing more may leave."""
        engine = self._world.engine
        if engine is not None and await self._ask(engine, "pause"):
            self._world.checks.paused_s = self._loop.time()

    async def resume(self) -> None:
        """As often as it takes: a resume may meet a dead daemon or a full disk."""
        while True:
            engine = self._world.engine
            self._world.checks.paused_s = None
            if engine is not None and await self._ask(engine, "resume"):
                return
            await asyncio.sleep(1.0)

    async def _ask(self, engine: Engine, verb: str, *args: str | int | None) -> bool:
        """Say something to the daemon; True if it answered."""
        life = self._world.life
        operator = engine.operator
        of_file = verb in set(Verb)
        said = operator.say(Verb(verb), str(*args)) if of_file else getattr(operator, verb)(*args)
        task = self._loop.create_task(said)
        ended = self._loop.create_task(life.ended.wait())
        await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        error = None if task.cancelled() else task.exception()
        self._trace.say("operator", f"{verb} {' '.join(map(str, args))}: {error or 'done'}")
        if error is not None and not isinstance(error, UploaderdError) and life.alive:
            self._world.broken.append(f"operator: {verb} raised {error!r}")
        if isinstance(error, NotApplicableError):
            return True
        return not task.cancelled() and error is None
