"""What a restart makes of a file that was on its way, and what a stop leaves behind."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support import outcome
from tests.support.daemon import DaemonProcess
from tests.support.scenes import CONTENT, HALF, NAME, OTHER, PARTS_IN_FLIGHT, half_way
from tests.support.waiting import wait_until
from uploaderd.emulator import Call, Emulator
from uploaderd.emulator.objects import UploadStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20
HOUR_S = 3600.0
CONFIG: dict[str, dict[str, object]] = {"transfer": {"parts_in_flight": PARTS_IN_FLIGHT}}


async def die_half_way(daemon: DaemonProcess, content: bytes = CONTENT) -> None:
    """Drop a file and let the daemon die once a part of it is stored."""
    daemon.drop(NAME, content)
    await daemon.launch("tests.support.doomed", HALF.words, notify=False)
    assert await daemon.process.ended() == -9


def stored(emulator: Emulator) -> int:
    """How many parts the service took."""
    return emulator.stats.count(Call.PART, 200)


async def test_parts_leave_while_the_file_is_read_again(tmp_path: Path) -> None:
    """After a restart the ordered pass is no gate for parts; only ``complete`` waits for it."""
    flag = tmp_path / "go-on"
    content = CONTENT + OTHER
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=CONFIG) as daemon,
    ):
        await die_half_way(daemon, content)
        before = len(emulator.store.parts)
        words = ["--step", "Md5Pass.advance", "--until", str(flag)]
        await daemon.launch("tests.support.hindered", words, notify=False)
        await wait_until(
            lambda: outcome.distinct_bytes(emulator) == len(content), what="all other parts"
        )
        assert len(emulator.store.parts) > before
        row = await daemon.until_state(NAME, "uploading")
        assert row["parts"]["stored"] < row["parts"]["total"] or row["md5"] is None
        assert emulator.stats.count(Call.COMPLETE) == 0, "nothing is proved yet"
        flag.touch()
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, {NAME: content})
        assert emulator.stats.count(Call.CREATE) == 1


def rewritten(path: Path) -> bytes:
    """Other bytes and another size, in place."""
    path.write_bytes(OTHER)
    return OTHER


def changed_in_place(path: Path) -> bytes:
    """The first byte of a part that is stored already, in place."""
    with path.open("r+b") as file:
        file.write(b"!")
    return b"!" + CONTENT[1:]


def replaced(path: Path) -> bytes:
    """Another file under the same name."""
    hidden = path.with_name(".new.tmp")
    hidden.write_bytes(OTHER)
    hidden.rename(path)
    return OTHER


def truncated(path: Path) -> bytes:
    """The same file, shorter."""
    os.truncate(path, MIB // 2)
    return CONTENT[: MIB // 2]


def touched(path: Path) -> bytes:
    """The same bytes with a new time stamp."""
    os.utime(path)
    return CONTENT


@pytest.mark.parametrize(
    "change", [rewritten, changed_in_place, replaced, truncated, touched], ids=lambda f: f.__name__
)
async def test_a_file_that_changed_meanwhile_begins_anew(
    tmp_path: Path, change: Callable[[Path], bytes]
) -> None:
    """What arrives is what the file is in the end; the session of its former bytes is cancelled."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=CONFIG) as daemon,
    ):
        await die_half_way(daemon)
        (former,) = emulator.store.uploads
        content = change(daemon.spool / NAME)
        await daemon.start()
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, {NAME: content})
        await wait_until(lambda: not outcome.unended(daemon.state_dir), what="ended sessions")
        assert emulator.store.uploads[former].status is UploadStatus.CANCELLED


async def test_a_session_past_its_hour_begins_anew(tmp_path: Path) -> None:
    """The service refuses the next part of an expired session; a new one carries the whole file."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=CONFIG) as daemon,
    ):
        await die_half_way(daemon)
        (former,) = emulator.store.uploads
        emulator.clock.advance(HOUR_S + 1)
        await daemon.start()
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, {NAME: CONTENT})
        assert emulator.store.uploads[former].status is UploadStatus.EXPIRED
        row = await daemon.file(NAME)
        assert row is not None
        assert "queued.again" in [moment["code"] for moment in row["history"]]
        await wait_until(lambda: not outcome.unended(daemon.state_dir), what="ended sessions")


async def test_an_hour_that_passed_while_it_was_down_is_known(tmp_path: Path) -> None:
    """By its own clock the session is over: nothing more is sent to it, and a new one begins."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=CONFIG) as daemon,
    ):
        await die_half_way(daemon)
        (former,) = emulator.store.uploads
        asked = len(emulator.stats.part_attempts(former))
        emulator.clock.advance(HOUR_S)
        with closing(sqlite3.connect(daemon.state_dir / "journal.sqlite3")) as journal:
            journal.execute(
                "UPDATE uploads SET created = created - ?, created_boot = created_boot - ?",
                (HOUR_S, HOUR_S),
            )
            journal.commit()
        await daemon.start()
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, {NAME: CONTENT})
        assert len(emulator.stats.part_attempts(former)) == asked
        await wait_until(lambda: not outcome.unended(daemon.state_dir), what="ended sessions")
        # The service's hour may have begun later than ours, so it is asked.
        assert emulator.stats.count(Call.CANCEL, upload_id=former) == 1


