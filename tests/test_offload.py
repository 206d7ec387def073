"""Threads behind the offload seam: each call ends once, with what it returned or raised."""

from __future__ import annotations

import asyncio
import threading

import pytest

from uploaderd.offload import Threads


async def test_one_thread_runs_calls_in_the_order_in_which_they_came() -> None:
    """Also where hundreds wait, and each caller gets its own answer."""
    ran: list[int] = []

    def run(number: int) -> int:
        ran.append(number)
        return -number

    with Threads("one", 1) as threads:
        answers = await asyncio.gather(*(threads(run, number) for number in range(500)))
    assert answers == [-number for number in range(500)]
    assert ran == list(range(500))


async def test_calls_run_beside_each_other_on_as_many_threads_as_there_are() -> None:
    """Four that wait for each other all come back, and so does what follows."""
    barrier = threading.Barrier(4)
    with Threads("four", 4) as threads:
        async with asyncio.timeout(30):
            places = await asyncio.gather(*(threads(barrier.wait) for _ in range(4)))
            names = {await threads(lambda: threading.current_thread().name) for _ in range(20)}
    assert sorted(places) == [0, 1, 2, 3]
    assert names <= {f"four_{number}" for number in range(4)}


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("k")])
async def test_what_a_call_raises_comes_to_its_caller_alone(error: Exception) -> None:
    """The thread goes on with the next one."""

    def fail() -> None:
        raise error

    with Threads("one", 1) as threads:
        failed, fine = await asyncio.gather(threads(fail), threads(int, 7), return_exceptions=True)
    assert failed is error
    assert fine == 7


async def test_a_stop_iteration_is_an_error_like_any_other() -> None:
    """It neither hangs its caller nor those that end beside it."""
    with Threads("one", 1) as threads:
        async with asyncio.timeout(30):
            stopped, fine = await asyncio.gather(
                threads(lambda: next(iter(()))), threads(int, 7), return_exceptions=True
            )
    assert isinstance(stopped, RuntimeError)
    assert fine == 7


async def test_a_cancel_prevents_what_has_not_begun_and_nothing_else() -> None:
    """What runs goes on to its end; what waits behind it is never begun."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    ran: list[str] = []

    def first() -> None:
        begun.set()
        go_on.wait(30)
        ran.append("first")
        ended.set()

    with Threads("one", 1) as threads:
        under_way = asyncio.ensure_future(threads(first))
        behind = asyncio.ensure_future(threads(ran.append, "behind"))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        under_way.cancel()
        behind.cancel()
        await asyncio.wait([under_way, behind])
        go_on.set()
        await threads(ran.append, "last")
    assert ended.is_set()
    assert ran == ["first", "last"]


async def test_the_end_waits_for_what_runs_and_drops_what_waits() -> None:
    """Nobody is left waiting for an answer."""
    begun, go_on = threading.Event(), threading.Event()
    ran: list[str] = []

    def first() -> None:
        begun.set()
        go_on.wait(30)
        ran.append("first")

    with Threads("one", 1) as threads:
        under_way = asyncio.ensure_future(threads(first))
        behind = asyncio.ensure_future(threads(ran.append, "behind"))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        asyncio.get_running_loop().call_soon(lambda: None)
        threading.Timer(0.05, go_on.set).start()
    assert ran == ["first"]
    async with asyncio.timeout(30):
        await asyncio.wait([under_way, behind])
    assert behind.cancelled()
    with pytest.raises(RuntimeError, match="have ended"):
        await threads(int, 1)
