"""The journal's thread: who waits for it, since when, and whether it is damaged."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.kit import SetClock
from tests.support.waiting import wait_until
from uploaderd.errors import JournalError
from uploaderd.journal import DamagedError
from uploaderd.journal.together import Outcome, each
from uploaderd.keeper import Keeper
from uploaderd.offload import Threads

if TYPE_CHECKING:
    from collections.abc import Sequence
    from functools import partial


class Stuck:
    """A method that does not come back before it may."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        """On the journal's thread."""
        self.began.set()
        self.go.wait()

    async def reached(self) -> None:
        """Until the thread is there."""
        await wait_until(self.began.is_set, what="the journal's thread")


def since(keep: Keeper) -> float | None:
    """Ask anew: what a type checker saw before does not hold any more."""
    return keep.since_s


async def test_it_tells_since_when_nothing_came_back() -> None:
    """Who waits in the line behind a slow call has not waited for the journal, but for that one."""
    clock, first, second = SetClock(), Stuck(), Stuck()
    with Threads("journal", 1) as thread:
        keep = Keeper(thread, lambda: clock.boot_s)
        assert since(keep) is None
        begun = clock.now().boot_s
        slow = asyncio.create_task(keep(first))
        await first.reached()
        clock.forward(10.0)
        behind = asyncio.create_task(keep(second))
        await asyncio.sleep(0)
        assert since(keep) == begun
        first.go.set()
        await slow
        assert since(keep) == begun + 10.0
        clock.forward(5.0)
        assert since(keep) == begun + 10.0
        second.go.set()
        await behind
        assert since(keep) is None


async def test_who_gives_up_waiting_does_not_make_a_stuck_journal_look_alive() -> None:
    """A call that was cancelled counts until its method has come to its end."""
    clock, stuck = SetClock(), Stuck()
    with Threads("journal", 1) as thread:
        keep = Keeper(thread, lambda: clock.boot_s)
        begun = clock.boot_s
        first = asyncio.create_task(keep(stuck))
        await stuck.reached()
        clock.forward(20.0)
        try:
            for impatient in (asyncio.create_task(keep(time.monotonic)), first):
                await asyncio.sleep(0)
                impatient.cancel()
                await asyncio.wait({impatient})
                assert since(keep) == begun
        finally:
            stuck.go.set()
        await keep(time.monotonic)
        assert since(keep) is None


async def test_a_damaged_journal_is_told_of_and_so_is_the_first_reason() -> None:
    """Whoever called gets the error; the daemon learns of it too."""

    def hurt(why: str) -> None:
        raise DamagedError(why)

    with Threads("journal", 1) as thread:
        keep = Keeper(thread, lambda: 0.0)
        for why in ("first", "second"):
            with pytest.raises(DamagedError, match=why):
                await keep(hurt, why)
        assert keep.damaged.is_set()
        assert str(keep.why) == "first"
        assert since(keep) is None


async def test_what_comes_while_the_journal_is_at_work_is_handed_over_together() -> None:
    """In the order in which it came, and each caller gets its own answer or error."""
    batches: list[int] = []

    def together(calls: Sequence[partial[Any]]) -> list[Outcome]:
        batches.append(len(calls))
        return each(calls)

    def wrong() -> None:
        raise JournalError("no")

    stuck = Stuck()
    order: list[int] = []
    with Threads("journal", 1) as thread:
        keep = Keeper(thread, lambda: 0.0)
        keep.together = together
        first = asyncio.create_task(keep(stuck))
        await stuck.reached()
        others = [asyncio.create_task(keep(order.append, number)) for number in range(3)]
        fails = asyncio.create_task(keep(wrong))
        given_up = asyncio.create_task(keep(order.append, 3))
        await asyncio.sleep(0)
        given_up.cancel()
        stuck.go.set()
        await asyncio.wait({first, fails, given_up, *others})
        assert isinstance(fails.exception(), JournalError)
        assert order == [0, 1, 2, 3]
        assert batches == [1, 5]


async def test_when_the_thread_has_ended_nobody_waits_for_it_for_ever() -> None:
    """Whoever asks then is told, not left."""
    thread = Threads("journal", 1)
    keep = Keeper(thread, lambda: 0.0)
    with thread:
        await keep(time.monotonic)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await keep(time.monotonic)


async def test_when_its_work_is_cancelled_nobody_waits_for_it_for_ever() -> None:
    """Even before its first step, as where a loop ends all that is under way."""
    with Threads("journal", 1) as thread:
        keep = Keeper(thread, lambda: 0.0)
        for turns in range(3):
            asked = asyncio.create_task(keep(time.monotonic))
            await asyncio.sleep(0)
            assert keep._at_work is not None
            for _ in range(turns):
                await asyncio.sleep(0)
            keep._at_work.cancel()
            await asyncio.wait({asked}, timeout=5.0)
            assert asked.cancelled()
            assert await keep(time.monotonic) > 0
