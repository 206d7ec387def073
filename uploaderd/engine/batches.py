"""One transaction for many files: nothing is asked and nothing synced for each of them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uploaderd.core.lifecycle import awakened, decide
from uploaderd.core.model import TERMINAL
from uploaderd.engine.settling import find_all, seen_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from uploaderd.core.events import Event
    from uploaderd.core.model import File
    from uploaderd.engine.context import Context, Place


async def look_at_all(ctx: Context, place: Place, files: Sequence[File]) -> list[bytes]:
    """Look at settling files of one watch; return the paths at which another file stands."""
    found = await ctx.disk(find_all, place.tree, [file.path for file in files])
    pairs, others = [], []
    for file, one in zip(files, found, strict=True):
        event = seen_as(ctx, place, file, one)
        if event is None:
            others.append(file.path)
        else:
            pairs.append((file, event))
    await apply_all(ctx, pairs)
    return others


async def awaken_all(ctx: Context, files: Iterable[File]) -> None:
    """End the waits of deferred and held files whose time has come."""
    now_s = ctx.wall_s
    await apply_all(ctx, [(file, awakened(file, now_s)) for file in files])


async def apply_all(ctx: Context, pairs: Sequence[tuple[File, Event]]) -> list[File | None]:
    """As ``Context.apply``, many at once; None for what went on meanwhile: it is left as it is.

    None of these steps may be one that a hook waits for.
    """
    if not pairs:
        return []
    now = ctx.clock.now()
    steps = [
        (file, decide(file, event, now), type(event).__name__.lower()) for file, event in pairs
    ]
    try:
        kept = await ctx.keep(ctx.journal.record_all, steps)
    finally:
        for before, decision, _ in steps:
            if decision.file.state in TERMINAL:
                ctx.doubt(before)
    for (before, decision, _), after in zip(steps, kept, strict=True):
        if after is not None:
            ctx.applied(before, decision, after)
    return kept
