"""The journal's thread, watched: is it damaged, does it come back?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from uploaderd.journal import DamagedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from uploaderd.seams import Clock, Offload

P = ParamSpec("P")
T = TypeVar("T")


class Keeper:
    """Runs the journal's methods, one after the other, on a thread of their own.

    Attributes:
        thread: that thread.
        damaged: set once the journal turned out to be damaged.
        why: what was found then.
    """

    def __init__(self, thread: Offload, clock: Clock) -> None:
        self.thread = thread
        self.damaged = asyncio.Event()
        self.why: DamagedError | None = None
        self._clock = clock
        self._since: dict[object, float] = {}  # in the order in which they were asked

    @property
    def since_s(self) -> float | None:
        """Since when (CLOCK_BOOTTIME) nothing came back though something is asked, or None."""
        return next(iter(self._since.values()), None)

    def hurt(self, error: DamagedError) -> None:
        """Note what is damaged: the first finding counts."""
        self.why = self.why or error
        self.damaged.set()

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of the journal."""
        mark = object()
        self._since[mark] = self._clock.now().boot_s
        try:
            return await self.thread(function, *args, **kwargs)
        except DamagedError as error:
            self.hurt(error)
            raise
        finally:
            del self._since[mark]
            if self._since:  # who waited behind it has waited for that one
                first = next(iter(self._since))
                self._since[first] = self._clock.now().boot_s


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
