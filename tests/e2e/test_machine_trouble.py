"""The machine's trouble: full and broken disks, no descriptors left, no permission, wrong clocks.

Each time the daemon stays up, says in a sentence what is wrong, touches nothing that it cannot
account for, and goes on by itself when the trouble is over.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import DaemonProcess, Table
from tests.support.disk import small_disk
from tests.support.outcome import assert_arrived, files_below
from tests.support.processes import ROOT
from tests.support.together import SCENE_S, Results, Scene, played
from tests.support.waiting import wait_for, wait_until
from uploaderd.emulator import Call, Emulator

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1 << 10
NAMES = ("before.txt", "known.txt", "new.txt")
FLAPPING_S = 6.0  # longer than any loop of the daemon sleeps
GOES_ON_S = 60.0


async def said(daemon: DaemonProcess) -> str:
    """What /healthz says now; empty while all is well."""
    answer = await daemon.ask("/healthz")
    return str(answer["error"]["message"]) if "error" in answer else ""


async def until_it_says(daemon: DaemonProcess, *words: str) -> str:
    """Wait until /healthz says what is wrong."""

    async def told() -> str | None:
        text = await said(daemon)
        return text if all(word in text for word in words) else None

    return await wait_for(told, timeout_s=30.0, what=f"/healthz to say {words}")


async def until_well(daemon: DaemonProcess) -> None:
    """Wait until nothing is wrong any more."""

    async def well() -> bool:
        return not await said(daemon)

    await wait_until(well, timeout_s=GOES_ON_S, what="the end of the trouble")


# A full disk


async def while_the_journals_disk_is_full_nothing_is_claimed(tmp_path: Path) -> None:
    """The daemon answers, says 503 and why all the time, asks the service for nothing, goes on."""
    with small_disk(tmp_path / "state", "2m") as disk:
        async with (
            Emulator(store=tmp_path / "store") as emulator,
            DaemonProcess(tmp_path, emulator.base_url) as daemon,
        ):
            await daemon.start()
            daemon.drop("before.txt", b"before")
            await daemon.until_drained()
            emulator.faults.add("call=create,action=refuse")
            daemon.drop("known.txt", b"known")
            await daemon.until_state("known.txt", "deferred")
            disk.fill()
            await until_it_says(daemon, "journal", "full")
            emulator.faults.clear()
            asked = len(emulator.stats.requests)
            loop = asyncio.get_running_loop()
            end_s = loop.time() + FLAPPING_S
            while loop.time() < end_s:
                assert "full" in await said(daemon), "the trouble is told all the time"
                await asyncio.sleep(0.1)
            daemon.drop("new.txt", b"new")
            await wait_until(
                lambda: "spool watching" in daemon.log_text(), timeout_s=30, what="the new file"
            )
            status = await daemon.status()
            assert "full" in status["trouble"]
            assert not status["drained"]
            assert len(emulator.stats.requests) == asked
            assert daemon.left() == ["known.txt", "new.txt"]
            disk.empty()
            await daemon.until_drained(GOES_ON_S)
            await until_well(daemon)
            contents = {name: name.partition(".")[0].encode() for name in NAMES}
            assert_arrived(emulator, daemon, contents)
            assert daemon.starts == 1


async def a_journal_that_fills_up_during_complete_makes_no_second_file(
    tmp_path: Path,
) -> None:
    """The success cannot be kept: the source stays, and the file is found out, not sent twice."""
    faults = ["call=complete,action=stall,at=reply,seconds=1,times=1"]
    with small_disk(tmp_path / "state", "2m") as disk:
        async with (
            Emulator(store=tmp_path / "store", faults=faults) as emulator,
            DaemonProcess(tmp_path, emulator.base_url) as daemon,
        ):
            await daemon.start()
            daemon.drop("a.txt", b"content")
            async with asyncio.timeout(30):
                await emulator.stats.until(lambda stats: stats.count(Call.COMPLETE))
            disk.fill()
            await until_it_says(daemon, "journal", "full")
            assert daemon.left() == ["a.txt"]
            disk.empty()
            await daemon.until_drained(GOES_ON_S)
            assert_arrived(emulator, daemon, {"a.txt": b"content"})


async def started_on_a_full_disk_it_waits_for_room(tmp_path: Path) -> None:
    """What was left half-way is taken over when there is room; until then it says why."""
    with small_disk(tmp_path / "state", "2m") as disk:
        async with (
            Emulator(store=tmp_path / "store", faults=["call=part,action=stall"]) as emulator,
            DaemonProcess(tmp_path, emulator.base_url) as daemon,
        ):
            await daemon.start()
            daemon.drop("a.txt", b"content")
            async with asyncio.timeout(30):
                await emulator.stats.until(lambda stats: stats.count(Call.PART))
            await daemon.kill()
            emulator.faults.clear()
            disk.fill()
            await daemon.start()
            await until_it_says(daemon, "journal", "full")
            assert daemon.left() == ["a.txt"]
            disk.empty()
            await daemon.until_drained(GOES_ON_S)
            await until_well(daemon)
            assert_arrived(emulator, daemon, {"a.txt": b"content"})


async def a_receipt_that_cannot_be_written_keeps_its_file(trouble: str, tmp_path: Path) -> None:
    """The file is done at the service and stays where it is; other folders go on meanwhile."""
    other = tmp_path / "other"
    other.mkdir()
    with small_disk(tmp_path / "spool", "1m") as disk:
        async with (
            Emulator(
                store=tmp_path / "store", faults=["call=complete,action=stall,seconds=1,times=1"]
            ) as emulator,
            DaemonProcess(tmp_path, emulator.base_url, watches=[{"path": str(other)}]) as daemon,
        ):
            await daemon.start()
            daemon.drop("a.txt", b"content")
            async with asyncio.timeout(30):
                await emulator.stats.until(lambda stats: stats.count(Call.COMPLETE))
            if trouble == "full":
                disk.fill()
            else:
                disk.writable(False)
            why = await until_it_says(daemon, str(daemon.spool), "cannot be")
            row = await daemon.until_state("a.txt", "done")
            assert row["reason"]["code"] == "done.filing_failed"
            assert row["reason"]["text"].startswith("It arrived, but cannot be filed: ")
            assert daemon.left() in (["a.txt"], [".ballast", "a.txt"])
            assert files_below(daemon.spool) <= {"a.txt", ".ballast"}, "no half of a receipt"
            hidden = other / ".b.tmp"
            hidden.write_bytes(b"other")
            hidden.rename(other / "b.txt")
            filed = other / "done/b.txt.receipt.json"
            await wait_until(filed.exists, timeout_s=30, what="the other folder's file")
            assert why in await said(daemon)
            if trouble == "full":
                disk.empty()
            else:
                disk.writable(True)
            await daemon.until_drained(GOES_ON_S)
            await until_well(daemon)
            assert (daemon.spool / "done/a.txt").read_bytes() == b"content"
            assert emulator.stats.files_created == 2


# A disk that breaks


def broken_disk(folder: Path) -> Path:
    """A library that lets reading and writing fail with EIO, to be preloaded."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("a disk that breaks needs a C compiler to be made")
    library = folder / "broken.so"
    source = ROOT / "tests/support/broken_disk.c"
    words = [compiler, "-shared", "-fPIC", "-o", str(library), str(source)]
    made = subprocess.run([*words, "-ldl"], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"a disk that breaks cannot be made: {made.stderr.strip()}")
    return library


