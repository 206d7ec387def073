"""A small part: one write, taken from its source beforehand, and never whole by accident."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest
import xxhash

from tests.client.wire import Heard, Steps, TheKey, against, listening, reply, talking
from uploaderd.client import CreateSpec
from uploaderd.client.sending import Boundaries, part
from uploaderd.core.plan import Range
from uploaderd.errors import ChangedError, TransientError
from uploaderd.offload import Threads
from uploaderd.source import PartBody, Source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    Pace = Callable[[int], Awaitable[int]]

DATA = os.urandom(4096)
PART = reply("200 OK", '{"id":"part_1"}')
UPLOAD = reply("200 OK", '{"id":"u","object":"upload","status":"pending"}')
SPEC = CreateSpec(
    filename="a.txt", purpose="user_data", size=5, mime_type="text/plain", expires_after_s=None
)
_SEGMENTS_END = 156  # of struct tcp_info, after tcpi_data_segs_in; linux/tcp.h


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    """An open spool file, not read yet."""
    (tmp_path / "a.bin").write_bytes(DATA)
    made = Source(os.open(tmp_path / "a.bin", os.O_RDONLY))
    yield made
    made.close()


class Sent:
    """One part of that file, and what was counted of it."""

    def __init__(self, source: Source, offload: Threads, pace: Pace | None = None) -> None:
        self.counted: list[int] = []
        self.body = PartBody(
            source,
            Range(number=0, offset=0, length=len(DATA)),
            offload=offload,
            on_bytes=self.counted.append,
            pace=pace,
        )


def segments(heard: Heard) -> int:
    """How many pieces with data came over a connection."""
    sock: socket.socket = heard.writer.get_extra_info("socket")
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SEGMENTS_END)
    if len(info) < _SEGMENTS_END:
        pytest.skip("the kernel does not count segments")
    return int(struct.unpack_from("=I", info, _SEGMENTS_END - 4)[0])


def part_in(heard: Heard) -> bytes:
    """The bytes of the part that came."""
    begin = heard.body.index(b"\r\n\r\n") + 4
    return bytes(heard.body[begin : heard.body.rindex(b"\r\n--", 0, -2)])


async def take(heard: Heard) -> None:
    """Accept parts, as long as some come."""
    while True:
        await heard.read_all()
        await heard.say(PART)
        heard.body.clear()


async def take_one(heard: Heard) -> None:
    """Accept one part."""
    await heard.read_all()
    await heard.say(PART)
    await heard.until_end()


@pytest.mark.parametrize("loaded", [False, True], ids=["on disk", "in memory"])
async def test_a_small_part_leaves_in_one_piece_with_its_head(source: Source, loaded: bool) -> None:
    """Each request is one write of the connection, also when that is used again."""
    counts: list[int] = []

    async def script(heard: Heard) -> None:
        for answer in (PART, PART, UPLOAD):
            await heard.read_all()
            counts.append(segments(heard))
            heard.body.clear()
            await heard.say(answer)

    if loaded:
        source.load(len(DATA))
    with Threads("disk", 1) as offload:
        async with against(script) as (client, wire):
            for _ in range(2):
                await client.add_part("u", Sent(source, offload).body, request_id="r")
            await client.create(SPEC, request_id="r")
            assert len(wire.heard) == 1
    assert counts == [1, 2, 3]


async def test_a_small_part_arrives_and_is_counted_once(source: Source) -> None:
    """Its bytes are those of the file, its digest is theirs, and they are counted as sent."""
    with Threads("disk", 1) as offload:
        async with against(take_one) as (client, wire):
            sent = Sent(source, offload)
            assert await client.add_part("u", sent.body, request_id="r") == "part_1"
            assert part_in(wire.heard[0]) == DATA
    assert sent.body.digest() == xxhash.xxh3_128(DATA).digest()
    assert sent.counted == [len(DATA)]


async def test_what_found_no_connection_is_not_counted_as_sent(source: Source) -> None:
    """Nobody listens: not a byte left, though the part was read already."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        with Threads("disk", 1) as offload:
            async with talking(url) as client:
                sent = Sent(source, offload)
                with pytest.raises(TransientError) as caught:
                    await client.add_part("u", sent.body, request_id="r")
    assert not caught.value.acted
    assert (sent.body.sent, sent.counted) == (0, [])


@pytest.mark.parametrize("more", [b"", b"x", bytes(100_000)], ids=["an error", "a byte", "many"])
async def test_a_small_part_that_goes_wrong_at_its_very_end_is_not_sent(more: bytes) -> None:
    """All promised bytes were there, and then an error or too many of them: no request is whole."""
    body = Steps([DATA, more], length=len(DATA))
    body.error = None if more else OSError(5, "I/O error")
    async with against(take_one) as (client, wire):
        with pytest.raises(ChangedError if more else OSError) as caught:
            await client.add_part("u", body, request_id="r")
        assert more or caught.value is body.error
        for heard in wire.heard:
            await heard.ended.wait()
            assert not heard.head
            assert not heard.body
    assert body.closed


async def test_a_source_that_fails_is_never_heard_of() -> None:
    """There is not even a connection for a small part that cannot be read."""
    body = Steps([], length=100)
    body.error = OSError(5, "I/O error")
    async with against(take_one) as (client, wire):
        with pytest.raises(OSError, match="I/O error") as caught:
            await client.add_part("u", body, request_id="r")
        assert caught.value is body.error
        assert wire.heard == []
    assert body.closed


