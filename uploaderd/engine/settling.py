"""From seen to queued: is anybody still writing it, and would the service ever take it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from uploaderd.core.deadline import begin_in_s, capacity, the_sum
from uploaderd.core.events import Changed, Deferred, Event, Gone, Held, Refused, Settled, Unsettled
from uploaderd.core.fitness import LIFE_S, unfit
from uploaderd.core.reasons import reason
from uploaderd.core.schedule import EXPIRY_MARGIN_S
from uploaderd.core.settle import Busy, Marks, Quiet, Ready, judge
from uploaderd.core.timetable import DAY_S
from uploaderd.engine.calls import sentence
from uploaderd.errors import (
    ChangedError,
    GoneError,
    NotRegularError,
    SpoolError,
    UnreadableError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uploaderd.core.model import File, Identity
    from uploaderd.engine.context import Context, Place
    from uploaderd.spool.tree import Look, Tree

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one look at a path found.

    Attributes:
        look: what stands there, or None where ``error`` says why that cannot be told.
        identity: of what stands there and is no regular file, as far as it was to be had.
        again: what a second look, for that identity, met instead.
    """

    look: Look | None = None
    error: SpoolError | None = None
    identity: Identity | None = None
    again: SpoolError | None = None


def find(tree: Tree, path: bytes) -> Found:
    """Look at a path; it may block."""
    try:
        return Found(look=tree.look(path))
    except NotRegularError as error:
        try:
            return Found(error=error, identity=tree.identify(path))
        except SpoolError as again:
            return Found(error=error, again=again)
    except SpoolError as error:
        return Found(error=error)


def find_all(tree: Tree, paths: Sequence[bytes]) -> list[Found]:
    """Look at many paths in one go; it may block."""
    return [find(tree, path) for path in paths]


async def look(ctx: Context, place: Place, file: File) -> bool:
    """Look at a settling file once, and decide; False if another file stands at its path."""
    event = seen_as(ctx, place, file, await ctx.disk(find, place.tree, file.path))
    if event is None:
        return False  # one that is known under another name, perhaps
    await ctx.apply(file, event)
    return True


def seen_as(ctx: Context, place: Place, file: File, found: Found) -> Event | None:
    """What a look means for a settling file; None if another file stands at its path."""
    if found.look is None:
        error = found.again or found.error or GoneError("It was not looked at.")
        if isinstance(error, NotRegularError) and found.identity is not None:
            why = reason("failed.not_regular", detail=sentence(error))
            return Refused(reason=why, identity=found.identity)
        return event_of(ctx, file, error)
    seen = found.look
    if seen.identity.inode != file.identity.inode:
        return None
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
            return Unsettled(identity=seen.identity, reason=why, due_s=now.wall_s + wait_s)
        case Quiet(until_wall_s=due_s):
            why = reason("settling.quiet", until_s=due_s)
            return Unsettled(identity=seen.identity, reason=why, due_s=due_s)
        case Ready():
            return _settled(ctx, place, file, seen.identity)


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
    bandwidth, week_s = ctx.limiter.table, ctx.week_s(ctx.wall_s)
    wait_s = begin_in_s(bandwidth, week_s, size, life_s)
    if wait_s == 0:
        return None
    detail = the_sum(size, life_s, capacity(bandwidth, week_s, life_s))
    if wait_s is None:  # a restart, which may bring another bandwidth, looks at it anew
        return Held(reason=reason("held.deadline", detail=detail), due_s=ctx.wall_s + DAY_S)
    due_s = ctx.wall_s + wait_s
    why = reason("deferred.deadline", until_s=due_s, detail=detail)
    return Deferred(reason=why, due_s=due_s, deferrals=file.deferrals)
