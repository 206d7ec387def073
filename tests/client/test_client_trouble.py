"""What comes back when the line or the service misbehaves."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.client.wire import SECRET, Heard, Steps, against, hides, listening, reply, talking
from uploaderd.client import CreateSpec
from uploaderd.errors import (
    RejectedError,
    ServiceError,
    TargetBlockedError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from uploaderd.client import Client

PART = reply("200 OK", '{"id":"part_1","upload_id":"u"}')
BIG = [bytes(65536)] * 512
SPEC = CreateSpec(
    filename="a.txt", purpose="user_data", size=5, mime_type="text/plain", expires_after_s=3600
)


async def fails(client: Client, steps: list[bytes] | None = None) -> ServiceError:
    """Send a part that must fail; the error never shows the key."""
    with pytest.raises(ServiceError) as caught:
        await client.add_part("u", Steps(steps or [b"x" * 1000]), request_id="r")
    hides(caught.value)
    return caught.value


async def test_no_byte_of_a_reply_is_a_stall() -> None:
    """The request arrived whole and nothing came: given up, and it may have been done."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        await heard.until_end()

    async with against(script, stall_s=0.3) as (client, wire):
        error = await fails(client)
        await wire.heard[0].ended.wait()
    assert isinstance(error, TransientError)
    assert (error.code, error.acted, error.status) == ("network", True, None)


async def test_a_body_that_nobody_reads_is_a_stall() -> None:
    """The service stops reading in mid-body: given up, and it can't have been done."""
    go = asyncio.Event()

    async def script(heard: Heard) -> None:
        await heard.read_head()
        await go.wait()
        await heard.until_end()

    async with against(script, stall_s=0.4) as (client, wire):
        error = await fails(client, BIG)
        go.set()
        await wire.heard[0].ended.wait()
        came = len(wire.heard[0].body)
    assert (error.code, error.acted) == ("network", False)
    found = re.search(r"(\d+) of (\d+) bytes were sent", str(error))
    assert found is not None
    handed, whole = map(int, found.groups())
    assert came < handed < whole  # what was still buffered here was dropped, not sent later


async def test_a_reply_that_stops_in_the_middle_is_a_stall_too() -> None:
    """Half a reply and then silence is given up; the status alone proves nothing."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        await heard.say(PART[:-5])
        await heard.until_end()

    async with against(script, stall_s=0.3) as (client, _):
        error = await fails(client)
    assert (error.code, error.acted) == ("network", True)


async def test_slow_is_not_stalled_while_bytes_move() -> None:
    """A part that takes many stall times arrives, though one step alone takes several."""
    stall_s = 0.4

    async def script(heard: Heard) -> None:
        await heard.read_head()
        wanted = int(heard.headers["content-length"])
        while len(heard.body) < wanted:
            heard.body += await heard.reader.read(32_768)
            await asyncio.sleep(0.05)
        await heard.say(PART)

    started = time.monotonic()
    async with (
        listening(script, receive_bytes=32_768) as wire,
        talking(wire.base_url, stall_s=stall_s) as client,
    ):
        assert await client.add_part("u", Steps([bytes(1 << 20)]), request_id="r") == "part_1"
    assert time.monotonic() - started > 2 * stall_s


async def test_a_reply_that_drips_is_not_stalled() -> None:
    """Each byte of a reply puts the alarm off."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        for index in range(0, len(PART), 10):
            await heard.say(PART[index : index + 10])
            await asyncio.sleep(0.1)

    async with against(script, stall_s=0.4) as (client, _):
        assert await client.add_part("u", Steps([b"x"]), request_id="r") == "part_1"


