"""A body may use one memory for all its steps: nothing of a step is left when the next is asked."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import StreamWriter
from yarl import URL

from tests.client.wire import Heard, listening, reply
from uploaderd.client import open_session, sending
from uploaderd.core.plan import Range
from uploaderd.offload import Threads
from uploaderd.source import PartBody, Source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from uploaderd.client.sending import Outgoing

MIB = 1 << 20
SIZES = pytest.mark.parametrize(
    ("steps", "step_bytes"),
    [(3, 8 * MIB), (400, 60 * 1024)],  # more than the sockets' buffers hold, at once or together
    ids=["large", "small"],
)
LINES = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
PART = reply("200 OK", '{"id":"part_1"}')


def pattern(number: int, size: int) -> bytes:
    """Bytes that differ from step to step."""
    return hashlib.shake_128(b"%d" % number).digest(1024) * (size // 1024)


class OneMemory:
    """A body whose steps all lie in the same memory, which is spoilt before each is written.

    Attributes:
        outgoing: the request's body that this one is in.
        kept: how many bytes the transport held whenever a step was asked for.
        late: a step was asked for though the connection had ended.
        turns: what ``clock`` said then.
    """

    def __init__(self, steps: int, step_bytes: int) -> None:
        self.length = steps * step_bytes
        self.outgoing: Outgoing = sending.part(self, "b")
        self.kept: list[int] = []
        self.late = False
        self.turns: list[int] = []
        self.turn = 0
        self._memory = memoryview(bytearray(step_bytes))
        self._steps = steps

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        """Yield that memory again and again."""
        for number in range(self._steps):
            transport = self.outgoing.transport
            assert transport is not None
            self.kept.append(transport.get_write_buffer_size())
            self.late |= transport.is_closing()
            self.turns.append(self.turn)
            self._memory[:] = bytes(len(self._memory))
            self._memory[:] = pattern(number, len(self._memory))
            yield self._memory

    async def count_turns(self) -> None:
        """Count the turns that others get."""
        while True:
            self.turn += 1
            await asyncio.sleep(0)


async def take_slowly(heard: Heard) -> None:
    """Read a part in small pieces through a small window, and answer."""
    await heard.read_all()
    await heard.say(PART)
    await heard.until_end()


@asynccontextmanager
async def service(
    script: Callable[[Heard], Awaitable[None]], certificate: Path | None
) -> AsyncIterator[tuple[str, list[Heard], ssl.SSLContext | bool]]:
    """Serve a script, over TLS where there is a certificate; who trusts it can ask."""
    theirs: ssl.SSLContext | None = None
    ours: ssl.SSLContext | bool = True
    if certificate is not None:
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(certificate, certificate.with_name("key.pem"))
        ours = ssl.create_default_context(cafile=certificate)
    async with listening(script, receive_bytes=4096, tls=theirs) as wire:
        yield wire.base_url, wire.heard, ours


@SIZES
@LINES
async def test_a_slow_reader_gets_every_step_intact(
    request: pytest.FixtureRequest, tls: bool, steps: int, step_bytes: int
) -> None:
    """Steps in one memory arrive as they were, though the socket takes each in many pieces."""
    certificate: Path | None = request.getfixturevalue("certificate") if tls else None
    body = OneMemory(steps, step_bytes)
    async with (
        service(take_slowly, certificate) as (url, heard, trust),
        open_session(connections=1) as session,
        session.post(f"{url}/uploads/u/parts", data=body.outgoing, ssl=trust) as answer,
    ):
        assert answer.status == 200
    wanted = hashlib.sha256()
    for number in range(steps):
        wanted.update(pattern(number, step_bytes))
    begin = heard[0].body.index(b"\r\n\r\n") + 4
    assert hashlib.sha256(heard[0].body[begin : begin + body.length]).digest() == wanted.digest()
    assert body.kept == [0] * steps
    assert body.outgoing.handed == body.outgoing.length


@SIZES
@LINES
async def test_a_connection_that_ends_is_given_no_other_step(
    request: pytest.FixtureRequest, tls: bool, steps: int, step_bytes: int
) -> None:
    """Where a step was not taken whole, its memory is left alone for good."""
    certificate: Path | None = request.getfixturevalue("certificate") if tls else None
    body = OneMemory(steps, step_bytes)

    async def reset(heard: Heard) -> None:
        await heard.read_head()
        await heard.read_body(100_000)
        heard.reset()

    async with (
        service(reset, certificate) as (url, _, trust),
        open_session(connections=1) as session,
    ):
        with pytest.raises(aiohttp.ClientError):
            await session.post(f"{url}/uploads/u/parts", data=body.outgoing, ssl=trust)
        await body.outgoing.settled()
    assert not any(body.kept)
    assert not body.late
    assert not body.outgoing.whole


class CountingWriter(StreamWriter):
    """aiohttp's writer, which counts how often it was asked to wait."""

    drains = 0

    async def drain(self) -> None:
        """Wait, and count."""
        self.drains += 1
        await super().drain()


