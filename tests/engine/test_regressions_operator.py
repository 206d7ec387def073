"""What a review found in the operator's verbs, each as a small story of its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pytest

from tests.engine.ended import failed
from tests.engine.gates import Gate, go_on, see, table
from tests.engine.kit import Disk
from tests.support.waiting import wait_until
from uploaderd.core.events import Admitted, Refused
from uploaderd.core.model import Arrival, File, FileState, Filing
from uploaderd.core.reasons import reason
from uploaderd.core.verbs import Verb
from uploaderd.engine.handling import BENCH_S
from uploaderd.engine.view import EngineView
from uploaderd.errors import JournalError, NotApplicableError
from uploaderd.source import Md5Pass

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.engine.kit import Rig

P = ParamSpec("P")
T = TypeVar("T")


async def say(rig: Rig, verb: Verb, file_id: str) -> File:
    """Say it of a file that there is."""
    file = await rig.engine.operator.say(verb, file_id)
    assert file is not None
    return file


async def gave_up(rig: Rig, content: bytes = b"mended") -> tuple[File, Path]:
    """A file that failed, and where it lies in failed/ since."""
    file = await failed(rig, "a.txt")
    path = rig.root / "failed" / "a.txt"
    path.parent.mkdir()
    path.write_bytes(content)
    return file, path


async def another(rig: Rig, content: bytes) -> str:
    """Drop another a.txt; return the id of its row."""
    before = table(rig).keys()
    rig.clock.forward(10.0)
    (rig.root / "a.txt").write_bytes(content)
    await see(rig, "a.txt")
    (made,) = table(rig).keys() - before
    return made


async def in_flight(rig: Rig, file_id: str) -> tuple[object, object]:
    """The state of a file and its parts in flight, as the socket shows them."""
    shown = await EngineView(rig.engine, version="1").file(file_id)
    assert shown is not None
    parts = shown["parts"]
    assert isinstance(parts, dict)
    return shown["state"], parts["in_flight"]


# The last word counts


@pytest.mark.parametrize("last", ["pause", "resume"])
async def test_of_pause_and_resume_at_the_same_time_the_last_one_counts(
    rig: Rig, last: str
) -> None:
    """In the journal and in the daemon alike: a restart changes nothing."""
    operator = rig.engine.operator
    first = operator.resume if last == "pause" else operator.pause
    then = operator.pause if last == "pause" else operator.resume
    await operator.pause()
    await asyncio.gather(first(), then())
    assert rig.engine.paused is (last == "pause")
    assert rig.ctx.go.is_set() is not rig.engine.paused
    assert (rig.journal.setting("paused") is not None) is rig.engine.paused


async def test_no_question_leaves_once_it_is_paused(rig: Rig) -> None:
    """A pause that comes while an uncertain file is read again is kept by that file too."""
    await rig.uncertain("a", due_s=rig.clock.wall_s)
    rig.journal.connection.execute("UPDATE files SET ctime_ns = ctime_ns - 1")
    rig.ctx.disk = gate = Gate(Md5Pass.advance)
    async with rig.at_work() as engine:
        await engine._due()
        await gate.reached()
        await engine.operator.pause()
        gate.go.set()
        await wait_until(lambda: not engine.handling.busy, what="the handler's end")
        await rig.turn()
        assert rig.client.asked == []
        await engine.operator.resume()
        await rig.turn()
        await rig.turn()
    assert rig.client.count("complete") == 1
    assert rig.at("a").state is FileState.DONE


# What is held


@pytest.mark.parametrize("other", ["b.txt", "assistants/a.txt", "sub/a.txt"])
async def test_a_held_file_stays_held_whatever_its_name(rig: Rig, other: str) -> None:
    """A rename is no release, though the upload that was begun fits the new name no more."""
    rig.session(rig.put("a.txt"), stored=True)
    await say(rig, Verb.HOLD, "a.txt")
    (rig.root / other).parent.mkdir(exist_ok=True)
    (rig.root / "a.txt").rename(rig.root / other)
    async with rig.at_work():
        await see(rig, "a.txt", other)
        await go_on(rig)
    assert table(rig) == {"a.txt": (other, "held.operator")}
    assert rig.client.asked == []


async def test_a_new_file_under_the_name_that_another_just_left_is_taken_at_once(rig: Rig) -> None:
    """Both are seen in one batch; nobody waits for the next scan of everything."""
    rig.put("a.txt")
    await say(rig, Verb.HOLD, "a.txt")
    (rig.root / "a.txt").rename(rig.root / "b.txt")
    (rig.root / "a.txt").write_bytes(b"another")
    await see(rig, "a.txt", "b.txt")
    states = dict(table(rig).values())
    assert states == {"b.txt": "held.operator", "a.txt": "settling.quiet"}


async def test_a_held_file_whose_old_name_is_missed_first_stays_held(rig: Rig) -> None:
    """The two halves of a rename may be seen in two batches, the wrong way round too."""
    rig.put("a.txt")
    await say(rig, Verb.HOLD, "a.txt")
    (rig.root / "a.txt").rename(rig.root / "b.txt")
    async with rig.at_work():
        await see(rig, "a.txt")
        await see(rig, "b.txt")
        await go_on(rig)
    assert table(rig) == {"a.txt": ("b.txt", "held.operator")}
    assert rig.client.asked == []


async def test_a_held_file_that_was_removed_is_let_go_by_the_next_scan_but_one(rig: Rig) -> None:
    """Not at the first look; and whatever comes by its name then is a file of its own."""
    rig.put("a.txt")
    await say(rig, Verb.HOLD, "a.txt")
    (rig.root / "a.txt").unlink()
    await see(rig, "a.txt")
    assert table(rig) == {"a.txt": ("a.txt", "held.operator")}
    rig.clock.forward(rig.place.settings.rescan_s)
    await see(rig, "a.txt")
    assert table(rig) == {"a.txt": ("a.txt", "cancelled.gone")}
    async with rig.at_work():
        second = await another(rig, b"second")
        await go_on(rig)
    assert table(rig)[second] == ("a.txt", "done.uploaded")


async def test_a_held_file_goes_by_its_new_name_once_it_is_released(rig: Rig) -> None:
    """In a session of that name; the one that was begun for the old name is given up."""
    await rig.ctx.apply(rig.session(rig.put("a.txt"), stored=True), Admitted())
    await say(rig, Verb.HOLD, "a.txt")
    (rig.root / "a.txt").rename(rig.root / "b.txt")
    async with rig.at_work() as engine:
        await see(rig, "a.txt", "b.txt")
        await say(rig, Verb.RELEASE, "a.txt")
        await go_on(rig)
        await engine._cancel()
    assert rig.at("a.txt").state is FileState.DONE
    assert ("cancel", "remote-a.txt") in rig.client.asked
    (created,) = [about for call, about in rig.client.asked if call == "create"]
    assert "filename='b.txt'" in created


@pytest.mark.parametrize("away", ["unmounted", "vanished"])
async def test_a_held_file_is_not_let_go_because_its_file_system_is_away(
    rig: Rig, away: str
) -> None:
    """Where another device stands in its place, or no folder at all, nobody removed the file."""
    rig.put("a.txt")
    await say(rig, Verb.HOLD, "a.txt")
    elsewhere = rig.root.with_name("elsewhere")
    if away == "unmounted":
        (rig.root / "a.txt").rename(elsewhere)
        rig.journal.connection.execute("UPDATE files SET dev = dev + 1")
    else:
        rig.root.rename(elsewhere)
        with suppress(Exception):
            rig.place.tree.open()
    for _ in range(3):
        await see(rig, "a.txt")
        rig.clock.forward(rig.place.settings.rescan_s)
    if away == "unmounted":
        rig.journal.connection.execute("UPDATE files SET dev = dev - 1")
        elsewhere.rename(rig.root / "a.txt")
    else:
        elsewhere.rename(rig.root)
        rig.place.tree.open()
    async with rig.at_work():
        await see(rig, "a.txt", arrival=Arrival.FOUND)
        await go_on(rig)
    assert table(rig) == {"a.txt": ("a.txt", "held.operator")}
    assert rig.client.asked == []


async def test_a_file_that_is_held_in_mid_flight_has_no_part_in_flight(rig: Rig) -> None:
    """What was cut off is shown as cut off at once, not at its release."""
    rig.session(rig.put("a"))
    rig.client.held["part"] = asyncio.Event()
    async with rig.at_work():
        await rig.turn()
        await wait_until(lambda: rig.client.count("part"), what="a part in flight")
        assert await in_flight(rig, "a") == ("uploading", 1)
        await say(rig, Verb.HOLD, "a")
        assert await in_flight(rig, "a") == ("held", 0)
        rig.client.held["part"].set()
        await say(rig, Verb.RELEASE, "a")
        await go_on(rig)
    assert rig.at("a").state is FileState.DONE


# What is cancelled


async def test_a_cancel_counts_for_a_retried_file_of_a_name_that_was_used_since(rig: Rig) -> None:
    """Whatever else arrived by that name: of its rows the last that somebody spoke about counts."""
    async with rig.at_work():
        file = await failed(rig, "a.txt")
        second = await another(rig, b"second")
        await go_on(rig)
        assert rig.at(second).filing is Filing.FILED
        (rig.root / "failed").mkdir()
        (rig.root / "failed" / "a.txt").write_bytes(b"mended")
        back = await say(rig, Verb.RETRY, file.id)
        assert (back.path, back.state) == (b"a.txt", FileState.SETTLING)
        await say(rig, Verb.CANCEL, file.id)
        before = rig.client.count("create")
        await see(rig, "a.txt", arrival=Arrival.FOUND)
        await go_on(rig)
    assert rig.client.count("create") == before
    assert table(rig).keys() == {file.id, second}


async def test_a_cancelled_file_stays_cancelled_when_its_device_has_another_number(
    rig: Rig,
) -> None:
    """As many file systems have after a reboot."""
    rig.put("a.txt")
    await say(rig, Verb.CANCEL, "a.txt")
    rig.journal.connection.execute("UPDATE files SET dev = dev + 1")
    async with rig.at_work():
        await see(rig, "a.txt", arrival=Arrival.FOUND)
        await go_on(rig)
    assert table(rig) == {"a.txt": ("a.txt", "cancelled.operator")}
    assert rig.client.asked == []


# What is retried


async def test_two_retries_at_the_same_time_bring_a_file_back_once(rig: Rig) -> None:
    """One of them does it; the other finds it done, or under way; the file keeps its id."""
    file, path = await gave_up(rig)
    operator = rig.engine.operator
    answers = await asyncio.gather(
        *(operator.say(Verb.RETRY, file.id) for _ in range(3)), return_exceptions=True
    )
    assert any(isinstance(answer, File) for answer in answers)
    others = [answer for answer in answers if not isinstance(answer, File)]
    assert all("under way already" in str(answer) for answer in others)
    assert table(rig) == {file.id: ("a.txt", "settling.retried")}
    assert not path.exists()


async def test_nothing_is_brought_back_into_a_folder_that_is_being_left(rig: Rig) -> None:
    """Nobody would look at it there: it is refused, and lies where it lay."""
    file, path = await gave_up(rig)
    rig.place.leaving = True
    with pytest.raises(NotApplicableError, match="not watched any more"):
        await say(rig, Verb.RETRY, file.id)
    assert path.exists()
    assert not (rig.root / "a.txt").exists()
    assert rig.at("a.txt") == file


async def test_what_is_refused_while_another_file_leaves_the_same_name_stays_in_failed(
    rig: Rig,
) -> None:
    """It is not moved and then left to be uploaded under another id."""
    file, path = await gave_up(rig)
    second = await another(rig, b"second")
    row = rig.journal.file(second)
    assert row is not None
    await rig.ctx.apply(row, Refused(reason=reason("failed.empty")))
    (rig.root / "a.txt").unlink()  # moved, which is not journalled yet
    with pytest.raises(NotApplicableError, match="another file is just leaving"):
        await say(rig, Verb.RETRY, file.id)
    assert path.exists()
    assert rig.at("a.txt") == file


@pytest.mark.parametrize("held", [False, True])
async def test_what_comes_back_beside_another_file_of_its_name_keeps_its_own_id(
    rig: Rig, *, held: bool
) -> None:
    """It gets the next free name, and neither row is taken for the other."""
    file, path = await gave_up(rig)
    second = await another(rig, b"second")
    if held:
        await say(rig, Verb.HOLD, second)
    back = await say(rig, Verb.RETRY, file.id)
    assert back.state is FileState.SETTLING
    assert back.path != b"a.txt"
    assert (rig.root / back.path.decode()).read_bytes() == b"mended"
    assert not path.exists()
    assert table(rig)[second] == ("a.txt", "held.operator" if held else "settling.seen")


async def test_a_retry_leaves_the_answer_that_is_on_its_way_alone(rig: Rig) -> None:
    """An uncertain file that is being asked for takes the reply, however often it is retried."""
    await rig.uncertain("a", due_s=rig.clock.wall_s)
    rig.client.held["complete"] = asyncio.Event()
    async with rig.at_work() as engine:
        await engine._due()
        await wait_until(lambda: rig.client.count("complete"), what="the question")
        for _ in range(3):
            await say(rig, Verb.RETRY, "a")
        rig.client.held["complete"].set()
        await wait_until(lambda: not engine.handling.busy, what="the handler's end")
    assert rig.at("a").state is FileState.DONE
    assert rig.client.count("complete") == 1


@pytest.mark.parametrize("waits", ["due", "benched"])
async def test_a_retry_has_an_uncertain_file_asked_for_at_once(rig: Rig, waits: str) -> None:
    """Whether it waits for its time or rests after trouble."""
    far = waits == "due"
    await rig.uncertain("a", due_s=rig.clock.wall_s + (600.0 if far else 0.0))
    if not far:
        rig.engine.handling.benched["a"] = rig.clock.wall_s + BENCH_S
    async with rig.at_work():
        await rig.turn()
        assert rig.client.asked == []
        await say(rig, Verb.RETRY, "a")
        await rig.turn()
    assert rig.at("a").state is FileState.DONE


class Full(Disk):
    """A journal's thread on which nothing can be taken in."""

    def __init__(self, rig: Rig) -> None:
        super().__init__()
        self._refused = rig.journal.intake

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it, or refuse it."""
        if function == self._refused:
            raise JournalError("database or disk is full")
        return await super().__call__(function, *args, **kwargs)


async def test_a_retry_that_the_journal_refuses_is_taken_up_by_the_next_scan(rig: Rig) -> None:
    """The file lies in the spool again by then: under its own id, and only this once."""
    file, _ = await gave_up(rig)
    keep = rig.ctx.keep
    rig.ctx.keep = Full(rig)
    with pytest.raises(JournalError):
        await say(rig, Verb.RETRY, file.id)
    rig.ctx.keep = keep
    await see(rig, "a.txt")
    assert table(rig).keys() == {file.id}
    assert rig.at("a.txt").state is FileState.SETTLING
    assert not rig.ctx.returning
