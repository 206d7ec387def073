"""An event loop whose time is virtual: it never waits, and nothing in it hangs on an address."""

from __future__ import annotations

import asyncio
from asyncio import base_events
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SPINS = 50_000  # turns of the loop without a moment passing


class StuckError(Exception):
    """Nothing can ever happen again, or something happens without end at one moment."""


class SimTask(asyncio.Task[T]):
    """A task that hashes to its number, so that the order of a set follows from the seed."""

    def __init__(self, coro: Any, *, loop: SimLoop, **more: Any) -> None:  # noqa: ANN401
        self._number = loop.next_number()
        super().__init__(coro, loop=loop, **more)

    def __hash__(self) -> int:
        """Its number."""
        return self._number


class SimLoop(base_events.BaseEventLoop):
    """Advances its clock to the next timer in place of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self._now_s = 0.0
        self._spins = 0
        self._numbers = 0
        self.set_task_factory(_make)

    def next_number(self) -> int:
        """Count the tasks."""
        self._numbers += 1
        return self._numbers

    def time(self) -> float:
        """Virtual seconds since the beginning."""
        return self._now_s

    def at(self, when_s: float, call: Callable[..., object], *args: object) -> None:
        """Call at a virtual time."""
        self.call_at(when_s, call, *args)

    def select(self, timeout: float | None) -> list[object]:
        """Stand in for the selector: let the time pass at once.

        Raises:
            StuckError: there is no timer to wait for, or the time does not pass.
        """
        if timeout is None:
            raise StuckError("nothing is ready and no timer is set")
        if timeout > 0:
            self._now_s += timeout
            self._spins = 0
            return []
        self._spins += 1
        if self._spins > SPINS:
            raise StuckError(f"{SPINS} turns of the loop at one moment")
        return []

    def _process_events(self, event_list: list[object]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """There is no other thread to wake us for."""


def _make(loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:  # noqa: ANN401
    assert isinstance(loop, SimLoop)
    return SimTask(coro, loop=loop, **more)
