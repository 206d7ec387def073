"""A link with a delay, a rate and moods: a TCP proxy as a process of its own.

    with Link("127.0.0.1:9801", Line(delay_s=0.05, total_bps=2e6)) as link:
        ...  # http://{link.address}/v1 is the service behind it

What clients send is held back as a real way would hold it: each connection has a window, so that
it carries at most a window in a round trip; all share one bottleneck with a short queue; now and
then one stands still, or is reset. Chance comes from a seed. Replies are delayed, and that is all.
Small buffers of the kernel and segments of an Ethernet let a client feel it: with loopback's own,
two and a half megabytes of each connection are gone before anybody waits.

``python -m bench.link HOST:PORT LINE`` says where it listens; each line that it reads then is a
``Line`` to go on with.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import subprocess
import sys
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from tests.support.processes import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from types import TracebackType

    Enter = Callable[[int], Awaitable[float]]

STEP_BYTES = 16 * 1024
BUFFER_BYTES = 64 * 1024
SEGMENT_BYTES = 1460
SLACK_S = 0.002  # a shorter sleep is none: the loop counts in milliseconds
END_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a link is like; 0 means that it has no such thing.

    Attributes:
        delay_s: one way.
        window_bytes: of one connection, on the way and not acknowledged.
        each_bps: what one connection carries, in bytes a second.
        total_bps: what all of them carry together.
        queue_bytes: what waits in front of that bottleneck.
        stall_every_s: how long a connection goes on, on average, before it stands still.
        stall_s: for so long.
        reset_every_s: how long one goes on, on average, before it is reset.
        seed: of chance.
    """

    delay_s: float = 0.0
    window_bytes: int = 0
    each_bps: float = 0.0
    total_bps: float = 0.0
    queue_bytes: int = 256 * 1024
    stall_every_s: float = 0.0
    stall_s: float = 0.0
    reset_every_s: float = 0.0
    seed: int = 1


class Link:
    """The process, while the block lasts.

    Attributes:
        address: HOST:PORT to connect to.
    """

    def __init__(self, target: str, line: Line, folder: Path) -> None:
        self.address = ""
        self._target = target
        self._line = line
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start it; it listens when this returns."""
        with (self._folder / "link.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.link", self._target, json.dumps(asdict(self._line))],
                env=environment(self._folder),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address, (self._folder / "link.log").read_text("utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.cut()
        self._process.stdin.close()
        self._process.stdout.close()

    def cut(self) -> None:
        """End all its connections at once; what is still on its way is lost."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(END_S)

    def change(self, line: Line) -> None:
        """Be another link from now on, for the connections that there are too."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(line)) + "\n")
        self._process.stdin.flush()


class Bottleneck:
    """Bytes leave one after the other; each learns when its turn is over."""

    def __init__(self) -> None:
        self.free_s = 0.0

    def reserve(self, count: int, bps: float, now_s: float) -> float:
        """When so many bytes will have left, at that rate (0: at once)."""
        if not bps:
            return now_s
        self.free_s = max(self.free_s, now_s) + count / bps
        return self.free_s


class Way:
    """The link itself: what all connections share."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.total = Bottleneck()
        self.chance = random.Random(line.seed)

    def wait_s(self, every_s: float) -> float:
        """How long it goes well, by chance."""
        return self.chance.expovariate(1 / every_s) if every_s else float("inf")


