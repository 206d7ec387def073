"""What a review found in the taking over of another configuration, each as a small story."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from tests.engine.gates import Gate, come_back, go_on, left_behind, listening, moved_into, renewal
from tests.support.waiting import wait_until
from uploaderd.config import Timetable, Transfer, Watch
from uploaderd.core.events import Admitted, Assembled
from uploaderd.core.model import FileState, Filing
from uploaderd.engine.engine import Engine
from uploaderd.engine.renewal import settle_services
from uploaderd.errors import ConfigError, SpoolError
from uploaderd.metrics import Metrics
from uploaderd.spool.tree import Tree
from uploaderd.wiring import Seams, Wiring

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.engine.kit import Rig
    from uploaderd.engine.context import Place


@pytest.fixture
def other(rig: Rig, tmp_path: Path) -> Place:
    """A second watch."""
    folder = tmp_path / "other"
    folder.mkdir()
    return rig.watch(folder)


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
    moved_into(rig, other, "a")
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
        await wait_until(lambda: not engine.handling.busy, what="the handler's end")
        assert rig.at("a").state is FileState.DONE
    assert rig.client.count("complete") == 1


@pytest.mark.parametrize("busy", ["asked", "sent"])
async def test_an_answer_is_not_lost_where_its_watch_was_only_just_made(
    rig: Rig, other: Place, busy: str
) -> None:
    """What a loop took in hand as soon as the watch was there is left to it by the reload."""
    if busy == "asked":
        await rig.uncertain("a", due_s=rig.clock.wall_s)
    else:
        rig.session(rig.put("a"), stored=True)
    moved_into(rig, other, "a")
    del rig.ctx.places[other.name]
    rig.client.held["complete"] = asyncio.Event()
    async with listening(rig) as engine:
        rig.ctx.keep = gate = Gate(rig.journal.in_the_middle, early=True)
        new = renewal(rig, rig.place.settings, other.settings, new=(other,))
        reload = asyncio.create_task(engine.renew(new, left_behind))
        await gate.reached()
        await engine._due()
        await engine._admit()
        await wait_until(lambda: rig.client.count("complete"), what="the question")
        gate.go.set()
        await reload
        rig.client.held["complete"].set()
        await go_on(rig)
    assert rig.at("a").state is FileState.DONE
    assert rig.client.asked == [("complete", "remote-a")]


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
    rig.put("held", FileState.HELD, "held.operator")  # so that it is asked for at all
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
