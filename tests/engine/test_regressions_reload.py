"""What a review found in the taking over of another configuration, each as a small story."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from tests.engine.gates import Gate, go_on, listening, renewal, see, table
from tests.engine.kit import CONTENT
from tests.support.waiting import wait_until
from uploaderd.config import Timetable, Transfer, Watch
from uploaderd.core.events import Admitted, Assembled, Refused
from uploaderd.core.model import Arrival, FileState, Filing
from uploaderd.core.reasons import reason
from uploaderd.core.verbs import Verb
from uploaderd.engine.engine import HANDLERS, Engine
from uploaderd.engine.renewal import settle_services
from uploaderd.errors import ConfigError, SpoolError
from uploaderd.metrics import Metrics
from uploaderd.spool.tree import Tree
from uploaderd.wiring import Seams, Wiring

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.engine.kit import Rig
    from uploaderd.core.model import File
    from uploaderd.engine.context import Place


@pytest.fixture
def other(rig: Rig, tmp_path: Path) -> Place:
    """A second watch."""
    folder = tmp_path / "other"
    folder.mkdir()
    return rig.watch(folder)


def put_into(rig: Rig, place: Place, name: str) -> File:
    """A queued file of another watch."""
    file = rig.put(name)
    (rig.root / name).rename(place.tree.root / name)
    rig.journal.connection.execute("UPDATE files SET watch = ? WHERE id = ?", (place.name, file.id))
    return rig.at(name)


async def leave(rig: Rig, place: Place) -> None:
    """Take a watch away by a reload."""
    stay = [p.settings for p in rig.ctx.watched.values() if p is not place]
    await rig.engine.renew(renewal(rig, *stay), left_behind)


async def come_back(rig: Rig, folder: Path) -> Place:
    """Take a watch that was let go in again by a reload."""
    place = rig.watch(folder)
    del rig.ctx.places[place.name]
    settings = [p.settings for p in rig.ctx.watched.values()]
    await rig.engine.renew(renewal(rig, *settings, place.settings, new=(place,)), left_behind)
    return place


def left_behind(_: Place) -> None:
    """Nobody asks which watches were let go."""


async def next_look(rig: Rig) -> None:
    """Wait until somebody looked what is in the middle in a watch that is being left."""
    rig.ctx.keep = look = Gate(rig.journal.in_the_middle)
    await look.reached()
    look.go.set()


# What was on the wire


@pytest.mark.parametrize("state", ["uploading", "completing", "uncertain"])
async def test_what_was_on_its_way_when_its_watch_vanished_goes_on_when_it_is_back(
    rig: Rig, other: Place, state: str
) -> None:
    """A daemon that started without the watch took nothing of it up, and its reload does."""
    if state == "uncertain":
        file = await rig.uncertain("a", due_s=rig.clock.wall_s + 600.0)
    else:
        file = await rig.ctx.apply(rig.session(rig.put("a"), stored=True), Admitted())
        if state == "completing":
            md5 = "900150983cd24fb0d6963f7d28e17f72"
            file = await rig.ctx.apply(file, Assembled(md5=md5))
    (rig.root / "a").rename(other.tree.root / "a")
    rig.journal.connection.execute("UPDATE files SET watch = ?", (other.name,))
    identity = other.tree.identify(b"a")
    rig.journal.connection.execute("UPDATE files SET ctime_ns = ?", (identity.ctime_ns,))
    other.tree.close()
    del rig.ctx.places[other.name]
    rig.engine = Engine(rig.ctx)
    await rig.engine.recover()
    assert rig.at("a").state.value == state
    async with listening(rig):
        await come_back(rig, other.settings.path)
        await go_on(rig)
    assert rig.at("a").state is FileState.DONE
    assert rig.at("a").filing is Filing.FILED
    assert rig.client.asked == [("complete", "remote-a")]


async def test_an_answer_that_is_on_its_way_is_not_lost_by_a_reload(rig: Rig) -> None:
    """A watch that is only listened to in another way was here all the time."""
    await rig.uncertain("a", due_s=rig.clock.wall_s)
    rig.client.held["complete"] = asyncio.Event()
    async with listening(rig) as engine:
        await engine._due()
        await wait_until(lambda: rig.client.count("complete"), what="the question")
        again = renewal(rig, rig.place.settings, anew=(rig.place,))
        await engine.renew(again, left_behind)
        rig.client.held["complete"].set()
        await wait_until(lambda: not engine._handled, what="the handler's end")
        assert rig.at("a").state is FileState.DONE
    assert rig.client.count("complete") == 1


async def test_a_part_in_flight_keeps_the_bandwidth_of_now(rig: Rig) -> None:
    """What would have taken minutes by the old limit is through at once when that is lifted."""
    rig.ctx.transfer = replace(rig.ctx.transfer, bandwidth=Timetable(((0, 64 * 1024),)))
    rig.put("a", content=bytes(16 * 1024 * 1024))
    async with listening(rig) as engine:
        await rig.turn()
        await wait_until(lambda: rig.client.count("part"), what="a part in flight")
        config = replace(renewal(rig, rig.place.settings).config, transfer=Transfer())
        await engine.renew(replace(renewal(rig, rig.place.settings), config=config), left_behind)
        await rig.idle()
        await rig.turn()
    assert rig.client.count("create") == 1
    assert rig.at("a").state is FileState.DONE


# A watch that goes, and the very moment


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
        gate = Gate(journal.queued if moment == "chosen" else journal.record)
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
        handlers = [asyncio.create_task(engine._handle_alone(file)) for file in files]
        await gate.reached()
        most = len(engine._handled)
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


# What holds then


async def test_a_folder_that_is_back_at_the_reload_is_no_trouble_any_more(rig: Rig) -> None:
    """Whoever found it lost listens no more, so the next whole scan says that it is well."""
    rig.ctx.trouble[rig.place.name] = "the watched folder cannot be used"
    async with listening(rig) as engine:
        await engine.renew(renewal(rig, rig.place.settings, anew=(rig.place,)), left_behind)
        await wait_until(lambda: rig.place.watcher.scans, what="a scan")
        await wait_until(lambda: rig.ctx.trouble == {}, what="its trouble's end", timeout_s=5.0)
        assert rig.ctx.scanned


async def test_a_reload_that_is_overtaken_by_the_end_is_refused(rig: Rig, other: Place) -> None:
    """Whole: nothing of it holds, and nothing is begun in an engine that has ended."""
    async with listening(rig) as engine:
        pass
    before, transfer = dict(rig.ctx.places), rig.ctx.transfer
    rig.ctx.keep = gate = Gate(rig.journal.watch)
    wanted = renewal(rig, rig.place.settings)
    config = replace(wanted.config, transfer=replace(transfer, files_in_flight=99))
    reload = asyncio.create_task(engine.renew(replace(wanted, config=config), left_behind))
    await gate.reached()
    assert await engine.drain(1.0)
    gate.go.set()
    with pytest.raises(ConfigError, match="stopping"):
        await reload
    assert rig.ctx.places == before
    assert not other.leaving
    assert rig.ctx.transfer is transfer


@pytest.mark.parametrize("names", [["openai"], ["openai", "other", "third"]])
async def test_targets_may_change_while_places_are_given(rig: Rig, names: list[str]) -> None:
    """A target that goes, or comes, while each is looked at is no trouble for the others."""
    rig.put("a")
    async with listening(rig) as engine:
        rig.ctx.keep = gate = Gate(rig.journal.held_by)
        choosing = asyncio.create_task(engine._admit())
        await gate.reached()
        settle_services(rig.ctx, {name: replace(rig.service, name=name) for name in names})
        gate.go.set()
        await choosing
        await rig.idle()
    assert list(rig.ctx.services) == names
    assert rig.at("a").state is FileState.DONE


# A folder that was let go


def descriptors() -> int:
    """How many this process holds."""
    return len(os.listdir("/proc/self/fd"))


def test_whoever_comes_late_to_a_folder_that_was_let_go_opens_nothing(tmp_path: Path) -> None:
    """It is refused in a sentence, however often it asks."""
    (tmp_path / "a").write_bytes(b"abc")
    before = descriptors()
    tree = Tree(tmp_path)
    tree.open()
    tree.identify(b"a")
    tree.end()
    for ask in (lambda: tree.identify(b"a"), lambda: tree.open_fd(b"a"), tree.open):
        with pytest.raises(SpoolError, match="not watched any more"):
            ask()
    assert descriptors() == before


def test_a_watch_that_was_let_go_holds_nothing(rig: Rig, tmp_path: Path) -> None:
    """Neither its folder nor its lock: another daemon may have it, and a late look gets nothing."""
    folder = tmp_path / "third"
    folder.mkdir()
    (folder / "a").write_bytes(b"abc")
    wiring = Wiring(
        env={},
        seams=Seams(),
        disk=rig.disk,
        session=cast("aiohttp.ClientSession", None),
        metrics=Metrics(version="1"),
        trouble={},
    )
    before = descriptors()
    with wiring:
        for _ in range(2):  # the lock is free again
            place = wiring.place(Watch(path=folder))
            place.tree.identify(b"a")
            wiring.let_go(place.name)
            with pytest.raises(SpoolError, match="not watched any more"):
                place.tree.identify(b"a")
            assert descriptors() == before
