"""What a kill costs: a bounded number of bytes, and no wait for anything that can go beside it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from tests.support import outcome
from tests.support.daemon import DaemonProcess
from tests.support.scenes import HALF, NAME, half_way
from tests.support.waiting import wait_until
from uploaderd.emulator import Call, Emulator
from uploaderd.emulator.stats import Outcome

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
IN_FLIGHT = 3
KILLS = 3
CONTENT = random.Random(5).randbytes(20 * MIB + 1)
CONFIG: dict[str, dict[str, object]] = {"transfer": {"parts_in_flight": IN_FLIGHT}}
SLOW: dict[str, dict[str, object]] = {
    "transfer": {"parts_in_flight": IN_FLIGHT, "bandwidth": "8MiB/s"}
}


async def die_half_way(daemon: DaemonProcess) -> None:
    """Drop a file and let the daemon die once a part of it is stored."""
    daemon.drop(NAME, CONTENT)
    await daemon.launch("tests.support.doomed", HALF.words, notify=False)
    assert await daemon.process.ended() == -9


async def test_an_upload_goes_on_before_the_spool_is_looked_through(tmp_path: Path) -> None:
    """A start with a large backlog keeps no file waiting that was on its way."""
    flag = tmp_path / "go-on"
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=CONFIG) as daemon,
    ):
        await die_half_way(daemon)
        words = ["--step", "Lookout.turn", "--until", str(flag)]
        await daemon.launch("tests.support.hindered", words, notify=False)
        await wait_until(
            lambda: outcome.distinct_bytes(emulator) == len(CONTENT), what="all other parts"
        )
        assert not (await daemon.status())["drained"], "nobody knows what lies in the spool yet"
        flag.touch()
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, {NAME: CONTENT})
        assert emulator.stats.count(Call.CREATE) == 1


async def test_a_restart_asks_nothing_before_its_first_part(tmp_path: Path) -> None:
    """The first that the service hears of the next life is a part that it does not have yet."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=CONFIG) as daemon,
    ):
        await die_half_way(daemon)
        asked = len(emulator.stats.requests)
        stored = outcome.distinct_bytes(emulator)
        await daemon.start()
        await wait_until(lambda: outcome.distinct_bytes(emulator) > stored, what="a new part")
        assert emulator.stats.requests[asked].call is Call.PART
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, {NAME: CONTENT})


def wasted(emulator: Emulator, daemon: DaemonProcess) -> int:
    """What reached the service and will have to be sent again, as the journal stands."""
    query = "SELECT coalesce(sum(length), 0) FROM parts WHERE state = 'stored'"
    ((stored,),) = outcome.ask_journal(daemon.state_dir, query)
    return emulator.stats.bytes_received - int(stored)


def silent(emulator: Emulator) -> bool:
    """Whether nothing of a daemon that is gone is still under way."""
    return all(one.outcome is not Outcome.OPEN for one in emulator.stats.requests)


async def test_no_kill_costs_more_than_what_was_on_its_way(tmp_path: Path) -> None:
    """Killed at random moments: each costs its parts in flight at most, and not a byte more.

    As the service counted it; the receipt owns up to all of it.
    """
    chance = random.Random(11)
    cost = 0
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=SLOW) as daemon,
    ):
        daemon.drop(NAME, CONTENT)
        for _ in range(KILLS):
            await daemon.start()
            await half_way(emulator, emulator.stats.count(Call.PART, 200) + 1)
            await asyncio.sleep(chance.uniform(0, 0.25))  # a random moment, not a wait
            await daemon.kill()
            await wait_until(lambda: silent(emulator), what="the last of it to arrive")
            former, cost = cost, wasted(emulator, daemon)
            assert cost < emulator.stats.bytes_received, "something is stored"
            assert 0 <= cost - former <= IN_FLIGHT * MIB
        assert not emulator.stats.files_created, "every kill hit it on its way"
        await daemon.start()
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, {NAME: CONTENT})
        assert outcome.sent_twice(emulator, len(CONTENT)) == cost > 0
        outcome.assert_counted(emulator, daemon, NAME)
