"""What the status socket shows: the journal, and what moves right now.

The sums of the status document are kept in memory, and so is what is on its way: no answer waits
for the journal's thread, which syncs. Everything else is asked of ``reader``.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from uploaderd.config.units import parse_rate
from uploaderd.core.gate import GateState
from uploaderd.core.model import File, FileState, Reason
from uploaderd.core.reasons import reason
from uploaderd.core.report import (
    Document,
    Snapshot,
    TargetFacts,
    WatchFacts,
    file_document,
    moment_document,
    part_document,
    status_document,
)
from uploaderd.core.values import replace
from uploaderd.core.verbs import Verb
from uploaderd.engine.feed import Feed, Stream
from uploaderd.engine.numbers import gather
from uploaderd.engine.turns import in_turns
from uploaderd.errors import NotApplicableError, UsageError
from uploaderd.journal.looking import Sight

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from uploaderd.core.report import FlightFacts
    from uploaderd.core.selection import Selection
    from uploaderd.engine.context import Service
    from uploaderd.engine.engine import Engine
    from uploaderd.engine.transfer import Transfer
    from uploaderd.journal.following import Following
    from uploaderd.seams import Offload

_ESCAPED = re.compile(rb"\\udc([89a-f][0-9a-f])")


EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus' own text form
CONFIG = "config"
CHUNK = 500  # rows that are read at once where a page is sifted


class EngineView:
    """Makes the documents anew for each question; nothing is cached.

    Args:
        engine: what is looked at, and what the verbs are said to.
        version: the daemon's.
        reader: whom to ask for what the journal holds, on the threads of ``look``; the journal
            itself where there is no other.
        look: its threads.
        reload: reads the configuration again; ConfigError where the new one is refused.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        version: str,
        reader: Following | None = None,
        look: Offload | None = None,
        reload: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._engine = engine
        self._ctx = engine.ctx
        self._version = version
        self._reader: Following = reader or engine.ctx.journal
        self._look = look or engine.ctx.keep
        self._reload = reload
        self._started_s = engine.ctx.wall_s
        self._feed = Feed(self._ctx, self._reader, self._look, self._show, self.status)

    async def status(self) -> Document:
        """``GET /v1/status``."""
        ctx = self._ctx
        transfers = list(self._engine.transfers.values())
        active = [await self._sight_of(transfer) for transfer in transfers]
        # From here on nothing is awaited: the figures are of one moment.
        queued, stored, resent = ctx.journal.byte_totals()
        # A file may have arrived whose transfer does not know yet: it is not counted twice.
        moved = min(sum(transfer.progress.bytes_stored for transfer in transfers), queued)
        now = ctx.clock.now()
        return status_document(
            Snapshot(
                version=self._version,
                pid=os.getpid(),
                started_s=self._started_s,
                state=self._state(),
                counts=ctx.journal.counts(),
                unfiled=ctx.journal.unfiled(),
                scanned=ctx.scanned,
                bytes_queued=queued - moved,
                bytes_stored=stored + moved,
                bytes_resent=resent,
                rate_bps=ctx.meter.rate_bps(now.boot_s),
                limit=ctx.limiter.limit,
                watches=[
                    WatchFacts(path=name, mode=place.watcher.mode, why=place.watcher.why)
                    for name, place in ctx.watched.items()
                ],
                targets=[
                    _target(s, self._engine.senders.facts(s), now.wall_s)
                    for s in ctx.services.values()
                ],
                active=[self._show(sight) for sight in active],
                trouble="; ".join(sorted(set(ctx.trouble.values()))) or None,
            )
        )

    async def files(self, wanted: Selection, *, limit: int, after: str | None) -> Document:
        """``GET /v1/files``: newest first; ``path`` finds the files that were ever there."""
        cursor = _cursor(after)
        rows: list[Sight] = []
        for one in self._below(wanted):
            rows += await self._page(one, limit + 1, cursor)
        rows.sort(key=lambda sight: (sight.file.created_s, sight.file.id), reverse=True)
        more = len(rows) > limit
        rows = rows[:limit]
        return {
            "files": await in_turns(self._show, rows),
            "next": f"{rows[-1].file.created_s!r}:{rows[-1].file.id}" if more and rows else None,
        }

    async def file(self, file_id: str) -> Document | None:
        """``GET /v1/files/{id}``: FILE with its parts, its history and its requests."""
        row = await self._sight(file_id)
        if row is None:
            return None
        look, reader, upload = self._look, self._reader, row.file.upload
        parts = [] if upload is None else await look(reader.parts, upload)
        return {
            **self._show(row),
            "parts_list": await in_turns(part_document, parts),
            "history": await in_turns(moment_document, await look(reader.history, file_id)),
            "requests": await look(reader.requests, file_id),
        }

    async def pause(self) -> Document:
        """``POST /v1/pause``."""
        await self._engine.operator.pause()
        return await self.status()

    async def resume(self) -> Document:
        """``POST /v1/resume``."""
        await self._engine.operator.resume()
        return await self.status()

    async def limit(self, said: str) -> Document:
        """``POST /v1/limit``: a rate, ``unlimited``, or ``config`` for the configuration's own."""
        if said == CONFIG:
            await self._engine.operator.unlimit()
            return await self.status()
        try:
            rate_bps = parse_rate(said)
        except ValueError as error:
            raise UsageError(
                f"{said!r} is no limit: {error}",
                hint='a rate such as "5MiB/s", "unlimited", or "config" for what is configured',
            ) from error
        await self._engine.operator.limit(rate_bps)
        return await self.status()

    async def reload(self) -> Document:
        """``POST /v1/reload``."""
        if self._reload is None:
            raise NotApplicableError(
                "this daemon was started without a configuration that it could read again",
                hint="restart it",
            )
        await self._reload()
        return await self.status()

    async def cancel(self, file_id: str) -> Document | None:
        """``POST /v1/files/{id}/cancel``."""
        return await self._said(await self._engine.operator.say(Verb.CANCEL, file_id))

    async def hold(self, file_id: str) -> Document | None:
        """``POST /v1/files/{id}/hold``."""
        return await self._said(await self._engine.operator.say(Verb.HOLD, file_id))

    async def release(self, file_id: str) -> Document | None:
        """``POST /v1/files/{id}/release``."""
        return await self._said(await self._engine.operator.say(Verb.RELEASE, file_id))

    async def retry(self, file_id: str) -> Document | None:
        """``POST /v1/files/{id}/retry``."""
        return await self._said(await self._engine.operator.say(Verb.RETRY, file_id))

    async def events(self, last: str | None) -> Stream:
        """``GET /v1/events``."""
        return await self._feed.stream(last)

    async def metrics(self) -> tuple[bytes, str]:
        """``GET /metrics``."""
        facts = await gather(self._engine, state=self._state())
        return await self._ctx.disk(self._ctx.tally.exposition, facts), EXPOSITION

    async def health(self) -> str | None:
        """What is wrong with the daemon's surroundings, or None."""
        return "; ".join(sorted(set(self._ctx.trouble.values()))) or None

    def _state(self) -> str:
        if self._engine.draining:
            return "draining"
        return "paused" if self._engine.paused else "running"

    async def _said(self, file: File | None) -> Document | None:
        sight = None if file is None else await self._sight(file.id)
        return None if sight is None else self._show(sight)

    async def _sight(self, file_id: str) -> Sight | None:
        return (await self._look(self._reader.sights, [file_id])).get(file_id)

    async def _sight_of(self, transfer: Transfer) -> Sight:
        file, upload = transfer.file, transfer.upload
        if upload is None and file.upload is not None:  # its session is still to be taken up
            upload = (await self._look(self._reader.uploads, [file.upload])).get(file.upload)
        return Sight(file=file, upload=upload, progress=transfer.progress)

    async def _page(
        self, wanted: Selection, limit: int, after: tuple[float, str] | None
    ) -> list[Sight]:
        """Read on until there are enough that are shown with the reason that is asked for."""
        rows: list[Sight] = []
        size = limit if wanted.code is None else max(limit, CHUNK)
        while True:
            some = await self._look(self._reader.page, wanted, limit=size, after=after)
            if wanted.code is None:
                return some
            said = await in_turns(lambda one: self._explain(one.file).reason.code, some)
            rows += [one for one, code in zip(some, said, strict=True) if wanted.has_code(code)]
            if len(some) < size or len(rows) >= limit:
                return rows[:limit]
            after = some[-1].file.created_s, some[-1].file.id

    def _below(self, wanted: Selection) -> list[Selection]:
        """What a path, as bytes or as shown, may mean: paths below the watches."""
        path = wanted.path
        if path is None:
            return [wanted]
        shown = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), path)
        found = []
        for name in self._ctx.places:
            if wanted.watch not in {None, name}:
                continue
            start = os.fsencode(name).rstrip(b"/") + b"/"
            found += [
                replace(wanted, watch=name, path=one[len(start) :])
                for one in dict.fromkeys((path, shown))
                if one.startswith(start) and len(one) > len(start)
            ]
        return found

    def _show(self, sight: Sight) -> Document:
        now = self._ctx.clock.now()
        file, progress, moving, rate = sight.file, sight.progress, 0, 0.0
        transfer = self._engine.transfers.get(file.id)
        if transfer is not None:
            progress, moving = transfer.progress, transfer.moving
            rate = transfer.rate_bps(now.boot_s)
        return file_document(
            self._explain(file), sight.upload, progress, now, rate_bps=rate, moving=moving
        )

    def _explain(self, file: File) -> File:
        """A queued file that is kept waiting says by what."""
        why = self._keeps_waiting(file) if file.state is FileState.QUEUED else None
        return file if why is None else replace(file, reason=why)

    def _keeps_waiting(self, file: File) -> Reason | None:
        service = self._ctx.services.get(file.target)
        if file.watch not in self._ctx.watched:
            return reason("queued.unwatched")
        if self._engine.paused:
            return reason("queued.paused")
        if file.watch in self._ctx.full:
            said = self._ctx.trouble.get(self._ctx.places[file.watch].filing_away, "")
            return reason("queued.filing", detail=said.rstrip("."))
        return None if service is None else self._behind(service, file)

    def _behind(self, service: Service, file: File) -> Reason | None:
        gate, now_s = service.gate, self._ctx.wall_s
        if gate.admits(now_s) and gate.state is not GateState.PROBING:
            return self._engine.admission.postponed.get(file.id)
        return reason(
            "queued.target", until_s=gate.until_s, target=service.name, detail=gate.detail
        )


def _target(service: Service, flight: FlightFacts, now_s: float) -> TargetFacts:
    gate = service.gate
    if gate.state is GateState.LIMITED and gate.admits(now_s):
        return TargetFacts(name=service.name, state=GateState.OPEN.value, flight=flight)
    shut = gate.state in {GateState.SHUT, GateState.PROBING}
    state = gate.code if shut else gate.state.value
    return TargetFacts(name=service.name, state=state, flight=flight, until_s=gate.until_s)


def _cursor(after: str | None) -> tuple[float, str] | None:
    if after is None:
        return None
    created, colon, file_id = after.partition(":")
    try:
        if colon:
            return float(created), file_id
    except ValueError:
        pass
    raise UsageError(
        f"the cursor {after!r} is not one of ours", hint="use the last answer's `next`"
    )
