"""Who may send next: parts in flight are bounded over all files, and for each target."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from uploaderd.core.flight import AUTO_MOST, Why
from uploaderd.core.meter import Goodput
from uploaderd.core.plan import MIB
from uploaderd.core.schedule import pick
from uploaderd.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from uploaderd.core.model import Now
    from uploaderd.core.report import FlightFacts
    from uploaderd.core.schedule import Candidate
    from uploaderd.engine.context import Context, Service
    from uploaderd.errors import ServiceError

LEAST_AHEAD_BYTES = 64 * MIB
MOST_AHEAD_BYTES = 512 * MIB
PAUSE_S = 2.0  # where the service asks for fewer requests and does not say for how long
USED = 0.85  # of the bandwidth: more is as much as it lets through
OVERLOAD = frozenset({502, 503, 504})


class Sender(Protocol):
    """A file in flight, as far as places are concerned."""

    @property
    def service(self) -> Service:
        """Where its parts go."""
        ...

    def candidate(self, now: Now) -> Candidate | None:
        """What is needed to choose, or None if there is nothing to send now."""
        ...

    def send_next(self) -> None:
        """Start the next part; its place is counted already and is released when it ends."""
        ...


class Senders:
    """Gives free places to the file whose session ends first; synchronous, so nothing slips in.

    Attributes:
        most: so many parts may fly, over all targets.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._clock = ctx.clock
        self._runs: dict[str, Sender] = {}
        self._turns: dict[int, asyncio.Event] = {}  # by the identity of a link that is waited for
        self.goodput = Goodput()
        self.in_flight = 0
        self.most = AUTO_MOST
        self.stopped = False
        self.paused = False
        self.resize()

    def add(self, file_id: str, run: Sender) -> None:
        """Let a file compete for places."""
        self._runs[file_id] = run
        self.pump()

    def remove(self, file_id: str) -> None:
        """Let a file go; its parts in flight give their places back by themselves."""
        self._runs.pop(file_id, None)
        self.pump()

    @property
    def ahead_bytes(self) -> int:
        """How far a file's ordered pass may run ahead of its parts.

        Sending reads what the pass has just read from the page cache, so all files share what may
        be kept there. Where few are on their way each gets more: while the parts of one are sent,
        the pass of the next, which takes longer, is under way.
        """
        share = self._ctx.cached_bytes // max(len(self._runs), 1)
        return min(max(share, LEAST_AHEAD_BYTES), MOST_AHEAD_BYTES)

    def resize(self) -> None:
        """Go by another configuration; what flies already comes to its end."""
        places = self._ctx.transfer.parts_in_flight
        self.most = AUTO_MOST if places is None else places
        for service in self._ctx.services.values():
            service.link.resize(places)
            self._rouse(service)
        self.pump()

    def pump(self) -> None:
        """Fill the free places; called after everything that may have freed or filled one."""
        while not (self.stopped or self.paused) and self.in_flight < self.most:
            now = self._clock.now()
            runs = [run for run in self._runs.values() if run.service.link.has_room]
            candidates = [run.candidate(now) for run in runs]
            chosen = pick(candidate for candidate in candidates if candidate is not None)
            if chosen is None:
                return
            run = self._runs[chosen]
            self._give(run.service, now)
            run.send_next()

    def claim(self, service: Service) -> bool:
        """Take a place for a part that leaves at once, if one is free; ``release`` gives it back.

        Where one is free nobody waits for it, or ``pump`` would have given it away.
        """
        link = service.link
        free = self.in_flight < self.most and link.has_room
        if self.stopped or self.paused or not free or link.active >= link.flight.limit:
            return False
        self._give(service, self._clock.now())
        return True

    def _give(self, service: Service, now: Now) -> None:
        if self.in_flight == 0:
            self.goodput.begin(now.boot_s)
        self.in_flight += 1
        service.link.flying += 1

    def release(self, service: Service) -> None:
        """Give one place back."""
        self.in_flight -= 1
        service.link.flying -= 1
        if self.in_flight == 0:
            self.goodput.end(self._clock.now().boot_s)
        self.pump()

    @asynccontextmanager
    async def turn(self, service: Service, *, at_once: bool = False) -> AsyncIterator[None]:
        """Let one request for a part be under way; wait while there are as many as may be.

        A part keeps its place between two attempts, and so do many of them when the service is
        overloaded: what was halved meanwhile is kept by those that come back, too. A stop lets none
        of them begin; whoever stops it cancels them. One that had its turn before it was journalled
        begins ``at_once``.
        """
        link = service.link  # not the name: a target that left and came back has another one
        while not at_once and (self.stopped or link.active >= link.flight.limit):
            await self._turns.setdefault(id(link), asyncio.Event()).wait()
        link.active += 1
        try:
            yield
        finally:
            link.active -= 1
            self._rouse(service)

    def moved(self, service: Service, count: int) -> None:
        """Count bytes of a part that left."""
        now = self._clock.now()
        self.goodput.add(count, now.boot_s)
        admits = service.gate.admits(now.wall_s)
        if service.link.moved(count, now.boot_s, admits=admits, bound=self._bound):
            self._rouse(service)
            self.pump()

    def stored(self, service: Service, count: int, began_s: float) -> None:
        """A part of so many bytes, that left at ``began_s`` (CLOCK_BOOTTIME), arrived."""
        service.link.stored(count, began_s, self._clock.now().boot_s)

    def troubled(self, service: Service, error: ServiceError, began_s: float) -> None:
        """A part that left at ``began_s`` came to grief, and so it may be for all of them.

        Args:
            service: where it went.
            error: what came of it.
            began_s: when it left, by CLOCK_BOOTTIME.
        """
        why = _why(error)
        wait_s = error.retry_after_s if isinstance(error, TransientError) else None
        if why is Why.RATE_LIMITED and wait_s is None:
            wait_s = PAUSE_S
        if why is not None:
            service.link.troubled(why, began_s, self._clock.now().boot_s, wait_s=wait_s or 0.0)

    def facts(self, service: Service) -> FlightFacts:
        """What is shown of a target's parts in flight."""
        now = self._clock.now()
        return service.link.facts(now.boot_s, admits=service.gate.admits(now.wall_s))

    def _bound(self) -> bool:
        """Whether the configured bandwidth is used up."""
        rate_bps, now = self._ctx.rate_bps, self._clock.now()
        return rate_bps is not None and self._ctx.meter.rate_bps(now.boot_s) > USED * rate_bps

    def _rouse(self, service: Service) -> None:
        """Let those look again who wait for their turn."""
        waiting = self._turns.pop(id(service.link), None)
        if waiting is not None:
            waiting.set()


def _why(error: ServiceError) -> Why | None:
    """What an error says of the way there; None where it speaks of the file or the key alone."""
    if error.status in OVERLOAD:
        return Why.OVERLOADED
    return {"rate_limited": Why.RATE_LIMITED, "network": Why.BROKEN}.get(error.code)
