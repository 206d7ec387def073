"""A rescan asks the journal nothing about what is as it was, and loses nothing by that."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pytest

from tests.engine.ended import DAY_S, done, failed, forget
from tests.engine.gates import Gate, table
from tests.support.waiting import wait_until
from uploaderd.config import Watch
from uploaderd.config.settings import AfterUpload
from uploaderd.core.events import Admitted, Assembled, Completed, Gone, Held, Refused, Restarted
from uploaderd.core.lifecycle import decide
from uploaderd.core.model import Arrival, FileState
from uploaderd.core.reasons import reason
from uploaderd.core.verbs import Verb
from uploaderd.engine.intake import Intake
from uploaderd.errors import JournalError
from uploaderd.spool.walk import Walk
from uploaderd.spool.watcher import BATCH, Sighting

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from tests.engine.kit import Rig

P = ParamSpec("P")
T = TypeVar("T")


def scan(rig: Rig) -> list[Sighting]:
    """What a full scan tells."""
    walk = Walk(
        rig.place.tree.folder,
        recursive=True,
        ignored=lambda path: path in {b"done", b"failed"},
        enter=None,
        trouble=None,
        known=rig.place.watcher.known,
    )
    return [
        Sighting(path=seen.path, arrival=Arrival.FOUND, seen=seen.identity)
        for seen in walk.run(b"")
        if seen is not None
    ]


async def rescan(rig: Rig) -> list[bytes]:
    """Scan, take in what is told, and return its paths."""
    told = scan(rig)
    for start in range(0, len(told), BATCH):
        await Intake(rig.ctx, rig.place).take(told[start : start + BATCH])
    return sorted(one.path for one in told)


@contextmanager
def statements(connection: sqlite3.Connection) -> Iterator[list[str]]:
    """Every statement that a block has the journal run."""
    said: list[str] = []
    connection.set_trace_callback(said.append)
    yield said
    connection.set_trace_callback(None)


def drop(rig: Rig, count: int) -> None:
    """Drop files that are whole at once."""
    rig.place.settings = Watch(path=rig.root, settle_s=0.0)
    for number in range(count):
        (rig.root / f"{number:05}").write_bytes(b"content")


async def test_what_is_as_it_was_costs_no_statement(rig: Rig) -> None:
    """Whatever waits in the spool, a rescan of it does not touch the journal."""
    drop(rig, 1_000)
    assert len(await rescan(rig)) == 1_000
    with statements(rig.journal.connection) as said:
        assert await rescan(rig) == []
    assert said == []


async def test_a_backlog_is_taken_in_in_few_transactions(rig: Rig) -> None:
    """A batch of names is looked at, journalled and queued in one, and wakes nobody each."""
    drop(rig, 2_000)
    with statements(rig.journal.connection) as said:
        await rescan(rig)
    assert rig.journal.counts() == {FileState.QUEUED: 2_000}
    assert said.count("COMMIT") == 2_000 / BATCH
    assert len(said) <= 2_000 * 8  # two of them count along


async def test_after_a_start_a_backlog_is_compared_in_few_statements(rig: Rig) -> None:
    """What the journal knows as it stands there is told once, and asked for by the hundred."""
    drop(rig, 2_000)
    await rescan(rig)
    rig.place.watcher.known.clear()
    with statements(rig.journal.connection) as said:
        assert len(await rescan(rig)) == 2_000
    assert len(said) <= 2_000 / 50
    assert await rescan(rig) == []


async def test_files_that_settle_share_a_transaction(rig: Rig) -> None:
    """Thousands of files become quiet at the same time."""
    for number in range(500):
        rig.put(f"{number:03}", FileState.SETTLING, "settling.seen", due_s=rig.ctx.wall_s)
    async with rig.at_work():
        with statements(rig.journal.connection) as said:
            await rig.turn()
            await rig.turn()
    assert rig.journal.counts()[FileState.QUEUED] + len(rig.engine.transfers) >= 498
    looked = [text for text in said if "SAVEPOINT" not in text and "COMMIT" in text]
    assert len(looked) <= 20


@pytest.mark.parametrize("kept", [False, True])
async def test_a_name_that_ended_is_told_again(rig: Rig, kept: bool) -> None:
    """Unless it says itself that this content is done with, and then once more at most."""
    drop(rig, 1)
    assert await rescan(rig) == [b"00000"]
    [file_id] = table(rig)
    if kept:
        await rig.engine.operator.say(Verb.CANCEL, file_id)
    else:
        file = rig.journal.file(file_id)
        assert file is not None
        await rig.ctx.apply(file, Gone())
    assert await rescan(rig) == [b"00000"]
    assert len(table(rig)) == (1 if kept else 2)
    assert await rescan(rig) == []


async def test_a_name_whose_row_was_forgotten_is_told_again(rig: Rig) -> None:
    """Nobody knows it any more, so it is a new file, as it would be after a restart."""
    rig.ctx.keep_s = 90 * DAY_S
    drop(rig, 1)
    await rescan(rig)
    [file_id] = table(rig)
    file = rig.journal.file(file_id)
    assert file is not None
    await rig.ctx.apply(file, Gone())
    rig.clock.forward(91 * DAY_S)
    await failed(rig, "witness")
    with rig.place.watcher.known.opinion() as opinion:  # as if nobody had doubted its end
        opinion.keep(file.path, file.identity)
    assert b"00000" not in await rescan(rig)
    await forget(rig)
    assert "00000" not in {row["path"].decode() for row in rows(rig)}
    assert b"00000" in await rescan(rig)
    assert "00000" in {row["path"].decode() for row in rows(rig)}


def rows(rig: Rig) -> list[sqlite3.Row]:
    """Every row of files."""
    return rig.journal.connection.execute("SELECT * FROM files").fetchall()


async def test_a_retried_name_is_told_until_somebody_takes_it_up(rig: Rig) -> None:
    """A retry that the journal broke off finds its file with the next scan."""
    drop(rig, 1)
    await rescan(rig)
    [file_id] = table(rig)
    await rig.engine.operator.say(Verb.CANCEL, file_id)
    await rescan(rig)
    assert await rescan(rig) == []
    rig.ctx.keep = Broken(rig.journal.standing)
    with pytest.raises(JournalError):
        await rig.engine._watching.see(rig.place, [b"00000"])
    rig.ctx.keep = rig.disk
    assert await rescan(rig) == [b"00000"]


class Broken:
    """A journal's thread on which one method fails."""

    def __init__(self, method: Callable[..., object]) -> None:
        self._method = method

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call any other."""
        if function == self._method:
            raise JournalError("the disk is full")
        return function(*args, **kwargs)


async def test_what_could_not_be_journalled_is_told_again(rig: Rig) -> None:
    """Nothing counts as dealt with before the journal holds it."""
    drop(rig, 3)
    rig.ctx.keep = Broken(rig.journal.intake)
    with pytest.raises(JournalError):
        await rescan(rig)
    rig.ctx.keep = rig.disk
    assert len(await rescan(rig)) == 3
    assert await rescan(rig) == []


async def test_what_ends_while_a_batch_is_judged_is_told_again(rig: Rig) -> None:
    """The batch saw it at work, and its end overtook what the batch had to say."""
    drop(rig, 1)
    await rescan(rig)
    [file_id] = table(rig)
    rig.place.watcher.known.clear()
    file = rig.journal.file(file_id)
    assert file is not None
    rig.ctx.keep = gate = Gate(rig.journal.standing)
    taking = asyncio.create_task(Intake(rig.ctx, rig.place).take(scan(rig)))
    await gate.reached()
    await rig.ctx.apply(file, Gone())
    gate.go.set()
    await taking
    assert await rescan(rig) == [b"00000"]
    assert len(table(rig)) == 2


async def test_a_file_on_its_way_is_told_at_each_scan(rig: Rig) -> None:
    """Its transfer looks at its source then, whether or not anything changed."""
    file = rig.put("a")
    await rig.ctx.apply(file, Admitted())
    assert await rescan(rig) == [b"a"]
    assert await rescan(rig) == [b"a"]


async def test_a_file_that_stays_after_its_upload_is_told_once(rig: Rig) -> None:
    """A watch that keeps a million files does not compare them at each scan."""
    rig.place.settings = Watch(path=rig.root, after_upload=AfterUpload.KEEP)
    await done(rig, "a", stays=True)
    assert await rescan(rig) == [b"a"]
    assert await rescan(rig) == []
    (rig.root / "a").write_bytes(b"another content")
    assert await rescan(rig) == [b"a"]
    assert len(rows(rig)) == 2


async def test_a_row_that_went_on_spoils_no_batch(rig: Rig) -> None:
    """The others are kept, and of the stale step nothing is: its session is not given up."""
    stale, other = (rig.session(rig.put(name)) for name in ("a", "b"))
    now = rig.clock.now()
    steps = [(file, decide(file, Gone(), now), "gone") for file in (stale, other)]
    await rig.ctx.apply(stale, Admitted())
    kept = rig.journal.record_all(steps)
    assert [None if file is None else file.state for file in kept] == [None, FileState.CANCELLED]
    assert rig.at("a").state is FileState.UPLOADING
    sessions = rig.journal.connection.execute("SELECT file, state FROM uploads ORDER BY file")
    assert [tuple(row) for row in sessions] == [("a", "open"), ("b", "cancelling")]


async def test_what_a_stale_step_wrote_is_not_counted_either(rig: Rig) -> None:
    """The sums in memory are those of the rows: its bytes are not sent again, since it is held."""
    stale = await rig.ctx.apply(rig.session(rig.put("a"), stored=True), Admitted())
    anew = decide(stale, Restarted(detail="Its time was over."), rig.clock.now())
    await rig.ctx.apply(stale, Held(reason=reason("held.operator")))
    before = rig.journal.byte_totals()
    assert rig.journal.record_all([(stale, anew, "restarted")]) == [None]
    assert rig.journal.byte_totals() == before
    assert rig.journal.counts()[FileState.HELD] == 1


async def test_what_arrived_is_filed_before_a_mass_that_was_refused(rig: Rig) -> None:
    """Each kind of work has its share of the handlers, however much of another is due."""
    for number in range(100):
        name = f"{number:03}"
        file = rig.put(name, FileState.SETTLING, "settling.seen")
        await rig.ctx.apply(file, Refused(reason=reason("failed.empty")))
    rig.clock.forward(1.0)
    file = rig.session(rig.put("good"), stored=True)
    completed = Completed(remote_file="file-good", result="{}")
    for event in (Admitted(), Assembled(md5="0" * 32), completed):
        file = await rig.ctx.apply(file, event)
    rig.clock.forward(1.0)
    async with rig.at_work():
        await rig.engine._due()
        assert "good" in rig.engine.handling.busy
        await wait_until(lambda: not rig.engine.handling.busy, what="the handlers' end")
    assert rig.at("good").filed_as is not None
