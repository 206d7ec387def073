"""Sending the parts of one session, with the ordered pass beside them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.core.board import Board, Finding
from uploaderd.core.deadline import hopeless
from uploaderd.core.events import Changed, Event, Recovered, shifted
from uploaderd.core.gate import GateState
from uploaderd.core.meter import Meter
from uploaderd.core.plan import MIB, Range, ranges
from uploaderd.core.schedule import Candidate, expired, remaining_s
from uploaderd.engine import calls
from uploaderd.engine.settling import event_of
from uploaderd.errors import (
    ChangedError,
    ServiceError,
    SpoolError,
    TransientError,
    UploaderdError,
)
from uploaderd.journal import Leaving
from uploaderd.seams import at_once
from uploaderd.source import Md5Pass, PartBody

if TYPE_CHECKING:
    from collections.abc import Callable

    from uploaderd.core.model import File, Now, Part, Upload
    from uploaderd.core.report import Progress
    from uploaderd.engine.context import Context, Service
    from uploaderd.engine.leaving import Leave
    from uploaderd.engine.senders import Senders
    from uploaderd.seams import Offload
    from uploaderd.source import Source

log = logs.get(__name__)

COUNT_S = 0.05  # bytes that left are counted so often
PASS_BYTES = 16 * MIB  # one stay of the ordered pass in its thread


class PartsRun:
    """Sends and proves until all is there or an event stops it.

    Cancelling ``run`` is safe at any await: what was journalled stands, and parts that were
    being sent are found in flight when the session is taken up again.
    """

    def __init__(
        self,
        ctx: Context,
        service: Service,
        senders: Senders,
        *,
        file: File,
        upload: Upload,
        parts: list[Part],
        source: Source,
        leave: Leave | None = None,
    ) -> None:
        self._ctx = ctx
        self._leave = leave
        self._service = service
        self._senders = senders
        self._file = file
        self._upload = upload
        self._source = source
        self._board = Board(parts)
        self._pass = Md5Pass(source, ranges(upload.size, upload.part_bytes))
        self.meter = Meter()
        self._bodies: dict[int, PartBody] = {}
        self._uncounted = 0
        self._counted_s = 0.0
        self._tasks: dict[asyncio.Task[None], None] = {}  # a set has no order
        self._moved = asyncio.Event()
        self._ended = asyncio.Event()
        self._verdict: Event | None = None
        self._hard = False
        self._ahead_s = 0.0  # how far the wall clock was ahead of the boot clock then
        self._broken: UploaderdError | None = None
        self._group: asyncio.TaskGroup | None = None

    @property
    def service(self) -> Service:
        """Where they go."""
        return self._service

    @property
    def progress(self) -> Progress:
        """How far the parts are."""
        return self._board.progress

    @property
    def moving(self) -> int:
        """Bytes of parts in flight that left already."""
        return sum(body.sent for body in self._bodies.values())

    @property
    def parts(self) -> list[Part]:
        """As they are now, in the order of the file."""
        return self._board.parts

    def md5(self) -> str:
        """The whole file's md5, once all is there."""
        return self._pass.hexdigest()

    async def run(self) -> Event | None:
        """Send and prove; None if all is there, else the event that stopped it.

        Raises:
            JournalError: the journal refused; what it has stands.
        """
        leaving = await self._beforehand()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                if self._source.loaded is None:
                    self._start(self._prove())
                if self._leave is not None and leaving is not None:
                    self._fly(leaving, self._leave.end)
                self._senders.add(self._file.id, self)
                try:
                    await self._ended.wait()
                finally:
                    self._ended.set()  # a group that ends takes no part more
                for task in self._tasks:
                    task.cancel()
        finally:
            self._senders.remove(self._file.id)
        if self._broken is not None:
            raise self._broken
        now = self._ctx.clock.now()
        moved_s = now.wall_s - now.boot_s - self._ahead_s
        return None if self._verdict is None else shifted(self._verdict, moved_s)

    def stop(self, event: Event, *, hard: bool) -> None:
        """End with ``event``; ``hard`` cuts the parts in flight, else they end by themselves.

        The first one counts, but what is hard is known for good: it outweighs what is not, such
        as a line that broke where another part was refused.
        """
        if self._verdict is None or (hard and not self._hard):
            now = self._ctx.clock.now()
            self._verdict, self._ahead_s = event, now.wall_s - now.boot_s
        self._hard = self._hard or hard
        if hard or self._board.flying == 0:
            self._ended.set()

    def candidate(self, now: Now) -> Candidate | None:
        """What the senders need to choose, or None if there is nothing to send now."""
        if not self._board.waiting or self._verdict is not None or self._ended.is_set():
            return None
        gate = self._service.gate
        if not gate.admits(now.wall_s):
            if not self._board.flying and gate.lasts(now.wall_s, self._ctx.retry.max_wait_s):
                self.stop(Recovered(), hard=False)  # its place is for files that can go on
            return None
        if gate.state is GateState.PROBING and self._board.flying:
            return None  # one part is enough to see whether the trouble is over
        if expired(self._upload, now):
            rate_bps, untouched = self._senders.goodput.rate_bps(), self._board.untouched
            late = calls.too_late(self._file, self._upload, rate_bps, untouched=untouched)
            self.stop(late, hard=True)
            return None
        left = self._upload.size - self._board.progress.bytes_stored
        left_s = remaining_s(self._upload, now)
        return Candidate(
            file=self._file.id,
            deadline_s=left_s,
            in_flight=self._board.flying,
            hopeless=hopeless(left, left_s, self._senders.goodput.rate_bps()),
        )

    def send_next(self) -> None:
        """Start the next part; the senders have counted its place already."""
        self._fly(None, partial(self._senders.release, self._service))

    async def _beforehand(self) -> Leaving | None:
        """Prove what takes less than a task would; tell whether the only part leaves at once."""
        if self._source.loaded is not None:
            await self._prove()
        leave = self._leave
        if leave is None or leave.given is None:
            return None
        [part] = self._board.parts
        self._board.update(leave.unsent(part))
        if self.candidate(self._ctx.clock.now()) is None:  # something came between
            await leave.take_back(self._file, part)
        else:
            self._board.update(part)
        return leave.given

    def _fly(self, leaving: Leaving | None, release: Callable[[], None]) -> None:
        task = self._start(self._send(self._board.take(), leaving))
        task.add_done_callback(partial(self._landed, release))
        self._moved.set()

    def _landed(self, release: Callable[[], None], task: asyncio.Task[None]) -> None:
        """Give the place back; a task that was cancelled before its first step can't do that."""
        if task.cancelled() or task.exception() is not None:
            self._ended.set()  # before the place is free, or a group that ends would get it
        release()
        self._look_for_the_end()

    def _start(self, coroutine: asyncio._CoroutineLike[None]) -> asyncio.Task[None]:
        if self._group is None:
            raise RuntimeError("parts are sent only while run() runs")
        task = self._group.create_task(coroutine)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def _look_for_the_end(self) -> None:
        stopped = self._verdict is not None and self._board.flying == 0
        if stopped or self._board.complete:
            self._ended.set()

    async def _send(self, part: Part, leaving: Leaving | None) -> None:
        progress_before = self._board.stored_afresh
        try:
            await self._attempts(part.number, leaving)
        except SpoolError as error:
            self.stop(event_of(self._ctx, self._file, error), hard=True)
        except ServiceError as error:
            fresh = progress_before or self._board.stored_afresh
            deferrals = 1 if fresh else self._file.deferrals + 1
            event = calls.next_step(self._ctx, self._file, error, deferrals=deferrals)
            self.stop(event, hard=not isinstance(error, TransientError))
        except UploaderdError as error:
            self._broken = self._broken or error
            self._ended.set()
        finally:
            self._bodies.pop(part.number, None)

    async def _attempts(self, number: int, leaving: Leaving | None) -> None:
        """Send one part until it is stored; the last error comes out.

        One that is journalled as ``leaving`` has nothing more to wait for at first.
        """
        try:
            async for attempt in calls.retrying(self._ctx, self._service):
                journalled, leaving = leaving, None
                async with self._senders.turn(self._service, at_once=journalled is not None):
                    if journalled is None:
                        await self._ctx.go.wait()
                    with attempt, self._ctx.wire:
                        if journalled is None:
                            calls.must_be_open(self._service)
                        await self._attempt(self._board.part(number), journalled)
        finally:
            finding = self._board.landed(number)
        await self._judge(number, finding)
        if self._board.complete:  # then it is looked at once more before ``complete``
            return
        identity = await self._ctx.disk(self._source.identity_now)
        if not self._file.identity.same_bytes(identity):  # a rename alone is seen by the intake
            raise ChangedError("the file changed while it was sent")

    async def _attempt(self, part: Part, leaving: Leaving | None) -> None:
        ctx = self._ctx
        if leaving is None:
            leaving = Leaving(request_id=ctx.new_id(), at_s=ctx.wall_s)
            part = await ctx.keep(ctx.journal.part_leaves, self._file.id, part, *leaving)
            self._board.update(part)
        elif self._leave is not None:
            self._leave.left()
        request_id = leaving.request_id
        body = self._body(part)
        self._bodies[part.number] = body
        began_s = ctx.clock.now().boot_s
        try:
            try:
                part_id = await self._service.client.add_part(
                    self._upload.remote_id or "", body, request_id=request_id
                )
            finally:
                self._count_up(ctx.clock.now().boot_s)
            if not self._board.claim(part_id):
                raise TransientError(
                    "the service gave two parts the same id", code="bad_reply", acted=True
                )
        except (ServiceError, SpoolError) as error:
            if isinstance(error, ServiceError):
                self._senders.troubled(self._service, error, began_s)
            await self._not_stored(part, request_id, body.sent, error)
            raise
        calls.taken(ctx, self._service)
        self._senders.stored(self._service, part.length, began_s)
        stored = await ctx.keep(
            ctx.journal.part_stored,
            self._file.id,
            part,
            request_id,
            part_id=part_id,
            digest=body.digest(),
            sent=body.sent,
        )
        ctx.tally.part(self._file, part, stored)
        self._board.update(stored)
        log.debug("part.stored", id=self._file.id, part=part.number, bytes=part.length)

    async def _not_stored(
        self, part: Part, request_id: str, sent: int, error: ServiceError | SpoolError
    ) -> None:
        ctx = self._ctx
        self._senders.goodput.add(-sent, ctx.clock.now().boot_s)
        ambiguous = isinstance(error, SpoolError) or error.acted
        outcome = type(error).__name__
        if isinstance(error, ServiceError):
            calls.note(ctx, self._service, error)
            outcome = calls.outcome(error)
            log.debug("part.failed", id=self._file.id, part=part.number, text=str(error))
        left = await ctx.keep(
            ctx.journal.part_not_stored,
            self._file.id,
            part,
            request_id,
            outcome=outcome,
            sent=sent,
            ambiguous=ambiguous,
        )
        ctx.tally.part(self._file, part, left)
        self._board.update(left)

    def _body(self, part: Part) -> PartBody:
        ctx = self._ctx
        return PartBody(
            self._source,
            Range(number=part.number, offset=part.offset, length=part.length),
            offload=self._reading,
            on_bytes=self._count,
            pace=ctx.limiter.take,
        )

    @property
    def _reading(self) -> Offload:
        return self._ctx.disk if self._source.loaded is None else at_once

    def _count(self, count: int) -> None:
        """Count bytes that left, those of many steps at once: on a fast line each would cost."""
        self._uncounted += count
        now_s = self._ctx.clock.now().boot_s
        if now_s - self._counted_s >= COUNT_S:
            self._count_up(now_s)

    def _count_up(self, now_s: float) -> None:
        count, self._uncounted, self._counted_s = self._uncounted, 0, now_s
        if count:
            self.meter.add(count, now_s)
            self._ctx.meter.add(count, now_s)
            self._senders.moved(self._service, count)
            self._ctx.tally.sent(self._service.name, count)

    async def _prove(self) -> None:
        """Run the ordered pass, never far ahead of the senders."""
        try:
            while not self._pass.finished:
                limit = min(self._board.front + self._senders.ahead_bytes, self._upload.size)
                if self._pass.offset >= limit:
                    await self._moved.wait()
                    self._moved.clear()
                    continue
                digests = await self._reading(self._pass.advance, PASS_BYTES, limit)
                for number, digest in digests:
                    await self._judge(number, self._board.seen(number, digest))
        except SpoolError as error:
            self.stop(event_of(self._ctx, self._file, error), hard=True)
        except UploaderdError as error:
            self._broken = self._broken or error
            self._ended.set()
        except BaseException:
            self._ended.set()
            raise
        self._look_for_the_end()

    async def _judge(self, number: int, finding: Finding) -> None:
        match finding:
            case Finding.OPEN | Finding.SAME:
                pass
            case Finding.CHANGED:
                self.stop(Changed(identity=None), hard=True)
            case Finding.RESEND:
                log.warning("part.disproved", id=self._file.id, part=number)
                part = self._board.part(number)
                forgotten = await self._ctx.keep(self._ctx.journal.part_disproved, part)
                self._board.disproved(forgotten)
                self._senders.pump()
