"""From seen to queued: is anybody still writing it, and would the service ever take it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uploaderd.core.deadline import DAY_S, begin_in_s, capacity, the_sum
from uploaderd.core.events import Changed, Deferred, Event, Gone, Held, Refused, Settled, Unsettled
from uploaderd.core.fitness import LIFE_S, unfit
from uploaderd.core.reasons import reason
from uploaderd.core.schedule import EXPIRY_MARGIN_S
from uploaderd.core.settle import Busy, Marks, Quiet, Ready, judge
from uploaderd.engine.calls import sentence
from uploaderd.errors import (
    ChangedError,
    GoneError,
    NotRegularError,
    SpoolError,
    UnreadableError,
)

if TYPE_CHECKING:
    from uploaderd.core.model import File, Identity
    from uploaderd.engine.context import Context, Place

UNREADABLE_S = 60.0  # an event says when permissions change; this is for where there are none
TROUBLE_S = 15.0


def event_of(ctx: Context, file: File, error: SpoolError) -> Event:
    """What a fault of the source means for the file."""
    match error:
        case GoneError():
            return Gone()
        case ChangedError():
            return Changed(identity=None)
        case NotRegularError():
            return Refused(reason=reason("failed.not_regular", detail=sentence(error)))
        case UnreadableError():
            why = reason("held.unreadable", detail=sentence(error))
            return Held(reason=why, due_s=ctx.wall_s + UNREADABLE_S)
        case _:
            due_s = ctx.wall_s + TROUBLE_S
            why = reason("deferred.spool", until_s=due_s, detail=sentence(error))
            return Deferred(reason=why, due_s=due_s, deferrals=file.deferrals + 1)


async def look(ctx: Context, place: Place, file: File) -> bool:
    """Look at a settling file once, and decide; False if another file stands at its path."""
    try:
        seen = await ctx.disk(place.tree.look, file.path)
    except NotRegularError as error:
        await _refuse(ctx, place, file, error)
        return True
    except SpoolError as error:
        await ctx.apply(file, event_of(ctx, file, error))
        return True
    if seen.identity.inode != file.identity.inode:
        return False  # one that is known under another name, perhaps
    now = ctx.clock.now()
    since_s = ctx.writing.pop(file.id, now.boot_s)
    verdict = judge(
        identity=seen.identity,
        before=file.identity,
        arrival=file.arrival,
        writers=seen.writers,
        marks=Marks(
            first_seen_s=file.created_s,
            changed_s=file.changed_s,
            held_open_s=now.boot_s - since_s,
        ),
        settle_s=place.settings.settle_s,
        now=now,
    )
    match verdict:
        case Busy(look_again_s=wait_s):
            # Any event in between may have been a close, so the time counts from this look.
            unbroken = file.reason.code == "settling.writer_open"
            ctx.writing[file.id] = since_s if unbroken else now.boot_s
            why = reason("settling.writer_open")
            due_s = now.wall_s + wait_s
            await ctx.apply(file, Unsettled(identity=seen.identity, reason=why, due_s=due_s))
        case Quiet(until_wall_s=due_s):
            why = reason("settling.quiet", until_s=due_s)
            await ctx.apply(file, Unsettled(identity=seen.identity, reason=why, due_s=due_s))
        case Ready():
            await ctx.apply(file, _settled(ctx, place, file, seen.identity))
    return True


def _settled(ctx: Context, place: Place, file: File, identity: Identity) -> Event:
    """Target and purpose are the watch's of today, whatever they were when it was first seen."""
    purpose, target = place.purpose_of(file.path), place.settings.target
    refusal = unfit(file.path, identity.size, purpose, ctx.services[target].flavour)
    if refusal is not None:
        return Refused(reason=refusal, identity=identity)
    late = _too_late(ctx, target, file, identity)
    if late is not None:
        return late
    return Settled(identity=identity, target=target, purpose=purpose)


def _too_late(ctx: Context, target: str, file: File, identity: Identity) -> Event | None:
    """What follows if the configured bandwidth cannot carry it within a session's life."""
    size, life_s = identity.size, LIFE_S[ctx.services[target].flavour] - EXPIRY_MARGIN_S
    bandwidth, day_s = ctx.transfer.bandwidth, ctx.day_s(ctx.wall_s)
    wait_s = begin_in_s(bandwidth, day_s, size, life_s)
    if wait_s == 0:
        return None
    detail = the_sum(size, life_s, capacity(bandwidth, day_s, life_s))
    if wait_s is None:  # a restart, which may bring another bandwidth, looks at it anew
        return Held(reason=reason("held.deadline", detail=detail), due_s=ctx.wall_s + DAY_S)
    due_s = ctx.wall_s + wait_s
    why = reason("deferred.deadline", until_s=due_s, detail=detail)
    return Deferred(reason=why, due_s=due_s, deferrals=file.deferrals)


async def _refuse(ctx: Context, place: Place, file: File, error: NotRegularError) -> None:
    """Refuse what is no regular file, under the identity it has now."""
    try:
        identity = await ctx.disk(place.tree.identify, file.path)
    except SpoolError as trouble:
        await ctx.apply(file, event_of(ctx, file, trouble))
        return
    why = reason("failed.not_regular", detail=sentence(error))
    await ctx.apply(file, Refused(reason=why, identity=identity))
