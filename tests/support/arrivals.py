"""A relay in front of a service that counts, by time, the bytes that come from the daemon."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType

SLICE_S = 0.01


class Arrivals:
    """Counts what arrives on the wire, heads of requests included, and hands it on.

    Attributes:
        total: bytes up to now.
        base_url: what the daemon is given as the service's.
    """

    def __init__(self, base_url: str) -> None:
        self._url = urlsplit(base_url)
        self._slices: dict[int, int] = {}
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.Transport] = set()
        self.total = 0
        self.base_url = ""

    async def __aenter__(self) -> Self:
        """Listen on a port of its own."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Near(self), "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}{self._url.path}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cut every connection."""
        if self._server is not None:
            self._server.close()
        for one in list(self._ends):
            one.abort()

    def count(self, size: int) -> None:
        """So many bytes have arrived now."""
        self.total += size
        at = int(time.monotonic() / SLICE_S)
        self._slices[at] = self._slices.get(at, 0) + size

    def forget(self) -> None:
        """Begin anew."""
        self._slices.clear()
        self.total = 0

    def between(self, from_s: float, to_s: float) -> int:
        """Bytes that arrived between two moments of the monotonic clock."""
        first, last = int(from_s / SLICE_S), int(to_s / SLICE_S)
        return sum(size for at, size in self._slices.items() if first <= at < last)

    def most_in(self, seconds: float, *, since_s: float = 0.0) -> int:
        """The most bytes that arrived in any stretch of so many seconds."""
        width = max(int(seconds / SLICE_S), 1)
        times = sorted(at for at in self._slices if at >= since_s / SLICE_S)
        most = total = begin = 0
        for at in times:
            total += self._slices[at]
            while times[begin] <= at - width:
                total -= self._slices[times[begin]]
                begin += 1
            most = max(most, total)
        return most

    def each(self, seconds: float, from_s: float, to_s: float) -> list[int]:
        """Bytes in each stretch of so many seconds, one behind the other."""
        count = int((to_s - from_s) / seconds + 1e-6)
        return [
            self.between(from_s + n * seconds, from_s + (n + 1) * seconds) for n in range(count)
        ]

    async def beyond(self, near: _Near) -> None:
        """Connect to the service for one connection of the daemon's."""
        loop = asyncio.get_running_loop()
        host, port = self._url.hostname or "", self._url.port or 80
        try:
            await loop.create_connection(lambda: _Far(near), host, port)
        except OSError:
            near.close()

    def begins(self, transport: asyncio.Transport) -> None:
        """A connection is open."""
        self._ends.add(transport)

    def ends(self, transport: asyncio.Transport) -> None:
        """A connection is gone."""
        self._ends.discard(transport)


class _End(asyncio.Protocol):
    """One end of a connection; what it is given waits until the other end is there."""

    transport: asyncio.Transport | None = None
    other: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self.transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        if self.other is not None:
            self.other.close()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def close(self) -> None:
        """Send what is still to be sent, and close."""
        if self.transport is not None:
            self.transport.close()


class _Near(_End):
    def __init__(self, seen: Arrivals) -> None:
        self._seen = seen
        self._early: list[bytes] = []
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.transport is not None:
            self._seen.begins(self.transport)
        self._task = asyncio.get_running_loop().create_task(self._seen.beyond(self))

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self.transport is not None:
            self._seen.ends(self.transport)

    def data_received(self, data: bytes) -> None:
        self._seen.count(len(data))
        if self.other is None or self.other.transport is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def meets(self, far: _Far) -> None:
        """Hand on what came before the service was there."""
        self.other = far
        if far.transport is not None:
            far.transport.write(b"".join(self._early))
        self._early = []
        if self.transport is None or self.transport.is_closing():
            far.close()


class _Far(_End):
    def __init__(self, near: _Near) -> None:
        self.other: _Near = near

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.other.meets(self)

    def data_received(self, data: bytes) -> None:
        if self.other.transport is not None:
            self.other.transport.write(data)
