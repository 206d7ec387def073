"""The way of one admitted file: open, session, parts, last look, complete."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from uploaderd.core.events import AlreadyUploaded, Assembled, Changed, Deferred, Event
from uploaderd.core.lifecycle import decide
from uploaderd.core.model import Filing, PartState
from uploaderd.core.reasons import reason
from uploaderd.core.report import Progress
from uploaderd.core.retry import defer_s
from uploaderd.engine.aftercare import DONE
from uploaderd.engine.assembling import Asking, complete
from uploaderd.engine.leaving import Leave
from uploaderd.engine.parts import PartsRun
from uploaderd.engine.rereading import md5_of
from uploaderd.engine.session import open_session
from uploaderd.engine.settling import event_of
from uploaderd.errors import ChangedError, SpoolError
from uploaderd.seams import in_turn

if TYPE_CHECKING:
    from uploaderd.core.model import File, Identity, Upload
    from uploaderd.engine.context import Context, Place, Service
    from uploaderd.engine.senders import Senders
    from uploaderd.source import Source


class Transfer:
    """Carries one file as far as it goes; ``run`` ends when somebody else is to act.

    Cancelling ``run`` is safe at any await: whatever was journalled is where it is taken up.
    """

    def __init__(
        self, ctx: Context, place: Place, service: Service, senders: Senders, file: File
    ) -> None:
        self.file = file
        self.upload: Upload | None = None
        self._ctx = ctx
        self._place = place
        self._service = service
        self._senders = senders
        self._run: PartsRun | None = None
        self._seen: Event | None = None

    @property
    def progress(self) -> Progress:
        """How far the parts are."""
        return Progress() if self._run is None else self._run.progress

    @property
    def moving(self) -> int:
        """Bytes of parts in flight that left already."""
        return 0 if self._run is None else self._run.moving

    def rate_bps(self, now_s: float) -> float:
        """Bytes a second over the last seconds; ``now_s`` is CLOCK_BOOTTIME's."""
        return 0.0 if self._run is None else self._run.meter.rate_bps(now_s)

    async def check_source(self) -> None:
        """Look whether the file is still what it was; called when the spool saw something."""
        try:
            await self._verify()
        except SpoolError as error:
            self._seen = event_of(self._ctx, self.file, error)
            if self._run is not None:
                self._run.stop(self._seen, hard=True)

    async def run(self) -> None:
        """Go as far as it goes.

        Raises:
            JournalError: the journal refused; the file must be read anew.
            StaleError: somebody else decided about the file meanwhile.
        """
        try:
            source = await self._ctx.disk(self._place.open_source, self.file.path)
        except SpoolError as error:
            await self._end(event_of(self._ctx, self.file, error))
            return
        try:
            with Leave(self._ctx, self._service, self._senders) as leave:
                event = await self._carry(source, leave)
        finally:
            source.close()
        if event is not None:
            await self._end(event)

    async def _end(self, event: Event) -> None:
        self.file = await self._ctx.apply(self.file, event)

    async def _carry(self, source: Source, leave: Leave) -> Event | None:
        ctx = self._ctx
        event = await self._beforehand(source)
        if event is not None:
            return event
        session = await open_session(ctx, self._place, self._service, self.file, leave)
        self.file = session.file
        event = session.event or self._what_was_seen()
        if session.upload is None or event is not None:
            for part in session.parts:
                await leave.take_back(self.file, part)
            return event
        if all(part.state is PartState.STORED for part in session.parts):
            doubt = await self._doubt(session.upload)  # before all of it is read again
            if doubt is not None:
                return doubt
        self.upload = session.upload
        self._run = PartsRun(
            ctx,
            self._service,
            self._senders,
            file=self.file,
            upload=session.upload,
            parts=list(session.parts),
            source=source,
            leave=leave,
        )
        event = await self._run.run()
        if event is not None:
            return event
        return await self._complete(source, session.upload, self._run)

    async def _complete(self, source: Source, upload: Upload, run: PartsRun) -> Event | None:
        """Complete it, unless one of its name is in doubt: the list might tell of either."""
        ctx = self._ctx
        key = (upload.target, upload.filename, upload.purpose)
        async with ctx.alone.setdefault(key, asyncio.Lock()):
            try:
                filed_as = await self._last_look(source)
            except SpoolError as error:
                return event_of(ctx, self.file, error)
            asking = Asking(
                upload=upload,
                part_ids=[part.part_id for part in run.parts if part.part_id is not None],
                filed_as=filed_as,
                request_id=ctx.new_id(),
            )
            decision = decide(self.file, Assembled(md5=run.md5()), ctx.clock.now())
            after = await ctx.keep(
                ctx.journal.assembled,
                self.file,
                decision,
                upload,
                asking.request_id,
                decision.file.updated_s,
            )
            if after is None:
                return self._wait_for_its_twin()
            ctx.applied(self.file, decision, after)
            self.file = await complete(ctx, self._service, after, asking)
            if self.file.filing is Filing.PENDING and self.file.upload == upload.key:
                ctx.carried.keep(upload, run.parts)
        return None

    async def _doubt(self, upload: Upload) -> Event | None:
        """What to do where another file of its name is in doubt, or None."""
        ctx = self._ctx
        if await ctx.keep(ctx.journal.twin_in_doubt, self.file.id, upload):
            return self._wait_for_its_twin()
        return None

    def _wait_for_its_twin(self) -> Event:
        ctx = self._ctx
        deferrals = self.file.deferrals + 1
        longest_s = ctx.retry.defer_max_s
        due_s = ctx.wall_s + defer_s(
            deferrals, ctx.chance(), defer_max_s=longest_s, retry_after_s=None
        )
        why = reason("deferred.twin", until_s=due_s)
        return Deferred(reason=why, due_s=due_s, deferrals=deferrals)

    async def _beforehand(self, source: Source) -> Event | None:
        """What there is to say about it before a session is needed."""
        if source.identity != self.file.identity:
            same_file = source.identity.inode == self.file.identity.inode
            return Changed(identity=source.identity if same_file else None)
        known = None
        if self._place.settings.after_upload == "keep" and self.file.upload is None:
            known = await self._uploaded_before(source)
        return known or self._what_was_seen()

    def _what_was_seen(self) -> Event | None:
        return self._seen

    async def _last_look(self, source: Source) -> bytes | None:
        """Check that it is still what was taken, and look for the name that it may get.

        That name is looked for while nothing depends on it; where it is taken by the time that it
        is needed, another one is found. None: there was trouble, which filing will meet again.

        Raises:
            SpoolError: it is not.
        """
        path = self.file.path
        there, *others = await self._ctx.disk(
            in_turn,
            [
                partial(self._place.tree.identify, path),
                partial(source.identity_now),
                partial(self._place.filing.choose, DONE, path),
            ],
        )
        self._must_be(there, "the file is no longer what was taken")
        self._must_be(others[0], "the file changed while it was sent")
        name = others[1]
        return name if isinstance(name, bytes) else None

    async def _verify(self) -> None:
        """Check that the path still leads to what was taken."""
        identity = await self._ctx.disk(self._place.tree.identify, self.file.path)
        self._must_be(identity, "the file is no longer what was taken")

    def _must_be(self, found: Identity | Exception, why: str) -> None:
        if isinstance(found, Exception):
            raise found
        if found != self.file.identity:
            raise ChangedError(why)

    async def _uploaded_before(self, source: Source) -> Event | None:
        """Where files are kept: whether this content arrived already, by its md5.

        It is read only if a file of the same size arrived before.
        """
        ctx, size = self._ctx, self.file.identity.size
        watch = self._place.name
        path = self.file.path
        if await ctx.keep(ctx.journal.uploaded_content, watch, path, size) is None:
            return None
        try:
            md5 = await md5_of(ctx, source, size)
        except SpoolError as error:
            return event_of(ctx, self.file, error)
        known = await ctx.keep(ctx.journal.uploaded_content, watch, path, size, md5)
        if known is None or known.remote_file is None or known.result is None:
            return None
        return AlreadyUploaded(
            remote_file=known.remote_file, result=known.result, md5=md5, filed=known.path == path
        )
