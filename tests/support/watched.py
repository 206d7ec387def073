"""A daemon whose event loop is watched: what it asks of the system, and what takes it long.

    UPLOADERD_SEEN=FILE python -m tests.support.watched run --config FILE

From SIGUSR1 until SIGUSR2 each call of the loop's thread that might have to wait (for a disk, a
name server, another thread, a program) is counted, with the function of ours that it was made for.
At SIGUSR2 all is written to FILE, as JSON: ``{"calls": {"engine.feed._Ring.add: posix.stat": 3},
"slow": []}``. How long a call took plays no part, so a loaded machine changes nothing.

With $PYTHONASYNCIODEBUG asyncio itself looks for slow callbacks; ``slow`` has those in whose round
of the loop the thread really used a processor for ``SLOW_CPU_S``, and did not just wait for one.

With UPLOADERD_BLOCK=file the loop looks at a file, and with UPLOADERD_BLOCK=cpu it counts for
long: a proof that both are seen.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uploaderd import app, config
from uploaderd.metrics import Lag

if TYPE_CHECKING:
    from types import FrameType

SLOW_CPU_S = 0.1
# All of these modules' functions and methods may wait for something, but for these.
MAY_WAIT = {"posix", "_io", "io", "select", "fcntl", "sqlite3", "_socket", "socket", "_queue"}
MAY_WAIT |= {"_posixsubprocess", "_thread"}
NAMED = {"time.sleep"}
TRUST = {"load_verify_locations", "load_cert_chain", "set_default_verify_paths"}
PROMPT = {
    *("posix.fspath", "posix.getpid", "posix.urandom", "posix._path_normpath", "posix.strerror"),
    *("posix.WIFSTOPPED", "posix.waitstatus_to_exitcode", "posix.fstat", "posix.set_blocking"),
    *("_thread.get_ident", "_thread.get_native_id", "_thread.lock.release", "_thread.lock.locked"),
    *("_thread.RLock.release", "_thread.RLock.__exit__", "_thread.RLock._is_owned"),
    *("_thread.allocate_lock", "_thread.lock.__enter__"),
    *("_thread.lock.__exit__", "_thread.start_new_thread", "_thread._set_sentinel"),
    *("_queue.SimpleQueue.put", "_queue.SimpleQueue.get_nowait", "_io.FileIO.fileno"),
    *("_socket.inet_pton", "_socket.inet_ntop", "_socket.gethostname", "_socket.getdefaulttimeout"),
    *("select.poll", "select.poll.register", "select.epoll.register", "select.epoll.modify"),
    "select.epoll.unregister",
}
# What a socket is asked that is no affair of its peer's.
SWIFT = {"close", "fileno", "gettimeout", "settimeout", "setblocking", "getsockname", "detach"}
SWIFT |= {"getsockopt", "setsockopt", "getpeername", "_decref_socketios", "_real_close"}
OURS = "uploaderd."


class Watcher:
    """Counts the calls of one thread (sys.setprofile)."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, called: Any) -> None:  # noqa: ANN401 - sys's
        """Look at one event."""
        if event != "c_call":
            return
        owner, name = getattr(called, "__self__", None), called.__name__
        if owner is None or isinstance(owner, type(sys)):
            full = f"{called.__module__}.{name}"
        else:
            kind = owner if isinstance(owner, type) else type(owner)
            full = f"{kind.__module__}.{kind.__name__}.{name}"
        waits = full.partition(".")[0] in MAY_WAIT or full in NAMED or name in TRUST
        if not waits or full in PROMPT:
            return
        # A socket that does not block says at once that it would have to.
        if isinstance(owner, socket.socket) and (name in SWIFT or owner.gettimeout() == 0):
            return
        self.calls[f"{_for_whom(frame)}: {full}"] += 1


def _for_whom(frame: FrameType | None) -> str:
    """The nearest function of the daemon that a call was made for, or else who made it."""
    first = frame
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith(OURS) and module != "uploaderd.app":
            return f"{module.removeprefix(OURS)}.{frame.f_code.co_qualname}"
        frame = frame.f_back
    assert first is not None
    return f"({first.f_globals.get('__name__')}.{first.f_code.co_qualname})"


class Rounds(Lag):
    """Knows what the loop's thread has used of a processor in this round of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self._began_s = 0.0

    def rested(self, until_s: float) -> None:
        """A round begins."""
        super().rested(until_s)
        self._began_s = time.thread_time()

    @property
    def used_s(self) -> float:
        """Seconds on a processor since then."""
        return time.thread_time() - self._began_s


class Slow(logging.Filter):
    """Keeps what asyncio calls slow, unless it was just kept waiting for a processor."""

    def __init__(self, rounds: Rounds) -> None:
        super().__init__()
        self.told: list[str] = []
        self._rounds = rounds

    def filter(self, record: logging.LogRecord) -> bool:
        """Look at one record of asyncio's."""
        used_s = self._rounds.used_s
        if str(record.msg).startswith("Executing") and used_s >= SLOW_CPU_S:
            self.told.append(f"{used_s:.3f} s: {record.getMessage()}")
        return True


def _misbehave(how: str) -> None:
    """Do what no callback may do, again and again."""
    if how == "cpu":
        until_s = time.thread_time() + 2 * SLOW_CPU_S
        while time.thread_time() < until_s:
            pass
    else:
        os.stat("/")
    asyncio.get_running_loop().call_later(0.01, _misbehave, how)


async def _run(words: Path, rounds: Rounds) -> None:
    if how := os.environ.get("UPLOADERD_BLOCK"):
        _misbehave(how)
    await app.run(config.load(words, os.environ), os.environ, lag=rounds)


def main() -> None:
    """Run the daemon, as ``app.start`` does."""
    watcher, rounds = Watcher(), Rounds()
    slow = Slow(rounds)
    logging.getLogger("asyncio").addFilter(slow)
    seen = Path(os.environ["UPLOADERD_SEEN"])

    def begin(_number: int, _frame: FrameType | None) -> None:
        if not os.environ.get("PYTHONASYNCIODEBUG"):  # it would be slow in itself
            sys.setprofile(watcher)

    def end(_number: int, _frame: FrameType | None) -> None:
        sys.setprofile(None)
        new = seen.with_name("seen.new")
        new.write_text(json.dumps({"calls": watcher.calls, "slow": slow.told}), "utf-8")
        new.rename(seen)

    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)
    with asyncio.Runner(loop_factory=rounds.new_loop) as runner:
        runner.run(_run(Path(sys.argv[sys.argv.index("--config") + 1]), rounds))


if __name__ == "__main__":
    main()
