"""What a scrape is told: what the journal knows, and what is so in memory right now."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from uploaderd.core.deadline import hopeless
from uploaderd.core.facts import (
    Facts,
    SessionNumbers,
    TargetNumbers,
    WatchNumbers,
)
from uploaderd.core.report import drained, escape_path
from uploaderd.core.schedule import remaining_s
from uploaderd.errors import JournalError

if TYPE_CHECKING:
    from pathlib import Path

    from uploaderd.engine.context import Context
    from uploaderd.engine.engine import Engine

PATIENCE_S = 2.0  # with a journal that is busy syncing: whoever scrapes gives up before long


async def gather(engine: Engine, *, state: str, patience_s: float = PATIENCE_S) -> Facts:
    """Read all that a scrape shows and nobody counts; ``state`` is the daemon's own word."""
    ctx = engine.ctx
    sessions, arrivals = None, {}
    with suppress(JournalError, TimeoutError):  # what it alone knows is left out then
        async with asyncio.timeout(patience_s):
            sessions = await _sessions(engine)
            arrivals = await ctx.keep(ctx.journal.last_arrivals)
    sizes = await ctx.disk(_sizes, ctx.journal.path)
    # From here on nothing is awaited: the figures are of one moment.
    counts, unfiled = ctx.journal.counts(), ctx.journal.unfiled()
    queued, stored, resent = ctx.journal.byte_totals()
    moved = sum(transfer.progress.bytes_stored for transfer in engine.transfers.values())
    now = ctx.clock.now()
    return Facts(
        state=state,
        drained=drained(counts, unfiled=unfiled, scanned=ctx.scanned),
        counts=counts,
        unfiled=unfiled,
        queued_bytes=queued - moved,
        stored_bytes=stored + moved,
        resent_bytes=resent,
        sessions=sessions,
        arrivals=arrivals,
        journal_bytes=sizes,
        parts_in_flight=engine.senders.in_flight,
        parts_in_flight_limit=engine.senders.most,
        limit=ctx.limiter.limit,
        targets=[
            TargetNumbers(
                name=s.name,
                gate=s.gate,
                admits=s.gate.admits(now.wall_s),
                flight=engine.senders.facts(s),
            )
            for s in ctx.services.values()
        ],
        watches=[
            WatchNumbers(
                path=escape_path(name.encode("utf-8", "surrogateescape")),
                mode=place.watcher.mode,
                folders=place.watcher.folders,
                overflows=place.watcher.overflows,
                scans=place.watcher.scans,
            )
            for name, place in ctx.watched.items()
        ],
        troubles=_troubles(ctx),
    )


async def _sessions(engine: Engine) -> dict[str, SessionNumbers]:
    """The open sessions by target."""
    ctx = engine.ctx
    found = await ctx.keep(ctx.journal.open_sessions, list(ctx.services))
    now, rate_bps = ctx.clock.now(), engine.senders.goodput.rate_bps()
    numbers = {}
    for name in ctx.services:
        left = [(remaining_s(u, now), count) for u, count in found if u.target == name]
        numbers[name] = SessionNumbers(
            open=len(left),
            late=sum(hopeless(count, left_s, rate_bps) for left_s, count in left),
            nearest_s=min((max(left_s, 0.0) for left_s, _ in left), default=None),
        )
    return numbers


def _sizes(path: Path) -> dict[str, int]:
    found = {}
    for part, end in (("database", ""), ("log", "-wal")):
        try:
            found[part] = path.with_name(path.name + end).stat().st_size
        except OSError:
            continue
    return found


def _troubles(ctx: Context) -> Counter[str]:
    kinds = {"journal": "journal", "journal damaged": "journal_damaged"}
    for name, place in ctx.watched.items():
        kinds |= {name: "watch", place.watching: "watching", place.filing_away: "filing"}
    return Counter(kinds.get(subject, "other") for subject in ctx.trouble)
