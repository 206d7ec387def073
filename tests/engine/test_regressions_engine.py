"""What a review and the simulator found in the engine, each as a small story of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pytest

from tests.engine.kit import Disk, soon, without_rights
from tests.support.waiting import wait_until
from uploaderd.config import Timetable
from uploaderd.core.events import Admitted, Refused
from uploaderd.core.model import Arrival, FileState, Filing
from uploaderd.core.reasons import reason
from uploaderd.core.verbs import Verb
from uploaderd.engine.aftercare import AGAIN_S
from uploaderd.engine.engine import Engine
from uploaderd.engine.handling import HANDLERS
from uploaderd.engine.intake import Intake
from uploaderd.engine.parts import PartsRun
from uploaderd.engine.settling import look
from uploaderd.errors import TransientError
from uploaderd.journal import Journal
from uploaderd.spool.watcher import Sighting

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from tests.engine.kit import Rig
    from uploaderd.core.model import File

P = ParamSpec("P")
T = TypeVar("T")

PERHAPS = TransientError("broken", code="server_error", status=503, acted=True)


async def refused(rig: Rig, path: str) -> File:
    """Put a file that failed and is still to be filed."""
    file = await rig.ctx.apply(rig.put(path), Admitted())
    return await rig.ctx.apply(file, Refused(reason=reason("failed.empty")))


# What the journal is asked


def plans(rig: Rig, ask: Callable[[], object]) -> list[str]:
    """How SQLite goes about each statement of what is asked."""
    said: list[str] = []
    connection = rig.journal.connection
    connection.set_trace_callback(said.append)
    ask()
    connection.set_trace_callback(None)
    explained = [connection.execute(f"EXPLAIN QUERY PLAN {text}").fetchall() for text in said]
    return ["; ".join(row["detail"] for row in rows) for rows in explained]


Ask = Callable[[Journal], object]


@pytest.mark.parametrize(
    ("ask", "indexes"),
    [
        (lambda j: j.due(1.0, 4, unfiled_in=["f"], unasked=["a", "b"]), ["files_turn"] * 6),
        (lambda j: j.due(1.0, 4, latest=True), ["files_turn"] * 6),
        (lambda j: j.next_due_s(1.0), ["files_turn"] * 6),
        (lambda j: j.turn(1.0, {"settling": 4, "failed": 4}), ["files_turn"]),
        (lambda j: j.held_by("a", ["held.auth"], 4), ["files_held"]),
        (lambda j: j.waiting_in("/w", "", 4), ["files_waiting"]),
        (lambda j: j.open_sessions(["a", "b"]), ["uploads_open"]),
        (lambda j: j.queued(4, ["a"], ["f"]), ["files_resume", "files_queue"]),
    ],
    ids=["due", "latest", "next", "turn", "held", "waiting", "open", "queued"],
)
def test_what_is_asked_in_each_turn_reads_no_whole_watch(
    rig: Rig, ask: Ask, indexes: list[str]
) -> None:
    """The questions of each turn go by the index of what is due, open or waiting."""
    found = plans(rig, lambda: ask(rig.journal))
    assert len(found) == len(indexes)
    for plan, index in zip(found, indexes, strict=True):
        assert f"INDEX {index} " in f"{plan} ".replace(";", " ")
        assert "files_path" not in plan
        if index in {"files_turn", "files_queue", "files_held", "files_waiting"}:
            assert "TEMP B-TREE" not in plan


# What waits, and for whom


async def test_a_paused_complete_looks_at_its_source_again(rig: Rig) -> None:
    """A file that changed between its last look and the resume is cancelled, not completed."""
    file = rig.session(rig.put("x"), stored=True)
    async with rig.at_work() as engine:
        file = await rig.ctx.apply(file, Admitted())
        await engine.operator.pause()
        engine._begin(rig.service, file)
        await wait_until(lambda: rig.at(file.id).state is FileState.COMPLETING, what="the intent")
        await soon()
        (rig.root / "x").write_bytes(b"something else")
        await engine.operator.resume()
        await rig.idle()
        await rig.turn()
    assert rig.client.asked == [("cancel", "remote-x")]
    assert rig.at(file.id).state is FileState.SETTLING


async def test_a_writer_that_is_gone_is_forgotten(rig: Rig) -> None:
    """Of files that were seen open for writing and vanished, nothing is kept in memory."""
    for n in range(10):
        file = rig.put(f"{n}", FileState.SETTLING, "settling.seen")
        with (rig.root / file.id).open("ab"):
            await look(rig.ctx, rig.place, file)
        assert list(rig.ctx.writing) == [file.id]
        (rig.root / file.id).unlink()
        gone = Sighting(path=file.path, arrival=Arrival.FOUND, seen=None)
        await Intake(rig.engine.ctx, rig.place).take([gone])
        assert rig.ctx.writing == {}


async def test_big_files_that_settle_again_keep_no_small_one_waiting(rig: Rig) -> None:
    """When the rate drops, what is too big for it leaves the queue at once, however many."""
    for n in range(20):
        rig.put(f"big-{n:02}", size=10**12)
    rig.put("small")
    rig.ctx.transfer = replace(rig.ctx.transfer, bandwidth=Timetable(((0, 1_000),)))
    waited_s = 0.0
    async with rig.at_work() as engine:
        for _ in range(20):
            wait_s = await engine._admit()
            await soon()
            if rig.client.asked:
                break
            waited_s += wait_s
    assert rig.client.asked
    assert waited_s == 0.0


class Overtaken(Disk):
    """An offload in which the operator is faster: between an answer and its use."""

    def __init__(self, question: object, said: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._question, self._said = question, said

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it, and then what the operator said."""
        answer = await super().__call__(function, *args, **kwargs)
        if function == self._question:
            await self._said()
        return answer