@pytest.mark.parametrize("at", [0, 1, 70_000, 1_000_000])
@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_line_cut_in_mid_body_is_the_network_s_fault(at: int, how: str) -> None:
    """Wherever the cut comes, the part can't have been stored and is tried again."""

    async def script(heard: Heard) -> None:
        await heard.read_head()
        await heard.read_body(at)
        if how == "reset":
            heard.reset()

    async with against(script) as (client, _):
        error = await fails(client, BIG)
    assert isinstance(error, TransientError)
    assert (error.code, error.acted) == ("network", False)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_line_cut_after_the_body_leaves_the_outcome_open(how: str) -> None:
    """The service had all of it: it may have stored the part."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        if how == "reset":
            heard.reset()

    async with against(script) as (client, _):
        error = await fails(client)
    assert isinstance(error, TransientError)
    assert (error.code, error.acted) == ("network", True)


@pytest.mark.parametrize("cut", [5, 30, 60, -1])
async def test_a_reply_cut_short_is_no_success(cut: int) -> None:
    """However much of a 200 was seen, the outcome is open."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        await heard.say(PART[:cut])

    async with against(script) as (client, _):
        error = await fails(client)
    assert isinstance(error, TransientError)
    assert error.acted


async def test_nobody_listening_is_the_network_s_fault_and_nothing_was_done() -> None:
    """A refused connection can't have done anything."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
        async with talking(url) as client:
            error = await fails(client)
    assert (error.code, error.acted) == ("network", False)
    assert "no connection" in str(error)


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("read", [0, 100_000])
@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        ("401 Unauthorized", TargetBlockedError, "auth"),
        ("413 Payload Too Large", TargetBlockedError, "part_too_large"),
        ("429 Too Many Requests", TransientError, "rate_limited"),
        ("503 Service Unavailable", TransientError, "server_error"),
    ],
)
async def test_an_answer_that_comes_early_is_heard(
    status: str, kind: type[ServiceError], code: str, read: int, reset: bool
) -> None:
    """A service that answers in mid-body and closes is understood, not taken for a broken line."""

    async def script(heard: Heard) -> None:
        await heard.read_head()
        await heard.read_body(read)
        await heard.say(reply(status, '{"error":{"message":"no"}}'))
        if not reset:
            await heard.until_end()

    async with against(script) as (client, _):
        for _ in range(20):
            error = await fails(client, BIG)
            assert isinstance(error, kind)
            assert (error.code, error.acted) == (code, False)


async def test_an_answer_is_heard_even_if_the_line_is_dead_before_the_loop_could_read_it() -> None:
    """The answer and the reset both arrive between two steps of the body, in one turn."""
    stepping, answered = threading.Event(), threading.Event()

    class Racing:
        length = 1 << 20

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield bytes(1 << 19)
            stepping.set()
            answered.wait(10)  # the loop must not run meanwhile: that is the point
            yield bytes(1 << 19)

    def serve(server: socket.socket) -> None:
        line, _ = server.accept()
        line.recv(10)
        stepping.wait(10)
        line.sendall(reply("401 Unauthorized", '{"error":{"message":"no such key"}}'))
        line.close()  # with bytes unread: a reset follows the answer
        answered.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        async with talking(f"http://127.0.0.1:{server.getsockname()[1]}/v1") as client:
            with pytest.raises(TargetBlockedError) as caught:
                await client.add_part("u", Racing(), request_id="r")
        thread.join()
    assert caught.value.status == 401
    assert "no such key" in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(status: int) -> None:
    """The other host is not contacted, and the target waits for a person."""

    async def other(heard: Heard) -> None:
        await heard.read_head()

    async with listening(other) as elsewhere:

        async def script(heard: Heard) -> None:
            await heard.read_all()
            where = f"Location: {elsewhere.base_url}/uploads/u/parts"
            await heard.say(reply(f"{status} Elsewhere", b"", where))

        async with against(script) as (client, _):
            error = await fails(client)
        assert not elsewhere.heard
    assert isinstance(error, TargetBlockedError)
    assert (error.code, error.status) == ("redirect", status)


@pytest.mark.parametrize(
    "raw",
    [
        reply("200 OK", "<html>hello</html>", "Content-Type: text/html"),
        reply("200 OK", '{"id":"part_1"'),
        reply("200 OK", '["part_1"]'),
        reply("200 OK", "{}"),
        reply("200 OK", '{"id":null}'),
        reply("200 OK", '{"id":""}'),
        reply("200 OK", '{"id":7}'),
        reply("200 OK", '{"id":".."}'),
        reply("200 OK", '{"id":"p\\nq"}'),
        reply("200 OK", '{"id":"part_1","upload_id":"another"}'),
        reply("200 OK", '{"id":"part_1","x":NaN}'),
        reply("200 OK", "[" * 100_000),
        reply("200 OK", '{"id":%s}' % ("9" * 10_000)),
        reply("200 OK", b"\xff\xfe\xfa"),
        reply("200 OK", b""),
        reply("204 No Content", b""),
        reply("200 OK", b'{"id":"part_1","pad":"' + b"x" * (2 << 20) + b'"}'),
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: banana\r\n\r\n",
    ],
)
async def test_a_success_that_cannot_be_believed_leaves_the_outcome_open(raw: bytes) -> None:
    """No part id is ever made up."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        await heard.say(raw)

    async with against(script) as (client, _):
        error = await fails(client)
    assert isinstance(error, TransientError)
    assert (error.code, error.acted) == ("bad_reply", True)


