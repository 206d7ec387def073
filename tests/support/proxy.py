"""A line to the service that fails on purpose: a TCP proxy with a plan.

    async with Proxy(emulator.base_url) as proxy:
        proxy.plan(Trouble(call="part", does=Does.CUT_REPLY, at=40, ends=Ends.RESET))
        async with DaemonProcess(tmp_path, proxy.base_url) as daemon:
            ...

It knows enough of HTTP to see where a request and its reply begin and end, and passes on every
byte as it came. What each trouble does stands with ``Does``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tests.support.proxy_pipe import GoneError, Side, pump
from tests.support.proxy_plan import Does, Ends, Seen, Trouble, call_of

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Does", "Ends", "Proxy", "Seen", "Trouble"]

_STEP_BYTES = 64 * 1024
_SLOW_S = 0.02  # between two steps of a slow line


class Proxy:
    """A proxy on a free port of 127.0.0.1.

    Args:
        target_url: the service's base URL; its path is kept.
        receive_bytes: how much of what clients send is taken ahead, in the kernel and here.

    Attributes:
        base_url: where clients are pointed.
        seen: every request that began, in order.
        connections: how many were accepted.
        greeting: said on each new connection, before anything was asked.
    """

    def __init__(self, target_url: str, *, receive_bytes: int | None = None) -> None:
        where = urlsplit(target_url)
        self._target = (where.hostname or "", where.port or 80)
        self._path = where.path
        self._receive_bytes = receive_bytes
        self._plan: list[Trouble] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._port = 0
        self.base_url = ""
        self.seen: list[Seen] = []
        self.connections = 0
        self.greeting = b""

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Break what is under way and stop listening."""
        await self.go_away()

    async def listen(self) -> None:
        """Take connections, again on the same port if it did before."""
        sock = Side.listening(self._port, self._receive_bytes)
        self._port = sock.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self._port}{self._path}"
        limit = self._receive_bytes or _STEP_BYTES
        self._server = await asyncio.start_server(self._accept, sock=sock, limit=limit)

    async def go_away(self) -> None:
        """Refuse connections from now on, and reset those that there are."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def plan(self, *troubles: Trouble) -> None:
        """Add troubles; of those that fit a request, the first one with a turn left strikes."""
        self._plan += troubles

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self._plan.clear()

    @property
    def unspent(self) -> list[Trouble]:
        """The troubles that have turns left."""
        return [one for one in self._plan if one.left]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(Side(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: Side) -> None:
        """Pass on one request after the other until either side, or a trouble, ends it."""
        service: Side | None = None
        ends = Ends.RESET
        try:
            await client.write(self.greeting)
            while True:
                head = await client.head()
                seen = Seen(call=call_of(head), head=head)
                self.seen.append(seen)
                trouble = next((one for one in self._plan if one.strikes(seen)), None)
                if service is None:
                    service = Side(*await asyncio.open_connection(*self._target))
                if not await self._exchange(seen, trouble, client, service):
                    ends = trouble.ends if trouble is not None else Ends.CLOSE
                    break
        except (OSError, GoneError, asyncio.IncompleteReadError):
            ends = Ends.CLOSE
        finally:
            if service is not None:
                service.end(Ends.CLOSE if ends is Ends.HALF else ends)
            client.end(ends)
            if ends is Ends.HALF:
                with contextlib.suppress(OSError):
                    await client.swallow()
                client.end(Ends.CLOSE)

    async def _exchange(
        self, seen: Seen, trouble: Trouble | None, client: Side, service: Side
    ) -> bool:
        """Pass on one request and its reply; False if the connections end here."""
        does = None if trouble is None else trouble.does
        if trouble is not None and does is Does.ANSWER:
            return await _answer(seen, trouble, client)
        await self._request(seen, trouble, client, service)
        if does in {Does.CUT_REQUEST, Does.STALL_REQUEST}:
            if does is Does.STALL_REQUEST:
                await client.left()
            return False
        seen.reply = await service.reply()
        if trouble is not None and does is Does.REPLACE_REPLY:
            await _say(seen, trouble, client)
            return trouble.ends is Ends.STAY
        if trouble is not None and does in {Does.CUT_REPLY, Does.STALL_REPLY}:
            await client.write(seen.reply[: trouble.place(len(seen.reply))])
            if does is Does.STALL_REPLY:
                await client.left()
            return False
        await client.write(seen.reply)
        if trouble is not None and does is Does.STRAY:
            await client.heard()
            await client.write(trouble.says or seen.reply)
            await client.heard()
            trouble.over.set()
        return b"\r\nconnection: close\r\n" not in seen.reply.lower()

    async def _request(
        self, seen: Seen, trouble: Trouble | None, client: Side, service: Side
    ) -> None:
        """Pass on a request, or as much of it as the trouble lets through."""
        most = len(seen.head) + seen.length
        pause_s, step = 0.0, _STEP_BYTES
        if trouble is not None and trouble.does in {Does.CUT_REQUEST, Does.STALL_REQUEST}:
            most = trouble.place(most)
        if trouble is not None and trouble.does is Does.SLOW:
            pause_s, step = _SLOW_S, max(1, int(trouble.rate_bps * _SLOW_S))
        await service.write(seen.head[:most])
        left = most - len(seen.head[:most])
        seen.passed = most - left
        async for count in pump(client, service, left, step=step, pause_s=pause_s):
            seen.passed += count


async def _answer(seen: Seen, trouble: Trouble, client: Side) -> bool:
    """Answer in the service's place, which hears nothing of it."""
    body_bytes = max(0, trouble.place(len(seen.head) + seen.length) - len(seen.head))
    await client.skip(body_bytes)
    await _say(seen, trouble, client)
    if trouble.ends is Ends.STAY:
        await client.skip(seen.length - body_bytes)
        return True
    return False


async def _say(seen: Seen, trouble: Trouble, client: Side) -> None:
    await client.write(trouble.words(seen))
    while trouble.on_and_on:
        await client.write(trouble.on_and_on)
