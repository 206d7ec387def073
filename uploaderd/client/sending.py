"""Request bodies: streamed once, counted, and never completed by accident."""

from __future__ import annotations

import asyncio
import os
import select
from contextlib import suppress
from hashlib import blake2b
from itertools import count
from typing import TYPE_CHECKING, Protocol

from aiohttp import ClientConnectionResetError
from aiohttp.payload import Payload

from uploaderd.errors import ChangedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.abc import AbstractStreamWriter

_TURNS = 8  # of the loop, to read what the service already said before more is sent to it
_SMALL_BYTES = 64 * 1024  # of a body that leaves together with its request's head
_RECORD_BYTES = 12 * 1024  # with the head of its request less than a record of TLS


class Body(Protocol):
    """A part's bytes. Iterated once; a fresh one is made for each attempt.

    What it yields must stay as it is until the next step is asked for, and may change after that.
    Whoever asks for the next step has handed the last one to the connection, or does so at once.
    """

    @property
    def length(self) -> int:
        """How many bytes it will yield, exactly."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        """Yield the bytes in steps."""
        ...


class Outgoing(Payload):
    """A request's body on its way: in one write where it is small, else in steps.

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
        self._packed = head + tail if body is None else None
        self._steps: AsyncIterator[bytes | memoryview] | None = None
        self._first: bytes | memoryview = b""
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
        self.transport = writer.transport
        self._running = asyncio.get_running_loop().create_future()
        try:
            if self._packed is not None:
                await self._send_packed(writer, self._packed)
            elif self._body is not None:
                await self._send_in_steps(writer, self._body)
        finally:
            try:
                if not self.whole:
                    self.abort()
            finally:
                self._running.set_result(None)

    async def pack(self, *, tls: bool) -> None:
        """Take a small body from its source, before there is a connection for it.

        By the time that there is one, the whole request can leave in one write. A body that gives
        only some of it at first, since the bandwidth is limited, is sent in steps all the same.

        Args:
            tls: it goes out in records. What takes more than one is sent in steps too, with a look
                for an early refusal between them: on a fresh connection it may come behind the
                session's tickets, and be lost to the reset that the rest would meet.

        Raises:
            Exception: whatever the body's own iteration raised, as it was raised.
        """
        if self._body is None or self._body.length > (_RECORD_BYTES if tls else _SMALL_BYTES):
            return
        first = await self._next(self._body)
        if len(first) == self._body.length:
            self._packed = b"".join((self._head, first, self._tail))
        else:
            self._first = first

    async def _send_packed(self, writer: AbstractStreamWriter, packed: bytes) -> None:
        """Send everything over a connection that was found to be clean (``CleanRequest``)."""
        _must_be_open(self.transport)
        if self._body is not None:
            more = await self._next(self._body)  # its end, at which it counts its bytes, or fails
            self._must_be_exact(self._body, self._body.length + len(more))
        await self._hand(writer, packed, last=True)

    async def _send_in_steps(self, writer: AbstractStreamWriter, body: Body) -> None:
        _keep_nothing(self.transport)
        await self._step(writer, self._head)
        sent, step = 0, self._first
        try:
            while step or (step := await self._next(body)):
                sent += len(step)
                if sent > body.length:
                    break
                await self._step(writer, step)
                step = b""
        finally:
            await self._end_steps()
        self._must_be_exact(body, sent)
        await listen(self.transport)
        await self._hand(writer, self._tail, last=True)

    async def _next(self, body: Body) -> bytes | memoryview:
        """The body's next step that holds anything; nothing at its end."""
        if self._steps is None:
            self._steps = aiter(body)
        try:
            while True:
                step = await anext(self._steps, None)
                if step is None:
                    return b""
                if step:
                    return step
        except Exception as exc:
            self.error = exc
            raise

    def _must_be_exact(self, body: Body, count: int) -> None:
        if count != body.length:
            self.error = ChangedError(
                f"the part should have {body.length} bytes but has "
                + ("more" if count > body.length else f"only {count}")
            )
            raise self.error

    async def _step(self, writer: AbstractStreamWriter, step: bytes | memoryview) -> None:
        """Send some bytes and wait, after a turn for others, until the kernel has them all.

        The body uses the same memory for its next step, and a transport keeps what it could not
        send at once, from Python 3.12 on without a copy.
        """
        await listen(self.transport)
        await self._hand(writer, step)
        while True:
            await asyncio.sleep(0)
            if not _must_be_open(self.transport).get_write_buffer_size():
                return
            await writer.drain()

    async def _hand(
        self, writer: AbstractStreamWriter, some: bytes | memoryview, *, last: bool = False
    ) -> None:
        _must_be_open(self.transport)
        self.handed += len(some)
        self.whole = last
        await writer.write(some)

    def abort(self) -> None:
        """Drop the connection at once, with whatever is still buffered for it."""
        if self.transport is not None:
            drop(self.transport)

    async def settled(self) -> None:
        """Wait until the body is no longer touched; at once if it never was."""
        if self._running is not None and not self._running.done():
            await asyncio.shield(self._running)
        await self._end_steps()

    async def _end_steps(self) -> None:
        """Let the body clean up after itself, wherever it was left."""
        close = getattr(self._steps, "aclose", None)
        if close is not None:
            await close()


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


class Boundaries:
    """Boundaries of multipart bodies, which nobody can foretell and so put into a file.

    Each is a keyed digest of its number: whoever saw others, at the service say, knows nothing of
    the next one, and the kernel is asked for chance once and not for each part.
    """

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._numbers = count()

    def fresh(self) -> str:
        """Return one that was never used, 32 hex digits."""
        number = next(self._numbers).to_bytes(8)
        return blake2b(number, digest_size=16, key=self._key).hexdigest()


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
