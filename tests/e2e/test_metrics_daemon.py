"""A daemon's numbers: they agree with what the service counted and with the status document."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.support.daemon import DaemonProcess, Table
from tests.support.exposition import Page, scrape
from tests.support.waiting import wait_for
from uploaderd.emulator import Call, Emulator, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20
NAMES = ("a.bin", "b.bin", "c.bin")
HOOKS: list[Table] = [
    {"on": "done", "command": ["/bin/true"]},
    {"on": "failed", "command": ["/bin/false"], "attempts": 1},
]
PATIENT: dict[str, Table] = {"retry": {"max_wait": "10ms"}, "transfer": {"parts_in_flight": 2}}


def noise(count: int, seed: int) -> bytes:
    """Make bytes that differ from part to part."""
    return random.Random(seed).randbytes(count)


async def until(daemon: DaemonProcess, true: Callable[[Page], bool], *, what: str) -> Page:
    """Scrape until a page is as it should be; return it."""

    async def look() -> Page | None:
        page = await scrape(daemon)
        return page if true(page) else None

    return await wait_for(look, what=what)


async def test_the_numbers_agree_with_what_the_service_counted(tmp_path: Path) -> None:
    """Requests by status, bytes that were stored and bytes sent twice, on a bad day."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=PATIENT, hooks=HOOKS) as daemon,
    ):
        for fault in (
            "call=part,action=refuse,status=503,at=after,skip=1,times=2",
            "call=part,action=cut,at=524288,skip=4,times=2",
            "call=part,action=lose,skip=8,times=1",
            "call=create,action=refuse,status=500,times=1",
        ):
            emulator.faults.add(fault)
        await daemon.start()
        size = 3 * MIB
        for number, name in enumerate(NAMES):
            daemon.drop(name, noise(size, number))
        daemon.drop("empty", b"")
        status = await daemon.until_drained()
        page = await scrape(daemon)
        counted = emulator.stats

        for call in (Call.CREATE, Call.PART, Call.COMPLETE):
            for code in (200, 500, 503):
                if number := counted.count(call, code):
                    seen = page.value("uploaderd_requests_total", call=call, status=str(code))
                    assert seen == number, (call, code)
        silent = sum(one.outcome is not Outcome.ANSWERED for one in counted.requests)
        assert silent == 3
        assert page.value("uploaderd_requests_total", status="no_reply") == silent
        assert page.value("uploaderd_requests_total") == len(counted.requests)
        answered = len(counted.requests) - silent
        assert page.value("uploaderd_request_duration_seconds_count") == answered

        assert page.value("uploaderd_stored_bytes_total") == len(NAMES) * size
        assert page.value("uploaderd_sent_bytes_total") >= counted.bytes_received
        resent = page.value("uploaderd_resent_bytes_total")
        assert resent >= 3 * MIB, "two refused parts and a lost one"
        assert resent == status["bytes"]["resent"] == page.value("uploaderd_journal_resent_bytes")
        assert page.value("uploaderd_sent_bytes_total") - resent == len(NAMES) * size
        assert page.value("uploaderd_journal_stored_bytes") == status["bytes"]["stored"]
        assert page.value("uploaderd_request_retries_total") >= 1

        for state, number in status["counts"].items():
            assert page.value("uploaderd_files", state=state) == number
        moves = "uploaderd_file_transitions_total"
        assert page.value(moves, reason="done.filing") == len(NAMES)
        assert page.value(moves, reason="done.uploaded") == len(NAMES)
        assert page.value(moves, state="failed", reason="failed.empty") == 1
        assert page.value("uploaderd_drained") == page.value("uploaderd_healthy") == 1
        assert page.value("uploaderd_last_upload_timestamp_seconds") > page.value(
            "process_start_time_seconds"
        )
        assert page.value("uploaderd_journal_commit_duration_seconds_count") > len(NAMES) * 8
        await until(
            daemon,
            lambda page: page.value("uploaderd_event_loop_lag_seconds_count") > 0,
            what="a look at the loop",
        )
        runs = "uploaderd_hook_runs_total"
        page = await until(
            daemon, lambda page: page.value(runs) >= len(NAMES) + 1, what="all hooks to have run"
        )
        assert page.value(runs, on="done", outcome="ok") == len(NAMES)
        assert page.value(runs, on="failed", outcome="failed") == 1


