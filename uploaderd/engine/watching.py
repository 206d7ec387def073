"""The watched folders: each is listened to until it is let go, and swept now and then."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.core.model import Arrival
from uploaderd.engine.intake import Intake
from uploaderd.errors import JournalError
from uploaderd.journal import StaleError
from uploaderd.spool.watcher import Sighting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from uploaderd.core.model import File
    from uploaderd.engine.context import Context, Place

log = logs.get(__name__)

BENCH_S = 5.0  # after trouble
SWEPT = 200  # files that are looked at in one sweep


class Watching:
    """Takes in what the watches see.

    Args:
        ctx: the engine's context.
        touched: is told of files in flight that something happened to.

    Attributes:
        stopped: nothing more is taken in.
    """

    def __init__(self, ctx: Context, touched: Callable[[File], Awaitable[None]]) -> None:
        self.stopped = False
        self._ctx = ctx
        self._touched = touched
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}

    def start(self, group: asyncio.TaskGroup, place: Place) -> None:
        """Listen to a watch from now on."""
        self._tasks[place.name] = [
            group.create_task(self._watch(place)),
            group.create_task(self._sweep(place)),
        ]

    async def stop(self, place: Place) -> None:
        """Listen to a watch no more; what it tells from now on is lost, until a scan."""
        tasks = self._tasks.pop(place.name, [])
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def see(self, place: Place, paths: list[bytes]) -> None:
        """Take in what stands at these paths now; if that fails the next scan tells of them."""
        for path in paths:
            place.watcher.known.doubt(path)
        sightings = [Sighting(path=path, arrival=Arrival.FOUND, seen=None) for path in paths]
        await Intake(self._ctx, place).take(sightings)

    async def _watch(self, place: Place) -> None:
        """Take in what a watch sees; one that breaks off is begun again, with a scan."""
        while not self.stopped:
            try:
                await self._take_in(place)
            except Exception as error:
                log.exception("watch.trouble", watch=place.name, exc=error)
                self._ctx.trouble[place.watching] = f"the watch broke off: {error}"
                await asyncio.sleep(BENCH_S)

    async def _take_in(self, place: Place) -> None:
        intake, whole = Intake(self._ctx, place), True
        async with aclosing(place.watcher.sightings()) as sightings:
            async for batch in sightings:
                if self.stopped:
                    return
                if not batch and whole:  # a full scan, of which nothing was lost
                    self._ctx.is_well(place.watching)
                    self._ctx.is_well(place.name)  # whoever said so may listen no more
                elif not batch:
                    whole = True
                    await place.watcher.rescan_now()
                try:
                    for file in await intake.take(batch):
                        await self._touched(file)
                except (JournalError, StaleError) as error:
                    whole = False
                    self._ctx.in_trouble(place.watching, error)
                    await asyncio.sleep(BENCH_S)
                    await place.watcher.rescan_now()  # that sees it again

    async def _sweep(self, place: Place) -> None:
        """Look now and then at files that wait long: a removal may have sent no event."""
        last = ""
        while True:
            await asyncio.sleep(place.settings.rescan_s)
            try:
                rows = await self._ctx.keep(self._ctx.journal.waiting_in, place.name, last, SWEPT)
                last = rows[-1].id if len(rows) == SWEPT else ""
                await self.see(place, [row.path for row in rows])
            except (JournalError, StaleError) as error:
                self._ctx.in_trouble("journal", error)
