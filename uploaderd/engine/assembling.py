"""``complete``, and what to do when its reply was lost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from uploaderd import logs
from uploaderd.core.events import Ambiguous, Completed, Event, Held
from uploaderd.core.model import UploadState
from uploaderd.core.reasons import reason
from uploaderd.core.reconcile import Absent, Candidate, Found, Several, judge, next_look_s
from uploaderd.core.report import full_path
from uploaderd.core.retry import defer_s
from uploaderd.core.values import replace
from uploaderd.engine import calls
from uploaderd.engine.rereading import superseded
from uploaderd.errors import ServiceError, TargetBlockedError, TransientError
from uploaderd.journal import TakenError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uploaderd.client import RemoteFile
    from uploaderd.core.model import File, Upload
    from uploaderd.engine.context import Context, Service

log = logs.get(__name__)

SEARCH_SLACK_S = 5.0  # the service's own clock stamps both; they need not agree to the second


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A ``complete`` whose intent is journalled.

    Attributes:
        upload: as it was before the intent.
        part_ids: in the order of the file.
        filed_as: the name below the watch that the file may get, if one was looked for.
        request_id: of the first attempt, which is journalled with the intent.
    """

    upload: Upload
    part_ids: Sequence[str]
    filed_as: bytes | None
    request_id: str


async def complete(ctx: Context, service: Service, file: File, asking: Asking) -> File:
    """Ask the service to put the file together; return the file as it is then.

    As soon as an attempt may have been acted upon without a reply, the file is uncertain: from
    then on ``reconcile`` goes on.
    """
    event: Event = Ambiguous(due_s=ctx.wall_s)
    upload, noted = asking.upload, asking.request_id
    try:
        async for attempt in calls.retrying(ctx, service):
            waited = not (noted and ctx.go.is_set())
            await ctx.go.wait()
            if waited and await superseded(ctx, file) is not None:
                break  # it is another content by now: reconcile gives the session up
            with attempt, ctx.wire:
                calls.must_be_open(service)
                request_id, noted = noted, ""
                try:
                    remote = await _ask(
                        ctx, service, file, upload, asking.part_ids, request_id=request_id
                    )
                except TransientError as error:
                    if error.acted:
                        raise _LostReplyError from error
                    raise
                return await _arrive(ctx, file, remote, asking.filed_as)
    except _LostReplyError:
        pass
    except ServiceError as error:
        # What was done already may be why it is refused: by an attempt of an earlier run, or by
        # this one where something on the way sent it twice. Then that is to be found out.
        perhaps_done = upload.complete_sent or error.acted
        if not perhaps_done or isinstance(error, TransientError | TargetBlockedError):
            event = calls.next_step(ctx, file, error, deferrals=file.deferrals + 1)
    if noted:
        await ctx.keep(ctx.journal.answered, noted, "not_sent")
    return await ctx.apply(file, event)


class _LostReplyError(Exception):
    """Ends the attempts: the same complete again is reconcile's to send."""


async def reconcile(ctx: Context, service: Service, file: File) -> None:
    """Find out what became of a complete without a reply; one look, then wait.

    The same complete again may answer. If the service refuses it, or may have acted on that one
    too, its list of files tells: one match is adopted, several wait for a person, and none after
    a while begins anew, once the service has refused to complete. Where the file has another
    content by now, the session is cancelled in place of completed: if that works, nothing arrived.
    """
    upload = await ctx.keep(ctx.journal.upload, file.upload or "")
    if upload is None or upload.remote_id is None:
        await ctx.apply(file, calls.begin_anew(file, "Its session is not in the journal."))
        return
    parts = await ctx.keep(ctx.journal.parts, upload.key)
    found = await superseded(ctx, file)
    if not ctx.go.is_set():  # a pause came while it was read; it is looked at again then
        return
    if found is not None:
        await ctx.apply(file, await _give_up(ctx, service, file, upload, found))
        return
    part_ids = [part.part_id for part in parts if part.part_id is not None]
    if not parts or len(part_ids) < len(parts):
        # An id that is not known cannot be named again; whether it was acted upon can be seen.
        await ctx.apply(file, await _search(ctx, service, file, upload))
        return
    try:
        remote = await _ask(ctx, service, file, upload, part_ids)
    except (TransientError, TargetBlockedError) as error:
        event = _later(ctx, file, upload, error)
        if error.acted:
            found = await _search(ctx, service, file, upload)
            event = found if isinstance(found, Completed | Held) else event
        await ctx.apply(file, event)
        return
    except ServiceError as error:
        log.info("complete.refused", id=file.id, text=str(error))
        event = await _search(ctx, service, file, upload)
        await ctx.apply(file, event)
    else:
        await _arrive(ctx, file, remote)


async def _give_up(
    ctx: Context, service: Service, file: File, upload: Upload, found: Event
) -> Event:
    """End a session whose content is not the file's any more, unless it was completed already."""
    request_id = ctx.new_id()
    await ctx.keep(
        ctx.journal.request, request_id, file.id, "cancel", ctx.wall_s, upload=upload.key
    )
    try:
        await service.client.cancel(upload.remote_id or "", request_id=request_id)
    except ServiceError as error:
        calls.note(ctx, service, error)
        await ctx.keep(ctx.journal.answered, request_id, calls.outcome(error))
        if isinstance(error, TransientError | TargetBlockedError):
            return _later(ctx, file, upload, error)
        return await _search(ctx, service, file, upload)
    calls.taken(ctx, service)
    await ctx.keep(ctx.journal.upload_ended, upload, UploadState.CANCELLED, request_id)
    return found


