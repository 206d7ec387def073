"""What a review found in watches that go, and in the very moment: each a small story of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.engine.gates import (
    Gate,
    come_back,
    go_on,
    leave,
    listening,
    next_look,
    put_into,
    renewal,
    see,
    table,
)
from tests.engine.kit import CONTENT
from tests.support.waiting import wait_until
from uploaderd.core.events import Admitted, Refused
from uploaderd.core.model import Arrival, FileState, Filing
from uploaderd.core.reasons import reason
from uploaderd.core.verbs import Verb
from uploaderd.engine.handling import HANDLERS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.kit import Rig
    from uploaderd.engine.context import Place


@pytest.fixture
def other(rig: Rig, tmp_path: Path) -> Place:
    """A second watch."""
    folder = tmp_path / "other"
    folder.mkdir()
    return rig.watch(folder)


async def test_a_watch_that_comes_back_is_not_let_go_while_that_is_made_ready(
    rig: Rig, other: Place
) -> None:
    """From its first look at the watches until the reload is through, they stay."""
    left: list[Place] = []
    async with listening(rig) as engine:
        rig.ctx.renewing = True  # as the Reloader says it
        await leave(rig, other)
        rig.ctx.keep = gate = Gate(rig.journal.watch)
        back = renewal(rig, rig.place.settings, other.settings, anew=(other,))
        reload = asyncio.create_task(engine.renew(back, left.append))
        await gate.reached()
        for _ in range(2):  # whoever sees the watch off finds nothing that is in its way
            await next_look(rig)
        gate.go.set()
        await reload
        rig.ctx.renewing = False
        assert rig.ctx.watched[other.name] is other
        file = put_into(rig, other, "a")
        await go_on(rig)
    assert left == []
    assert rig.at(file.id).state is FileState.DONE


@pytest.mark.parametrize("moment", ["chosen", "admitted"])
async def test_a_file_that_is_given_a_place_while_its_watch_is_let_go_waits_for_it(
    rig: Rig, other: Place, moment: str
) -> None:
    """It is as if it had never been chosen, and goes on once the watch is back."""
    file = put_into(rig, other, "a")
    left: list[Place] = []
    async with listening(rig) as engine:
        journal = rig.journal
        gate = Gate(journal.queued if moment == "chosen" else journal.record_all)
        rig.ctx.keep = gate
        choosing = asyncio.create_task(engine._admit())
        await gate.reached()
        if moment == "chosen":
            await engine.renew(renewal(rig, rig.place.settings), left.append)
            await wait_until(lambda: left, what="the watch's end")
        else:
            del rig.ctx.places[other.name]
        gate.go.set()
        await choosing
        await engine._revive()
        assert rig.at(file.id).state is FileState.QUEUED
        assert engine.transfers == {}
        await come_back(rig, other.settings.path)
        await go_on(rig)
    assert rig.at(file.id).state is FileState.DONE
    assert rig.client.count("create") == 1


async def test_no_file_of_a_watch_that_is_being_left_is_given_a_place(
    rig: Rig, other: Place
) -> None:
    """Not even one that was chosen before: it only waited, so it waits until the watch is back."""
    file = put_into(rig, other, "a")
    async with listening(rig) as engine:
        rig.ctx.keep = gate = Gate(rig.journal.queued)
        choosing = asyncio.create_task(engine._admit())
        await gate.reached()
        await rig.ctx.keep(rig.journal.watch, [rig.place.name])
        other.leaving = True
        gate.go.set()
        await choosing
    assert rig.at(file.id).version == file.version


async def test_what_is_to_be_filed_in_a_watch_that_goes_waits_for_no_transfer(rig: Rig) -> None:
    """However long the last upload of that watch takes, all else of it comes to its end."""
    rig.session(rig.put("long"))
    rig.client.held["part"] = asyncio.Event()
    left: list[Place] = []
    async with listening(rig) as engine:
        await rig.turn()
        await wait_until(lambda: rig.client.count("part"), what="a part in flight")
        file = rig.put("short", FileState.SETTLING, "settling.seen")
        await engine.renew(renewal(rig), left.append)
        await next_look(rig)
        await rig.ctx.apply(file, Refused(reason=reason("failed.empty")))
        await wait_until(lambda: rig.at("short").filing is Filing.FILED, what="its filing")
        assert left == []
        rig.client.held["part"].set()
        await wait_until(lambda: left, what="the watch's end")
    assert (rig.root / "failed" / "short").exists()
    assert rig.at("long").filing is Filing.FILED


async def test_what_is_filed_in_a_watch_that_goes_keeps_the_bound_on_handlers(rig: Rig) -> None:
    """Ten thousand files of one watch leave the others their handlers."""
    files = []
    for n in range(3 * HANDLERS):
        file = rig.put(f"{n}", FileState.SETTLING, "settling.seen")
        files.append(await rig.ctx.apply(file, Refused(reason=reason("failed.empty"))))
    rig.ctx.disk = gate = Gate(rig.place.filing.choose)
    async with listening(rig) as engine:
        handlers = [asyncio.create_task(engine.handling.handle_alone(file)) for file in files]
        await gate.reached()
        most = len(engine.handling.busy)
        gate.go.set()
        await asyncio.wait(handlers)
    assert 0 < most <= HANDLERS


async def test_what_is_decided_as_its_transfer_breaks_off_is_no_trouble(rig: Rig) -> None:
    """The operator was faster than the daemon that lets the watch go: all is well."""
    file = await rig.ctx.apply(rig.session(rig.put("a")), Admitted())
    left: list[Place] = []
    async with listening(rig) as engine:
        engine._stranded.add(file.id)
        rig.ctx.keep = gate = Gate(rig.journal.file)
        await engine.renew(renewal(rig), left.append)
        await gate.reached()
        await engine.operator.say(Verb.CANCEL, file.id)
        gate.go.set()
        await wait_until(lambda: left, what="the watch's end")
    assert rig.ctx.trouble == {}
    assert rig.at("a").state is FileState.CANCELLED


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_file_that_is_renamed_while_it_is_filed_is_not_filed_unseen(
    rig: Rig, *, leaves: bool
) -> None:
    """A scan says that it is gone, no clock; in a watch that is left there is none."""
    await rig.uncertain("a", due_s=rig.clock.wall_s)
    rig.client.held["complete"] = asyncio.Event()
    left: list[Place] = []
    async with listening(rig) as engine:
        if leaves:
            await engine.renew(renewal(rig), left.append)
        else:
            await engine._due()
        await wait_until(lambda: rig.client.count("complete"), what="the question")
        (rig.root / "a").rename(rig.root / "b")
        rig.client.held["complete"].set()
        await wait_until(lambda: rig.at("a").state is FileState.DONE, what="its end")

        async def missed() -> bool:
            rig.clock.forward(rig.place.settings.rescan_s)
            await rig.turn()
            return bool(left) if leaves else "a" in rig.ctx.missed

        await wait_until(missed, what="the look for it")
        for _ in range(5):
            await missed()
        assert rig.at("a").filing is Filing.PENDING
        if leaves:
            rig.place = await come_back(rig, rig.root)
        await see(rig, "b", arrival=Arrival.FOUND)
        rig.clock.forward(rig.place.settings.rescan_s)
        await go_on(rig)
    assert table(rig) == {"a": ("b", "done.uploaded")}
    assert not (rig.root / "b").exists()
    assert (rig.root / (rig.at("a").filed_as or b"").decode()).read_bytes() == CONTENT
    assert rig.client.asked == [("complete", "remote-a")]


async def test_a_file_that_was_renamed_and_replaced_is_not_sent_again(rig: Rig) -> None:
    """Another one stands where it was when it is to be filed: it may have got another name."""
    await rig.uncertain("a", due_s=rig.clock.wall_s)
    (rig.root / "done").mkdir()

    def swap() -> None:
        (rig.root / "a").rename(rig.root / "b")
        (rig.root / "new").write_bytes(b"another content")
        (rig.root / "new").rename(rig.root / "a")

    async with listening(rig):
        rig.client.meanwhile = swap
        await rig.turn()
        rig.client.meanwhile = lambda: None
        await go_on(rig)
        assert rig.at("a").filing is Filing.PENDING
        await see(rig, "b")
        await go_on(rig)
    there = rig.at("a")
    assert (there.path, there.filing) == (b"b", Filing.FILED)
    assert (rig.root / (there.filed_as or b"").decode()).read_bytes() == CONTENT
    assert rig.client.count("complete") == 1
    assert [path for path, _ in table(rig).values()].count("b") == 1


async def test_a_file_that_is_gone_is_filed_once_a_scan_has_missed_it(rig: Rig) -> None:
    """The one that is under way may have passed its other name already; the next has not."""
    await rig.uncertain("a", due_s=rig.clock.wall_s)
    (rig.root / "done").mkdir()
    async with listening(rig) as engine:
        rig.client.meanwhile = (rig.root / "a").unlink
        await rig.turn()
        rig.client.meanwhile = lambda: None
        await go_on(rig, 20)
        assert rig.at("a").filing is Filing.PENDING
        assert engine._group is not None
        engine._watching.start(engine._group, rig.place)

        async def filed() -> bool:
            await rig.place.watcher.rescan_now()
            rig.clock.forward(rig.place.settings.rescan_s)
            await rig.turn()
            return rig.at("a").filing is Filing.FILED

        await wait_until(filed, what="its filing")
    assert rig.place.watcher.scans >= 2