@pytest.mark.parametrize(
    ("size", "tls", "taken"),
    [(4 << 10, True, True), (20 << 10, True, False), (20 << 10, False, True)],
)
async def test_over_tls_only_what_fits_a_record_is_taken_beforehand(
    *, size: int, tls: bool, taken: bool
) -> None:
    """More is sent in steps, with a look for an early refusal between them."""
    body = Steps([bytes(size)], length=size)
    outgoing = part(body, "boundary")
    await outgoing.pack(tls=tls)
    assert bool(body.taken) is taken


async def test_a_source_that_became_shorter_is_said_so(source: Source, tmp_path: Path) -> None:
    """Nothing is sent of a small file that ends before it should."""
    os.truncate(tmp_path / "a.bin", 4095)
    with Threads("disk", 1) as offload:
        async with against(take_one) as (client, wire):
            sent = Sent(source, offload)
            with pytest.raises(ChangedError):
                await client.add_part("u", sent.body, request_id="r")
            assert (wire.heard, sent.counted) == ([], [])


async def test_a_pace_that_fails_leaves_nothing_sent(source: Source) -> None:
    """Its error comes out as it was raised."""
    error = RuntimeError("no pace")

    async def pace(_: int) -> int:
        raise error

    with Threads("disk", 1) as offload:
        async with against(take_one) as (client, wire):
            sent = Sent(source, offload, pace)
            with pytest.raises(RuntimeError) as caught:
                await client.add_part("u", sent.body, request_id="r")
            assert caught.value is error
            assert (wire.heard, sent.counted) == ([], [])


async def test_to_wait_for_the_bandwidth_is_no_stall_and_needs_no_connection(
    source: Source,
) -> None:
    """A small part waits several stall times for its turn, then it leaves as ever."""
    connections: list[int] = []

    async def pace(most: int) -> int:
        await asyncio.sleep(1.0)
        connections.append(len(wire.heard))
        return most

    with Threads("disk", 1) as offload:
        async with against(take_one, stall_s=0.3) as (client, wire):
            sent = Sent(source, offload, pace)
            assert await client.add_part("u", sent.body, request_id="r") == "part_1"
            assert part_in(wire.heard[0]) == DATA
    assert connections == [0]


async def test_a_source_that_hangs_is_a_stall() -> None:
    """What is neither read nor waits for its turn is given up, unsent."""

    class Hangs:
        length = 100

        async def __aiter__(self) -> AsyncIterator[bytes]:
            await asyncio.Event().wait()
            yield bytes(100)

    async with against(take_one, stall_s=0.3) as (client, wire):
        with pytest.raises(TransientError, match="no byte moved") as caught:
            await client.add_part("u", Hangs(), request_id="r")
        assert not caught.value.acted
        assert wire.heard == []


async def test_a_small_part_that_may_leave_only_bit_by_bit_is_sent_so(source: Source) -> None:
    """Under a limit of bandwidth its bytes are on the wire once their turn has come, not later."""
    asked: list[int] = []
    on_the_wire: list[int] = []

    async def pace(most: int) -> int:
        asked.append(most)
        if wire.heard:
            heard = wire.heard[0]
            while not heard.head or len(heard.body) < sum(sent.counted):
                await asyncio.sleep(0.01)
            on_the_wire.append(len(heard.body))
        return min(most, 1000)

    with Threads("disk", 1) as offload:
        async with against(take_one) as (client, wire):
            sent = Sent(source, offload, pace)
            async with asyncio.timeout(10):
                await client.add_part("u", sent.body, request_id="r")
            assert part_in(wire.heard[0]) == DATA
    assert asked == [4096, 3096, 2096, 1096, 96]
    assert sent.counted == [1000, 1000, 1000, 1000, 96]
    assert len(on_the_wire) == 4
    assert sent.body.digest() == xxhash.xxh3_128(DATA).digest()


async def test_a_small_part_can_be_given_up_while_it_waits(source: Source) -> None:
    """Cancelled while it waits for its turn, it leaves nothing behind and nothing sent."""
    waiting = asyncio.Event()

    async def pace(_: int) -> int:
        waiting.set()
        await asyncio.Event().wait()
        return 0

    with Threads("disk", 1) as offload:
        async with against(take) as (client, wire):
            sent = Sent(source, offload, pace)
            sending = asyncio.create_task(client.add_part("u", sent.body, request_id="r"))
            await waiting.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert (wire.heard, sent.counted) == ([], [])
            await client.add_part("u", Sent(source, offload).body, request_id="r")


async def test_a_new_key_is_shown_from_the_next_request_on() -> None:
    """A key that was rotated needs no other client, and one that no header can carry blocks it."""
    shown: list[str] = []

    async def script(heard: Heard) -> None:
        while True:
            await heard.read_all()
            shown.append(heard.headers["authorization"])
            await heard.say(UPLOAD)
            heard.body.clear()

    key = TheKey("sk-one")
    async with listening(script) as wire, talking(wire.base_url, key=key) as client:
        for value in ("sk-one", "sk-two", "sk-two", "sk-one"):
            key.value = value
            await client.create(SPEC, request_id="r")
    assert shown == ["Bearer sk-one", "Bearer sk-two", "Bearer sk-two", "Bearer sk-one"]


def test_no_boundary_is_used_twice_or_follows_from_others() -> None:
    """Each is 32 hex digits, also beside those of another client that counts the same."""
    one, other = Boundaries(), Boundaries()
    made = [each.fresh() for each in (one, other) for _ in range(5000)]
    assert len(set(made)) == len(made)
    assert {len(each) for each in made} == {32}
    assert set("".join(made)) == set("0123456789abcdef")
