"""Abandoned sessions: each is cancelled at the service, and how that ended is journalled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.core.model import UploadState
from uploaderd.core.schedule import remaining_s
from uploaderd.engine import calls
from uploaderd.errors import ServiceError, TargetBlockedError, TransientError

if TYPE_CHECKING:
    from uploaderd.core.model import Upload
    from uploaderd.engine.context import Context

log = logs.get(__name__)

AGAIN_S = 30.0
MOST = 100  # in one sweep


class Janitor:
    """Performs the journalled intents to cancel; one that fails rests and blocks no other."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._resting: dict[str, float] = {}

    def rest_no_more(self) -> None:
        """Forget the rests, whose times mean nothing after the wall clock was set back."""
        self._resting = {}

    async def sweep(self) -> None:
        """Cancel what waits for it and does not rest."""
        ctx = self._ctx
        now = ctx.clock.now()
        self._resting = {key: until for key, until in self._resting.items() if until > now.wall_s}
        for upload in await ctx.keep(ctx.journal.cancelling_elsewhere, MOST, list(ctx.services)):
            if remaining_s(upload, now) <= 0:  # nobody is left to be asked
                expired = UploadState.EXPIRED
                await ctx.keep(ctx.journal.upload_ended, upload, expired, ctx.new_id())
        asked = [s.name for s in ctx.services.values() if s.gate.admits(now.wall_s)]
        most = MOST + len(self._resting)
        for upload in await ctx.keep(ctx.journal.cancelling, most, asked):
            if not ctx.go.is_set():
                return
            if upload.key not in self._resting:
                self._resting[upload.key] = now.wall_s + AGAIN_S  # unless it ends now
                await self._cancel(upload)

    async def _cancel(self, upload: Upload) -> None:
        """Ask, also where our hour is over: the service's may have begun later."""
        ctx = self._ctx
        service = ctx.services.get(upload.target)
        request_id = ctx.new_id()
        if service is None or not service.gate.admits(ctx.wall_s):
            return
        with ctx.wire:
            await ctx.keep(
                ctx.journal.request,
                request_id,
                upload.file,
                "cancel",
                ctx.wall_s,
                upload=upload.key,
            )
            try:
                await service.client.cancel(upload.remote_id or "", request_id=request_id)
            except (TransientError, TargetBlockedError) as error:
                calls.note(ctx, service, error)
                await ctx.keep(ctx.journal.answered, request_id, calls.outcome(error))
            except ServiceError as error:  # it is not pending: there is nothing left to cancel
                log.debug("upload.not_cancelled", upload=upload.remote_id, text=str(error))
                if upload.complete_sent:
                    log.warning("upload.may_have_arrived", upload=upload.remote_id, id=upload.file)
                await ctx.keep(ctx.journal.upload_ended, upload, UploadState.EXPIRED, request_id)
            else:
                await ctx.keep(ctx.journal.upload_ended, upload, UploadState.CANCELLED, request_id)
