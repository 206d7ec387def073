"""A journal that is no journal any more is set aside; one that is only out of reach never is."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import DaemonProcess, Table
from tests.support.outcome import assert_arrived
from tests.support.together import SCENE_S, Results, Scene, played
from tests.support.under import RULED, Under
from uploaderd.emulator import Call, Emulator
from uploaderd.journal.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED = 1
CONFIG = 78
CONFIGURATION = 78
HOURS_S = 7200.0
TERSE: dict[str, Table] = {"daemon": {"log_level": "info"}}  # as a rule no tracebacks are shown
NOWHERE = "http://127.0.0.1:9/v1"


def journal_of(daemon: DaemonProcess) -> Path:
    """Where its journal is."""
    return daemon.state_dir / "journal.sqlite3"


def set_aside(daemon: DaemonProcess) -> list[str]:
    """The names that damaged journals were given."""
    return sorted(p.name for p in daemon.state_dir.iterdir() if ".damaged-" in p.name)


async def until_part_asked(emulator: Emulator) -> None:
    """Wait until a part is on its way."""
    async with asyncio.timeout(30):
        await emulator.stats.until(lambda stats: stats.count(Call.PART))


def garbage(journal: Path) -> None:
    """Write over the beginning."""
    with journal.open("r+b") as file:
        file.write(os.urandom(5000))


def one_page(journal: Path) -> None:
    """Write over a page in the middle, once all that the log held is in its place."""
    with closing(sqlite3.connect(journal)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with journal.open("r+b") as file:
        file.seek(journal.stat().st_size // 8192 * 4096)
        file.write(os.urandom(4096))


def nothing_left(journal: Path) -> None:
    """Cut it off at its beginning: SQLite would take that for a new database."""
    os.truncate(journal, 0)


def log_alone(journal: Path) -> None:
    """Remove the database, and leave its log."""
    journal.unlink()


async def a_damaged_journal_is_set_aside_and_begun_anew(
    hurt: Callable[[Path], None], tmp_path: Path
) -> None:
    """Loudly, under a name that is told; what lies in the spool arrives all the same."""
    async with (
        Emulator(store=tmp_path / "store", faults=["call=part,action=stall,skip=1"]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("done.txt", b"done")
        await daemon.until_drained()
        daemon.drop("half.txt", b"half")
        async with asyncio.timeout(30):
            await emulator.stats.until(lambda stats: stats.count(Call.PART) == 2)
        await daemon.kill()
        hurt(journal_of(daemon))
        there = [end for end in ("", "-wal") if Path(f"{journal_of(daemon)}{end}").exists()]
        emulator.faults.clear()
        await daemon.start()
        kept = set_aside(daemon)
        assert kept[0].startswith("journal.sqlite3.damaged-20")
        (line,) = (text for text in daemon.log_text().splitlines() if "journal.damaged" in text)
        told = kept[0].removesuffix("-shm").removesuffix("-wal")
        assert {f"{told}{end}" for end in there} <= set(kept), "its log is kept with it"
        assert "ERROR" in line
        assert told in line
        assert "may arrive twice" in line
        assert "Traceback" not in line
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"done.txt": b"done", "half.txt": b"half"})
        assert told in (await daemon.status())["trouble"]
        assert told in (await daemon.ask("/healthz"))["error"]["message"]
        await daemon.stop()
        await daemon.launch(words=("check",))
        assert await daemon.process.ended() == 0
        assert f"a damaged journal was set aside as {daemon.state_dir / told}" in daemon.log_text()
        await daemon.start()
        assert await daemon.ask("/healthz") == {"status": "ok"}
        assert set_aside(daemon) == kept, "once is enough"


async def damage_that_shows_while_running_ends_the_daemon(tmp_path: Path) -> None:
    """It ends with one sentence, asks nothing more; the next start sets the journal aside."""
    async with (
        Emulator(store=tmp_path / "store", faults=["call=part,action=stall"]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.txt", b"content")
        await until_part_asked(emulator)
        with closing(sqlite3.connect(journal_of(daemon), isolation_level=None)) as db:
            db.execute("PRAGMA ignore_check_constraints = ON")
            db.execute("UPDATE files SET state = 'elsewhere'")
        (daemon.spool / "a.txt").touch()  # so that its row is read
        daemon.drop("b.txt", b"other")
        assert await daemon.process.ended() == FAILED
        last = daemon.process.last_words().splitlines()[-2:]
        assert last[0].startswith("uploaderd: error: the journal is damaged: ")
        assert last[1].startswith("uploaderd: hint: start the daemon again")
        assert set_aside(daemon) == []
        emulator.faults.clear()
        await daemon.start()
        assert set_aside(daemon)
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"content", "b.txt": b"other"})


async def damage_that_only_an_onlooker_meets_ends_the_daemon(tmp_path: Path) -> None:
    """Whoever asks for the files is told, and nobody goes on with such a journal."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.txt", b"content")
        await daemon.until_drained()
        with closing(sqlite3.connect(journal_of(daemon), isolation_level=None)) as db:
            db.execute("PRAGMA ignore_check_constraints = ON")
            db.execute("UPDATE files SET state = 'elsewhere'")
        answer = await daemon.ask("/v1/files")
        assert answer["error"]["message"].startswith("the journal is damaged: ")
        assert await daemon.process.ended() == FAILED


