"""``GET /v1/events`` at the server: how streams begin, are held, and end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.control.test_control import FakeView, get, serving
from tests.support.waiting import wait_until
from uploaderd.control.server import Limits
from uploaderd.errors import JournalError

if TYPE_CHECKING:
    from pathlib import Path

ASK = b"GET /v1/events%b HTTP/1.1\r\nHost: x\r\n%b\r\n"


async def follow(
    path: Path, *, query: bytes = b"", header: bytes = b""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for the events and read the answer's head."""
    reader, writer = await asyncio.open_unix_connection(path, limit=1024)
    writer.write(ASK % (query, header))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
    assert b"Content-Type: text/event-stream" in head
    assert b"Cache-Control: no-store" in head
    return reader, writer


async def chunk(reader: asyncio.StreamReader) -> bytes:
    """Read one chunk of the answer; empty at its end."""
    size = int(await asyncio.wait_for(reader.readline(), 10), 16)
    return (await asyncio.wait_for(reader.readexactly(size + 2), 10))[:-2]


async def test_events_are_handed_on_and_silence_is_commented(tmp_path: Path) -> None:
    """Each piece as it comes, a comment line where nothing comes, and a proper end."""
    view = FakeView(news=[b"data: 1\n\n", b"data: 2\n\n"])
    async with serving(view, tmp_path / "s", limits=Limits(silence_s=0.05)):
        reader, writer = await follow(tmp_path / "s")
        assert [await chunk(reader) for _ in range(2)] == [b"data: 1\n\n", b"data: 2\n\n"]
        assert await chunk(reader) == b":\n\n"
        view.streams[0].end()
        while (last := await chunk(reader)) == b":\n\n":
            pass
        assert last == b""
        writer.close()
    assert view.streams[0].closed


@pytest.mark.parametrize(
    ("query", "header", "last"),
    [
        (b"", b"", None),
        (b"", b"Last-Event-ID: a-7\r\n", "a-7"),
        (b"?last_event_id=a-7", b"", "a-7"),
        (b"?last_event_id=a-7", b"Last-Event-ID: a-9\r\n", "a-9"),
        (b"?last_event_id=", b"Last-Event-ID: \r\n", None),
    ],
)
async def test_the_last_id_comes_in_two_ways(
    tmp_path: Path, query: bytes, header: bytes, last: str | None
) -> None:
    """By the header, which browsers send when they come again, or by the query."""
    view = FakeView(news=[b"data: 1\n\n"])
    async with serving(view, tmp_path / "s"):
        _, writer = await follow(tmp_path / "s", query=query, header=header)
        writer.close()
    assert view.asked == [{"events": last}]


async def test_a_stream_that_cannot_begin_is_an_error_document(tmp_path: Path) -> None:
    """What is wrong is said before the stream, not in it."""
    async with serving(FakeView(error=JournalError("no journal")), tmp_path / "s"):
        status, _, body = await get(tmp_path / "s", "/v1/events")
        assert (status, body["error"]["message"]) == (503, "no journal")
        assert (await get(tmp_path / "s", "/v1/events?colour=red"))[0] == 400


async def test_there_is_a_bounded_count_of_streams(tmp_path: Path) -> None:
    """Beyond it a client is told why, and gets in when another one leaves."""
    view = FakeView()
    async with serving(view, tmp_path / "s", limits=Limits(streams=2, silence_s=3600.0)):
        first = [await follow(tmp_path / "s") for _ in range(2)]
        status, _, body = await get(tmp_path / "s", "/v1/events")
        assert (status, body["error"]["code"]) == (503, "unavailable")
        assert "2 clients follow the events already" in body["error"]["message"]
        first[0][1].close()
        await wait_until(lambda: view.streams[0].closed, what="the first to be gone")
        third = await follow(tmp_path / "s")
        for _, writer in [*first, third]:
            writer.close()


async def test_a_follower_that_never_reads_is_cut_off(tmp_path: Path) -> None:
    """Its stream is not asked for more than its buffers take, and is closed in time."""
    view = FakeView(forever=b"data: " + b"x" * 10_000 + b"\n\n")
    async with serving(view, tmp_path / "s", limits=Limits(idle_s=0.3)):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s", limit=1024)
        writer.write(ASK % (b"", b""))
        await wait_until(lambda: view.streams and view.streams[0].closed, what="the cut")
        assert view.streams[0].given < 200
        assert (await get(tmp_path / "s", "/healthz"))[0] == 200
        writer.close()
        with suppress(ConnectionError):
            await reader.read()


async def test_streams_end_with_the_daemon(tmp_path: Path) -> None:
    """What is left is handed out, then the answer ends as it should; nobody waits for long."""
    view = FakeView(news=[b"data: 1\n\n"])
    async with serving(view, tmp_path / "s") as server:
        reader, writer = await follow(tmp_path / "s")
        assert await chunk(reader) == b"data: 1\n\n"
        view.streams[0].left.append(b"data: 2\n\n")
        await asyncio.wait_for(server.stop(), 10)
        assert [await chunk(reader) for _ in range(2)] == [b"data: 2\n\n", b""]
        writer.close()
