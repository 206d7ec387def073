"""The journal's thread, watched: is it damaged, does it come back?"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from uploaderd.journal import DamagedError
from uploaderd.journal.together import Outcome, each

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from uploaderd.aside import Aside
    from uploaderd.seams import Offload

P = ParamSpec("P")
T = TypeVar("T")

MOST_TOGETHER = 128  # who comes first should not wait for all the others
GATHERING = 16  # turns of the loop: who was told something just now often asks again at once


class Keeper:
    """Runs the journal's methods, in the order in which they came, on a thread of their own.

    What comes while the thread is at work is handed over at once when it is free, so that the
    journal may let it share one sync. Whoever asks may be cancelled; the method runs to its end
    all the same, and until then it counts as unanswered.

    Args:
        thread: that thread.
        time_s: seconds of a clock that stands still in a suspend, as the loop's timers do.
        aside: has the loop stand aside while the statements of a group run.

    Attributes:
        together: makes several calls, each to its own outcome.
        since_s: since when nothing came back though something is asked, or None.
        damaged: set once the journal turned out to be damaged.
        why: what was found then.
    """

    def __init__(
        self, thread: Offload, time_s: Callable[[], float], aside: Aside | None = None
    ) -> None:
        self.thread = thread
        self.together: Callable[[Sequence[partial[Any]]], list[Outcome]] = each
        self.since_s: float | None = None
        self.damaged = asyncio.Event()
        self.why: DamagedError | None = None
        self._time_s = time_s
        self._aside = aside
        self._waiting: list[tuple[partial[Any], asyncio.Future[Any]]] = []
        self._handed: list[tuple[partial[Any], asyncio.Future[Any]]] = []
        self._at_work: asyncio.Task[None] | None = None

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of the journal."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((partial(function, *args, **kwargs), answer))
        if self._at_work is None:
            self._begin()
        return await answer

    def _begin(self) -> None:
        self.since_s = self._time_s()
        self._at_work = asyncio.create_task(self._work())
        self._at_work.add_done_callback(self._ended)

    async def _work(self) -> None:
        """Hand over what waits until nothing does."""
        aside, loop = self._aside, asyncio.get_running_loop()
        while self._waiting:
            for _ in range(GATHERING):
                await asyncio.sleep(0)
            self._handed = self._waiting[:MOST_TOGETHER]
            del self._waiting[:MOST_TOGETHER]
            if aside is not None:
                aside.begin()
                loop.call_soon(aside.wait)  # as soon as it is handed over
            outcomes = await self.thread(self._make, [call for call, _ in self._handed])
            handed, self._handed = self._handed, []
            for (_, answer), outcome in zip(handed, outcomes, strict=True):
                self._tell(answer, outcome)
            # Who waited behind it has waited for that one.
            self.since_s = self._time_s() if self._waiting else None

    def _make(self, calls: Sequence[partial[Any]]) -> list[Outcome]:
        try:
            return self.together(calls)
        finally:
            self.over()

    def over(self) -> None:
        """What is left of a group needs no interpreter; for the journal's thread."""
        if self._aside is not None:
            self._aside.over()

    def _ended(self, work: asyncio.Task[None]) -> None:
        """Leave nobody waiting, also where the work was cancelled before its first step."""
        self._at_work = self.since_s = None
        error = None if work.cancelled() else work.exception()
        if error is None and not work.cancelled():
            if self._waiting:
                self._begin()
            return
        left, self._handed, self._waiting = [*self._handed, *self._waiting], [], []
        for _, answer in left:
            if answer.done():
                continue
            if error is None:
                answer.cancel()
            else:
                answer.set_exception(error)

    def _tell(self, answer: asyncio.Future[Any], outcome: Outcome) -> None:
        if isinstance(outcome.error, DamagedError):
            self.hurt(outcome.error)
        if answer.done():
            return
        if outcome.error is None:
            answer.set_result(outcome.value)
        else:
            answer.set_exception(outcome.error)

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
