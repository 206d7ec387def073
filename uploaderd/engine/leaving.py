"""The leave of a file's only part: it has its place before its session is journalled.

So the session's id and the part's intent share a transaction. From then on the part counts as
under way, as any other whose intent is journalled: it waits for nothing more, or its intent is
taken back.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from uploaderd.core.gate import GateState
from uploaderd.core.model import PartState
from uploaderd.core.values import replace
from uploaderd.journal import Leaving

if TYPE_CHECKING:
    from uploaderd.core.model import File, Part
    from uploaderd.engine.context import Context, Service
    from uploaderd.engine.senders import Senders


class Leave:
    """A place for one part, asked for at most once at a time; it is given back at the end.

    Attributes:
        given: what is journalled of the part that has the place, or None where there is none.
    """

    def __init__(self, ctx: Context, service: Service, senders: Senders) -> None:
        self.given: Leaving | None = None
        self._ctx = ctx
        self._service = service
        self._senders = senders
        self._held = ExitStack()
        self._wire = ExitStack()

    def __enter__(self) -> Self:
        """Nothing is asked for yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """As ``end``."""
        self.end()

    def ask(self) -> Leaving | None:
        """Take a place, if the part could leave this very moment."""
        ctx, gate = self._ctx, self._service.gate
        takes = gate.state is GateState.OPEN and gate.admits(ctx.wall_s)
        if takes and ctx.go.is_set() and self._senders.claim(self._service):
            self._held.callback(self._senders.release, self._service)
            self._wire.enter_context(ctx.wire)
            self.given = Leaving(request_id=ctx.new_id(), at_s=ctx.wall_s)
        return self.given

    @staticmethod
    def unsent(part: Part) -> Part:
        """The part as it was before its intent."""
        return replace(part, state=PartState.PLANNED, sends=part.sends - 1)

    async def take_back(self, file: File, part: Part) -> None:
        """Note that the part did not leave after all, and give its place back."""
        given = self.given
        if given is None:
            return
        try:
            await self._ctx.keep(
                self._ctx.journal.part_not_stored,
                file.id,
                replace(part, sends=part.sends - 1),
                given.request_id,
                outcome="not_sent",
                sent=0,
                ambiguous=False,
            )
        finally:
            self.end()

    def left(self) -> None:
        """From now on it is the attempt that is on the wire: those behind it may have to wait."""
        self._wire.close()

    def end(self) -> None:
        """Give the place back; again does nothing."""
        self.given = None
        self._wire.close()
        self._held.close()