@LINES
async def test_to_wait_for_a_slow_reader_costs_nothing(
    request: pytest.FixtureRequest, tls: bool
) -> None:
    """While the socket takes nothing the body rests, and does not ask again and again."""
    certificate: Path | None = request.getfixturevalue("certificate") if tls else None
    body = OneMemory(200, 60 * 1024)
    loop = asyncio.get_running_loop()

    async def pause(heard: Heard) -> None:
        await asyncio.sleep(0.2)
        await heard.read_body(body.length)
        await heard.until_end()

    async with service(pause, certificate) as (url, _, trust):
        transport, protocol = await loop.create_connection(
            lambda: BaseProtocol(loop),
            "127.0.0.1",
            URL(url).port or 0,
            ssl=trust if isinstance(trust, ssl.SSLContext) else None,
        )
        writer = CountingWriter(protocol, loop)
        await body.outgoing.write_with_length(writer, None)
        transport.abort()
    assert body.kept == [0] * 200
    assert 0 < writer.drains < 3 * len(body.kept)


async def test_others_get_a_turn_between_steps() -> None:
    """A part whose bytes the socket takes at once does not keep the event loop to itself."""
    body = OneMemory(8, 8192)
    counting = asyncio.create_task(body.count_turns())
    async with (
        service(take_slowly, None) as (url, _, _),
        open_session(connections=1) as session,
        session.post(f"{url}/uploads/u/parts", data=body.outgoing) as answer,
    ):
        assert answer.status == 200
    counting.cancel()
    assert len(set(body.turns)) == 8, "a step was asked for before anyone else had a turn"


@LINES
async def test_parts_of_a_real_file_arrive_side_by_side(
    request: pytest.FixtureRequest, tmp_path: Path, tls: bool
) -> None:
    """Four parts at once through slow connections are the file, and so say their digests."""
    certificate: Path | None = request.getfixturevalue("certificate") if tls else None
    part_bytes = 3 * MIB + 17
    data = os.urandom(4 * part_bytes)
    (tmp_path / "file").write_bytes(data)
    source = Source(os.open(tmp_path / "file", os.O_RDONLY))
    ranges = [Range(number=n, offset=n * part_bytes, length=part_bytes) for n in range(4)]
    arrived: dict[bytes, bytes] = {}

    async def take(heard: Heard) -> None:
        sock: socket.socket = heard.writer.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 100_000
        await take_slowly(heard)
        begin = heard.body.index(b"\r\n\r\n") + 4
        arrived[heard.head.split(b" ", 2)[1][-1:]] = bytes(heard.body[begin : begin + part_bytes])

    with Threads("disk", 2) as offload:
        async with (
            service(take, certificate) as (url, _, trust),
            open_session(connections=4) as session,
        ):
            bodies = [PartBody(source, part, offload=offload) for part in ranges]

            async def send(number: int) -> int:
                outgoing = sending.part(bodies[number], "b")
                there = f"{url}/parts/{number}"
                async with session.post(there, data=outgoing, ssl=trust) as answer:
                    return answer.status

            assert await asyncio.gather(*map(send, range(4))) == [200] * 4
    source.close()
    assert b"".join(arrived[b"%d" % number] for number in range(4)) == data
    assert len({body.digest() for body in bodies}) == 4


async def test_a_connection_that_ended_by_itself_is_dropped_without_a_word() -> None:
    """It was closed with something left to send, which left; who waited would wait for ever."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, *listener.getsockname()
        )
        peer, _ = listener.accept()
        with peer:
            transport.write(bytes(64 * MIB))
            assert transport.get_write_buffer_size()
            transport.close()
            while await asyncio.to_thread(peer.recv, MIB):
                pass
        sending.drop(transport)
