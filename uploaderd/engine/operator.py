"""What the operator says: it is journalled first, and no automatic event undoes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.config.units import format_rate, human_rate, parse_rate
from uploaderd.core.gate import GateState
from uploaderd.core.model import FileState
from uploaderd.core.report import escape_path, full_path
from uploaderd.core.timetable import Timetable
from uploaderd.core.verbs import InapplicableError, Look, Return, Verb, meant
from uploaderd.errors import JournalError, NotApplicableError, SpoolError
from uploaderd.journal import StaleError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from uploaderd.core.model import File
    from uploaderd.engine.context import Context, Place
    from uploaderd.engine.senders import Senders

log = logs.get(__name__)

PAUSED = "paused"
LIMIT = "limit"


class Operator:
    """The operator's verbs.

    Args:
        ctx: the engine's context.
        senders: who stop while it is paused.
        tasks: the transfers' tasks by file, to be stopped before their file is decided about.
        awaken: ends the rest of a file, or every rest, for whoever waits for what was mended.
        look: has a path of a watch taken in.

    Attributes:
        condemned: files whose transfer is being stopped: nobody else takes them up.
    """

    def __init__(
        self,
        ctx: Context,
        senders: Senders,
        tasks: Mapping[str, asyncio.Task[None]],
        awaken: Callable[[str | None], None],
        look: Callable[[Place, bytes], Awaitable[None]],
    ) -> None:
        self.condemned: set[str] = set()
        self._word = asyncio.Lock()  # the last one counts, in the journal and here
        self._ctx = ctx
        self._senders = senders
        self._tasks = tasks
        self._awaken = awaken
        self._look = look
        self._returns = asyncio.Lock()  # one at a time is brought back

    async def recall(self) -> None:
        """Take over what was said to the daemon before this one."""
        ctx = self._ctx
        if await ctx.keep(ctx.journal.setting, PAUSED) is None:
            ctx.go.set()
        else:
            self._senders.paused = True
            log.warning("daemon.paused", text="It was paused before; see: uploaderd resume")
        await self._recall_limit()

    async def _recall_limit(self) -> None:
        ctx = self._ctx
        said = await ctx.keep(ctx.journal.setting, LIMIT)
        if said is None:
            return
        try:
            table = _always(parse_rate(said))
        except ValueError:
            log.error(  # noqa: TRY400 - a sentence, not a traceback
                "bandwidth.forgotten",
                text=f"The limit {said!r} that was set is none; set it anew: uploaderd limit",
            )
            return
        ctx.limiter.say(table)
        log.warning(
            "bandwidth.limit",
            limit=said,
            text="It was set before; give it back with: uploaderd limit config",
        )

    async def pause(self) -> None:
        """Begin no request more, across restarts too; those under way end by themselves."""
        ctx = self._ctx
        async with self._word:
            await ctx.keep(ctx.journal.set_setting, PAUSED, "yes")
            ctx.go.clear()
            self._senders.paused = True
            log.warning("daemon.paused", text="The operator paused it.")

    async def resume(self) -> None:
        """Go on; a target that is shut is probed at once."""
        ctx = self._ctx
        async with self._word:
            await ctx.keep(ctx.journal.set_setting, PAUSED, None)
            closed = {GateState.SHUT, GateState.PROBING}  # the probe may be a file that waits
            shut = [s for s in ctx.services.values() if s.gate.state in closed]
            await ctx.keep(ctx.journal.awaken, [service.name for service in shut], ctx.wall_s)
            for service in shut:
                if service.gate.state is GateState.SHUT:
                    service.gate = service.gate.probing()
            ctx.go.set()
            self._senders.paused = False
            self.rouse()
            log.info("daemon.resumed")

    async def limit(self, rate_bps: int | None) -> None:
        """Let this bandwidth be in force from now on, over restarts and other configurations.

        Args:
            rate_bps: bytes a second, None for no limit.

        Raises:
            JournalError: nothing was changed.
        """
        await self._limit(format_rate(rate_bps), _always(rate_bps))
        log.info("bandwidth.limit", limit=human_rate(rate_bps), text="The operator set it.")

    async def unlimit(self) -> None:
        """Let the bandwidth of the configuration be in force again; as ``limit``."""
        await self._limit(None, None)
        log.info("bandwidth.limit", text="The operator gave it back to the configuration.")

    async def _limit(self, text: str | None, table: Timetable | None) -> None:
        ctx = self._ctx
        async with self._word:
            await ctx.keep(ctx.journal.set_setting, LIMIT, text)
            ctx.limiter.say(table)
        try:  # what waits for bandwidth may have enough by now
            await ctx.keep(ctx.journal.reconsider, ctx.wall_s)
        except JournalError as error:
            ctx.in_trouble("journal", error)
        self.rouse()

    def rouse(self) -> None:
        """Let everything be looked at now."""
        self._awaken(None)
        self._senders.pump()
        wakes = self._ctx.wakes
        for wake in (wakes.admission, wakes.due, wakes.cancels, wakes.errands, wakes.retention):
            wake.set()

    async def say(self, verb: Verb, file_id: str) -> File | None:
        """Say one verb of one file; the file as it is then, None where none has this id.

        It is journalled when this returns, and no automatic event undoes it.

        Raises:
            NotApplicableError: the verb does not apply to the file as it is.
            JournalError: nothing was changed.
        """
        try:
            return await self._say(verb, file_id)
        finally:
            self.condemned.discard(file_id)
            self._ctx.wakes.due.set()
            self._ctx.wakes.admission.set()

    async def _say(self, verb: Verb, file_id: str) -> File | None:
        ctx = self._ctx
        while True:
            file = await ctx.keep(ctx.journal.file, file_id)
            if file is None:
                return None
            try:
                event = meant(verb, file, ctx.wall_s)
            except InapplicableError as error:
                raise NotApplicableError(
                    f"{full_path(file)} {error.why}", hint=error.hint
                ) from error
            if event is None:
                return file
            if isinstance(event, Return):
                if not self._returns.locked():
                    async with self._returns:
                        return await self._bring_back(file)
                async with self._returns:  # whoever was there first may have done it
                    continue
            if isinstance(event, Look):
                await ctx.keep(ctx.journal.look_now, file.id, ctx.wall_s)
                self._awaken(file.id)
                return file
            task = self._tasks.get(file_id)
            if file.state is FileState.UPLOADING and task is not None:
                self.condemned.add(file_id)  # or it would be taken up again at once
                task.cancel()
                await asyncio.wait({task})
                continue
            try:
                return await ctx.apply(file, event)
            except StaleError:
                continue

    async def _must_be_free(self, place: Place, path: bytes) -> None:
        """Refuse a name that another file at work still goes by, though it stands there no more."""
        ctx = self._ctx
        if await ctx.keep(ctx.journal.at_work, place.name, path) is None:
            return
        try:
            await ctx.disk(place.tree.identify, path)  # then another name is chosen anyway
        except SpoolError as error:
            raise NotApplicableError(
                f"another file is just leaving {escape_path(path)}", hint="try again in a moment"
            ) from error

    async def _bring_back(self, file: File) -> File:
        """Find an ended file in the spool again, and take it up under its own id.

        Killed once it was moved, the next scan takes it for a new file.
        """
        ctx = self._ctx
        place = ctx.watched.get(file.watch)
        if place is None:
            raise NotApplicableError(
                f"{full_path(file)} lies in a folder that is not watched any more",
                hint="configure its watch, then: uploaderd reload",
            )
        filed_as = file.filed_as if file.state is FileState.FAILED else None
        path, key = file.path, None
        try:
            there = await ctx.disk(place.tree.identify, filed_as or path)
            if filed_as is not None:
                await self._must_be_free(place, path)
            key = (place.name, there.dev, there.inode)
            ctx.returning[key] = file  # whoever sees it first takes it for this file
            if filed_as is not None:
                path = await ctx.disk(place.filing.bring_back, filed_as, path, owner=file.id)
            await self._look(place, path)
        except SpoolError as error:
            raise NotApplicableError(
                f"{full_path(file)} cannot be taken up again: {error}", hint=error.hint
            ) from error
        except JournalError:
            key = None  # it lies there now: the next scan takes it for this file still
            raise
        finally:
            if key is not None:
                ctx.returning.pop(key, None)
        after = await ctx.keep(ctx.journal.file, file.id)
        if after is None or after.version == file.version:
            raise NotApplicableError(
                f"{full_path(file)} is not there to be retried", hint="drop it again"
            )
        return after


def _always(rate_bps: int | None) -> Timetable:
    """A timetable of one rate."""
    return Timetable(((0, rate_bps),))
