"""A backlog of thousands of names in a real daemon: what each costs, and what nothing costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_memory import memory
from tests.support.daemon import DaemonProcess
from tests.support.exposition import scrape
from tests.support.service import EmulatorProcess
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Table

FEW, MANY = 500, 4_000
WARM_BYTES = 6 << 20  # what threads and caches come to, however many names there are
COMMITS = "uploaderd_journal_commit_duration_seconds_count"
SHUT = "call=create,action=refuse,status=401"
CONFIG: dict[str, Table] = {
    "daemon": {"log_level": "warning"},
    "watch": {"settle": "0s", "rescan": "1s"},
}


async def waiting(daemon: DaemonProcess) -> int:
    """How many files wait for the target."""
    counts = (await daemon.status())["counts"]
    return int(counts["queued"]) + int(counts["held"]) + int(counts["deferred"])


async def take_in(daemon: DaemonProcess, count: int) -> None:
    """Drop so many names more, and wait until all of them wait."""
    before = await waiting(daemon)
    for number in range(before, before + count):
        (daemon.spool / f"{number}.txt").write_bytes(b"%d" % number)

    async def known() -> bool:
        return await waiting(daemon) == before + count

    await wait_until(known, timeout_s=120, what="all files to wait")


async def scans(daemon: DaemonProcess) -> tuple[float, float]:
    """How many full scans there were, and how many commits."""
    page = await scrape(daemon)
    return page.value("uploaderd_watch_scans_total"), page.value(COMMITS)


@pytest.mark.parametrize("at_start", [True, False], ids=["found", "dropped"])
async def test_a_backlog_costs_little_a_name_and_nothing_at_rest(
    tmp_path: Path, at_start: bool
) -> None:
    """Hundreds share a commit, each takes some bytes of memory, and rescans write nothing."""
    async with (
        EmulatorProcess(tmp_path, faults=[SHUT]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=CONFIG) as daemon,
    ):
        await daemon.start()
        await take_in(daemon, FEW)
        if at_start:
            await daemon.stop()
            for number in range(FEW, MANY):
                (daemon.spool / f"{number}.txt").write_bytes(b"%d" % number)
            await daemon.start()

            async def known() -> bool:
                return await waiting(daemon) == MANY

            before, (_, commits) = memory(daemon.pid)[0], await scans(daemon)
            await wait_until(known, timeout_s=120, what="all files to wait")
        else:
            before, (_, commits) = memory(daemon.pid)[0], await scans(daemon)
            await take_in(daemon, MANY - FEW)
        seen, after = await scans(daemon)
        if at_start:
            assert (after - commits) / (MANY - FEW) <= 1 / 50
        else:  # they come as fast as they are dropped
            assert (after - commits) / (MANY - FEW) <= 1 / 5

        async def looked_through() -> bool:
            return (await scans(daemon))[0] >= seen + 2

        await wait_until(looked_through, timeout_s=120, what="two scans")
        first, rested = await scans(daemon)

        async def again() -> bool:
            return (await scans(daemon))[0] >= first + 2

        await wait_until(again, timeout_s=120, what="two scans more")
        assert (await scans(daemon))[1] - rested <= 20  # probes of the target
        assert memory(daemon.pid)[1] - before - WARM_BYTES <= 1_000 * (MANY - FEW)