async def a_journal_from_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Both versions are named, and not a byte is changed."""
    async with DaemonProcess(tmp_path, NOWHERE, config=TERSE) as daemon:
        await daemon.start()
        await daemon.stop()
        with closing(sqlite3.connect(journal_of(daemon), isolation_level=None)) as db:
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 7}")
        before = journal_of(daemon).read_bytes()
        await daemon.launch()
        assert await daemon.process.ended() == CONFIG
        words = daemon.process.last_words()
        assert f"schema {SCHEMA_VERSION + 7}, this one knows {SCHEMA_VERSION}" in words
        assert "Traceback" not in words
        assert journal_of(daemon).read_bytes() == before
        assert set_aside(daemon) == []


async def a_second_daemon_on_the_same_state_is_refused_with_the_firsts_pid(
    tmp_path: Path,
) -> None:
    """And the first one goes on as if nothing had been."""
    other = tmp_path / "other"
    other.mkdir()
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as first,
        DaemonProcess(other, emulator.base_url) as second,
    ):
        await first.start()
        second.state_dir = first.state_dir
        second.configure()
        await second.launch()
        assert await second.process.ended() == CONFIGURATION
        assert f"another uploaderd (pid {first.pid}) works on" in second.process.last_words()
        first.drop("a.txt", b"content")
        await first.until_drained()
        assert_arrived(emulator, first, {"a.txt": b"content"})


async def a_journal_that_may_not_be_read_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Permissions are a person's to mend; nothing is set aside, and then it goes on."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=TERSE) as daemon,
    ):
        daemon.process = Under(tmp_path / "daemon.log", RULED if os.geteuid() == 0 else ["env"])
        await daemon.start()
        daemon.drop("a.txt", b"content")
        await daemon.until_drained()
        await daemon.stop()
        for mode in (0o000, 0o400):
            journal_of(daemon).chmod(mode)
            await daemon.launch()
            assert await daemon.process.ended() == FAILED, oct(mode)
            words = daemon.process.last_words()
            assert "uploaderd: error: the journal" in words
            assert "right to read and write" in words
            assert "Traceback" not in words
        assert set_aside(daemon) == []
        journal_of(daemon).chmod(0o600)
        await daemon.start()
        daemon.drop("b.txt", b"other")
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"content", "b.txt": b"other"})


async def a_session_ends_while_the_machine_sleeps(tmp_path: Path) -> None:
    """Two hours of CLOCK_BOOTTIME that the wall clock knows nothing of: its hour is over.

    A suspend of a machine is played with a time namespace, which only a new process can enter.
    """
    async with (
        Emulator(store=tmp_path / "store", faults=["call=part,action=stall"]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.txt", b"content")
        await until_part_asked(emulator)
        (former,) = emulator.store.uploads
        await daemon.kill()
        emulator.faults.clear()
        asleep = ["unshare", "--time", "--boottime", f"{HOURS_S:.0f}", "--fork", "--kill-child"]
        daemon.process = Under(tmp_path / "daemon.log", asleep)
        await daemon.start()
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"content"})
        assert len(emulator.stats.part_attempts(former)) == 1, "it was not gone on with"
        assert len(emulator.store.uploads) == 2
        assert "its session's time was over" in daemon.log_text().lower()


SCENES: dict[str, Scene] = {
    "garbage": partial(a_damaged_journal_is_set_aside_and_begun_anew, garbage),
    "one page": partial(a_damaged_journal_is_set_aside_and_begun_anew, one_page),
    "nothing left": partial(a_damaged_journal_is_set_aside_and_begun_anew, nothing_left),
    "log alone": partial(a_damaged_journal_is_set_aside_and_begun_anew, log_alone),
    "while running": damage_that_shows_while_running_ends_the_daemon,
    "onlooker": damage_that_only_an_onlooker_meets_ends_the_daemon,
    "newer": a_journal_from_a_newer_version_is_refused_and_left_alone,
    "second daemon": a_second_daemon_on_the_same_state_is_refused_with_the_firsts_pid,
    "no permission": a_journal_that_may_not_be_read_is_refused_and_left_alone,
    "suspend": a_session_ends_while_the_machine_sleeps,
}
results = pytest.fixture(scope="module")(played(SCENES))


@pytest.mark.parametrize("name", SCENES)
def test_journal(results: Results, name: str) -> None:
    """Each scene says in its own words what holds."""
    results[name].result(timeout=SCENE_S * 2)
