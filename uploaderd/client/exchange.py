"""One request and its reply: sent once, watched for stalls, read within bounds."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from uploaderd.client.sending import drop, listen
from uploaderd.errors import TargetBlockedError, TransientError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from types import TracebackType

    from aiohttp.connector import Connection

    from uploaderd.client.sending import Outgoing

CONNECT_S = 30.0  # for one address of the target; the stall timer bounds all of them together
_CONNECTIONS = 4  # taken from the pool at most until one is clean
_HEAD_BYTES = 1 << 20  # more than any head of a reply
_LOOK_MAX_S = 1.0  # between two looks
_LOOKS = 8  # how often a stall's time is divided to look whether bytes moved
# asyncio asks for 256 KiB at a time, and malloc has so much mapped and unmapped by the kernel anew
# for each reply of some hundred bytes; this much it has at hand.
_RECEIVE_BYTES = 64 * 1024
_TCP_INFO_BYTES = 136
_TCP_INFO_MOVED = 120  # of struct tcp_info: tcpi_bytes_acked, then tcpi_bytes_received; linux/tcp.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What one attempt sends, and how much of an answer it will read.

    Attributes:
        url: complete and quoted.
        body: None where the request has none.
        limit: the largest body of a reply in bytes.
        tls: how to verify the target, or True for the system's certificates.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: Outgoing | None
    limit: int
    tls: ssl.SSLContext | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer whose status was seen.

    Attributes:
        headers: by name in any case; of a repeated one the first value.
        body: as much of it as arrived, within the limit.
        cut: why ``body`` is not all of it, or empty.
        unasked: the answer came before the request had been sent whole.
        line: the connection that it came over.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: str
    unasked: bool
    line: asyncio.WriteTransport | None = None

    def distrust(self) -> None:
        """Drop the connection: what cannot be the answer may have pushed the answers out of step.

        Whoever uses it by now loses it too, and that is right: its answer would be another's.
        """
        if self.line is not None:
            drop(self.line)


async def exchange(session: aiohttp.ClientSession, asked: Asked, *, stall_s: float) -> Reply:
    """Send one request and read its reply.

    There is no limit on the whole, only on the time in which no byte moves either way. Redirects
    are not followed. When this returns or raises, the body is no longer touched. A connection
    that isn't at its end in good order is dropped, also when the caller is cancelled.

    Raises:
        TransientError: no reply, or not one of HTTP.
        TargetBlockedError: the target's certificate isn't trusted.
        Exception: whatever the part's own iteration raised, as it was raised.
    """
    body = asked.body
    pulse = _Pulse(body, stall_s, most_bytes=asked.limit + _HEAD_BYTES)
    try:
        try:
            async with pulse:
                if body is not None:
                    await body.pack(tls=asked.url.startswith("https:"))
                return await _attempt(session, asked, pulse)
        finally:
            if body is not None:
                await body.settled()
    except BaseException as exc:
        if body is not None:
            body.abort()
            if body.error is not None and isinstance(exc, Exception):
                raise body.error from None
        if isinstance(exc, (aiohttp.ClientError, TimeoutError, OSError)):
            raise _foreign(exc, body, pulse) from exc
        raise


class _UncleanError(aiohttp.ClientConnectionError):
    """The connection is not fit for a request; it is dropped, and nothing was sent."""


class Answer(aiohttp.ClientResponse):
    """A response that knows its connection, even when that is back in the pool.

    Attributes:
        line: the connection.
    """

    line: asyncio.WriteTransport | None = None


class CleanRequest(aiohttp.ClientRequest):
    """A request that is sent only over a connection on which nothing has come yet.

    What comes on an idle connection, such as a reply that something on the way sent twice, would
    be taken for the answer to whatever is asked next: aiohttp keeps it, and looks only when it
    puts a connection back, not when it takes one out. And a connection that the service has
    closed meanwhile would leave open whether the request was acted upon.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send it, unless the connection is not clean."""
        transport: Any = conn.transport
        await listen(transport)
        protocol = conn.protocol
        if protocol is None or protocol.should_close or not protocol.is_connected():
            raise _UncleanError("the service closed the connection or spoke before it was asked")
        if hasattr(transport, "max_size"):
            transport.max_size = _RECEIVE_BYTES
        response = await super().send(conn)
        if isinstance(response, Answer):
            response.line = transport
        return response


@lru_cache(maxsize=128)
def _url(text: str) -> URL:
    return URL(text, encoded=True)


async def _ask(session: aiohttp.ClientSession, asked: Asked) -> aiohttp.ClientResponse:
    """Send the request on the first connection that is clean, and await a status."""
    for left in reversed(range(_CONNECTIONS)):
        try:
            return await session.request(
                asked.method,
                _url(asked.url),
                headers=asked.headers,
                data=asked.body,
                skip_auto_headers=("Content-Type",) if asked.body is None else (),
                allow_redirects=False,
                raise_for_status=False,
                ssl=asked.tls,
            )
        except _UncleanError:
            if not left:
                raise
    raise AssertionError("the loop returns or raises")


async def _attempt(session: aiohttp.ClientSession, asked: Asked, pulse: _Pulse) -> Reply:
    response = await _ask(session, asked)
    try:
        pulse.answered = True
        unasked = asked.body is not None and not asked.body.whole
        body, cut = await _read(response, asked.limit, pulse)
        if asked.body is not None and asked.body.whole and not cut:
            asked.body.transport = None  # back in the pool, and perhaps another request's already
    finally:
        response.close()
    if asked.body is not None and asked.body.error is not None:
        raise asked.body.error
    return Reply(
        status=response.status,
        headers=response.headers,
        body=body,
        cut=cut,
        unasked=unasked,
        line=response.line if isinstance(response, Answer) else None,
    )


async def _read(response: aiohttp.ClientResponse, limit: int, pulse: _Pulse) -> tuple[bytes, str]:
    """Read a reply's body; a status that was seen is worth more than a body that breaks off."""
    found = bytearray()
    try:
        while some := await response.content.readany():
            pulse.received += len(some)
            found += some
            if len(found) > limit:
                return bytes(found[:limit]), f"it is longer than {limit} bytes"
    except (aiohttp.ClientError, OSError):
        return bytes(found), "it breaks off"
    return bytes(found), ""