async def a_source_that_cannot_be_read_waits_and_says_so(
    tmp_path: Path,
) -> None:
    """One file gives EIO: it waits with that reason, the one beside it goes, it goes later."""
    flag = tmp_path / "broken"
    env = {
        "LD_PRELOAD": str(broken_disk(tmp_path)),
        "BROKEN_WHILE": str(flag),
        "BROKEN_PATH": "/bad.bin",
    }
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, env=env) as daemon,
    ):
        flag.touch()
        await daemon.start()
        bad = daemon.drop("bad.bin", bytes(100 * KIB))
        daemon.drop("good.txt", b"good")
        row = await daemon.until_state("bad.bin", "held", "deferred", timeout_s=30)
        assert "nput/output error" in row["reason"]["text"]
        await daemon.until_state("good.txt", "done")
        assert emulator.stats.files_created == 1
        flag.unlink()
        bad.chmod(0o640)  # that is noticed at once; without it, it is looked at again in a minute
        await daemon.until_drained(GOES_ON_S)
        assert_arrived(emulator, daemon, {"bad.bin": bytes(100 * KIB), "good.txt": b"good"})


async def a_journal_that_cannot_be_written_is_no_damage(
    tmp_path: Path,
) -> None:
    """EIO from the journal: it stays up and claims nothing; a start is refused, and all is kept."""
    flag = tmp_path / "broken"
    env = {
        "LD_PRELOAD": str(broken_disk(tmp_path)),
        "BROKEN_WHILE": str(flag),
        "BROKEN_PATH": "/state/",
    }
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, env=env) as daemon,
    ):
        await daemon.start()
        flag.touch()
        daemon.drop("a.txt", b"content")
        await until_it_says(daemon, "journal", "disk I/O error")
        assert emulator.stats.count() == 0
        await daemon.kill()
        await daemon.launch()
        assert await daemon.process.ended() == 1
        assert "uploaderd: error: the journal" in daemon.process.last_words()
        assert [p.name for p in daemon.state_dir.iterdir() if "damaged" in p.name] == []
        flag.unlink()
        await daemon.start()
        flag.touch()
        flag.unlink()
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"content"})


