"""The session that a file's parts go to: the journalled one, or a new one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from uploaderd.client import CreateSpec
from uploaderd.core.events import Ambiguous
from uploaderd.core.fitness import LIFE_S
from uploaderd.core.model import Upload, UploadState
from uploaderd.core.naming import content_type, remote_name
from uploaderd.core.plan import ranges
from uploaderd.core.schedule import expired, life_s
from uploaderd.engine import calls
from uploaderd.errors import ServiceError, TransientError
from uploaderd.journal import TakenError

if TYPE_CHECKING:
    from uploaderd.client import RemoteUpload
    from uploaderd.core.events import Event
    from uploaderd.core.model import File, Part
    from uploaderd.engine.context import Context, Place, Service
    from uploaderd.engine.leaving import Leave


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An open session, or the event that says why there is none."""

    file: File
    upload: Upload | None = None
    parts: tuple[Part, ...] = ()
    event: Event | None = None


async def open_session(
    ctx: Context, place: Place, service: Service, file: File, leave: Leave
) -> Session:
    """Take up the file's session where it stands, or create one.

    Where one part is all there is and it may leave at once, it has its ``leave`` then.

    Each attempt of ``create`` is a session of its own in the journal: when its reply is lost,
    the service may keep an empty one that nobody can name; it costs nothing and ends by itself.
    """
    if file.upload is not None:
        return await _take_up(ctx, file, file.upload)
    try:
        async for attempt in calls.retrying(ctx, service):
            await ctx.go.wait()
            with attempt, ctx.wire:
                calls.must_be_open(service)
                upload = _plan(ctx, service, file)
                request_id = ctx.new_id()
                file = await ctx.keep(ctx.journal.begin_upload, file, upload, request_id)
                try:
                    remote = await service.client.create(
                        _spec(place, upload), request_id=request_id
                    )
                    session = await _opened(ctx, file, upload, remote, request_id, leave)
                except ServiceError as error:
                    calls.note(ctx, service, error)
                    file = await ctx.keep(
                        ctx.journal.upload_not_opened,
                        file,
                        upload,
                        request_id,
                        calls.outcome(error),
                    )
                    raise
                calls.taken(ctx, service)
                if session.upload is not None:
                    service.life_s = session.upload.life_s
                return session
    except ServiceError as error:
        event = calls.next_step(ctx, file, error, deferrals=file.deferrals + 1)
        return Session(file=file, event=event)
    raise AssertionError("the attempts end with a reply or an error")


async def _take_up(ctx: Context, file: File, key: str) -> Session:
    upload, parts = await ctx.keep(ctx.journal.take_up, file.id, key)
    detail = ""
    if upload is None or upload.state not in {UploadState.OPEN, UploadState.COMPLETING}:
        detail = "Its session was ended."
    elif expired(upload, ctx.clock.now()):
        detail = "Its session's time was over."
    if not detail:
        return Session(file=file, upload=upload, parts=tuple(parts))
    if upload is not None and upload.complete_sent and file.md5 is not None:
        # It may have been completed in time: then beginning anew would make a second file.
        return Session(file=file, event=Ambiguous(due_s=ctx.wall_s))
    return Session(file=file, event=calls.begin_anew(file, detail))


async def _opened(
    ctx: Context, file: File, upload: Upload, remote: RemoteUpload, request_id: str, leave: Leave
) -> Session:
    planned = ranges(upload.size, upload.part_bytes)
    try:
        opened, parts = await ctx.keep(
            ctx.journal.upload_opened,
            upload,
            request_id,
            remote_id=remote.id,
            server_created_s=remote.created_at,
            life_s=life_s(remote.created_at, remote.expires_at, upload.life_s),
            ranges=planned,
            leaving=leave.ask() if len(planned) == 1 else None,
        )
    except TakenError as error:
        leave.end()
        raise TransientError(
            "the service gave two uploads the same id", code="bad_reply", acted=True
        ) from error
    return Session(file=file, upload=opened, parts=tuple(parts))


def _plan(ctx: Context, service: Service, file: File) -> Upload:
    now = ctx.clock.now()
    size = file.identity.size
    return Upload(
        key=ctx.new_id(),
        file=file.id,
        target=service.name,
        state=UploadState.CREATING,
        filename=remote_name(file.path),
        purpose=file.purpose,
        size=size,
        part_bytes=ctx.transfer.part_bytes or service.link.part_bytes(size),
        created_s=now.wall_s,
        created_boot_s=now.boot_s,
        boot_id=now.boot_id,
        life_s=LIFE_S[service.flavour],
    )


def _spec(place: Place, upload: Upload) -> CreateSpec:
    return CreateSpec(
        filename=upload.filename,
        purpose=upload.purpose,
        size=upload.size,
        mime_type=place.settings.mime_type or content_type(upload.filename),
        expires_after_s=place.settings.expires_after_s,
    )