async def test_a_session_that_is_lost_counts_what_is_sent_once_more(tmp_path: Path) -> None:
    """What was stored of it will be sent again: the counter says the same as the journal."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=PATIENT) as daemon,
    ):
        emulator.faults.add("call=part,action=expire,skip=2,times=1")
        await daemon.start()
        daemon.drop("a.bin", noise(4 * MIB, 1))
        status = await daemon.until_drained()
        page = await scrape(daemon)
        assert page.value("uploaderd_session_restarts_total") == 1
        resent = page.value("uploaderd_resent_bytes_total")
        assert resent >= MIB
        assert resent == status["bytes"]["resent"]
        assert page.value("uploaderd_stored_bytes_total") > 4 * MIB


async def test_what_was_sent_twice_is_known_while_the_file_is_on_its_way(tmp_path: Path) -> None:
    """A file may take an hour; whoever looks meanwhile sees that the line is bad."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=PATIENT) as daemon,
    ):
        emulator.faults.add("call=part,action=refuse,status=503,at=after,times=2")
        emulator.faults.add("call=part,action=stall,at=65536,skip=2")
        await daemon.start()
        daemon.drop("a.bin", noise(MIB, 1))
        await emulator.stats.until(lambda stats: stats.count(Call.PART) == 3)
        page = await scrape(daemon)
        assert page.value("uploaderd_files", state="uploading") == 1
        assert page.value("uploaderd_resent_bytes_total") == MIB
        assert page.value("uploaderd_stored_bytes_total") == 0


async def test_what_is_so_now_outlives_the_process_and_what_was_counted_does_not(
    tmp_path: Path,
) -> None:
    """Sessions, deadline and queue come from the journal; counters begin anew, as rate expects."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=PATIENT) as daemon,
    ):
        await daemon.start()
        daemon.drop("first.bin", noise(MIB, 0))
        await daemon.until_drained()
        arrived = (await scrape(daemon)).value("uploaderd_last_upload_timestamp_seconds")
        emulator.faults.add("call=part,action=stall,at=65536,skip=2")
        daemon.drop("a.bin", noise(4 * MIB, 1))
        await until(
            daemon,
            lambda page: page.value("uploaderd_stored_bytes_total") == 3 * MIB,
            what="two parts that are stored",
        )
        page = await until(
            daemon, lambda page: page.value("uploaderd_parts_in_flight") == 2, what="two more"
        )
        assert page.value("uploaderd_parts_in_flight_limit") == 2
        assert page.value("uploaderd_open_sessions") == 1
        assert 3000 < page.value("uploaderd_nearest_deadline_seconds") <= 3600
        assert page.value("uploaderd_queued_bytes") == 2 * MIB
        assert page.value("uploaderd_drained") == 0

        await daemon.kill()
        await daemon.start()
        await daemon.ask("/v1/pause", method="POST")
        page = await until(
            daemon,
            lambda page: page.value("uploaderd_file_transitions_total") > 0,
            what="the file to be recovered",
        )
        assert page.ones("uploaderd_state", "state") == ["paused"]
        assert page.value("uploaderd_open_sessions") == 1
        assert 3000 < page.value("uploaderd_nearest_deadline_seconds") <= 3600
        assert page.value("uploaderd_files", state="done") == 1
        assert page.value("uploaderd_last_upload_timestamp_seconds") == arrived
        assert page.value("uploaderd_stored_bytes_total") == 0
        assert page.value("uploaderd_requests_total", status="200") == 0


async def test_a_target_that_is_shut_and_the_files_that_it_holds_are_seen(tmp_path: Path) -> None:
    """The reason is the gate's, and it is gone when the gate opens."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        emulator.faults.add("call=create,action=refuse,status=401")
        await daemon.start()
        daemon.drop("a.txt", b"no")
        await daemon.until_state("a.txt", "held")
        page = await scrape(daemon)
        assert page.ones("uploaderd_target_state", "state") == ["shut"]
        assert page.ones("uploaderd_target_shut", "reason") == ["auth"]
        assert page.value("uploaderd_files", state="held") == 1
        assert page.value("uploaderd_file_transitions_total", reason="held.auth") == 1
        assert page.value("uploaderd_requests_total", call="create", status="401") == 1
        emulator.faults.clear()
        await daemon.ask("/v1/resume", method="POST")
        await daemon.until_drained()
        page = await scrape(daemon)
        assert page.ones("uploaderd_target_state", "state") == ["ok"]
        assert page.ones("uploaderd_target_shut", "reason") == []
