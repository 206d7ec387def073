"""The seams that ``app`` hands in: threads and the clock.

A simulator can put inline execution and virtual time in their place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from uploaderd.core.model import Now

P = ParamSpec("P")
T = TypeVar("T")


class Offload(Protocol):
    """Run a blocking function away from the event loop.

    Cancelling the caller does not stop the function: it runs to its end and its result is lost.
    """

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` with these arguments and return what it returns."""
        ...


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> Now:
        """Read the wall clock and CLOCK_BOOTTIME together."""
        ...
