"""One end of a proxied connection: messages as bytes, and every way to end it."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

from tests.support.proxy_plan import Ends, content_length

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_HEAD_END = b"\r\n\r\n"
_NO_BODY = (b"204", b"304")
_LOOK_S = 0.005
_STATE, _ESTABLISHED = slice(0, 1), b"\x01"  # of struct tcp_info: tcpi_state
_UNACKED = slice(24, 28)  # tcpi_unacked; linux/tcp.h


class GoneError(Exception):
    """The other side has left."""


class Side:
    """One of the two connections that a proxied one is made of."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @staticmethod
    def listening(port: int, receive_bytes: int | None) -> socket.socket:
        """A socket bound to 127.0.0.1, on a free port if ``port`` is 0."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.bind(("127.0.0.1", port))
        return sock

    async def head(self) -> bytes:
        """Read a message's first line and headers."""
        return await self._reader.readuntil(_HEAD_END)

    async def some(self, most: int) -> bytes:
        """Read some bytes.

        Raises:
            GoneError: there are no more.
        """
        found = await self._reader.read(most)
        if not found:
            raise GoneError
        return found

    async def skip(self, count: int) -> None:
        """Read so many bytes and forget them."""
        while count > 0:
            count -= len(await self.some(min(count, 65536)))

    async def reply(self) -> bytes:
        """Read a whole reply; only a Content-Length or the connection's end delimits it."""
        head = await self.head()
        if head.split(b" ", 2)[1] in _NO_BODY:
            return head
        length = content_length(head)
        if length is None:
            return head + await self._reader.read()
        return head + await self._reader.readexactly(length)

    async def write(self, data: bytes) -> None:
        """Send bytes and wait until the transport has taken most of them."""
        self._writer.write(data)
        await self._writer.drain()

    async def heard(self) -> None:
        """Wait until the other side's kernel has acknowledged all, and its program had a turn."""
        while self._tcp_info()[_UNACKED] != bytes(4):
            await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(_LOOK_S)

    async def left(self) -> None:
        """Wait until the other side leaves, reading nothing that it sends."""
        while self._tcp_info()[_STATE] == _ESTABLISHED:
            await asyncio.sleep(_LOOK_S)

    def _tcp_info(self) -> bytes:
        sock: socket.socket = self._writer.get_extra_info("socket")
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED.stop)

    async def swallow(self) -> None:
        """Read until the other side leaves."""
        while await self._reader.read(65536):
            pass

    def end(self, how: Ends) -> None:
        """End the connection."""
        if how is Ends.RESET:
            sock: socket.socket = self._writer.get_extra_info("socket")
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
        elif how is Ends.HALF and self._writer.can_write_eof():
            self._writer.write_eof()
        else:
            self._writer.close()


async def pump(
    source: Side, target: Side, count: int, *, step: int, pause_s: float
) -> AsyncIterator[int]:
    """Pass on so many bytes in steps; yield how many each step had."""
    while count:
        data = await source.some(min(count, step))
        await target.write(data)
        count -= len(data)
        yield len(data)
        if pause_s:
            await asyncio.sleep(pause_s)
