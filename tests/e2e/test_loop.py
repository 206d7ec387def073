"""Nothing blocks the event loop: neither a call of the system nor long work of its own."""

from __future__ import annotations

import json
import os
import signal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support.daemon import DaemonProcess
from tests.support.service import EmulatorProcess
from tests.support.waiting import wait_for, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from tests.support.daemon import Table

    Ask = Callable[[str], Awaitable[bytes]]

FILES = 40
# What the loop's thread may ask of the system, by pattern, and why that does not hold it up.
ALLOWED = {
    "metrics.lag._Selector.select: select.epoll.poll": "here the loop waits",
    "client.sending.listen: select.poll.poll": "it is asked with no time to wait",
    "source.Source.readinto_cached: posix.preadv": "with RWF_NOWAIT it copies, or says no",
    "source.Source.close: posix.close": "nothing was written, so nothing is flushed",
    "aside.Aside.wait: _thread.lock.acquire": "4 ms at most, while the journal's statements run",
    "*: _thread.lock.acquire": "starting a thread; held for as long as that takes",
    "*: _thread.RLock.acquire": "logging's own, held for one line",
    "*: _thread.RLock.__enter__": "the same",
    "*: _thread.lock.__enter__": "the same",
    "systemd.Notifier._send: socket.socket.*": "a datagram to the manager; given up after a second",
    "hooks._Words.listen: io.open": "a pipe that is open already",
    "logs._Handler._write: _io.TextIOWrapper.*": "the log is written as it happens, line by line",
    "logs.*: posix.stat": "a traceback's lines, at the level debug alone",
    "logs.*: _io.*": "the same",
    "hooks.Programs._start: *": "a vfork: what a program is told lies in memory",
    "(asyncio.unix_events.*): posix.read": "the end of a hook's output, from a pipe that is ready",
    "(asyncio.unix_events.*): _io.FileIO.close": "the same pipe",
    "(asyncio.subprocess.*): *": "the same",
}
HOOK: Table = {"on": "done", "command": ["/bin/true"]}


class Watched(DaemonProcess):
    """A daemon whose event loop is watched; ``seen`` ends that and says what was found."""

    def __init__(self, root: Path, base_url: str, **env: str) -> None:
        self._seen = root / "seen"
        super().__init__(
            root,
            base_url,
            config={
                "daemon": {"log_level": "warning"},
                "watch": {"rescan": "1s"},
            },
            hooks=[HOOK],
            env={"UPLOADERD_SEEN": str(self._seen), **env},
        )

    async def launch(
        self,
        module: str = "tests.support.watched",
        words: Sequence[str] = ("run",),
        *,
        notify: bool = True,
    ) -> None:
        """Start it."""
        await super().launch(module, words, notify=notify)

    async def seen(self) -> dict[str, Any]:
        """End the watch."""
        self._seen.unlink(missing_ok=True)
        self.process.signal(signal.SIGUSR2)
        await wait_until(self._seen.exists, what="what was seen")
        found: dict[str, Any] = json.loads(self._seen.read_text())
        return found


async def work_out(daemon: Watched) -> None:
    """Do everything that a daemon does."""
    daemon.process.signal(signal.SIGUSR1)
    daemon.drop("large.bin", os.urandom(2**20) * 12)
    daemon.drop("empty.txt", b"")
    for number in range(FILES):
        daemon.drop(f"folder-{number % 7}/{number}.txt", b"%d" % number)
    (daemon.spool / "written.txt").write_text("in place")
    (daemon.spool / "link").symlink_to("written.txt")
    connector = aiohttp.UnixConnector(os.fspath(daemon.socket))
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(path: str, method: str = "GET") -> bytes:
            async with session.request(method, f"http://localhost{path}") as reply:
                return await reply.read()

        async with session.get("http://localhost/v1/events") as events:
            for path in ("/v1/pause", "/v1/resume", "/v1/reload"):
                await ask(path, "POST")
            for state in ("", "&state=queued", "&code=done", "&path=/nowhere"):
                await ask(f"/v1/files?limit=1000{state}")
            row = json.loads(await ask("/v1/files?limit=1"))["files"][0]
            for verb in ("hold", "release", "cancel", "retry"):
                await ask(f"/v1/files/{row['id']}/{verb}", "POST")

            async def over() -> bool:
                for path in ("/v1/status", "/metrics", "/healthz", f"/v1/files/{row['id']}"):
                    await ask(path)
                return set(daemon.left()) <= {"link"}

            await wait_until(over, what="an empty spool", timeout_s=90)
            scans = await scans_of(ask)
            await wait_until(lambda: more(ask, scans), what="another look through the spool")
            await events.content.readany()


async def scans_of(ask: Ask) -> int:
    """How often the spool was looked through."""
    line = next(
        line for line in (await ask("/metrics")).decode().splitlines() if line.startswith(SCANS)
    )
    return int(float(line.rpartition(" ")[2]))


async def more(ask: Ask, scans: int) -> bool:
    """Whether it was looked through since then."""
    return await scans_of(ask) > scans


SCANS = "uploaderd_watch_scans_total"


def unexpected(calls: dict[str, int]) -> list[str]:
    """The calls for which there is no reason."""
    return sorted(
        call for call in calls if not any(fnmatchcase(call, pattern) for pattern in ALLOWED)
    )


async def test_the_loop_asks_the_system_for_nothing_that_it_would_wait_for(tmp_path: Path) -> None:
    """Whatever goes on, files, SQLite, names and programs are the affair of other threads."""
    async with EmulatorProcess(tmp_path) as service, Watched(tmp_path, service.base_url) as daemon:
        await daemon.start()
        await work_out(daemon)
        calls = (await daemon.seen())["calls"]
        assert "metrics.lag._Selector.select: select.epoll.poll" in calls, "nothing was seen at all"
        found = unexpected(calls)
        assert not found, "\n".join(found)


async def test_no_callback_takes_long(tmp_path: Path) -> None:
    """In asyncio's debug mode none is called slow that really used a processor for so long."""
    async with (
        EmulatorProcess(tmp_path) as service,
        Watched(tmp_path, service.base_url, PYTHONASYNCIODEBUG="1") as daemon,
    ):
        await daemon.start()
        await work_out(daemon)
        assert (await daemon.seen())["slow"] == []


@pytest.mark.parametrize(
    ("how", "more_env"), [("file", {}), ("cpu", {"PYTHONASYNCIODEBUG": "1"})], ids=["file", "cpu"]
)
async def test_a_loop_that_is_blocked_is_seen(
    tmp_path: Path, how: str, more_env: dict[str, str]
) -> None:
    """The proof that both tests can fail: the loop looks at a file, or counts for long."""
    async with Watched(
        tmp_path, "http://127.0.0.1:9/v1", UPLOADERD_BLOCK=how, **more_env
    ) as daemon:
        await daemon.start()

        async def caught() -> list[str] | None:
            daemon.process.signal(signal.SIGUSR1)
            await daemon.status()
            found = await daemon.seen()
            return unexpected(found["calls"]) + found["slow"] or None

        said = await wait_for(caught, what="what blocks it to be seen")
        assert any("_misbehave" in line for line in said), said
