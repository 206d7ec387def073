"""What leaves: the bytes on the wire, and what happens when they cannot all leave."""

from __future__ import annotations

import asyncio
import re
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from openai import AsyncOpenAI

from tests.client.wire import SECRET, Heard, Steps, TheKey, against, listening, reply, talking
from uploaderd import __version__
from uploaderd.client import CreateSpec, Flavour
from uploaderd.errors import (
    ChangedError,
    SessionLostError,
    TargetBlockedError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PART = reply("200 OK", '{"id":"part_1","object":"upload.part","created_at":1,"upload_id":"u"}')
UPLOAD = '{"id":"u","object":"upload","status":"%s","created_at":7,"expires_at":3607,"file":null}'
SPEC = CreateSpec(
    filename="a b.txt", purpose="user_data", size=5, mime_type="text/plain", expires_after_s=None
)


async def take_part(heard: Heard) -> None:
    """Accept one part."""
    await heard.read_all()
    await heard.say(PART)
    await heard.until_end()


async def test_a_part_is_framed_as_the_official_sdk_frames_it() -> None:
    """The body and its headers equal the Python SDK's byte for byte, but for the boundary."""
    async with against(take_part) as (client, wire):
        assert await client.add_part("u", Steps([b"one", b"", b"two"]), request_id="r") == "part_1"
        async with AsyncOpenAI(api_key="k", base_url=wire.base_url, max_retries=0) as sdk:
            await sdk.uploads.parts.create("u", data=b"onetwo")
    ours, theirs = wire.heard

    def plain(heard: Heard) -> bytes:
        boundary = heard.headers["content-type"].partition("boundary=")[2]
        assert re.fullmatch("[0-9a-f]{32}", boundary)
        return bytes(heard.body).replace(boundary.encode(), b"BOUNDARY")

    assert plain(ours) == plain(theirs)
    assert ours.line == theirs.line == "POST /v1/uploads/u/parts HTTP/1.1"
    assert ours.headers["content-length"] == str(len(ours.body))
    assert "transfer-encoding" not in ours.headers
    assert "expect" not in ours.headers
    assert ours.body.count(b"form-data") == 1


async def test_every_request_says_who_asks_and_which_attempt_it_is() -> None:
    """The key, the organization, the project, our name and the attempt's id are sent."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        await heard.say(reply("200 OK", UPLOAD % "pending"))

    async with (
        listening(script) as wire,
        talking(wire.base_url + "/", organization="org", project="proj") as client,
    ):
        upload = await client.create(SPEC, request_id="attempt-1")
    assert (upload.id, upload.created_at, upload.expires_at) == ("u", 7.0, 3607.0)
    headers = wire.heard[0].headers
    assert wire.heard[0].line == "POST /v1/uploads HTTP/1.1"
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert headers["openai-organization"] == "org"
    assert headers["openai-project"] == "proj"
    assert headers["x-client-request-id"] == "attempt-1"
    assert headers["user-agent"] == f"uploaderd/{__version__}"
    assert headers["content-type"] == "application/json"
    assert bytes(wire.heard[0].body) == (
        b'{"filename": "a b.txt", "purpose": "user_data", "bytes": 5, "mime_type": "text/plain"}'
    )


async def test_a_cancel_has_no_body_and_no_label_for_one() -> None:
    """Neither a content type nor a byte is sent."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        await heard.say(reply("200 OK", UPLOAD % "cancelled"))

    async with against(script) as (client, wire):
        await client.cancel("u", request_id="r")
    assert "content-type" not in wire.heard[0].headers
    assert wire.heard[0].headers["content-length"] == "0"


@pytest.mark.parametrize(
    ("base", "version", "line"),
    [
        ("", "2025-03-01", "/openai/uploads/u/cancel?api-version=2025-03-01"),
        ("/openai", "2025-03-01", "/openai/uploads/u/cancel?api-version=2025-03-01"),
        ("/openai/", "", "/openai/v1/uploads/u/cancel"),
        ("", "", "/openai/v1/uploads/u/cancel"),
        ("/openai/v1/", "", "/openai/v1/uploads/u/cancel"),
        ("/openai/v1", "preview", "/openai/v1/uploads/u/cancel?api-version=preview"),
    ],
)
async def test_azure_has_paths_and_a_key_header_of_its_own(
    base: str, version: str, line: str
) -> None:
    """The endpoint, the endpoint with /openai and the v1 base all lead to the same calls."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        await heard.say(reply("200 OK", UPLOAD % "cancelled"))

    async with listening(script) as wire:
        root = wire.base_url.removesuffix("/v1")
        async with talking(root + base, flavour=Flavour.AZURE, api_version=version) as client:
            await client.cancel("u", request_id="r")
    assert wire.heard[0].line == f"POST {line} HTTP/1.1"
    assert wire.heard[0].headers["api-key"] == SECRET
    assert "authorization" not in wire.heard[0].headers


@pytest.mark.parametrize("upload_id", ["", ".", "..", "a b", "a\r\nb", "é", "x" * 600])
async def test_an_id_that_is_none_never_becomes_part_of_a_url(upload_id: str) -> None:
    """Nothing is sent for an id that could lead elsewhere."""
    async with against(take_part) as (client, wire):
        with pytest.raises(SessionLostError):
            await client.cancel(upload_id, request_id="r")
        assert not wire.heard


async def test_an_odd_id_stays_inside_its_own_path_segment() -> None:
    """Slashes, dots, queries and escapes of an id arrive quoted."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        await heard.say(reply("200 OK", '{"id":"../f?x#%2e"}'))

    async with against(script) as (client, wire):
        await client.cancel("../f?x#%2e", request_id="r")
    assert wire.heard[0].line == "POST /v1/uploads/..%2Ff%3Fx%23%252e/cancel HTTP/1.1"


@pytest.mark.parametrize(
    ("promised", "second"), [(5, b"def"), (7, b"def"), (100_000, b"def"), (5, bytes(1000))]
)
async def test_a_body_of_another_length_than_promised_never_makes_a_whole_request(
    promised: int, second: bytes
) -> None:
    """Too few or too many bytes: ChangedError, the request stays incomplete, the line is cut."""
    async with against(take_part) as (client, wire):
        body = Steps([b"abc", second], length=promised)
        with pytest.raises(ChangedError):
            await client.add_part("u", body, request_id="r")
        for heard in wire.heard:
            await heard.ended.wait()
            assert len(heard.body) < int(heard.headers["content-length"])
        assert body.closed


async def test_the_error_of_a_body_comes_out_as_it_was_raised() -> None:
    """What the source raises is neither wrapped nor taken for the network's."""
    async with against(take_part) as (client, wire):
        body = Steps([b"abc" * 100_000], length=700_000)
        body.error = ChangedError("the file changed")
        with pytest.raises(ChangedError) as caught:
            await client.add_part("u", body, request_id="r")
        assert caught.value is body.error
        await wire.heard[0].ended.wait()
        assert not wire.heard[0].body.endswith(b"--\r\n")


@pytest.mark.parametrize("error", [TimeoutError("pread"), OSError(5, "I/O error"), ValueError("x")])
async def test_even_an_error_that_looks_like_the_network_s_stays_the_body_s(
    error: Exception,
) -> None:
    """A disk's OSError or a TimeoutError of the source is not mistaken for a broken line."""
    async with against(take_part) as (client, _):
        body = Steps([b"abc"], length=9)
        body.error = error
        with pytest.raises(type(error)) as caught:
            await client.add_part("u", body, request_id="r")
        assert caught.value is error


async def test_cancelling_a_send_drops_the_connection_at_once() -> None:
    """The peer sees the end although it never read what was buffered for it."""
    reading = asyncio.Event()

    async def script(heard: Heard) -> None:
        await heard.read_head()
        reading.set()
        await go.wait()
        await heard.until_end()

    go = asyncio.Event()
    async with against(script) as (client, wire):
        body = Steps([bytes(65536)] * 1024)
        sending = asyncio.create_task(client.add_part("u", body, request_id="r"))
        await reading.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert body.closed
        taken = body.taken
        go.set()
        await wire.heard[0].ended.wait()
        assert body.taken == taken < 1024
        assert len(wire.heard[0].body) < 65536 * 1024


async def test_memory_stays_flat_while_a_large_part_is_sent() -> None:
    """A part of 64 MiB needs a few steps of memory, not its own size."""

    class Zeros:
        length = 64 << 20

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(256):
                yield bytes(1 << 18)

    async def script(heard: Heard) -> None:
        await heard.read_head()
        left = int(heard.headers["content-length"])
        while left:
            left -= len(await heard.reader.read(min(left, 1 << 18)))
        await heard.say(PART)

    async with against(script) as (client, _):
        tracemalloc.start()
        try:
            await client.add_part("u", Zeros(), request_id="r")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 8 << 20


async def test_a_connection_is_used_again_after_a_part() -> None:
    """Parts that went well share one connection."""

    async def script(heard: Heard) -> None:
        for _ in range(3):
            await heard.read_all()
            heard.body.clear()
            await heard.say(PART)

    async with against(script) as (client, wire):
        for _ in range(3):
            await client.add_part("u", Steps([bytes(300_000)]), request_id="r")
        assert len(wire.heard) == 1


async def test_nothing_that_was_said_before_the_end_counts_as_a_stored_part() -> None:
    """A 200 that comes before the part was sent whole is not believed."""

    async def script(heard: Heard) -> None:
        await heard.read_head()
        await heard.say(PART)
        await heard.until_end()

    async with against(script) as (client, _):
        with pytest.raises(TransientError) as caught:
            await client.add_part("u", Steps([bytes(65536)] * 512), request_id="r")
    assert (caught.value.code, caught.value.acted) == ("bad_reply", True)


async def test_a_key_that_no_header_can_carry_blocks_the_target_unsent() -> None:
    """A key with a line break or beyond ASCII is never sent and never shown."""
    async with listening(take_part) as wire:
        for bad in ("sk-a\nb", "sk-ä"):
            async with talking(wire.base_url, key=TheKey(bad)) as client:
                with pytest.raises(TargetBlockedError) as caught:
                    await client.create(SPEC, request_id="r")
                assert bad not in str(caught.value)
        assert not wire.heard