# Descriptors and permissions


async def without_descriptors_it_stays_up_and_goes_on_when_there_are_some(
    tmp_path: Path,
) -> None:
    """Not one more file can be opened: nothing ends, the log says why, later all arrives."""
    config: dict[str, Table] = {"watch": {"rescan": "1s"}}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        await daemon.start()
        await until_well(daemon)
        limit = partial(resource.prlimit, daemon.pid, resource.RLIMIT_NOFILE)
        before = limit()
        limit((3, before[1]))
        names = [f"{number}.txt" for number in range(5)]
        for name in names:
            daemon.drop(name, name.encode())
        await wait_until(
            lambda: "Too many open files" in daemon.log_text(), timeout_s=30, what="the reason"
        )
        assert daemon.running
        assert emulator.stats.count() == 0
        limit(before)
        await daemon.until_drained(GOES_ON_S)
        await until_well(daemon)
        assert_arrived(emulator, daemon, {name: name.encode() for name in names})
        assert daemon.starts == 1


SCENES: dict[str, Scene] = {
    "journal full": while_the_journals_disk_is_full_nothing_is_claimed,
    "journal full at complete": a_journal_that_fills_up_during_complete_makes_no_second_file,
    "journal full at start": started_on_a_full_disk_it_waits_for_room,
    "done full": partial(a_receipt_that_cannot_be_written_keeps_its_file, "full"),
    "done read-only": partial(a_receipt_that_cannot_be_written_keeps_its_file, "read-only"),
    "source broken": a_source_that_cannot_be_read_waits_and_says_so,
    "journal broken": a_journal_that_cannot_be_written_is_no_damage,
    "no descriptors": without_descriptors_it_stays_up_and_goes_on_when_there_are_some,
}
results = pytest.fixture(scope="module")(played(SCENES))


@pytest.mark.parametrize("name", SCENES)
def test_trouble(results: Results, name: str) -> None:
    """Each scene says in its own words what holds."""
    results[name].result(timeout=SCENE_S * 2)