async def test_a_session_that_expires_at_complete_begins_anew(tmp_path: Path) -> None:
    """All parts are stored and the hour is over before ``complete``: the whole file goes again."""
    faults = ["call=complete,action=expire,times=1"]
    async with (
        Emulator(store=tmp_path / "store", faults=faults) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=CONFIG) as daemon,
    ):
        daemon.drop(NAME, CONTENT)
        await daemon.start()
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, {NAME: CONTENT})
        assert outcome.sent_twice(emulator, len(CONTENT)) == len(CONTENT)
        assert outcome.read_receipt(daemon.spool / "done" / NAME)["bytes_resent"] == len(CONTENT)


async def test_sessions_that_always_expire_are_not_begun_for_ever(tmp_path: Path) -> None:
    """A service that lets every session expire gets a few of them, then the file waits."""
    async with (
        Emulator(store=tmp_path / "store", faults=["call=part,action=expire"]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=CONFIG) as daemon,
    ):
        daemon.drop(NAME, CONTENT)
        await daemon.start()
        row = await daemon.until_state(NAME, "held")
        assert row["reason"]["code"] == "held.restarts"
        assert emulator.stats.count(Call.CREATE) <= 10
        assert daemon.left() == [NAME]


async def test_sigterm_lets_parts_in_flight_end(tmp_path: Path) -> None:
    """Stopped three times on its way: every part that left was answered, and none left twice."""
    config = {"transfer": CONFIG["transfer"] | {"bandwidth": "4MiB/s"}}
    content = CONTENT * 4
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        daemon.drop(NAME, content)
        for _ in range(3):
            await daemon.start()
            await half_way(emulator, stored(emulator) + 1)
            assert await daemon.stop() == 0
            assert emulator.stats.count(Call.PART) == stored(emulator)
        assert emulator.stats.count(Call.COMPLETE) == 0, "it was stopped on its way each time"
        await daemon.start()
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, {NAME: content})
        assert outcome.sent_twice(emulator, len(content)) == 0
        assert outcome.read_receipt(daemon.spool / "done" / NAME)["bytes_resent"] == 0


async def test_sigterm_waits_for_the_reply_to_complete(tmp_path: Path) -> None:
    """A ``complete`` on its way is answered before the daemon ends, so nothing is uncertain."""
    faults = ["call=complete,action=stall,at=reply,seconds=1"]
    async with (
        Emulator(store=tmp_path / "store", faults=faults) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=CONFIG) as daemon,
    ):
        daemon.drop(NAME, CONTENT)
        await daemon.start()
        await wait_until(lambda: emulator.stats.count(Call.COMPLETE), what="complete")
        assert await daemon.stop() == 0
        assert outcome.ask_journal(daemon.state_dir, "SELECT state FROM files") == [("done",)]
        await daemon.start()
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, {NAME: CONTENT})
        assert emulator.stats.count(Call.COMPLETE) == 1
        assert emulator.stats.count(Call.LIST) == 0


async def test_sigterm_does_not_wait_for_ever(tmp_path: Path) -> None:
    """A part that hangs is cut off at the drain's time-out, and sent again by the next start."""
    config = CONFIG | {"daemon": {"drain_timeout": "1s"}}
    faults = ["call=part,action=stall,at=65536,times=1"]
    async with (
        Emulator(store=tmp_path / "store", faults=faults) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        daemon.drop(NAME, CONTENT)
        await daemon.start()
        await wait_until(lambda: stored(emulator) == 2, what="the other parts")
        assert await daemon.stop(10.0) == 0
        await daemon.start()
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, {NAME: CONTENT})
        assert outcome.sent_twice(emulator, len(CONTENT)) <= MIB
        assert len(outcome.uploads_with_parts(emulator)) == 1


async def test_two_daemons_do_not_share_a_state_directory(tmp_path: Path) -> None:
    """The second one ends with exit code 78 and names the first; the first goes on."""
    (tmp_path / "second").mkdir()
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as first,
    ):
        await first.start()
        config: dict[str, dict[str, object]] = {"daemon": {"state_dir": str(first.state_dir)}}
        async with DaemonProcess(tmp_path / "second", emulator.base_url, config=config) as second:
            await second.launch(notify=False)
            assert await second.process.ended() == 78
            assert f"another uploaderd (pid {first.pid})" in second.log_text()
        first.drop(NAME, CONTENT)
        await first.until_drained()
        outcome.assert_arrived(emulator, first, {NAME: CONTENT})
        await first.kill()
        await first.start()
        assert await first.stop() == 0
