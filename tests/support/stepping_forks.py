"""Daemons by fork: a parent that has imported everything makes a child a run.

    async with ForkServer(tmp_path) as server:
        daemon = ForkedDaemon(server, tmp_path, base_url)

A child is a real process with an environment, a log and a process id of its own, and dies of a real
SIGKILL; only the interpreter's start, most of a short run's time, is spent once. One child at a
time. The parent ends, and its child with it, when nobody holds its standard input any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, NoReturn, Self

from tests.support.daemon import DaemonProcess
from tests.support.processes import END_S, ROOT, Process, environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from tests.support.daemon import Table

NAME = "tests.support.stepping_forks"


class ForkServer:
    """The parent, seen from the test."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._log = root / "forks.log"
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        """Start it; the first fork waits for its imports."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", NAME),
                env=environment(self._root),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let it end, and its child with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def fork(self, words: Sequence[str], env: Mapping[str, str], log: Path) -> int:
        """Make a child that runs ``python -m WORDS``; return its process id."""
        assert self._process.stdin is not None
        wanted = {"words": list(words), "env": dict(env), "log": str(log)}
        self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
        return await self.told()

    async def told(self) -> int:
        """Wait for the next thing that it says: a child's id, then its exit code."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, f"the fork server ended\n{self._log.read_text(errors='backslashreplace')}"
        return int(line)


class ForkedProcess(Process):
    """A ``Process`` that is forked and not started anew."""

    def __init__(self, server: ForkServer, log: Path) -> None:
        super().__init__(log)
        self._server = server
        self._pid = 0
        self._end: asyncio.Task[int] | None = None

    async def spawn(
        self, module: str, words: Sequence[str], env: Mapping[str, str], *, piped: bool = False
    ) -> None:
        """Fork ``python -m MODULE WORDS``."""
        assert not piped
        self._pid = await self._server.fork([module, *words], env, self.log)
        self._end = asyncio.create_task(self._server.told())

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._end is not None and not self._end.done()

    async def ended(self, timeout_s: float = END_S) -> int:
        """Wait until it has ended by itself; return its exit code, negative for a signal."""
        assert self._end is not None, "it was never started"
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._end)
        except TimeoutError:
            raise AssertionError(
                f"process {self.pid} still runs after {timeout_s:g} s\n{self.last_words()}"
            ) from None

    async def kill(self) -> None:
        """SIGKILL it and wait until it is gone; nothing happens if it has ended."""
        self._send(signal.SIGKILL)
        if self._end is not None:
            await self.ended()

    async def stop(self, timeout_s: float = END_S) -> int:
        """SIGTERM it and wait; return its exit code."""
        self._send(signal.SIGTERM)
        return await self.ended(timeout_s)

    def _send(self, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):  # gone, and not yet told of
                os.kill(self._pid, number)


class ForkedDaemon(DaemonProcess):
    """A ``DaemonProcess`` whose processes a fork server makes."""

    def __init__(
        self,
        server: ForkServer,
        root: Path,
        base_url: str,
        *,
        config: Mapping[str, Table] | None = None,
    ) -> None:
        super().__init__(root, base_url, config=config)
        self.process = ForkedProcess(server, root / "daemon.log")

    async def try_to_start(self, module: str, words: Sequence[str]) -> bool:
        """Start another module in its place; say whether it got ready before it was killed."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.setblocking(False)
            self._notify.unlink(missing_ok=True)
            notices.bind(os.fspath(self._notify))
            await self.launch(module, words)
            try:
                await self._until_ready(notices)
            except AssertionError:
                assert await self.process.ended() == -signal.SIGKILL, self.process.last_words()
                return False
        return True


def main() -> None:
    """Fork what is asked for until standard input ends; say each child's id and exit code."""
    import tests.support.stepping  # noqa: F401, PLC0415 - loaded once, for all children
    from uploaderd.cli import words  # noqa: F401, PLC0415 - the same

    gc.collect()
    gc.freeze()
    while line := _line():
        pid = os.fork()
        if pid == 0:
            _become(**json.loads(line))
        _say(pid)
        _await(pid)
        _say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _await(pid: int) -> None:
    """Wait for the child's end; kill it if the test ends first."""
    child = os.pidfd_open(pid)
    try:
        if child not in select.select([0, child], [], [])[0]:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(child)


def _line() -> bytes:
    found = b""
    while not found.endswith(b"\n"):
        some = os.read(0, 1 << 16)
        if not some:
            return b""
        found += some
    return found


def _say(number: int) -> None:
    os.write(1, f"{number}\n".encode())


def _become(words: list[str], env: dict[str, str], log: str) -> NoReturn:
    """Be the process that was asked for."""
    code = 1
    try:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for fd, place in ((nothing, 0), (target, 1), (target, 2)):
            os.dup2(fd, place)
        os.environ.clear()
        os.environ.update(env)
        module, *rest = words
        if module == "uploaderd":
            from uploaderd import cli  # noqa: PLC0415 - loaded by the parent

            cli.main(rest)
        else:
            from tests.support import stepping  # noqa: PLC0415 - loaded by the parent

            stepping.main(rest)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - the child's end, whatever it is; nothing may go on
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