@pytest.mark.parametrize("question", ["interrupted", "held_elsewhere"])
async def test_a_cancel_while_the_daemon_takes_over_does_not_end_it(
    rig: Rig, question: str
) -> None:
    """A row that the operator decides meanwhile is left as it is; the others are taken over."""
    for name in ("a", "b", "c"):
        if question == "interrupted":
            await rig.ctx.apply(rig.session(rig.put(name)), Admitted())
        else:
            rig.put(name, FileState.HELD, "held.auth", target="gone")
    asked = getattr(rig.journal, question)
    rig.ctx.keep = Overtaken(asked, lambda: rig.engine.operator.say(Verb.CANCEL, "a"))
    await rig.engine.recover()
    assert rig.at("a").state is FileState.CANCELLED
    assert rig.at("b").state is rig.at("c").state is FileState.QUEUED


async def test_a_full_folder_is_tried_by_few_files(rig: Rig) -> None:
    """Where nothing can be filed all files rest, and all are filed once there is room."""
    for n in range(3 * HANDLERS):
        await refused(rig, f"{n}")
    (rig.root / "failed").symlink_to("/nowhere")
    commits: list[str] = []
    async with rig.at_work():
        rig.journal.connection.set_trace_callback(
            lambda said: commits.append(said) if said == "COMMIT" else None
        )
        for _ in range(20):
            await rig.turn()
        assert rig.ctx.trouble.keys() == {rig.place.filing_away}
        assert len(commits) <= 2 * HANDLERS  # each tells of itself, and is looked at again
        (rig.root / "failed").unlink()
        rig.clock.forward(AGAIN_S + 1.0)
        for _ in range(20):
            await rig.turn()
    assert rig.journal.unfiled() == 0
    assert rig.ctx.trouble == {}, str(rig.ctx.trouble)[-200:]


async def test_one_file_that_cannot_be_filed_leaves_the_others_alone(open_rig: Rig) -> None:
    """A folder in failed/ that is not ours stops no other file's filing, and no new upload."""
    rig = open_rig
    stuck = await refused(rig, "sub/x")
    (rig.root / "failed" / "sub").mkdir(parents=True)
    for folder in ("failed", "sub"):
        (rig.root / folder).chmod(0o777)
    (rig.root / "failed" / "sub").chmod(0)
    rig.put("good")
    async with rig.at_work():
        with without_rights():
            await rig.turn()
            await rig.idle()
            assert rig.at("good").state is FileState.DONE
            other = await refused(rig, "y")
            for _ in range(3):  # a name, then the receipt and the move
                await rig.turn()
    (rig.root / "failed" / "sub").chmod(0o700)
    assert rig.at(stuck.id).filing is Filing.PENDING
    assert rig.at(other.id).filing is rig.at("good").filing is Filing.FILED
    assert rig.ctx.trouble == {}


