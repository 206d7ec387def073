"""Over a link with a delay and a rate: what becomes of trouble, and of what is measured."""

from __future__ import annotations

import hashlib
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

import pytest

from bench.link import Line, Link
from tests.support.daemon import DaemonProcess
from tests.support.exposition import scrape
from tests.support.service import EmulatorProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tests.support.daemon import Table

pytestmark = pytest.mark.asyncio

MIB = 1 << 20
LONG_S = 60.0


class Scene:
    """A daemon, a link and a service, each a process of its own."""

    def __init__(self, root: Path, line: Line, transfer: Table, *, faults: tuple[str, ...]) -> None:
        self._root = root
        self._line = line
        self._transfer = transfer
        self._faults = faults
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start all three."""
        enter = self._stack.enter_async_context
        self.service = await enter(EmulatorProcess(self._root, faults=self._faults))
        where = self.service.base_url.removeprefix("http://").removesuffix("/v1")
        self.link = self._stack.enter_context(Link(where, self._line, self._root))
        url = f"http://{self.link.address}/v1"
        self.daemon = await enter(
            DaemonProcess(self._root, url, config={"transfer": self._transfer})
        )
        await self.daemon.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End them."""
        await self._stack.__aexit__(kind, error, trace)

    async def flight(self) -> dict[str, Any]:
        """What status says of the parts in flight."""
        told: dict[str, Any] = (await self.daemon.status())["targets"][0]["parts_in_flight"]
        return told

    async def until(self, what: str, **wanted: object) -> dict[str, Any]:
        """Wait until status says so of the parts in flight; return all that it says."""

        async def told() -> dict[str, Any] | None:
            found = await self.flight()
            return found if wanted.items() <= found.items() else None

        return await wait_for(told, what=what, timeout_s=LONG_S)

    async def arrived(self, name: str, content: bytes) -> None:
        """Wait until a file is there, whole."""
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()

        async def done() -> bool | None:
            row = await self.daemon.file(name)
            return (row is not None and row["state"] == "done" and row["md5"] == md5) or None

        await wait_for(done, what=f"{name} to arrive", timeout_s=LONG_S)


def content(size: int) -> bytes:
    """Some bytes."""
    return random.Random(size).randbytes(size)


async def test_a_429_halves_and_status_says_why(tmp_path: Path) -> None:
    """Neither growth nor trouble counts while Retry-After runs; afterwards all comes back."""
    fault = "call=part,action=refuse,status=429,skip=3,times=1,header=Retry-After:1"
    line = Line(delay_s=0.005, total_bps=3 * MIB)
    transfer: Table = {"parts_in_flight": 4, "part_size": "1MiB", "files_in_flight": 1}
    async with Scene(tmp_path, line, transfer, faults=(fault,)) as scene:
        whole = content(32 * MIB)
        scene.daemon.drop("a.bin", whole)
        told = await scene.until("a halved number", limit=2, frozen=True)
        assert told["code"] == "rate_limited"
        assert told["most"] == 4
        assert "429" in told["why"]
        assert "pause" in told["why"]
        told = await scene.until("the pause to end", frozen=False)
        assert told["limit"] == 2
        await scene.until("growth", limit=3, code="growing", frozen=False)
        await scene.until("all of it", limit=4, code="configured", now=4)
        scene.link.change(Line())
        await scene.arrived("a.bin", whole)
        page = await scrape(scene.daemon)
        assert page.value("uploaderd_target_parts_in_flight_limit", target="openai") == 4


async def test_a_stall_halves_and_the_file_arrives_all_the_same(tmp_path: Path) -> None:
    """Connections that stand still are given up, and half as many try again."""
    transfer: Table = {"parts_in_flight": 4, "part_size": "1MiB", "stall_timeout": "1s"}
    line = Line(total_bps=8 * MIB)
    async with Scene(tmp_path, line, transfer, faults=()) as scene:
        whole = content(16 * MIB)
        scene.daemon.drop("a.bin", whole)
        await scene.until("four parts on their way", now=4)
        scene.link.change(Line(total_bps=8 * MIB, stall_every_s=0.001, stall_s=30.0))
        told = await scene.until("fewer parts", code="broken")
        assert told["limit"] < 4
        assert "stalled" in told["why"]
        scene.link.change(Line())
        await scene.arrived("a.bin", whole)


async def test_the_part_size_is_measured_and_outlives_a_death(tmp_path: Path) -> None:
    """The second file's parts are ten seconds' work; after SIGKILL they are what they were."""
    line = Line(each_bps=2 * MIB)
    transfer: Table = {"parts_in_flight": 2, "part_size": "auto"}
    async with Scene(tmp_path, line, transfer, faults=()) as scene:
        first, second = content(11 * MIB), content(40 * MIB)
        scene.daemon.drop("first.bin", first)
        await scene.arrived("first.bin", first)
        scene.daemon.drop("second.bin", second)

        async def parts() -> list[dict[str, Any]] | None:
            row = await scene.daemon.file("second.bin")
            if row is None or not row["bytes_moving"]:
                return None
            found: list[dict[str, Any]] = row["parts_list"]
            return found

        before = await wait_for(parts, what="a part on its way")
        assert 10 * MIB < before[0]["bytes"] <= 20 * MIB  # ten seconds of 2 MiB/s, less some delay
        assert before[0]["bytes"] % MIB == 0
        await scene.daemon.kill()
        scene.link.change(Line())
        await scene.daemon.start()
        await scene.arrived("second.bin", second)
        row = await scene.daemon.file("second.bin")
        assert row is not None
        plan = [(part["offset"], part["bytes"]) for part in before]
        assert [(part["offset"], part["bytes"]) for part in row["parts_list"]] == plan
        assert row["attempts"] == 2


async def test_with_auto_the_link_decides_how_many_parts_fly(tmp_path: Path) -> None:
    """On a link whose connections carry little each, more of them fly, and status says why."""
    line = Line(delay_s=0.005, each_bps=MIB)
    transfer: Table = {"parts_in_flight": "auto", "part_size": "1MiB", "files_in_flight": 1}
    async with Scene(tmp_path, line, transfer, faults=()) as scene:
        whole = content(160 * MIB)
        scene.daemon.drop("a.bin", whole)
        told = await scene.flight()
        assert (told["limit"], told["most"]) == (4, 32)

        async def many() -> bool | None:
            return (await scene.flight())["now"] >= 16 or None

        await wait_for(many, what="sixteen parts on their way", timeout_s=LONG_S)
        scene.link.change(Line())
        await scene.arrived("a.bin", whole)


async def test_connections_that_are_reset_cost_their_parts_alone(tmp_path: Path) -> None:
    """A link on which every connection dies within a second still carries the file, once."""
    line = Line(delay_s=0.005, each_bps=4 * MIB, reset_every_s=0.7, seed=3)
    transfer: Table = {"parts_in_flight": 4, "part_size": "1MiB"}
    async with Scene(tmp_path, line, transfer, faults=()) as scene:
        whole = content(6 * MIB)
        scene.daemon.drop("a.bin", whole)
        await scene.until("trouble", code="broken")
        scene.link.change(Line())
        await scene.arrived("a.bin", whole)
        state = await scene.service.state()
        assert len(state["files"]) == 1
