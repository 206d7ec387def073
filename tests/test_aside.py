"""The loop stands aside while the journal's statements run, and never for long."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

from tests.support.waiting import wait_until
from uploaderd.aside import Aside
from uploaderd.journal.together import Outcome, each
from uploaderd.keeper import Keeper
from uploaderd.offload import Threads

if TYPE_CHECKING:
    from collections.abc import Sequence
    from functools import partial

LONG_S = 30.0
SHORT_S = 0.01
WORK_S = 0.05


def test_it_ends_when_the_other_says_so() -> None:
    """Not before what was to be done is done, and without waiting for the time to pass."""
    aside, done = Aside(LONG_S), []

    def work() -> None:
        done.append("statements")
        aside.over()

    aside.begin()
    thread = threading.Thread(target=work)
    began_s = time.monotonic()
    thread.start()
    aside.wait()
    assert done == ["statements"]
    assert time.monotonic() - began_s < LONG_S
    thread.join()


def test_one_that_says_nothing_is_waited_for_no_longer_than_that() -> None:
    """A disk that does not answer holds the loop up for a moment only."""
    aside = Aside(SHORT_S)
    aside.begin()
    began_s = time.monotonic()
    aside.wait()
    assert SHORT_S <= time.monotonic() - began_s < LONG_S


def test_what_was_said_of_the_group_before_ends_no_wait_for_this_one() -> None:
    """Said twice, and once more after the wait had ended by itself: the next one waits anew."""
    aside = Aside(SHORT_S)
    aside.begin()
    aside.over()
    aside.over()
    aside.begin()
    began_s = time.monotonic()
    aside.wait()
    assert time.monotonic() - began_s >= SHORT_S


async def test_the_loop_stands_still_for_the_statements_and_goes_on_for_the_sync() -> None:
    """What waits for a disk, not for the interpreter, holds up nobody."""
    turns, seen = 0, list[int]()
    synced = threading.Event()

    def together(calls: Sequence[partial[Any]]) -> list[Outcome]:
        before = turns
        time.sleep(WORK_S)  # a turn of the loop takes some 20 us
        seen.append(turns - before)
        keep.over()
        assert synced.wait(LONG_S)  # the loop's doing
        return each(calls)

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    with Threads("journal", 1) as thread:
        keep = Keeper(thread, lambda: 0.0, Aside(LONG_S))
        keep.together = together
        turning = asyncio.create_task(turn())
        kept = asyncio.create_task(keep(time.monotonic))
        await wait_until(lambda: seen, what="the statements")
        assert seen[0] < WORK_S * 1000
        synced.set()
        await kept
        turning.cancel()
