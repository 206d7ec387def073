"""Waiting for a condition with a deadline; never for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

POLL_S = 0.02


async def wait_for(
    answer: Callable[[], Awaitable[T | None]], *, timeout_s: float = 15.0, what: str
) -> T:
    """Ask again and again until there is an answer; return it.

    Raises:
        AssertionError: the time is over; it says what was waited for.
    """
    deadline_s = time.monotonic() + timeout_s
    while (found := await answer()) is None:
        if time.monotonic() > deadline_s:
            raise AssertionError(f"waited {timeout_s:g} s in vain for {what}")
        await asyncio.sleep(POLL_S)
    return found


async def wait_until(
    condition: Callable[[], object], *, timeout_s: float = 15.0, what: str
) -> None:
    """Ask again and again until the answer, awaited if it must be, is true.

    Raises:
        AssertionError: the time is over; it says what was waited for.
    """

    async def answer() -> bool | None:
        said = condition()
        if inspect.isawaitable(said):
            said = await said
        return True if said else None

    await wait_for(answer, timeout_s=timeout_s, what=what)
