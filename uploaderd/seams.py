"""The seams that ``app`` hands in: threads, the clock, and who counts.

A simulator can put inline execution and virtual time in their place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from functools import partial

    from uploaderd.core.facts import Facts
    from uploaderd.core.model import File, Now, Part

P = ParamSpec("P")
T = TypeVar("T")


class Offload(Protocol):
    """Run a blocking function away from the event loop.

    Cancelling the caller does not stop the function: it runs to its end and its result is lost.
    """

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` with these arguments and return what it returns."""
        ...


async def at_once(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what does not block right here, as an ``Offload``."""
    return function(*args, **kwargs)


def in_turn(calls: Sequence[partial[Any]]) -> list[Any]:
    """Make calls one after the other in one stay on a thread, up to the first that raises.

    Returns:
        what they returned; what one raised stands last, and those behind it were not made.
    """
    results: list[Any] = []
    for call in calls:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            results.append(error)
            break
    return results


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> Now:
        """Read the wall clock and CLOCK_BOOTTIME together."""
        ...


class Tally(Protocol):
    """Who counts what happens; nothing here fails, waits or decides anything."""

    def retried(self, target: str) -> None:
        """A request is about to be tried once more."""
        ...

    def sent(self, target: str, count: int) -> None:
        """So many bytes of a part left."""
        ...

    def part(self, file: File, before: Part, after: Part) -> None:
        """The outcome of a part's request was journalled."""
        ...

    def file(self, before: File | None, after: File) -> None:
        """A file's step was journalled; ``before`` is None for one that is new."""
        ...

    def hook(self, on: str, outcome: str) -> None:
        """A hook's command ended."""
        ...

    def exposition(self, facts: Facts) -> bytes:
        """Give what was counted and these facts in Prometheus' text form; may block."""
        ...


class NoTally:
    """Counts nothing."""

    def retried(self, target: str) -> None:
        """Nobody wants to know."""

    def sent(self, target: str, count: int) -> None:
        """Nobody wants to know."""

    def part(self, file: File, before: Part, after: Part) -> None:
        """Nobody wants to know."""

    def file(self, before: File | None, after: File) -> None:
        """Nobody wants to know."""

    def hook(self, on: str, outcome: str) -> None:
        """Nobody wants to know."""

    def exposition(self, facts: Facts) -> bytes:  # noqa: ARG002 - the seam's signature
        """Give nothing."""
        return b""
