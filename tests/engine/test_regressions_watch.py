"""What a review found in the watchdog's pulse: what an engine is called stuck for, and what not."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.engine.ended import DAY_S, done
from tests.engine.gates import Gate
from uploaderd.engine.pulse import LATE_S, Pulse
from uploaderd.engine.retention import judge
from uploaderd.keeper import Keeper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.engine.kit import Rig

SUSPEND_S = 3_600.0


@asynccontextmanager
async def looping(rig: Rig, name: str, step: Callable[[], Awaitable[float]]) -> AsyncIterator[None]:
    """Let one loop of the engine run."""
    loop = asyncio.create_task(rig.engine._loop(name, asyncio.Event(), step))
    yield
    loop.cancel()
    await asyncio.wait({loop})


async def test_a_suspend_makes_no_loop_late(rig: Rig) -> None:
    """Its timer stands still meanwhile, and so does the watchdog's: CLOCK_BOOTTIME does not."""
    looked = asyncio.Event()

    async def step() -> float:
        looked.set()
        return 60.0

    async with looping(rig, "due", step):
        await looked.wait()
        assert rig.engine.beats(None)
        rig.clock.forward(SUSPEND_S)
        assert rig.engine.beats(None)


@pytest.mark.parametrize(("name", "beats"), [("retention", True), ("due", False)])
async def test_retention_may_wait_for_the_disk_and_nobody_else(
    rig: Rig, name: str, *, beats: bool
) -> None:
    """Its look at what is kept stands in line behind copies of whole files, which take minutes."""
    rig.engine._pulse = Pulse(lambda: rig.clock.boot_s)
    rig.ctx.keep_s = DAY_S
    await done(rig, "x")
    rig.clock.forward(10 * DAY_S)
    rig.ctx.disk = gate = Gate(judge)
    async with looping(rig, name, rig.engine._retention.step):
        await gate.reached()
        rig.clock.forward(LATE_S + 1.0)
        assert rig.engine.beats(None) is beats


async def test_a_look_at_the_numbers_that_gives_up_makes_no_stuck_journal_look_alive(
    rig: Rig,
) -> None:
    """However often somebody asks and does not wait: a request under way excuses nothing then."""
    rig.engine._pulse = Pulse(lambda: rig.clock.boot_s)
    stuck = Gate(Keeper._make)
    keep = Keeper(stuck, lambda: rig.clock.boot_s)
    hung = asyncio.create_task(keep(rig.journal.file, "a"))
    await stuck.reached()
    with rig.ctx.wire:
        for _ in range(3):
            rig.clock.forward(LATE_S / 2)
            impatient = asyncio.create_task(keep(rig.journal.counts))
            await asyncio.sleep(0)
            impatient.cancel()
            await asyncio.wait({impatient})
        assert not rig.engine.beats(keep.since_s)
    hung.cancel()
