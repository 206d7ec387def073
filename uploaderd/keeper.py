"""The journal's thread, watched: is it damaged, does it come back?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from uploaderd.journal import DamagedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from uploaderd.seams import Offload

P = ParamSpec("P")
T = TypeVar("T")


class Keeper:
    """Runs the journal's methods, one after the other, on a thread of their own.

    Whoever asks may be cancelled; the method runs to its end all the same, and until then it counts
    as unanswered.

    Args:
        thread: that thread.
        time_s: seconds of a clock that stands still in a suspend, as the loop's timers do.

    Attributes:
        damaged: set once the journal turned out to be damaged.
        why: what was found then.
    """

    def __init__(self, thread: Offload, time_s: Callable[[], float]) -> None:
        self.thread = thread
        self.damaged = asyncio.Event()
        self.why: DamagedError | None = None
        self._time_s = time_s
        self._since: dict[asyncio.Future[Any], float] = {}  # in the order in which they came

    @property
    def since_s(self) -> float | None:
        """Since when nothing came back though something is asked, or None."""
        return next(iter(self._since.values()), None)

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of the journal."""
        asked = asyncio.ensure_future(self.thread(function, *args, **kwargs))
        self._since[asked] = self._time_s()
        asked.add_done_callback(self._came_back)
        return await asyncio.shield(asked)

    def _came_back(self, asked: asyncio.Future[Any]) -> None:
        del self._since[asked]
        if self._since:  # who waited behind it has waited for that one
            self._since[next(iter(self._since))] = self._time_s()
        error = None if asked.cancelled() else asked.exception()
        if isinstance(error, DamagedError):
            self.hurt(error)

    def hurt(self, error: DamagedError) -> None:
        """Note what is damaged: the first finding counts."""
        self.why = self.why or error
        self.damaged.set()


class Onlooker:
    """A thread for those who only look; what they find to be damaged counts as well."""

    def __init__(self, thread: Offload, keep: Keeper) -> None:
        self._thread = thread
        self._keep = keep

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a question to the journal."""
        try:
            return await self._thread(function, *args, **kwargs)
        except DamagedError as error:
            self._keep.hurt(error)
            raise
