"""Threads behind the ``Offload`` seam."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")


class _Call(NamedTuple):
    """What a thread is to run, and who waits for it."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    answer: asyncio.Future[Any]


class Threads:
    """A few threads under one name; with one thread, calls run in the order in which they came.

    Of one event loop. It does what ``loop.run_in_executor`` does with a third of its work for each
    call: a loop that was told that calls have ended is not told again before it has looked.
    """

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._threads: list[threading.Thread] = []
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._ended: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._told = False
        self._under_way = 0  # counted by the loop alone
        self._closed = False

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``function`` on one of the threads; if it has not begun, a cancel prevents it."""
        if self._closed:
            raise RuntimeError(f"the threads {self._name} have ended")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._under_way += 1
        if self._under_way > len(self._threads) < self._count:
            self._begin()
        self._calls.put(_Call(function, args, kwargs, answer))
        return await answer

    def _begin(self) -> None:
        name = f"{self._name}_{len(self._threads)}"
        # Daemons: an interpreter that ends without ``__exit__`` does not wait for idle threads.
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            result: Any = None
            error: BaseException | None = None
            if not call.answer.cancelled():
                try:
                    result = call.function(*call.args, **call.kwargs)
                except BaseException as found:  # noqa: BLE001 - it belongs to whoever waits
                    error = found
            self._ended.append((call.answer, result, error))
            if not self._told:
                self._told = True
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    call.answer.get_loop().call_soon_threadsafe(self._tell)
            del call, result, error  # nothing is kept alive by a thread that waits

    def _tell(self) -> None:
        self._told = False  # first: what ends from now on is told of anew
        while self._ended:
            answer, result, error = self._ended.popleft()
            self._under_way -= 1
            if answer.done():
                continue
            if error is None:
                answer.set_result(result)
            elif isinstance(error, StopIteration):  # which no future takes
                answer.set_exception(RuntimeError("the call raised StopIteration"))
            else:
                answer.set_exception(error)

    def __enter__(self) -> Self:
        """Threads start when they are first needed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for what runs, drop what waits, end the threads."""
        self._closed = True
        with suppress(Empty):
            while (waiting := self._calls.get_nowait()) is not None:
                waiting.answer.cancel()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
