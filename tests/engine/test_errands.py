"""What hooks owe: who owes it, when it is run, how often, and what it holds up: nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING

import pytest

from tests.engine.ended import done, failed
from tests.engine.kit import SetClock
from tests.support.waiting import wait_until
from uploaderd.config import Hook, HookEvent
from uploaderd.core.errands import Errand, ErrandState, wait_s
from uploaderd.core.events import (
    Admitted,
    AlreadyUploaded,
    Filed,
    FilingAs,
    Refused,
    Retried,
)
from uploaderd.core.model import Arrival
from uploaderd.core.reasons import reason
from uploaderd.engine.engine import Engine
from uploaderd.errors import JournalError
from uploaderd.journal import Journal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.engine.kit import Rig

MD5 = "900150983cd24fb0d6963f7d28e17f72"


def hook(script: str, on: str = "done", *, timeout_s: float = 30.0, attempts: int = 10) -> Hook:
    """A hook that is a line of shell."""
    command = ("/bin/sh", "-c", script)
    return Hook(on=HookEvent(on), command=command, timeout_s=timeout_s, attempts=attempts)


@asynccontextmanager
async def at_work(rig: Rig) -> AsyncIterator[None]:
    """Let the engine start tasks, and end the hooks that still run afterwards."""
    async with rig.at_work():
        yield
        for task in list(rig.engine._errands._running.values()):
            task.cancel()


async def turn(rig: Rig) -> None:
    """Start what is due, and wait until it has ended."""
    await rig.engine._errands.step()
    running = rig.engine._errands._running
    await wait_until(lambda: not running, what="the hooks' end")


def only(rig: Rig, file_id: str) -> Errand:
    """The one errand of a file."""
    (errand,) = rig.journal.errands_of(file_id)
    return errand


def told(rig: Rig, file_id: str) -> list[tuple[str, str]]:
    """What the history says of hooks: the events and their texts."""
    return [
        (moment.event, moment.text)
        for moment in rig.journal.history(file_id)
        if moment.event.startswith("hook.")
    ]


async def test_a_hook_is_owed_at_the_end_that_it_waits_for(rig: Rig) -> None:
    """Of each file that ends so, once it is filed; never of those that ended before."""
    before = await done(rig, "before")
    on_done, on_failed = hook("exit 0"), hook("exit 0", "failed")
    rig.ctx.hooks = (on_done, hook("exit 1"), on_failed)
    good, bad = await done(rig, "good"), await failed(rig, "bad")
    commands = [errand.command for errand in rig.journal.errands_of(good.id)]
    assert commands == [on_done.command, ("/bin/sh", "-c", "exit 1")]
    errand = only(rig, bad.id)
    assert (errand.occasion, errand.command) == ("failed", on_failed.command)
    assert (errand.state, errand.attempts, errand.due_s) == (ErrandState.OWED, 0, rig.ctx.wall_s)
    assert rig.journal.errands_of(before.id) == []


@pytest.mark.parametrize("has_receipt", [True, False])
async def test_content_that_is_known_already_owes_with_its_own_receipt_only(
    rig: Rig, *, has_receipt: bool
) -> None:
    """A kept file that was touched ends without a new receipt, and then nothing is run."""
    rig.ctx.hooks = (hook("exit 0"),)
    file = await rig.ctx.apply(rig.put("again"), Admitted())
    known = AlreadyUploaded(remote_file="file-1", result="{}", md5=MD5, filed=has_receipt)
    file = await rig.ctx.apply(file, known)
    if not has_receipt:
        assert rig.journal.errands_of(file.id) == []
        file = await rig.ctx.apply(file, FilingAs(filed_as=b"done/again"))
        file = await rig.ctx.apply(file, Filed(place="done/again"))
    assert len(rig.journal.errands_of(file.id)) == (0 if has_receipt else 1)


async def test_a_file_that_is_tried_again_owes_for_its_new_end_alone(
    rig: Rig, tmp_path: Path
) -> None:
    """What was owed for the first end is not run meanwhile, and not afterwards."""
    complain, praise = hook(f"echo bad >> {tmp_path}/runs", "failed"), hook("exit 0")
    rig.ctx.hooks = (complain, praise)
    file = await failed(rig, "a")
    (rig.root / "a").write_bytes(b"abc")
    identity = rig.place.tree.identify(b"a")
    again = Retried(path=b"a", identity=identity, arrival=Arrival.RENAMED, created_s=1.0)
    file = await rig.ctx.apply(file, again)
    async with at_work(rig):
        await turn(rig)
        assert not (tmp_path / "runs").exists()
        assert only(rig, file.id).state is ErrandState.OWED
        file = await rig.ctx.apply(file, Refused(reason=reason("failed.empty")))
        file = await rig.ctx.apply(file, FilingAs(filed_as=b"failed/a"))
        await turn(rig)
        assert not (tmp_path / "runs").exists()
        await rig.ctx.apply(file, Filed(place="failed/a"))
        await turn(rig)
    assert (tmp_path / "runs").read_text() == "bad\n"
    errand = only(rig, file.id)
    assert (errand.command, errand.state) == (complain.command, ErrandState.DONE)


async def test_the_end_and_what_is_owed_for_it_are_kept_together(rig: Rig) -> None:
    """If the one cannot be written, neither is."""
    rig.ctx.hooks = (hook("exit 0"),)
    rig.journal.connection.execute(
        "CREATE TEMP TRIGGER no BEFORE INSERT ON errands BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(JournalError):
        await done(rig, "a")
    assert rig.at("a").filing == "pending"


async def test_what_ended_well_is_never_run_again(rig: Rig, tmp_path: Path) -> None:
    """Not in a later turn, and not after a restart."""
    rig.ctx.hooks = (hook(f"echo $UPLOADERD_ID >> {tmp_path}/runs; echo said"),)
    file = await done(rig, "a")
    async with at_work(rig):
        await turn(rig)
        rig.clock.forward(100_000.0)
        await turn(rig)
    rig.engine = Engine(rig.ctx)
    await rig.engine.recover()
    async with at_work(rig):
        await turn(rig)
    assert (tmp_path / "runs").read_text() == "a\n"
    assert only(rig, file.id).state is ErrandState.DONE
    assert told(rig, file.id) == [("hook.ran", "/bin/sh: exit code 0.")]
    assert rig.at("a") == file


async def test_what_fails_is_tried_again_with_growing_waits_and_given_up(
    rig: Rig, tmp_path: Path
) -> None:
    """Its history says each time why, and what comes next."""
    rig.ctx.hooks = (hook(f"echo run >> {tmp_path}/runs; echo bad; exit 3", attempts=3),)
    file = await done(rig, "a")

    def runs() -> int:
        return len((tmp_path / "runs").read_text().splitlines())

    async with at_work(rig):
        await turn(rig)
        for count, pause_s in ((1, 10.0), (2, 30.0)):
            errand = only(rig, file.id)
            assert (errand.state, errand.attempts) == (ErrandState.OWED, count)
            assert errand.due_s == rig.ctx.wall_s + pause_s
            rig.clock.forward(pause_s - 1.0)
            await turn(rig)
            assert runs() == count
            rig.clock.forward(1.0)
            await turn(rig)
        rig.clock.forward(1_000_000.0)
        await turn(rig)
    assert runs() == 3
    assert only(rig, file.id).state is ErrandState.GIVEN_UP
    assert told(rig, file.id) == [
        ("hook.failed", "/bin/sh: exit code 3 (bad); it is tried again in 10s."),
        ("hook.failed", "/bin/sh: exit code 3 (bad); it is tried again in 30s."),
        ("hook.given_up", "/bin/sh: exit code 3 (bad); given up after 3 attempts."),
    ]
    assert rig.journal.errand_counts() == {ErrandState.GIVEN_UP: 1}
    assert rig.ctx.trouble == {}


def test_the_waits_take_less_than_a_day() -> None:
    """Of ten attempts, and no wait is longer than six hours."""
    waits = [wait_s(attempts) for attempts in range(1, 10)]
    assert waits == sorted(waits)
    assert waits[0] == 10.0
    assert waits[-1] == wait_s(10**6) == 6 * 3600.0
    assert 8 * 3600 < sum(waits) < 24 * 3600


async def test_a_hook_that_hangs_keeps_no_other_waiting(rig: Rig, tmp_path: Path) -> None:
    """Four runs of one hook go on at once, whatever those of another do."""
    slow, quick = hook("exec sleep 60", timeout_s=90.0), hook(f"echo x >> {tmp_path}/runs")
    rig.ctx.hooks = (slow, quick)
    for name in "abcdef":
        await done(rig, name)
    async with at_work(rig):

        async def all_ran() -> bool:
            await rig.engine._errands.step()
            runs = tmp_path / "runs"
            return runs.exists() and runs.read_text() == "x\n" * 6

        await wait_until(all_ran, what="the quick hook to have run for all")
        running = rig.engine._errands._running
        await wait_until(
            lambda: {command for _, command in running} == {slow.command}, what="only the slow ones"
        )
        assert len(running) == 4


async def test_a_hook_that_is_not_configured_now_rests(rig: Rig, tmp_path: Path) -> None:
    """What it owes is run once it is there again, with the limits that it then has."""
    was = hook(f"echo run >> {tmp_path}/runs", attempts=1)
    rig.ctx.hooks = (was,)
    file = await done(rig, "a")
    rig.ctx.hooks = (hook("exit 0"),)
    async with at_work(rig):
        await turn(rig)
        assert only(rig, file.id).state is ErrandState.OWED
        rig.ctx.hooks = (was,)
        await turn(rig)
    assert only(rig, file.id).state is ErrandState.DONE
    assert (tmp_path / "runs").read_text() == "run\n"


async def test_hooks_run_while_it_is_paused(rig: Rig) -> None:
    """They are local: the pause is for what leaves the machine."""
    rig.ctx.hooks = (hook("exit 0"),)
    file = await done(rig, "a")
    await rig.engine.operator.pause()
    async with at_work(rig):
        await turn(rig)
    assert only(rig, file.id).state is ErrandState.DONE


async def test_a_run_that_was_ended_by_a_stop_does_not_count(rig: Rig, tmp_path: Path) -> None:
    """It is due again at once."""
    rig.ctx.hooks = (hook(f"touch {tmp_path}/runs; exec sleep 60", attempts=1),)
    file = await done(rig, "a")
    async with at_work(rig):
        await rig.engine._errands.step()
        await wait_until((tmp_path / "runs").exists, what="the hook to run")
        assert only(rig, file.id).state is ErrandState.RUNNING
        assert not await rig.engine.drain(0.2)
        assert only(rig, file.id).state is ErrandState.RUNNING
    errand = only(rig, file.id)
    assert (errand.state, errand.attempts) == (ErrandState.OWED, 0)
    assert errand.due_s == rig.ctx.wall_s


async def test_a_stop_while_the_journal_takes_nothing_ends_well(rig: Rig, tmp_path: Path) -> None:
    """The next start finds that the run had begun."""
    rig.ctx.hooks = (hook(f"touch {tmp_path}/runs; exec sleep 60"),)
    file = await done(rig, "a")
    async with at_work(rig):
        await rig.engine._errands.step()
        await wait_until((tmp_path / "runs").exists, what="the hook to run")
        rig.journal.connection.execute("PRAGMA query_only = ON")
    rig.journal.connection.execute("PRAGMA query_only = OFF")
    assert only(rig, file.id).state is ErrandState.RUNNING
    await rig.engine.recover()
    assert only(rig, file.id).state is ErrandState.OWED


async def test_a_stop_waits_for_what_runs_and_starts_no_more(rig: Rig, tmp_path: Path) -> None:
    """As long as there is time."""
    script = f"echo >> {tmp_path}/runs; while ! [ -e {tmp_path}/go ]; do sleep 0.05; done"
    rig.ctx.hooks = (hook(script),)
    files = [await done(rig, name) for name in "abcdef"]
    async with at_work(rig):
        await rig.engine._errands.step()
        await wait_until((tmp_path / "runs").exists, what="a hook to run")
        stop = asyncio.create_task(rig.engine.drain(60.0))
        await asyncio.sleep(0)
        await rig.engine._errands.step()
        (tmp_path / "go").touch()
        assert await stop
        assert not rig.engine._errands._running
    states = [only(rig, file.id).state for file in files]
    assert states.count(ErrandState.DONE) == 4
    assert states.count(ErrandState.OWED) == 2


async def test_a_run_that_nobody_saw_end_is_run_again(rig: Rig, tmp_path: Path) -> None:
    """At once after the first, later after more: it may be what ended the daemon."""
    rig.ctx.hooks = (hook(f"echo run >> {tmp_path}/runs"),)
    file = await done(rig, "a")
    for number, pause_s in enumerate((0.0, 10.0, 30.0)):
        errand = only(rig, file.id)
        begun = rig.journal.errand_begins(errand, rig.ctx.wall_s)
        assert (begun.attempts, begun.due_s) == (number + 1, rig.ctx.wall_s + pause_s)
        await rig.engine.recover()
    async with at_work(rig):
        await turn(rig)
        assert not (tmp_path / "runs").exists()
        rig.clock.forward(30.0)
        await turn(rig)
    assert (tmp_path / "runs").read_text() == "run\n"
    assert only(rig, file.id).attempts == 4


async def test_how_it_ended_is_kept_when_the_journal_takes_it_again(
    rig: Rig, tmp_path: Path
) -> None:
    """A full disk at that moment makes nobody run it twice."""
    script = f"echo run >> {tmp_path}/runs; while ! [ -e {tmp_path}/go ]; do sleep 0.05; done"
    rig.ctx.hooks = (hook(script),)
    file = await done(rig, "a")
    async with at_work(rig):
        await rig.engine._errands.step()
        await wait_until((tmp_path / "runs").exists, what="the hook to run")
        rig.journal.connection.execute("PRAGMA query_only = ON")
        (tmp_path / "go").touch()
        await wait_until(lambda: "journal" in rig.ctx.trouble, what="trouble with the journal")
        with suppress(JournalError):
            await rig.engine._errands.step()
        assert only(rig, file.id).state is ErrandState.RUNNING
        rig.journal.connection.execute("PRAGMA query_only = OFF")
        await turn(rig)
    assert only(rig, file.id).state is ErrandState.DONE
    assert (tmp_path / "runs").read_text() == "run\n"


async def test_a_time_of_another_clock_makes_nobody_wait(rig: Rig) -> None:
    """What is due in a year was noted when the wall clock was wrong."""
    rig.ctx.hooks = (hook("exit 0"),)
    clock = rig.ctx.clock
    assert isinstance(clock, SetClock)
    clock.wall_s += 365 * 86_400.0
    file = await done(rig, "a")
    clock.wall_s -= 365 * 86_400.0
    async with at_work(rig):
        await turn(rig)
    assert only(rig, file.id).state is ErrandState.DONE


def test_who_asks_what_is_due_reads_nothing_else(rig: Rig) -> None:
    """However many errands wait for their time, a turn looks at those whose time has come."""
    asked: list[str] = []
    db = rig.journal.connection
    db.set_trace_callback(asked.append)
    rig.journal.errands_due("done", ("x",), 5.0, 4, longest_s=9.0)
    rig.journal.next_errand_s("done", ("x",), 5.0)
    db.set_trace_callback(None)
    questions = [question for question in asked if question.startswith("SELECT")]
    assert len(questions) == 3
    for question in questions:
        plan = [str(row["detail"]) for row in db.execute(f"EXPLAIN QUERY PLAN {question}")]
        assert "errands_due (occasion=? AND command=? AND due" in plan[0], plan
        assert not any("SCAN" in line or "TEMP B-TREE" in line for line in plan), plan


def test_files_that_ended_under_an_older_version_owe_nothing(tmp_path: Path) -> None:
    """The journal of the last version gets its errands, and there are none."""
    path = tmp_path / "journal.sqlite3"
    journal = Journal(path)
    journal.open()
    journal.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(
            "INSERT INTO files (id, watch, path, dev, inode, size, mtime_ns, ctime_ns, arrival,"
            " target, purpose, state, reason_code, reason_text, created, updated, changed, owner,"
            " version, filing, remote_file, md5) VALUES ('f', '/w', x'61', 1, '1', 1, 1, 1,"
            " 'renamed', 'openai', 'batch', 'done', 'done.uploaded', 'x', 1, 1, 1, 'me', 1,"
            " 'filed', 'file-1', ?)",
            (MD5,),
        )
        db.execute("DROP TABLE errands")
        for index in ("files_ended", "files_upload", "files_session", "requests_at"):
            db.execute(f"DROP INDEX {index}")
        for index in ("files_turn", "files_queue", "files_held", "files_waiting"):
            db.execute(f"DROP INDEX {index}")
        db.execute("CREATE INDEX files_due ON files (due) WHERE due IS NOT NULL")
        db.execute("PRAGMA user_version = 3")
    journal.open()
    assert journal.file("f") is not None
    assert journal.errands_of("f") == []
    assert journal.errand_counts() == {}
    journal.close()
