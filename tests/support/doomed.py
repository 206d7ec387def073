"""A daemon that kills itself with SIGKILL right before or after a step of its own.

    python -m tests.support.doomed --config FILE --at Journal.record:assembled --when after

A step is a function that the daemon hands to one of its threads, by its qualified name, or a call
of the service's client: ``Filing.move``, ``Client.complete``. ``Journal.record:EVENT`` and
``Journal.request:CALL`` mean one event or call only. *Before*: it was decided and nothing of it
was done. *After*: it was done, and nobody heard of it. Everything else is the daemon itself, wired
by ``app.run`` through the seams that it offers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from uploaderd import app, config
from uploaderd.client import Client
from uploaderd.journal.together import Together, each
from uploaderd.keeper import Keeper
from uploaderd.offload import Threads
from uploaderd.seams import in_turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from uploaderd.client import Body, CreateSpec, RemoteFile, RemoteUpload

P = ParamSpec("P")
T = TypeVar("T")

MANY = {one.__name__ for one in (Keeper._make, Together.together, each, in_turn)}
NAMED_BY_THIRD = frozenset({"Journal.record", "Journal.request"})


def steps_of(function: Callable[..., object], args: Sequence[Any]) -> list[str]:
    """What steps a thread is given: many at once where they share a sync or a stay on a thread."""
    if function.__name__ in MANY:
        return [step for call in args[0] for step in steps_of(call.func, call.args)]
    step = function.__qualname__
    return [f"{step}:{args[2]}" if step in NAMED_BY_THIRD else step]


class Doom:
    """Counts the steps of one name and ends the process at the chosen one."""

    def __init__(self, at: str, when: str, nth: int) -> None:
        self._at, self._when, self._left = at, when, nth
        self._lock = threading.Lock()

    def strikes(self, step: str) -> bool:
        """Say whether this is the chosen step; to be asked once a step."""
        if step != self._at:
            return False
        with self._lock:
            self._left -= 1
            return self._left == 0

    def before(self, *, struck: bool) -> None:
        """End here if that is where it ends."""
        if struck and self._when == "before":
            os.kill(os.getpid(), signal.SIGKILL)

    def after(self, *, struck: bool) -> None:
        """End here if that is where it ends."""
        if struck and self._when == "after":
            os.kill(os.getpid(), signal.SIGKILL)


class DoomedThreads(Threads):
    """Threads that end the process at the chosen function."""

    def __init__(self, doom: Doom, name: str, count: int) -> None:
        super().__init__(name, count)
        self._doom = doom

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it, unless this is the end."""
        if function.__name__ == in_turn.__name__:
            calls = [self._each(call) for call in cast("Sequence[partial[Any]]", args[0])]
            return cast("T", await super().__call__(in_turn, calls))
        struck = any(self._doom.strikes(step) for step in steps_of(function, args))

        def fatal() -> T:
            self._doom.before(struck=struck)
            result = function(*args, **kwargs)
            self._doom.after(struck=struck)
            return result

        return await super().__call__(fatal)

    def _each(self, call: partial[Any]) -> partial[Any]:
        """One of the calls that share a stay on a thread: between two it may end as well."""
        struck = any(self._doom.strikes(step) for step in steps_of(call.func, call.args))

        def fatal() -> object:
            self._doom.before(struck=struck)
            result = call()
            self._doom.after(struck=struck)
            return result

        return partial(fatal)


class DoomedClient(Client):
    """A client that ends the process before a request leaves, or when its reply is there."""

    def __init__(self, doom: Doom, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(*args, **kwargs)
        self._doom = doom

    async def create(self, spec: CreateSpec, *, request_id: str) -> RemoteUpload:
        """Create, unless this is the end."""
        return await self._step("create", super().create(spec, request_id=request_id))

    async def add_part(self, upload_id: str, body: Body, *, request_id: str) -> str:
        """Send a part, unless this is the end."""
        return await self._step(
            "add_part", super().add_part(upload_id, body, request_id=request_id)
        )

    async def complete(
        self, upload_id: str, part_ids: Sequence[str], md5: str, *, request_id: str
    ) -> RemoteFile:
        """Complete, unless this is the end."""
        return await self._step(
            "complete", super().complete(upload_id, part_ids, md5, request_id=request_id)
        )

    async def cancel(self, upload_id: str, *, request_id: str) -> None:
        """Cancel, unless this is the end."""
        await self._step("cancel", super().cancel(upload_id, request_id=request_id))

    async def list_files(
        self, purpose: str, *, created_after: float | None, request_id: str
    ) -> list[RemoteFile]:
        """List, unless this is the end."""
        return await self._step(
            "list_files",
            super().list_files(purpose, created_after=created_after, request_id=request_id),
        )

    async def _step(self, name: str, call: Awaitable[T]) -> T:
        struck = self._doom.strikes(f"Client.{name}")
        self._doom.before(struck=struck)
        try:
            return await call
        finally:
            self._doom.after(struck=struck)


def main() -> None:
    """Run until the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--at", required=True)
    parser.add_argument("--when", choices=("before", "after"), required=True)
    parser.add_argument("--nth", type=int, default=1)
    words = parser.parse_args()
    doom = Doom(words.at, words.when, words.nth)
    seams = app.Seams(threads=partial(DoomedThreads, doom), client=partial(DoomedClient, doom))
    asyncio.run(app.run(config.load(words.config, os.environ), os.environ, seams))


if __name__ == "__main__":
    main()