class _Pulse:
    """Watches whether bytes move, and puts off the alarm as long as they do.

    Bytes count as moved when the peer's kernel has acknowledged or sent them (TCP_INFO), so that
    neither a large step nor a large socket buffer on a slow line looks like a stall; a body that
    waits for its turn to send, where the bandwidth is limited, does not stall either. What moves
    for ever without becoming a reply, such as provisional replies without end, raises the alarm
    as well.

    Used as a context manager, it raises TimeoutError in place of the block.

    Attributes:
        received: bytes of the reply's body.
        answered: a status was seen.
        flooded: more came than any reply has.
    """

    def __init__(self, body: Outgoing | None, stall_s: float, *, most_bytes: int) -> None:
        self._body = body
        self._stall_s = stall_s
        self._look_s = min(stall_s / _LOOKS, _LOOK_MAX_S)
        self._most_bytes = most_bytes
        self._received_before: int | None = None  # on this connection, when it was first looked at
        self._alarm = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._last: tuple[int, ...] = ()
        self._moved_s = 0.0
        self.flooded = False
        self.received = 0
        self.answered = False

    async def __aenter__(self) -> None:
        """Look every now and then, until the block ends."""
        self._moved_s = self._loop.time()
        self._timer = self._loop.call_at(self._moved_s + self._look_s, self._look)
        await self._alarm.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        await self._alarm.__aexit__(kind, error, trace)

    @property
    def stalled(self) -> bool:
        """The alarm was raised."""
        return self._alarm.expired()

    def _look(self) -> None:
        reading, now_s = self._reading(), self._loop.time()
        if reading != self._last or (self._body is not None and self._body.waits):
            self._last, self._moved_s = reading, now_s
        left_s = self._moved_s + self._stall_s - now_s
        if self.flooded or left_s <= 0:
            self._alarm.reschedule(now_s)
        else:
            self._timer = self._loop.call_at(now_s + min(self._look_s, left_s), self._look)

    def _reading(self) -> tuple[int, ...]:
        """Counters of which one changes if a byte moved."""
        body = self._body
        if body is None:
            return (self.received, self.answered)
        transport = body.transport
        if transport is None or transport.is_closing():
            return (self.received, self.answered, body.handed)
        moved = _moved(transport)
        for received in moved[1:]:
            if self._received_before is None:
                self._received_before = received
            self.flooded = received - self._received_before > self._most_bytes
        return (
            self.received,
            self.answered,
            body.handed,
            transport.get_write_buffer_size(),
            *moved,
        )


def _moved(transport: asyncio.WriteTransport) -> tuple[int, ...]:
    """Bytes that the peer's kernel acknowledged and sent; empty where the system doesn't say."""
    sock = transport.get_extra_info("socket")
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        return struct.unpack_from("=QQ", info, _TCP_INFO_MOVED)
    except (OSError, AttributeError, struct.error):
        return ()


def _foreign(
    exc: Exception, body: Outgoing | None, pulse: _Pulse
) -> TransientError | TargetBlockedError:
    """Map what aiohttp raised into our own tree."""
    unsent = isinstance(
        exc, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, _UncleanError)
    )
    acted = not unsent and (body is None or body.whole)
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        return TargetBlockedError(
            f"the target's certificate is not trusted: {exc.certificate_error}",
            code="certificate",
            hint="check base_url and, for a private authority, ca_file",
        )
    if pulse.flooded:
        return TransientError("what came back has no end", code="bad_reply", acted=acted)
    if isinstance(exc, aiohttp.ClientResponseError):
        return TransientError("what came back is not HTTP", code="bad_reply", acted=acted)
    return TransientError(_story(exc, body, pulse), code="network", acted=acted)


def _story(exc: Exception, body: Outgoing | None, pulse: _Pulse) -> str:
    if pulse.stalled:
        return f"no byte moved for a while: {_progress(body, pulse)}"
    if isinstance(exc, aiohttp.ConnectionTimeoutError):
        return f"no connection within {CONNECT_S:.0f} s"
    if isinstance(exc, aiohttp.ClientConnectorError):
        # asyncio puts the address in place of the reason.
        number = exc.os_error.errno or 0
        why = os.strerror(number) if number > 0 else exc.os_error.strerror
        return f"no connection: {why or exc.os_error}"
    if isinstance(exc, _UncleanError):
        return str(exc)
    return f"the connection broke: {_progress(body, pulse)}"


def _progress(body: Outgoing | None, pulse: _Pulse) -> str:
    if pulse.answered:
        return "the reply had begun"
    if body is None:
        return "no reply was seen"
    if body.whole:
        return "all was sent, no reply was seen"
    return f"{body.handed} of {body.length} bytes were sent"
