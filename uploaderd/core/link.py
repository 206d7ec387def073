"""One target's network: what it carries, measured, and how many parts may fly over it.

The caller tells the time, in seconds of any steady clock, and what happens; nothing here waits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from uploaderd.core.flight import FROZEN, SENTENCES, Flight
from uploaderd.core.meter import Rounds, Work
from uploaderd.core.plan import measured_part_bytes
from uploaderd.core.report import FlightFacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from uploaderd.core.flight import Why


class Link:
    """Counts the parts in flight to a target, and learns from them.

    Attributes:
        flight: how many parts may fly, and why.
        flying: how many places its files have.
        active: how many of their requests are under way.
        work: what one connection carries.
    """

    def __init__(self, places: int | None = None) -> None:
        self.flight = Flight.begun(places)
        self.flying = self.active = 0
        self.work = Work()
        self._rounds = Rounds()
        self._paused_until_s = -math.inf

    @property
    def has_room(self) -> bool:
        """Whether one more part may fly."""
        return self.flying < self.flight.limit

    def resize(self, places: int | None) -> None:
        """Go on with another number of parts, or with none that is set."""
        self.flight = self.flight.resized(places)
        self._rounds.spoil()

    def moved(self, count: int, now_s: float, *, admits: bool, bound: Callable[[], bool]) -> bool:
        """Count bytes that left.

        Args:
            count: how many.
            now_s: now.
            admits: the target takes requests; else it asked for a pause, or is shut.
            bound: whether the configured bandwidth lets no more through.

        Returns:
            whether more parts may fly than before.
        """
        before = self.flight.limit
        if not admits or now_s < self._paused_until_s:
            self._rounds.spoil()
            self.flight = self.flight.delayed(now_s)
            return False
        if self.flight.since_s < self._paused_until_s:  # calm counts from its end
            self.flight = self.flight.delayed(self._paused_until_s)
        full = self.flying == before
        hasty = self.flight.hasty
        bps = self._rounds.add(count, now_s, places=before, full=full, hasty=hasty)
        if bps is not None:
            self.flight = self.flight.measured(bps, now_s, bound=bound())
        if self.flying >= before:
            self.flight = self.flight.calm(now_s)
        if self.flight.limit != before:
            self._rounds.spoil()
        return self.flight.limit > before

    def stored(self, count: int, began_s: float, now_s: float) -> None:
        """A part of so many bytes arrived."""
        self.work.add(count, now_s - began_s)

    def troubled(self, why: Why, began_s: float, now_s: float, *, wait_s: float = 0.0) -> None:
        """A part that left at ``began_s`` came to grief.

        ``wait_s`` is the pause that the service asked for: what leaves while it lasts proves
        nothing.
        """
        if began_s >= self._paused_until_s:
            self.flight = self.flight.troubled(why, began_s, now_s)
        self._paused_until_s = max(self._paused_until_s, now_s + wait_s)

    def part_bytes(self, size: int) -> int:
        """The size of the parts of a new session for so many bytes."""
        return measured_part_bytes(size, self.work.rate_bps(), self.flight.limit)

    def facts(self, now_s: float, *, admits: bool) -> FlightFacts:
        """What is shown of it."""
        frozen = not admits or now_s < self._paused_until_s
        why = self.flight.why
        return FlightFacts(
            now=self.flying,
            limit=self.flight.limit,
            most=self.flight.most,
            code=why.value,
            why=f"{SENTENCES[why]} {FROZEN}" if frozen else SENTENCES[why],
            frozen=frozen,
            connection_bps=self.work.rate_bps(),
        )