async def test_an_endless_reply_is_not_read_to_its_end() -> None:
    """The reading stops at a bound, and the connection is dropped."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        await heard.say(b"HTTP/1.1 500 Oops\r\n\r\n")
        while True:
            await heard.say(bytes(65536))

    async with against(script) as (client, _):
        error = await fails(client)
    assert (error.code, error.status) == ("server_error", 500)


async def test_the_key_is_struck_from_what_the_service_echoes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither the error, nor what it came from, nor any log at DEBUG holds the key."""
    caplog.set_level("DEBUG")
    asyncio.get_running_loop().set_debug(True)

    async def script(heard: Heard) -> None:
        await heard.read_all()
        padding = "x" * 290
        text = f'{{"error":{{"message":"{padding}{SECRET}","code":"{SECRET}"}}}}'
        await heard.say(reply("401 No", text, f"x-request-id: {SECRET}"))

    async with against(script) as (client, _):
        assert SECRET not in repr(client)
        error = await fails(client)
    assert error.status == 401
    for piece in range(len(SECRET) - 8):
        assert SECRET[piece : piece + 8] not in f"{error} {error!r} {vars(error)}"
    assert SECRET not in caplog.text


async def test_not_even_aiohttp_s_own_errors_show_the_key() -> None:
    """What is no HTTP makes aiohttp keep the whole request in its error: the key hides there."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        await heard.say(b"HTTP/1.1 200 OK\r\nContent-Length: banana\r\n\r\n")

    async with against(script) as (client, wire):
        error = await fails(client)
    cause = error.__cause__
    assert cause is not None
    assert "[key]" in repr(cause)
    assert wire.heard[0].headers["authorization"] == f"Bearer {SECRET}"


async def test_a_service_s_words_are_bounded_and_harmless() -> None:
    """A message is one line without control characters, and its request id is kept."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        message = "bad\x1b[31m\n" + "é" * 5000
        text = json.dumps({"error": {"message": message, "code": "odd", "param": None}})
        await heard.say(reply("400 Bad", text, "x-request-id: req_1"))

    async with against(script) as (client, _):
        error = await fails(client)
    assert isinstance(error, RejectedError)
    assert str(error).isprintable()
    assert len(str(error)) < 400
    assert "\\x1b[31m\\n" in str(error)
    assert str(error).endswith("(odd)")
    assert error.request_id == "req_1"


async def test_a_lost_reply_to_create_may_have_made_an_upload() -> None:
    """Create, complete and cancel whose reply never came may have been done."""

    async def script(heard: Heard) -> None:
        await heard.read_all()

    async with against(script) as (client, _):
        for call in (
            client.create(SPEC, request_id="r"),
            client.complete("u", ["p"], "0" * 32, request_id="r"),
            client.cancel("u", request_id="r"),
        ):
            with pytest.raises(TransientError) as caught:
                await call
            assert (caught.value.code, caught.value.acted) == ("network", True)


async def test_the_wait_that_the_service_asks_for_is_handed_on() -> None:
    """Retry-After reaches the error."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        await heard.say(reply("429 Slow", '{"error":{"message":"slow"}}', "Retry-After: 12"))

    async with against(script) as (client, _):
        error = await fails(client)
    assert isinstance(error, TransientError)
    assert error.retry_after_s == 12.0
