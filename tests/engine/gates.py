"""Moments that are held open, looks that are taken and configurations that are taken over."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from tests.engine.kit import Disk
from uploaderd.config import Config, Daemon, History
from uploaderd.core.model import Arrival
from uploaderd.engine.intake import Intake
from uploaderd.engine.renewal import Renewal
from uploaderd.spool.watcher import Sighting, Watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.engine.kit import Rig
    from uploaderd.config import Watch
    from uploaderd.core.model import File
    from uploaderd.engine.context import Place
    from uploaderd.engine.engine import Engine

P = ParamSpec("P")
T = TypeVar("T")

WAIT_S = 15.0


class Gate(Disk):
    """An offload in which the first call of one method has done its work and does not return yet.

    Args:
        method: bound or not.
        early: it has not done its work either.

    Attributes:
        go: lets it go on.
    """

    def __init__(self, method: Callable[..., object], *, early: bool = False) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self._there = asyncio.Event()
        self._method = _plain(method)
        self._early = early

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it, and wait where it is the one."""
        it = _plain(function) is self._method and not self._there.is_set()
        if it and self._early:
            await self._stop()
        answer = await super().__call__(function, *args, **kwargs)
        if it and not self._early:
            await self._stop()
        return answer

    async def _stop(self) -> None:
        self._there.set()
        await self.go.wait()

    async def reached(self) -> None:
        """Wait until it has come so far."""
        async with asyncio.timeout(WAIT_S):
            await self._there.wait()


def _plain(method: Callable[..., object]) -> object:
    return getattr(method, "__func__", method)


async def see(rig: Rig, *names: str, arrival: Arrival = Arrival.RENAMED) -> None:
    """Take in what stands under these names, in one batch."""
    sightings = [Sighting(path=n.encode(), arrival=arrival, seen=None) for n in names]
    await Intake(rig.ctx, rig.place).take(sightings)


async def go_on(rig: Rig, turns: int = 6) -> None:
    """Let half a minute pass, and all that falls due in it be done."""
    for _ in range(turns):
        rig.clock.forward(5.0)
        await rig.turn()
        await rig.idle()


def table(rig: Rig) -> dict[str, tuple[str, str]]:
    """The path and the reason of each file that the journal knows, by id."""
    rows = rig.journal.connection.execute("SELECT id, path, reason_code FROM files")
    return {row["id"]: (row["path"].decode(), row["reason_code"]) for row in rows}


def listener(rig: Rig, place: Place) -> Watcher:
    """What listens to a watch in another way than before."""
    return Watcher(
        place.tree,
        ignore=(),
        recursive=True,
        rescan_s=60.0,
        offload=rig.disk,
        report=lambda *_: None,
    )


def renewal(
    rig: Rig, *watches: Watch, new: tuple[Place, ...] = (), anew: tuple[Place, ...] = ()
) -> Renewal:
    """A configuration with these watches; some are ``new``, some are listened to ``anew``."""
    ctx = rig.ctx
    config = Config(
        daemon=Daemon(state_dir=rig.root, socket=rig.root),
        targets=(),
        watches=watches,
        transfer=ctx.transfer,
        retry=ctx.retry,
        journal=History(keep_s=ctx.keep_s),
        hooks=ctx.hooks,
    )
    return Renewal(
        config=config,
        places={place.name: place for place in new},
        watchers={place.name: listener(rig, place) for place in anew},
        services=dict(ctx.services),
    )


@asynccontextmanager
async def listening(rig: Rig) -> AsyncIterator[Engine]:
    """As ``rig.at_work``; in the end nobody listens any more, and no watch is being left."""
    async with rig.at_work() as engine:
        yield engine
        for place in list(rig.ctx.places.values()):
            place.leaving = False
            await engine._watching.stop(place)


def moved_into(rig: Rig, place: Place, name: str) -> File:
    """Move a file and its row into another watch."""
    (rig.root / name).rename(place.tree.root / name)
    ctime_ns = place.tree.identify(name.encode()).ctime_ns
    rig.journal.connection.execute(
        "UPDATE files SET watch = ?, ctime_ns = ? WHERE id = ?", (place.name, ctime_ns, name)
    )
    return rig.at(name)


def put_into(rig: Rig, place: Place, name: str) -> File:
    """A queued file of another watch."""
    rig.put(name)
    return moved_into(rig, place, name)


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
