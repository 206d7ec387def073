"""What the operator says: it is journalled first, and no automatic event undoes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.core.events import Cancelled
from uploaderd.core.gate import GateState
from uploaderd.core.model import FileState
from uploaderd.core.report import full_path
from uploaderd.core.transitions import IllegalTransitionError
from uploaderd.errors import NotApplicableError
from uploaderd.journal import StaleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uploaderd.core.model import File
    from uploaderd.engine.context import Context
    from uploaderd.engine.senders import Senders

log = logs.get(__name__)

PAUSED = "paused"


class Operator:
    """The operator's verbs.

    Args:
        ctx: the engine's context.
        senders: who stop while it is paused.
        tasks: the transfers' tasks by file, to be cancelled with their file.
        awaken: ends every rest, for whoever waits for what was mended.

    Attributes:
        condemned: files that are being cancelled: nobody else takes them up.
    """

    def __init__(
        self,
        ctx: Context,
        senders: Senders,
        tasks: Mapping[str, asyncio.Task[None]],
        awaken: Callable[[], None],
    ) -> None:
        self.condemned: set[str] = set()
        self._ctx = ctx
        self._senders = senders
        self._tasks = tasks
        self._awaken = awaken

    async def recall(self) -> None:
        """Take over what was said to the daemon before this one."""
        ctx = self._ctx
        if await ctx.keep(ctx.journal.setting, PAUSED) is None:
            ctx.go.set()
        else:
            self._senders.paused = True
            log.warning("daemon.paused", text="It was paused before; see: uploaderd resume")

    async def pause(self) -> None:
        """Begin no request more, across restarts too; those under way end by themselves."""
        ctx = self._ctx
        await ctx.keep(ctx.journal.set_setting, PAUSED, "yes")
        ctx.go.clear()
        self._senders.paused = True
        log.warning("daemon.paused", text="The operator paused it.")

    async def resume(self) -> None:
        """Go on; a target that is shut is probed at once."""
        ctx = self._ctx
        await ctx.keep(ctx.journal.set_setting, PAUSED, None)
        shut = [s for s in ctx.services.values() if s.gate.state is GateState.SHUT]
        await ctx.keep(ctx.journal.awaken, [service.name for service in shut], ctx.wall_s)
        for service in shut:
            service.gate = service.gate.probing()
        ctx.go.set()
        self._awaken()
        self._senders.paused = False
        self._senders.pump()
        for wake in (ctx.wakes.admission, ctx.wakes.due, ctx.wakes.cancels):
            wake.set()
        log.info("daemon.resumed")

    async def cancel(self, file_id: str) -> File | None:
        """Give a file up and leave it where it is; None where no file has this id.

        Raises:
            NotApplicableError: it has ended, or may have arrived already.
        """
        try:
            return await self._cancel(file_id)
        finally:
            self.condemned.discard(file_id)
            self._ctx.wakes.due.set()

    async def _cancel(self, file_id: str) -> File | None:
        ctx = self._ctx
        while True:
            file = await ctx.keep(ctx.journal.file, file_id)
            if file is None:
                return None
            if file.reason.code == "cancelled.operator":
                return file
            task = self._tasks.get(file_id)
            if file.state is FileState.UPLOADING and task is not None:
                self.condemned.add(file_id)  # or it would be taken up again at once
                task.cancel()
                await asyncio.wait({task})
                continue
            try:
                return await ctx.apply(file, Cancelled())
            except StaleError:
                continue
            except IllegalTransitionError:
                raise NotApplicableError(
                    f"{full_path(file)} is {file.state.value}, so it cannot be cancelled",
                    hint="see: uploaderd show",
                ) from None
