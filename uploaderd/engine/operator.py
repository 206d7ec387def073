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
    from uploaderd.core.model import File
    from uploaderd.engine.engine import Engine

log = logs.get(__name__)

PAUSED = "paused"


async def recall(engine: Engine) -> None:
    """Take over what was said to the daemon before this one."""
    ctx = engine.ctx
    if await ctx.keep(ctx.journal.setting, PAUSED) is None:
        ctx.go.set()
    else:
        engine.senders.stopped = True
        log.warning("daemon.paused", text="It was paused before; see: uploaderd resume")


async def pause(engine: Engine) -> None:
    """Begin no request more, across restarts too; those under way end by themselves."""
    ctx = engine.ctx
    await ctx.keep(ctx.journal.set_setting, PAUSED, "yes")
    ctx.go.clear()
    engine.senders.stopped = True
    log.warning("daemon.paused", text="The operator paused it.")


async def resume(engine: Engine) -> None:
    """Go on; a target that is shut is probed at once."""
    ctx = engine.ctx
    await ctx.keep(ctx.journal.set_setting, PAUSED, None)
    for service in ctx.services.values():
        if service.gate.state is GateState.SHUT:
            service.gate = service.gate.probing()
    ctx.go.set()
    engine.senders.stopped = engine.draining
    engine.senders.pump()
    engine.bench_no_more()
    for wake in (ctx.wakes.admission, ctx.wakes.due, ctx.wakes.cancels):
        wake.set()
    log.info("daemon.resumed")


async def cancel(engine: Engine, file_id: str) -> File | None:
    """Give a file up and leave it where it is; None where no file has this id.

    Raises:
        NotApplicableError: it has ended, or may have arrived already.
    """
    try:
        return await _cancel(engine, file_id)
    finally:
        engine.condemned.discard(file_id)
        engine.ctx.wakes.due.set()


async def _cancel(engine: Engine, file_id: str) -> File | None:
    ctx = engine.ctx
    while True:
        file = await ctx.keep(ctx.journal.file, file_id)
        if file is None:
            return None
        if file.reason.code == "cancelled.operator":
            return file
        task = engine.tasks.get(file_id)
        if file.state is FileState.UPLOADING and task is not None:
            engine.condemned.add(file_id)  # or it would be taken up again at once
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