async def test_a_twin_in_doubt_costs_less_and_less(rig: Rig) -> None:
    """A file waits longer each time for one of its name, and is not read again meanwhile."""
    await rig.uncertain("a/n", due_s=rig.clock.wall_s + 3_000.0)
    rig.session(rig.put("b/n"), stored=True)
    waits: list[float] = []
    async with rig.at_work():
        for _ in range(4):
            await rig.turn()
            await rig.idle()
            twin = rig.at("b/n")
            assert twin.reason.code == "deferred.twin"
            waits.append((twin.due_s or 0.0) - rig.clock.wall_s)
            rig.clock.forward(waits[-1])
    assert all(later > earlier for earlier, later in pairwise(waits))
    assert rig.disk.readings == 0
    assert rig.client.asked == []


async def test_nobody_waits_for_a_twin_in_a_folder_that_is_not_watched(
    rig: Rig, tmp_path: Path
) -> None:
    """What nobody will ever look at again holds up no file of that name."""
    await rig.uncertain("x", due_s=rig.clock.wall_s)
    rig.ctx.places.pop(rig.place.name).tree.close()
    rig.root = tmp_path / "new"
    rig.root.mkdir()
    rig.place = rig.watch(rig.root)
    rig.engine = Engine(rig.ctx)
    rig.put("y/x")
    async with rig.at_work():
        await rig.turn()
        await rig.idle()
    assert rig.at("y/x").state is FileState.DONE


async def test_an_uncertain_file_that_was_renamed_is_read_once(rig: Rig) -> None:
    """That its bytes are the same is found out at the first look and known at the next ones."""
    file = await rig.uncertain("a/x", due_s=rig.clock.wall_s)
    rig.journal.connection.execute("UPDATE files SET ctime_ns = ctime_ns - 1")
    (rig.root / "b").mkdir()
    (rig.root / "a" / "x").rename(rig.root / "b" / "x")
    seen = Sighting(path=b"b/x", arrival=Arrival.RENAMED, seen=None)
    await Intake(rig.engine.ctx, rig.place).take([seen])
    assert rig.at(file.id).path == b"b/x"
    rig.client.errors["complete"] = PERHAPS
    async with rig.at_work():
        for _ in range(3):
            await rig.turn()
            rig.clock.wall_s = rig.at(file.id).due_s or 0.0
    assert rig.client.count("complete") == 3
    assert rig.disk.readings == 1


# Places


async def test_a_part_that_is_cancelled_before_its_first_step_gives_its_place_back(
    rig: Rig,
) -> None:
    """A task that never ran runs none of its own clauses; its place is free all the same."""
    file = await rig.ctx.apply(rig.session(rig.put("x")), Admitted())
    upload, parts = rig.journal.take_up(file.id, file.upload or "")
    assert upload is not None
    source, senders = rig.place.open_source(file.path), rig.engine.senders
    senders.stopped = True
    run = PartsRun(
        rig.ctx, rig.service, senders, file=file, upload=upload, parts=parts, source=source
    )
    task = asyncio.create_task(run.run())
    await soon()
    task.cancel()
    senders.stopped = False
    senders.pump()  # the part is taken up, and its file's end is on its way already
    assert senders.in_flight == 1
    await asyncio.wait({task})
    source.close()
    assert rig.client.asked == []
    assert senders.in_flight == 0


async def test_a_transfer_that_is_cancelled_before_its_first_step_gives_its_place_back(
    rig: Rig,
) -> None:
    """The operator may be faster than the file: it is cancelled, and no place is lost."""
    file = await rig.ctx.apply(rig.put("x"), Admitted())
    async with rig.at_work() as engine:
        engine._begin(rig.service, file)
        engine.tasks[file.id].cancel()
        await asyncio.wait(engine.tasks.values())
        assert engine.transfers == {}
        assert await engine.operator.say(Verb.CANCEL, file.id) == rig.at(file.id)
    assert rig.at(file.id).state is FileState.CANCELLED
    assert rig.client.asked == []