async def _ask(
    ctx: Context,
    service: Service,
    file: File,
    upload: Upload,
    part_ids: Sequence[str],
    *,
    request_id: str = "",
) -> RemoteFile:
    """Ask once; a ``request_id`` is journalled already."""
    if not request_id:
        request_id = ctx.new_id()
        await ctx.keep(
            ctx.journal.request, request_id, file.id, "complete", ctx.wall_s, upload=upload.key
        )
    try:
        remote = await service.client.complete(
            upload.remote_id or "", part_ids, file.md5 or "", request_id=request_id
        )
    except ServiceError as error:
        calls.note(ctx, service, error)
        await ctx.keep(ctx.journal.answered, request_id, calls.outcome(error))
        raise
    calls.taken(ctx, service)
    return remote


async def _search(ctx: Context, service: Service, file: File, upload: Upload) -> Event:
    """Search the service's files for the one that a lost complete may have made."""
    request_id = ctx.new_id()
    await ctx.keep(ctx.journal.request, request_id, file.id, "list", ctx.wall_s, upload=upload.key)
    since_s = upload.server_created_s
    try:
        listed = await service.client.list_files(
            upload.purpose,
            created_after=None if since_s is None else since_s - SEARCH_SLACK_S,
            request_id=request_id,
        )
    except ServiceError as error:
        calls.note(ctx, service, error)
        await ctx.keep(ctx.journal.answered, request_id, calls.outcome(error))
        return _later(ctx, file, upload, error)
    calls.taken(ctx, service)
    await ctx.keep(ctx.journal.answered, request_id, "ok")
    known = await ctx.keep(ctx.journal.known_remote, service.name, upload.filename)
    found = judge(
        [
            Candidate(
                id=remote.id,
                filename=remote.filename,
                bytes=remote.bytes,
                created_at=remote.created_at,
                purpose=remote.purpose,
            )
            for remote in listed
        ],
        filename=upload.filename,
        size=upload.size,
        purpose=upload.purpose,
        created_from_s=since_s,
        known=known,
    )
    match found:
        case Found(id=file_id):
            if since_s is None and await ctx.keep(ctx.journal.has_forgotten, service.name):
                detail = f"The service holds {file_id}, which may be an older file of that name."
                return Held(reason=reason("held.uncertain", detail=detail))
            remote = next(remote for remote in listed if remote.id == file_id)
            other = await ctx.keep(ctx.journal.owner_of, file.target, remote.id)
            free = other is None or other.id == file.id
            return _arrived(file, remote) if free else _of_another(remote, other)
        case Several(ids=ids):
            detail = f"The service holds {len(ids)} files that this one may be: {', '.join(ids)}."
            return Held(reason=reason("held.uncertain", detail=detail))
        case Absent():
            wait_s = next_look_s(file.deferrals)
            if wait_s is None:
                return calls.begin_anew(file, "The service does not hold the completed file.")
            return Ambiguous(due_s=ctx.wall_s + wait_s, looks=file.deferrals + 1)


def _later(ctx: Context, file: File, upload: Upload, error: ServiceError) -> Event:
    """Wait before the next try; the older its session, the longer, and no look is counted."""
    asked_s = error.retry_after_s if isinstance(error, TransientError) else None
    age_s = max(ctx.wall_s - upload.created_s, 1.0)
    wait_s = defer_s(
        round(math.log2(age_s) / 2),
        ctx.chance(),
        defer_max_s=ctx.retry.defer_max_s,
        retry_after_s=asked_s,
    )
    return Ambiguous(due_s=ctx.wall_s + wait_s, looks=file.deferrals)


async def _arrive(
    ctx: Context, file: File, remote: RemoteFile, filed_as: bytes | None = None
) -> File:
    """Keep what the service answered; what it says of another file's id, a person must look at."""
    event = _arrived(file, remote)
    if isinstance(event, Held):
        return await ctx.apply(file, event)
    try:
        return await ctx.apply(file, replace(event, filed_as=filed_as))
    except TakenError as error:
        return await ctx.apply(file, _of_another(remote, error.owner))


def _of_another(remote: RemoteFile, owner: File | None) -> Held:
    whose = "another file" if owner is None else full_path(owner)
    detail = f"The service answered with {remote.id}, which is that of {whose}."
    return Held(reason=reason("held.uncertain", detail=detail))


def _arrived(file: File, remote: RemoteFile) -> Completed | Held:
    """It is there, unless the service's own words speak against it."""
    size = file.identity.size
    detail = ""
    status = remote.document.get("status")
    if status == "error":
        why = remote.document.get("status_details")
        detail = f"The service made {remote.id} of it and calls that an error"
        detail += f": {str(why)[:200]}." if why else "."
    elif remote.bytes not in {None, size}:
        detail = f"The service made {remote.id} of it with {remote.bytes} bytes in place of {size}."
    if detail:
        return Held(reason=reason("held.uncertain", detail=detail))
    result = msgspec.json.encode(remote.document).decode("utf-8")
    return Completed(remote_file=remote.id, result=result)
