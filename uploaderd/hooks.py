"""A hook's program: started without a shell, given its input, heard out, ended in time.

It gets a session of its own, so that what it does to its process group does not reach the daemon,
``/`` as its folder, and an environment that holds nothing of the daemon's but ``PASSED``.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
)
KEPT_BYTES = 2_000
GRACE_S = 2.0  # between SIGTERM and SIGKILL
REST_S = 0.5  # for the last words of one that has ended, where a child of its holds the pipe open
STUCK_S = 5.0  # SIGKILL ends all but what hangs in the kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One run.

    Attributes:
        stdin: what it can read from its standard input: all of it, or as much as it likes.
        env: its variables, on top of those that are passed on.
    """

    command: tuple[str, ...]
    stdin: bytes
    env: Mapping[str, str]
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended.

    Attributes:
        outcome: ``ok``, ``failed``, ``timeout``, or ``missing`` where it could not be started.
        text: that in words, without a full stop.
        output: the end of what it printed, on one line; empty where it was silent.
    """

    outcome: str
    text: str
    output: str = ""

    @property
    def ok(self) -> bool:
        """Whether it did what it was to do."""
        return self.outcome == "ok"


class Programs:
    """Runs programs; ``env`` is the daemon's environment."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._env = {name: env[name] for name in PASSED if name in env} if env else {}
        self._env.setdefault("PATH", os.defpath)

    async def __call__(self, order: Order) -> Ended:
        """Run one to its end; if the caller is cancelled it is ended before its time."""
        words = _Words()
        try:
            process = await self._start(order, words)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            return Ended(outcome="missing", text=f"it cannot be started: {why}")
        try:
            try:
                async with asyncio.timeout(order.timeout_s):
                    code = await process.wait()
            except TimeoutError:
                await _end(process)
                text = f"it had not ended after {order.timeout_s:g} s and was ended"
                return Ended(outcome="timeout", text=text, output=words.text)
            except asyncio.CancelledError:
                await _end(process)
                raise
            with suppress(TimeoutError):
                async with asyncio.timeout(REST_S):
                    await words.over.wait()
        finally:
            words.close()
        if code == 0:
            return Ended(outcome="ok", text="exit code 0", output=words.text)
        text = f"exit code {code}" if code > 0 else f"ended by {_name_of(-code)}"
        return Ended(outcome="failed", text=text, output=words.text)

    async def _start(self, order: Order, words: _Words) -> asyncio.subprocess.Process:
        # No pipe for what it reads: nobody has to wait until it reads it, if it ever does. And a
        # pipe of our own for what it prints: asyncio's would be waited for after its end.
        stdin = os.memfd_create("receipt")
        try:
            with os.fdopen(os.dup(stdin), "wb") as file:
                file.write(order.stdin)
            os.lseek(stdin, 0, os.SEEK_SET)
            reading, writing = os.pipe()
            try:
                await words.listen(reading)
                return await asyncio.create_subprocess_exec(
                    *order.command,
                    stdin=stdin,
                    stdout=writing,
                    stderr=writing,
                    cwd="/",
                    env=self._env | dict(order.env),
                    start_new_session=True,
                )
            except BaseException:
                words.close()
                raise
            finally:
                os.close(writing)
        finally:
            os.close(stdin)


class _Words(asyncio.Protocol):
    """Hears all that is printed, and keeps the end of it."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self._kept = b""
        self._cut = False
        self._transport: asyncio.ReadTransport | None = None

    async def listen(self, fd: int) -> None:
        """Begin to read; the descriptor is ours from now on."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(lambda: self, os.fdopen(fd, "rb", 0))

    def data_received(self, data: bytes) -> None:
        """Keep the end of it."""
        self._cut = self._cut or len(self._kept) + len(data) > KEPT_BYTES
        self._kept = (self._kept + data[-KEPT_BYTES:])[-KEPT_BYTES:]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Nobody prints any more."""
        self.over.set()

    def close(self) -> None:
        """Hear no more; who goes on printing gets an error."""
        if self._transport is not None:
            self._transport.close()

    @property
    def text(self) -> str:
        """The end of it, on one line."""
        words = " ".join(self._kept.decode("utf-8", "backslashreplace").split())
        words = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in words
        )
        return f"…{words}" if self._cut and words else words


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a program and what it started in its process group: with SIGTERM, then with SIGKILL."""
    try:
        if process.returncode is None:
            _signal(process, signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    await process.wait()
    finally:
        _signal(process, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(STUCK_S):
            await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)  # its own session began with this id


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
