"""Request bodies: streamed once, counted, and never completed by accident."""

from __future__ import annotations

import asyncio
import select
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from aiohttp import ClientConnectionResetError
from aiohttp.payload import Payload

from uploaderd.errors import ChangedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.abc import AbstractStreamWriter

_TURNS = 8  # of the loop, to read what the service already said before more is sent to it


class Body(Protocol):
    """A part's bytes. Iterated once; a fresh one is made for each attempt.

    What it yields must stay as it is until the next step is asked for, and may change after that.
    """

    @property
    def length(self) -> int:
        """How many bytes it will yield, exactly."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        """Yield the bytes in steps."""
        ...


class Outgoing(Payload):
    """A request's body on its way.

    Attributes:
        handed: bytes of the request's body that were handed to the transport.
        whole: all of them were handed over, so the service may have the request.
        error: what the part's own iteration raised, or None.
        transport: the connection, once writing has begun.
    """

    _autoclose = True  # nothing is left to close: write_with_length cleans up after itself

    def __init__(self, head: bytes, body: Body | None, tail: bytes, content_type: str) -> None:
        super().__init__(None, content_type=content_type)
        self._head = head
        self._body = body
        self._tail = tail
        self._size = len(head) + (0 if body is None else body.length) + len(tail)
        self._running: asyncio.Future[None] | None = None
        self.handed = 0
        self.whole = False
        self.error: Exception | None = None
        self.transport: asyncio.WriteTransport | None = None

    @property
    def waits(self) -> bool:
        """It is the body itself that waits, by its own will; no peer is in its way."""
        return getattr(self._body, "waits", False)

    @property
    def length(self) -> int:
        """All the bytes of the request's body."""
        return self._size or 0

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002
        """Refuse to become text: what is streamed once cannot be shown."""
        raise TypeError("a request's body is streamed once and cannot be decoded")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send everything; aiohttp's older name for ``write_with_length``."""
        await self.write_with_length(writer, None)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Send head, body and tail; aiohttp calls this in a task of its own.

        The tail leaves only after the body ended with exactly the promised bytes, so a request
        whose body went wrong can never look complete to the service.
        """
        del content_length  # fixed at construction
        self._running = asyncio.get_running_loop().create_future()
        self.transport = writer.transport
        try:
            if self._body is None:
                await self._step(writer, self._head + self._tail, last=True)
                return
            _keep_nothing(self.transport)
            await self._step(writer, self._head)
            await self._stream(writer, self._body)
            await self._step(writer, self._tail, last=True)
        finally:
            try:
                if not self.whole:
                    self.abort()
            finally:
                self._running.set_result(None)

    async def _stream(self, writer: AbstractStreamWriter, body: Body) -> None:
        left = body.length
        steps = aiter(body)
        try:
            while True:
                try:
                    step = await anext(steps)
                except StopAsyncIteration:
                    break
                except Exception as exc:
                    self.error = exc
                    raise
                left -= len(step)
                if left < 0:
                    break
                if step:
                    await self._step(writer, step)
        finally:
            close = getattr(steps, "aclose", None)
            if close is not None:
                await close()
        if left:
            self.error = ChangedError(
                f"the part should have {body.length} bytes but has "
                + ("more" if left < 0 else f"only {body.length - left}")
            )
            raise self.error

    async def _step(
        self, writer: AbstractStreamWriter, step: bytes | memoryview, *, last: bool = False
    ) -> None:
        """Send some bytes and, unless they are the last, wait until the kernel has them all."""
        await listen(self.transport)
        _must_be_open(self.transport)
        self.handed += len(step)
        self.whole = last
        await writer.write(step)
        if not last:
            await self._let_go(writer)

    async def _let_go(self, writer: AbstractStreamWriter) -> None:
        """Wait until the transport holds nothing that it was given, after a turn for others.

        The body uses the same memory for its next step, and a transport keeps what it could not
        send at once, from Python 3.12 on without a copy.
        """
        while True:
            await asyncio.sleep(0)
            if not _must_be_open(self.transport).get_write_buffer_size():
                return
            await writer.drain()

    def abort(self) -> None:
        """Drop the connection at once, with whatever is still buffered for it."""
        if self.transport is not None:
            drop(self.transport)

    async def settled(self) -> None:
        """Wait until the body is no longer touched; at once if it never was."""
        if self._running is not None:
            await asyncio.shield(self._running)


def drop(transport: asyncio.WriteTransport) -> None:
    """Abort a connection, also one that has ended by itself.

    A transport that was closed with something left to send, and has sent it since, has let go of
    its loop without a mark: asyncio's ``abort`` fails on that one.
    """
    with suppress(AttributeError):
        transport.abort()


def _must_be_open(transport: asyncio.WriteTransport | None) -> asyncio.WriteTransport:
    if transport is None or transport.is_closing():
        raise ClientConnectionResetError("the connection was closed before all was sent")
    return transport


def _keep_nothing(transport: asyncio.WriteTransport | None) -> None:
    """Make ``drain`` wait until the transport's buffer is empty.

    Over TLS the mark is one byte: asyncio's transport there pauses at the mark, not above it, and
    with a mark of nothing it would stop and go at each call.
    """
    if transport is not None:
        tls = transport.get_extra_info("sslcontext") is not None
        transport.set_write_buffer_limits(high=1 if tls else 0, low=0)


async def listen(transport: asyncio.WriteTransport | None) -> None:
    """Let the loop read what has already arrived, before anything is sent.

    A service that refuses a request early answers, closes, and resets the connection if more
    comes. A send that fails makes asyncio drop the connection with the answer unread, so the
    answer must be read before the next send: the status would be lost otherwise.
    """
    sock = None if transport is None else transport.get_extra_info("socket")
    if transport is None or sock is None:
        return
    poller = select.poll()
    for turn in range(_TURNS):
        if transport.is_closing():
            return
        if not turn:
            poller.register(sock.fileno(), select.POLLIN)
        if not poller.poll(0):
            return
        await asyncio.sleep(0)


def part(body: Body, boundary: str) -> Outgoing:
    """Frame a part as the official Python SDK does (protocol notes, "POST …/parts")."""
    head = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="data"; filename="upload"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return Outgoing(
        head.encode(),
        body,
        f"\r\n--{boundary}--\r\n".encode(),
        f"multipart/form-data; boundary={boundary}",
    )


def document(text: bytes) -> Outgoing:
    """A JSON document as a request's body."""
    return Outgoing(text, None, b"", "application/json")
