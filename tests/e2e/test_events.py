"""Real daemons are followed: each change once and in order, over kills and restarts."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.support.daemon import DaemonProcess
from tests.support.service import EmulatorProcess
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

HISTORY_ENDS = "filed"


class Follower:
    """Follows a daemon's events, over its deaths, as a browser would.

    Attributes:
        files: the data of each ``file`` event, in the order in which they came.
        ids: their ids.
        kinds: the names of all events.
    """

    def __init__(self, daemon: DaemonProcess) -> None:
        self.files: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.kinds: list[str] = []
        self.last = ""
        self.connections = 0
        self._daemon = daemon

    async def run(self) -> None:
        """Follow; come again where it breaks off."""
        while True:
            with suppress(aiohttp.ClientError, OSError):
                await self._once()
            await asyncio.sleep(0.01)

    async def _once(self) -> None:
        connector = aiohttp.UnixConnector(os.fspath(self._daemon.socket))
        headers = {"Last-Event-ID": self.last} if self.last else {}
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://localhost/v1/events", headers=headers) as answer,
        ):
            assert answer.status == 200
            self.connections += 1
            block: dict[str, str] = {}
            async for raw in answer.content:
                line = raw.decode().rstrip("\n")
                if line:
                    name, _, value = line.partition(": ")
                    block[name] = value
                    continue
                self._take(block)
                block = {}

    def _take(self, block: dict[str, str]) -> None:
        kind = block.get("event", "")
        if kind:
            self.kinds.append(kind)
        self.last = block.get("id", self.last)
        if kind == "file":
            self.ids.append(block["id"])
            self.files.append(json.loads(block["data"]))

    def more_than(self, count: int) -> Callable[[], bool]:
        """A condition: so many changes were told of, and one more."""
        return lambda: len(self.files) > count

    def told(self) -> dict[str, list[tuple[str, str]]]:
        """What was told of each file."""
        found: dict[str, list[tuple[str, str]]] = {}
        for one in self.files:
            found.setdefault(one["id"], []).append((one["at"], one["state"]))
        return found


@asynccontextmanager
async def following(daemon: DaemonProcess) -> AsyncIterator[Follower]:
    """Follow a daemon for as long as the block lasts."""
    follower = Follower(daemon)
    task = asyncio.create_task(follower.run())
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_each_change_comes_once_and_in_order_over_kills(tmp_path: Path) -> None:
    """A follower that comes again with its last id has the whole history, whoever died when."""
    async with (
        EmulatorProcess(tmp_path) as service,
        DaemonProcess(
            tmp_path, service.base_url, config={"transfer": {"bandwidth": "6MiB/s"}}
        ) as daemon,
    ):
        await daemon.start()
        async with following(daemon) as follower:
            await wait_until(lambda: follower.kinds, what="the first event")
            await daemon.kill()  # before anything happened
            daemon.drop("first.bin", b"x")
            await daemon.start()
            for number in range(3):
                for one in range(4):
                    daemon.drop(f"{number}-{one}.bin", os.urandom(600_000))
                before = len(follower.files)
                await wait_until(follower.more_than(before + 5), what="some events")
                await daemon.kill()
                daemon.drop(f"{number}-meanwhile.bin", b"x" * 1000)
                await daemon.start()
            await daemon.until_drained(files=None, timeout_s=60)
            rows = [await daemon.ask(f"/v1/files/{row['id']}") for row in await daemon.files()]
            history = {
                row["id"]: [(one["at"], one["state"]) for one in row["history"]] for row in rows
            }
            assert len(history) == 16
            total = sum(len(one) for one in history.values())
            await wait_until(lambda: len(follower.files) >= total, what="the whole history")
    assert follower.connections == 5
    assert "reset" not in follower.kinds
    assert follower.kinds.count("status") == 5
    assert follower.told() == history
    places = [int(one.rpartition("-")[2]) for one in follower.ids]
    assert places == list(range(1, total + 1))
    assert len({one.rpartition("-")[0] for one in follower.ids}) == 1
    last = {one["id"]: one["file"] for one in follower.files}
    assert {row["state"] for row in last.values()} == {"done"}


async def test_another_journals_id_is_told_so(tmp_path: Path) -> None:
    """Whoever comes with an id that this journal never gave is told to read anew, and goes on."""
    async with (
        EmulatorProcess(tmp_path) as service,
        DaemonProcess(tmp_path, service.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("before.txt", b"x")
        await daemon.until_drained()
        async with following(daemon) as follower:
            follower.last = "another-7"
            await wait_until(lambda: "reset" in follower.kinds, what="the reset")
            assert follower.files == []
            daemon.drop("after.txt", b"x")
            await wait_until(
                lambda: follower.files and follower.files[-1]["event"] == HISTORY_ENDS,
                what="the whole story of the second file",
            )
        assert {one["path"] for one in follower.files} == {str(daemon.spool / "after.txt")}


async def test_progress_is_shown_while_there_is_some(tmp_path: Path) -> None:
    """Bytes that move are told of, at most once a second; nothing where nothing moves."""
    async with (
        EmulatorProcess(tmp_path) as service,
        DaemonProcess(
            tmp_path, service.base_url, config={"transfer": {"bandwidth": "1MiB/s"}}
        ) as daemon,
    ):
        await daemon.start()
        loop = asyncio.get_running_loop()
        async with following(daemon) as follower:
            await wait_until(lambda: "status" in follower.kinds, what="the status")
            began_s = loop.time()
            daemon.drop("big.bin", os.urandom(3_500_000))
            await daemon.until_drained()
            shown = follower.kinds.count("progress")
            assert 2 <= shown <= loop.time() - began_s + 2
            await wait_until(
                lambda: follower.files and follower.files[-1]["event"] == HISTORY_ENDS,
                what="its end",
            )
            assert await daemon.stop() == 0  # the stream ends: the follower does not hold it up
