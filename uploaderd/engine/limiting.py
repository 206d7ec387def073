"""The bandwidth: what is in force, by whose word, and who waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uploaderd.config.units import format_timetable
from uploaderd.core.limits import Limit, Whose
from uploaderd.core.pace import Pace
from uploaderd.core.timetable import holds_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from uploaderd.core.timetable import Timetable
    from uploaderd.seams import Clock

LOOK_S = 0.5  # the longest sleep of those who wait: by then a changed limit is noticed


@dataclass(slots=True)
class _Turn:
    most: int
    granted: asyncio.Future[int]


class Limiter:
    """One bandwidth for all parts of all files, in the order of asking.

    Args:
        clock: both clocks; those that steady counts go by are CLOCK_BOOTTIME.
        week_s: says which second of the local week a wall time is.
        configured: what the configuration of now says.
    """

    def __init__(
        self,
        clock: Clock,
        week_s: Callable[[float], float],
        configured: Callable[[], Timetable],
    ) -> None:
        self._clock = clock
        self._week_s = week_s
        self._configured = configured
        self._said: Timetable | None = None
        self._pace = Pace()
        self._turns: deque[_Turn] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def table(self) -> Timetable:
        """What holds over the week: the operator's word, else the configuration's."""
        return self._said or self._configured()

    @property
    def rate_bps(self) -> int | None:
        """Bytes a second that may leave now, None for no limit."""
        table = self.table
        if len(table.entries) == 1:
            return table.entries[0][1]
        return table.rate_at(self._week_s(self._clock.now().wall_s))

    @property
    def limit(self) -> Limit:
        """What is in force now, for whoever looks on."""
        table, until_s = self.table, None
        if self._said is not None:
            why = Whose.OPERATOR
        elif len(table.entries) == 1:
            why = Whose.CONFIGURED
        else:
            why = Whose.TIMETABLE
            until_s = holds_until(table, self._clock.now().wall_s, self._week_s)
        return Limit(
            rate_bps=self.rate_bps,
            why=why,
            configured=format_timetable(self._configured()),
            until_s=until_s,
        )

    def say(self, said: Timetable | None) -> None:
        """Let the operator's word be in force; None gives the word back to the configuration."""
        self._said = said
        self.changed()

    def changed(self) -> None:
        """Let those who wait go by what is in force from now on."""
        if self._timer is not None:
            self._timer.cancel()
        self._serve()

    async def take(self, most: int) -> int:
        """Wait for a turn; return how many bytes may leave now, from 1 to ``most``.

        Whoever is cancelled meanwhile keeps nobody behind it waiting.
        """
        if not self._turns:
            rate_bps = self.rate_bps
            if rate_bps is None and self._pace.unlimited:  # as a rule; it costs next to nothing
                return most
            now_s = self._clock.now().boot_s
            self._pace.change(rate_bps, now_s)
            if not self._pace.wait_s(now_s):
                return self._pace.grant(most, now_s)
        turn = _Turn(most, asyncio.get_running_loop().create_future())
        self._turns.append(turn)
        if self._timer is None:
            self._serve()
        return await turn.granted

    def _serve(self) -> None:
        """Give turns as far as it is time, and sleep until the next one."""
        self._timer = None
        now_s = self._clock.now().boot_s
        self._pace.change(self.rate_bps, now_s)
        while self._turns:
            if self._turns[0].granted.done():  # it was cancelled
                self._turns.popleft()
                continue
            wait_s = self._pace.wait_s(now_s)
            if wait_s:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(min(wait_s, LOOK_S), self._serve)
                return
            turn = self._turns.popleft()
            turn.granted.set_result(self._pace.grant(turn.most, now_s))
