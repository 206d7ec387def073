"""What the status socket shows: the journal, and what moves right now."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from uploaderd.core.gate import Gate, GateState
from uploaderd.core.model import File, FileState
from uploaderd.core.reasons import reason
from uploaderd.core.report import (
    Document,
    Progress,
    Snapshot,
    TargetFacts,
    WatchFacts,
    file_document,
    moment_document,
    part_document,
    status_document,
)
from uploaderd.errors import UsageError

if TYPE_CHECKING:
    from uploaderd.engine.engine import Engine
    from uploaderd.engine.transfer import Transfer

_ESCAPED = re.compile(rb"\\udc([89a-f][0-9a-f])")


class EngineView:
    """Makes the documents anew for each question; nothing is cached and nothing changed."""

    def __init__(self, engine: Engine, *, version: str) -> None:
        self._engine = engine
        self._ctx = engine.ctx
        self._version = version
        self._started_s = engine.ctx.wall_s

    async def status(self) -> Document:
        """``GET /v1/status``."""
        ctx = self._ctx
        counts = await ctx.keep(ctx.journal.counts)
        queued, stored, resent = await ctx.keep(ctx.journal.byte_totals)
        unfiled = await ctx.keep(ctx.journal.unfiled)
        now = ctx.clock.now()
        return status_document(
            Snapshot(
                version=self._version,
                pid=os.getpid(),
                started_s=self._started_s,
                state=self._state(),
                counts=counts,
                unfiled=unfiled,
                scanned=all(
                    place.watcher.scans and ctx.trouble.keys().isdisjoint((name, place.watching))
                    for name, place in ctx.places.items()
                ),
                bytes_queued=queued - sum(t.progress.bytes_stored for t in self._transfers()),
                bytes_stored=stored + sum(t.progress.bytes_stored for t in self._transfers()),
                bytes_resent=resent,
                rate_bps=ctx.meter.rate_bps(now.boot_s),
                watches=[
                    WatchFacts(path=name, mode=place.watcher.mode, why=place.watcher.why)
                    for name, place in ctx.places.items()
                ],
                targets=[_target(s.name, s.gate, now.wall_s) for s in ctx.services.values()],
                active=[await self._document(t.file) for t in self._transfers()],
                trouble="; ".join(sorted(set(ctx.trouble.values()))) or None,
            )
        )

    async def files(
        self, *, state: str | None, path: bytes | None, limit: int, after: str | None
    ) -> Document:
        """``GET /v1/files``: newest first; ``path`` finds the files that were ever there."""
        if path is None:
            rows = await self._page(state, None, None, limit + 1, after)
        else:
            rows = []
            for name, below in self._below(path):
                rows += await self._page(state, name, below, limit + 1, after)
            rows.sort(key=lambda file: (file.created_s, file.id), reverse=True)
        more = len(rows) > limit
        rows = rows[:limit]
        return {
            "files": [await self._document(row) for row in rows],
            "next": f"{rows[-1].created_s!r}:{rows[-1].id}" if more and rows else None,
        }

    async def file(self, file_id: str) -> Document | None:
        """``GET /v1/files/{id}``: FILE with its parts, its history and its requests."""
        ctx = self._ctx
        row = await ctx.keep(ctx.journal.file, file_id)
        if row is None:
            return None
        parts = [] if row.upload is None else await ctx.keep(ctx.journal.parts, row.upload)
        history = await ctx.keep(ctx.journal.history, file_id)
        return {
            **await self._document(row),
            "parts_list": [part_document(part) for part in parts],
            "history": [moment_document(moment) for moment in history],
            "requests": await ctx.keep(ctx.journal.requests, file_id),
        }

    async def pause(self) -> Document:
        """``POST /v1/pause``."""
        await self._engine.pause()
        return await self.status()

    async def resume(self) -> Document:
        """``POST /v1/resume``."""
        await self._engine.resume()
        return await self.status()

    async def cancel(self, file_id: str) -> Document | None:
        """``POST /v1/files/{id}/cancel``."""
        file = await self._engine.cancel(file_id)
        return None if file is None else await self._document(file)

    async def health(self) -> str | None:
        """What is wrong with the daemon's surroundings, or None."""
        return "; ".join(sorted(set(self._ctx.trouble.values()))) or None

    def _state(self) -> str:
        if self._engine.draining:
            return "draining"
        return "running" if self._ctx.go.is_set() else "paused"

    def _transfers(self) -> list[Transfer]:
        return list(self._engine.transfers.values())

    async def _page(
        self,
        state: str | None,
        watch: str | None,
        path: bytes | None,
        limit: int,
        after: str | None,
    ) -> list[File]:
        ctx = self._ctx
        return await ctx.keep(
            ctx.journal.page,
            state=state,
            watch=watch,
            path=path,
            limit=limit,
            after=_cursor(after),
        )

    def _below(self, path: bytes) -> list[tuple[str, bytes]]:
        """The watches and paths below them that a path, as bytes or as shown, may mean."""
        shown = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), path)
        found = []
        for name in self._ctx.places:
            start = os.fsencode(name).rstrip(b"/") + b"/"
            found += [
                (name, one[len(start) :])
                for one in dict.fromkeys((path, shown))
                if one.startswith(start) and len(one) > len(start)
            ]
        return found

    async def _document(self, file: File) -> Document:
        ctx, now = self._ctx, self._ctx.clock.now()
        transfer = self._engine.transfers.get(file.id)
        progress, moving, rate = Progress(), 0, 0.0
        upload = None
        if file.upload is not None:
            upload = await ctx.keep(ctx.journal.upload, file.upload)
        if transfer is not None:
            progress, moving = transfer.progress, transfer.moving
            rate = transfer.rate_bps(now.boot_s)
        elif file.upload is not None:
            progress = await ctx.keep(ctx.journal.progress, file.upload)
        return file_document(
            self._explain(file), upload, progress, now, rate_bps=rate, moving=moving
        )

    def _explain(self, file: File) -> File:
        """A queued file behind a gate that is not open says so."""
        service = self._ctx.services.get(file.target)
        if file.state is not FileState.QUEUED or service is None:
            return file
        gate, now_s = service.gate, self._ctx.wall_s
        if not self._ctx.go.is_set():
            return replace(file, reason=reason("queued.paused"))
        if file.watch in self._ctx.full:
            said = self._ctx.trouble.get(self._ctx.places[file.watch].filing_away, "")
            return replace(file, reason=reason("queued.filing", detail=said.rstrip(".")))
        if gate.admits(now_s) and gate.state is not GateState.PROBING:
            return replace(file, reason=self._engine.admission.postponed.get(file.id, file.reason))
        why = reason("queued.target", until_s=gate.until_s, target=service.name, detail=gate.detail)
        return replace(file, reason=why)


def _target(name: str, gate: Gate, now_s: float) -> TargetFacts:
    if gate.state is GateState.LIMITED and gate.admits(now_s):
        return TargetFacts(name=name, state=GateState.OPEN.value)
    shut = gate.state in {GateState.SHUT, GateState.PROBING}
    return TargetFacts(
        name=name, state=gate.code if shut else gate.state.value, until_s=gate.until_s
    )


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