class Pipe:
    """One connection and what is on its way in it."""

    def __init__(self, way: Way, client: socket.socket, server: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._way = way
        self._client = client
        self._server = server
        self._own = Bottleneck()
        self._on_way = 0
        self._room = asyncio.Event()
        now_s = self._loop.time()
        self._stalls_s = now_s + way.wait_s(way.line.stall_every_s)
        self._resets_s = now_s + way.wait_s(way.line.reset_every_s)
        self._line = way.line

    async def run(self) -> None:
        """Carry both ways until either end has gone."""
        tasks = [
            asyncio.create_task(self._carry(self._client, self._server, self._enter)),
            asyncio.create_task(self._carry(self._server, self._client, None)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, source: socket.socket, sink: socket.socket, enter: Enter | None) -> None:
        """Read, and write again a delay later; order is kept."""
        waiting: deque[tuple[float, bytes]] = deque()
        news = asyncio.Event()
        writer = asyncio.create_task(self._write(sink, waiting, news, upward=enter is not None))
        try:
            while True:
                if enter is not None:
                    await self._may_enter()
                data = await self._loop.sock_recv(source, STEP_BYTES)
                now_s = self._loop.time()
                leaves_s = await self._enter(len(data)) if enter is not None and data else now_s
                waiting.append((leaves_s + self._way.line.delay_s, data))
                news.set()
                if not data:
                    await writer
                    return
                if writer.done():
                    writer.result()
                    return
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _may_enter(self) -> None:
        """Wait for what keeps this connection from sending: its window, its moods."""
        line = self._way.line
        if line is not self._line:  # another link by now
            now_s, self._line = self._loop.time(), line
            self._stalls_s = now_s + self._way.wait_s(line.stall_every_s)
            self._resets_s = now_s + self._way.wait_s(line.reset_every_s)
        while line.window_bytes and self._on_way >= line.window_bytes:
            self._room.clear()
            await self._room.wait()
        if self._loop.time() >= self._resets_s:
            linger = struct.pack("ii", 1, 0)
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            raise ConnectionResetError
        if self._loop.time() >= self._stalls_s:
            await asyncio.sleep(line.stall_s)
            self._stalls_s = self._loop.time() + self._way.wait_s(line.stall_every_s)

    async def _enter(self, count: int) -> float:
        """Wait for the bottlenecks' queues; return when these bytes have left them."""
        line = self._way.line
        self._on_way += count
        now_s = self._loop.time()
        leaves_s = max(
            self._own.reserve(count, line.each_bps, now_s),
            self._way.total.reserve(count, line.total_bps, now_s),
        )
        rates = [rate for rate in (line.each_bps, line.total_bps) if rate]
        queue_s = line.queue_bytes / min(rates) if rates else 0.0
        if leaves_s - now_s > queue_s + SLACK_S:
            await asyncio.sleep(leaves_s - now_s - queue_s)
        return leaves_s

    async def _write(
        self,
        sink: socket.socket,
        waiting: deque[tuple[float, bytes]],
        news: asyncio.Event,
        *,
        upward: bool,
    ) -> None:
        while True:
            while not waiting:
                news.clear()
                await news.wait()
            at_s, data = waiting.popleft()
            wait_s = at_s - self._loop.time()
            if wait_s > SLACK_S:
                await asyncio.sleep(wait_s)
            if not data:
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                return
            await self._loop.sock_sendall(sink, data)
            if upward:
                delay_s = self._way.line.delay_s
                self._loop.call_later(delay_s, self._acknowledge, len(data))

    def _acknowledge(self, count: int) -> None:
        self._on_way -= count
        self._room.set()


async def serve(target: str, line: Line) -> None:
    """Listen until the end."""
    way, loop = Way(line), asyncio.get_running_loop()
    host, _, port = target.rpartition(":")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        listener.setblocking(False)  # noqa: FBT003 - the standard library takes it so
        sys.stdout.write(f"127.0.0.1:{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        loop.add_reader(sys.stdin, _read_line, way)
        async with asyncio.TaskGroup() as group:
            while True:
                client, _ = await loop.sock_accept(listener)
                group.create_task(_connect(way, client, (host, int(port))))


def _read_line(way: Way) -> None:
    text = sys.stdin.readline()
    if not text:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        return
    way.line = Line(**json.loads(text))
    way.total.free_s = 0.0


async def _connect(way: Way, client: socket.socket, where: tuple[str, int]) -> None:
    loop = asyncio.get_running_loop()
    with client, socket.socket() as server, contextlib.suppress(OSError):
        for one in (client, server):
            one.setblocking(False)  # noqa: FBT003 - the standard library takes it so
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.sleep(2 * way.line.delay_s)  # the handshake, which the kernel made at once
        await loop.sock_connect(server, where)
        await Pipe(way, client, server).run()


def main() -> None:
    """Listen as the command line says."""
    asyncio.run(serve(sys.argv[1], Line(**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
