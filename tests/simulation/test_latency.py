"""How soon a whole file is asked a session for, in virtual time: no timer stands in its way.

There the threads take up to 2 ms a call and the processor takes nothing, so what is over that is a
wait: for a tick, for a quiet period, or for a scan. Each would take seconds here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.simulation.scenario import Scenario
from tests.simulation.world import play

if TYPE_CHECKING:
    from tests.simulation.disk import Inode
    from tests.simulation.world import World

FILES = 12
APART_S = 3.7  # in no step with any tick
LOOK_S = 0.001
RENAME_S, CLOSE_S = 0.050, 0.100  # issue 5
SETTLE_S = 2.0  # who holds it open for longer says by closing it that it is done
LATER_S = 600.0  # what waits for a scan comes far too late
ASKED = "SELECT 1 FROM requests WHERE call = 'create'"
FILED = "SELECT 1 FROM files WHERE filing = 'filed'"


def latencies(*, written: bool) -> list[float]:
    """Drop files, each after the one before is filed; how long each waits for its ``create``."""
    took: list[float] = []

    async def whole(world: World, number: int) -> None:
        if not written:
            world.producers.put(b"x%d" % number, b"x" * 350)
            return
        inode: Inode = world.disk.make(b"x%d" % number)
        world.disk.write(inode, b"y" * 350)
        world.disk.dropped(b"y" * 350)
        await asyncio.sleep(APART_S)  # it is seen, and seen to be open
        assert len(world.rows(ASKED)) == number, "it was taken half-written"
        world.disk.close(inode)

    async def script(world: World) -> None:
        await asyncio.sleep(APART_S)
        for number in range(FILES):
            await whole(world, number)
            since_s = asyncio.get_running_loop().time()
            while len(world.rows(ASKED)) == number:
                await asyncio.sleep(LOOK_S)
            took.append(asyncio.get_running_loop().time() - since_s)
            while len(world.rows(FILED)) == number:
                await asyncio.sleep(LOOK_S)
            await asyncio.sleep(APART_S)

    scenario = Scenario(
        seed=5, producers=0, recover_twice=0.0, settle_s=SETTLE_S, rescan_s=LATER_S, latency_s=0.01
    )
    outcome = play(scenario, script)
    assert outcome.broken == ()
    assert outcome.uploaded == FILES
    return took


@pytest.mark.parametrize(("written", "most_s"), [(False, RENAME_S), (True, CLOSE_S)])
def test_a_whole_file_leaves_at_once(*, written: bool, most_s: float) -> None:
    """A rename into the spool and a close after writing are acted upon without any timer."""
    assert max(latencies(written=written)) < most_s


def test_what_comes_to_a_path_while_its_file_is_filed_is_taken_at_once() -> None:
    """Nobody waits for the next scan to find it."""
    took: list[float] = []
    meanwhile: list[bool] = []

    async def script(world: World) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(APART_S)
        for number in range(FILES):
            path = b"x%d" % number
            world.producers.put(path, b"x" * 350)
            while path in world.disk.paths:
                await asyncio.sleep(LOOK_S / 10)
            meanwhile.append(len(world.rows(FILED)) == 2 * number)
            world.producers.put(path, b"y" * 250)
            since_s = loop.time()
            while len(world.rows(FILED)) < 2 * (number + 1):
                await asyncio.sleep(LOOK_S * 10)
            took.append(loop.time() - since_s)

    scenario = Scenario(
        seed=6, producers=0, recover_twice=0.0, settle_s=SETTLE_S, rescan_s=LATER_S, latency_s=0.01
    )
    outcome = play(scenario, script)
    assert outcome.broken == ()
    assert outcome.uploaded == 2 * FILES
    assert any(meanwhile), "none was still being filed"
    assert max(took) < LATER_S / 10
