"""A real process: started with an environment of its own, ended by its own id."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uploaderd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(uploaderd.__file__).parent.parent
KEY = "sk-test-not-a-secret"  # what the daemon shows; the emulator takes any
END_S = 40.0  # more than the daemon's drain_timeout
LAST_LINES = 40

_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "COVERAGE_PROCESS_START")


def environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment that holds nothing of the caller's service, key, folders or manager."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    own = {"HOME": str(home), "OPENAI_API_KEY": KEY, "PYTHONPATH": str(ROOT)}
    return kept | own | dict(more or {})


class Process:
    """One process whose output goes to a file; it never outlives its owner."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    async def spawn(
        self, module: str, words: Sequence[str], env: Mapping[str, str], *, piped: bool = False
    ) -> None:
        """Start ``python -m MODULE WORDS``; ``piped`` keeps standard output for the caller."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *words,
                env=dict(env),
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if piped else log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None, "it was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def line(self) -> str:
        """Read one line of its standard output."""
        assert self._process is not None
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().rstrip("\n")

    async def ended(self, timeout_s: float = END_S) -> int:
        """Wait until it has ended by itself; return its exit code, negative for a signal."""
        assert self._process is not None, "it was never started"
        try:
            async with asyncio.timeout(timeout_s):
                return await self._process.wait()
        except TimeoutError:
            raise AssertionError(
                f"process {self.pid} still runs after {timeout_s:g} s\n{self.last_words()}"
            ) from None

    async def kill(self) -> None:
        """SIGKILL it and wait until it is gone; nothing happens if it has ended."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None, "it was never started"
        self._process.send_signal(number)

    async def stop(self, timeout_s: float = END_S) -> int:
        """SIGTERM it and wait; return its exit code."""
        if self.running:
            assert self._process is not None
            self._process.send_signal(signal.SIGTERM)
        return await self.ended(timeout_s)

    def last_words(self) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        lines = self.log.read_text(errors="backslashreplace").splitlines()
        return "\n".join(lines[-LAST_LINES:])
