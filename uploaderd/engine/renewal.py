"""Another configuration, while files are on their way: watches come and go, limits change.

What is given here was checked and made before, so nothing of it can be refused any more. A watch
that goes takes nothing along that is in the middle: what is on the wire, may have arrived or is
being filed is seen to its end; what only waits stays in the journal until its watch is back.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.core.events import Due, Recovered
from uploaderd.core.gate import GateState
from uploaderd.core.model import FileState, Filing
from uploaderd.core.reasons import TARGET_TROUBLE
from uploaderd.errors import UploaderdError
from uploaderd.journal import StaleError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from uploaderd.config import Config, Watch
    from uploaderd.core.model import File
    from uploaderd.engine.context import Context, Place, Service
    from uploaderd.spool.watcher import Watcher

log = logs.get(__name__)

BENCH_S = 5.0
ON_THE_WIRE = frozenset({FileState.UPLOADING, FileState.COMPLETING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """A checked configuration and what was made for it.

    Attributes:
        config: all of it.
        places: the watches that are new, by name; their folders are open.
        watchers: for watches that are listened to in another way than before.
        services: every target that a watch names, with a client of its own.
    """

    config: Config
    places: Mapping[str, Place]
    watchers: Mapping[str, Watcher]
    services: Mapping[str, Service]

    @property
    def watches(self) -> dict[str, Watch]:
        """The settings of every watch, by its name."""
        return {str(watch.path): watch for watch in self.config.watches}


def settle_places(ctx: Context, renewal: Renewal) -> tuple[list[Place], list[Place]]:
    """Put other watches in place; return those to be listened to anew, and those that leave."""
    begun = []
    for name, settings in renewal.watches.items():
        place = renewal.places.get(name) or ctx.places[name]
        place.settings, place.leaving = settings, False
        ctx.places[name] = place
        if name in renewal.watchers:
            place.watcher = renewal.watchers[name]
        if name in renewal.watchers or name in renewal.places:
            begun.append(place)
    gone = [p for n, p in ctx.places.items() if n not in renewal.watches and not p.leaving]
    for place in gone:
        place.leaving = True
    return begun, gone


def settle_services(ctx: Context, services: Mapping[str, Service]) -> None:
    """Put other targets in place; a transfer under way goes on with the one that it has.

    One that stays keeps its gate, but a shut one is probed: the mended key is why one reloads.
    """
    for name, service in services.items():
        known = ctx.services.get(name)
        if known is None:
            ctx.services[name] = service
            continue
        known.client = service.client
        if known.gate.state is GateState.SHUT:
            known.gate = known.gate.probing()
    for name in ctx.services.keys() - services.keys():
        del ctx.services[name]


async def reconsider(ctx: Context) -> None:
    """Let everything go on that the configuration of now may have mended."""
    await ctx.keep(ctx.journal.reconsider, ctx.wall_s)
    trouble, known = sorted(TARGET_TROUBLE - {"held.target"}), list(ctx.services)
    for file in await ctx.keep(ctx.journal.held_elsewhere, known, trouble):
        with suppress(StaleError):
            await ctx.apply(file, Due())


async def recover_in(
    ctx: Context, renewal: Renewal, tasks: Mapping[str, asyncio.Task[None]]
) -> None:
    """Take over what an earlier daemon left of watches that were not configured since.

    What is on the wire by the journal alone, on nobody's; all else has a due time of its own.
    """
    for name in renewal.places:
        for file in await ctx.keep(ctx.journal.in_the_middle, name):
            if file.state in ON_THE_WIRE and file.id not in tasks:
                with suppress(StaleError):
                    await ctx.apply(file, Recovered())


class Escort:
    """Sees to its end what was in the middle when its watch was taken away.

    Args:
        ctx: the engine's context.
        tasks: the transfers' tasks by file.
        handle: performs what a file needs now.
        revive: takes up transfers that broke off.
    """

    def __init__(
        self,
        ctx: Context,
        tasks: Mapping[str, asyncio.Task[None]],
        handle: Callable[[File], Awaitable[None]],
        revive: Callable[[], Awaitable[None]],
    ) -> None:
        self._ctx = ctx
        self._tasks = tasks
        self._handle = handle
        self._revive = revive

    async def see_off(self, place: Place, left: Callable[[Place], None]) -> None:
        """Return once nothing of a watch is in the middle any more, and it was let go.

        Where the watch comes back meanwhile, it is not let go; ``left`` is told if it is.
        """
        while place.leaving:
            try:
                files = await self._ctx.keep(self._ctx.journal.in_the_middle, place.name)
                files = [file for file in files if file.id not in self._ctx.missed]
                if not files and not self._ctx.renewing:
                    break
                with suppress(StaleError):
                    await self._revive()
                await asyncio.gather(*(self._further(file) for file in files))
            except UploaderdError as error:
                self._ctx.in_trouble("journal", error)
            await asyncio.sleep(BENCH_S / 10)
        if place.leaving and self._ctx.places.get(place.name) is place:
            del self._ctx.places[place.name]
            for subject in (place.name, place.watching, place.filing_away):
                self._ctx.trouble.pop(subject, None)
            self._ctx.full.discard(place.name)
            self._ctx.resting.pop(place.name, None)
            left(place)
            log.info("watch.left", watch=place.name)

    async def _further(self, file: File) -> None:
        """Do what it needs if its time has come; one that is being sent goes on by itself."""
        if file.id in self._tasks:
            return
        if file.state in ON_THE_WIRE:  # it broke off, or was never taken up
            with suppress(StaleError):
                await self._ctx.apply(file, Recovered())
            return
        due = file.due_s is None or file.due_s <= self._ctx.wall_s
        if due and (file.state is FileState.UNCERTAIN or file.filing is Filing.PENDING):
            await self._handle(file)
