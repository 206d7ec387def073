"""A server that is told what to say, byte by byte, and remembers what it heard."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from uploaderd.client import Client, TargetAddress, open_session

if TYPE_CHECKING:
    import ssl

SECRET = "sk-proj-0123456789abcdefSECRET"  # noqa: S105 - it opens nothing

JSON = "Content-Type: application/json"


class TheKey:
    """A key."""

    def __init__(self, value: str = SECRET) -> None:
        self.value = value

    def reveal(self) -> str:
        """Return it."""
        return self.value


def reply(status: str, body: str | bytes = b"", *headers: str) -> bytes:
    """Write a whole reply."""
    raw = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(raw)}", *(headers or (JSON,))]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


@dataclass
class Heard:
    """One connection: what came, and whether it has ended."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes = b""
    body: bytearray = field(default_factory=bytearray)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def headers(self) -> dict[str, str]:
        """The request's headers, lower case."""
        lines = self.head.decode().split("\r\n")[1:]
        return {
            name.lower(): value
            for name, _, value in (line.partition(": ") for line in lines)
            if name
        }

    @property
    def line(self) -> str:
        """The request line."""
        return self.head.decode().split("\r\n")[0]

    async def read_head(self) -> None:
        """Read the request line and the headers."""
        self.head = await self.reader.readuntil(b"\r\n\r\n")

    async def read_body(self, most: int | None = None) -> None:
        """Read the body, or so many bytes of it."""
        wanted = int(self.headers.get("content-length", "0"))
        wanted = wanted if most is None else min(most, wanted)
        while len(self.body) < wanted:
            some = await self.reader.read(min(65536, wanted - len(self.body)))
            if not some:
                break
            self.body += some

    async def read_all(self) -> None:
        """Read one request."""
        await self.read_head()
        await self.read_body()

    async def say(self, raw: bytes) -> None:
        """Send bytes."""
        self.writer.write(raw)
        await self.writer.drain()

    async def until_end(self) -> None:
        """Read on until the client closes or resets, and mark the end."""
        with contextlib.suppress(OSError):
            while some := await self.reader.read(65536):
                self.body += some
        self.ended.set()

    def reset(self) -> None:
        """Break the connection with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Heard], Awaitable[None]]


class Wire:
    """The server; ``heard`` is one entry a connection."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.heard: list[Heard] = []


@contextlib.asynccontextmanager
async def listening(
    script: Script, *, receive_bytes: int | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Wire]:
    """Serve a script on a free port of 127.0.0.1; its connections end with the block."""
    tasks: set[asyncio.Task[None]] = set()
    wire = Wire("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        heard = Heard(reader, writer)
        wire.heard.append(heard)
        try:
            await script(heard)
        except (OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            if not closing:
                raise
        finally:
            heard.ended.set()
            writer.close()
            tasks.discard(task)

    closing = False
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(serve, sock=sock, limit=65536, ssl=tls)
    scheme = "http" if tls is None else "https"
    wire.base_url = f"{scheme}://127.0.0.1:{sock.getsockname()[1]}/v1"
    try:
        yield wire
    finally:
        closing = True
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Steps:
    """A part's body: given steps, counted, and able to fail on the way."""

    def __init__(self, steps: list[bytes], *, length: int | None = None) -> None:
        self.steps = steps
        self.length = sum(map(len, steps)) if length is None else length
        self.taken = 0
        self.closed = False
        self.error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the steps, then fail if told so."""
        try:
            for step in self.steps:
                self.taken += 1
                yield step
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


@contextlib.asynccontextmanager
async def talking(
    base_url: str, *, stall_s: float = 20.0, key: TheKey | None = None, **address: object
) -> AsyncIterator[Client]:
    """A client with a session of its own."""
    async with open_session(connections=4) as session:
        yield Client(
            TargetAddress(name="t", base_url=base_url, **address),  # type: ignore[arg-type]
            key or TheKey(),
            stall_s=stall_s,
            session=session,
        )


@contextlib.asynccontextmanager
async def against(script: Script, *, stall_s: float = 20.0) -> AsyncIterator[tuple[Client, Wire]]:
    """A client and the server that it talks to."""
    async with listening(script) as wire, talking(wire.base_url, stall_s=stall_s) as client:
        yield client, wire


def hides(error: BaseException) -> None:
    """Assert that the key is in no text of an error or of what it came from."""
    seen: BaseException | None = error
    while seen is not None:
        assert SECRET not in f"{seen} {seen!r} {getattr(seen, 'hint', '')} {vars(seen)!r}"
        seen = seen.__cause__ or seen.__context__
