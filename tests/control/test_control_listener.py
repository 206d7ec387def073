"""The listener to the daemon's events, against a small server that behaves as it is told."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.cli.cli_helpers import event
from uploaderd.cli.common import boot_s
from uploaderd.control.documents import AnswerError
from uploaderd.control.listener import Listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from uploaderd.control.wire import Event

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
RETRY = b"retry: 100\n\n"
BUSY = b'{"error":{"code":"unavailable","message":"too many","hint":"wait"}}'


@asynccontextmanager
async def server(path: Path, *answers: bytes) -> AsyncIterator[list[str]]:
    """Answer the first connection with the first answer, and so on; give the requests' heads.

    After an answer the connection is closed, but after the last one, which stays open.
    """
    heads: list[str] = []
    left = list(answers)
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if left:
            writer.write(left.pop(0))
            await writer.drain()
        if not left:
            await over.wait()
        writer.close()

    listening = await asyncio.start_unix_server(serve, path)
    try:
        yield heads
    finally:
        over.set()
        listening.close()
        await listening.wait_closed()


class Ear:
    """A listener in a thread of its own, until it has heard so many events."""

    def __init__(self, path: Path, *, silence_s: float = 60.0) -> None:
        self.heard: list[Event] = []
        self.away: list[str] = []
        self._listener = Listener(path, clock=boot_s, silence_s=silence_s, retry_s=0.1)
        self._over = threading.Event()

    async def hear(self, count: int) -> None:
        """Poll until there are so many."""
        try:
            async with asyncio.timeout(30):
                await asyncio.to_thread(self._poll, count)
        finally:
            self._over.set()

    def _poll(self, count: int) -> None:
        with self._listener as listener:
            while len(self.heard) < count and not self._over.is_set():
                self.heard += listener.poll(0.1)
                if listener.away and listener.away not in self.away:
                    self.away.append(listener.away)


async def test_it_goes_on_after_the_last_id(tmp_path: Path) -> None:
    """A connection that ends, even within an event, is opened anew where it was."""
    first = OK + RETRY + event("file", 1, place="e-1") + b"id: e-2\ndata: half"
    ear = Ear(tmp_path / "s")
    async with server(tmp_path / "s", first, OK + event("file", 2, place="e-2")) as heads:
        await ear.hear(2)
    assert [(one.data, one.id) for one in ear.heard] == [("1", "e-1"), ("2", "e-2")]
    assert "Last-Event-ID" not in heads[0]
    assert "\r\nLast-Event-ID: e-1\r\n" in heads[1]
    assert ear.away == ["the daemon has hung up"]


async def test_a_daemon_that_is_not_there_yet_is_asked_again(tmp_path: Path) -> None:
    """It says why nobody answers, and goes on once somebody does."""
    ear = Ear(tmp_path / "s")
    hearing = asyncio.create_task(ear.hear(1))
    async with asyncio.timeout(30):
        while not ear.away:
            await asyncio.sleep(0.02)
    async with server(tmp_path / "s", OK + event("status", {})):
        await hearing
    assert ear.away[0].startswith(f"no daemon answers on {tmp_path}/s: ")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 503 No\r\nContent-Length: %d\r\n\r\n%b" % (len(BUSY), BUSY), "too many"),
        (b"HTTP/1.1 500 No\r\n\r\nnonsense", "the socket answered with HTTP status 500"),
        (b"EHLO\r\n\r\n", "what answers does not speak HTTP"),
        (OK + b"data: x", "the daemon has hung up"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nda", "hung up"),
    ],
)
async def test_what_a_restart_may_mend_is_waited_for(
    tmp_path: Path, answer: bytes, why: str
) -> None:
    """A server that is busy, broken, or something else for a while."""
    ear = Ear(tmp_path / "s")
    async with server(tmp_path / "s", answer, OK + event("status", {})):
        await ear.hear(1)
    assert why in ear.away[0]


async def test_a_daemon_without_events_is_no_use(tmp_path: Path) -> None:
    """An older one says 404, and would for ever."""
    with pytest.raises(AnswerError, match="404"):
        async with server(tmp_path / "s", b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"):
            await Ear(tmp_path / "s").hear(1)


async def test_silence_is_no_sign_of_life(tmp_path: Path) -> None:
    """A daemon comments now and then; one that does not is asked anew."""
    ear = Ear(tmp_path / "s", silence_s=0.2)
    silent = OK + RETRY + event("file", 1, place="e-1")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(silent)
        await reader.read()  # until the other side hangs up
        writer.close()

    listening = await asyncio.start_unix_server(serve, tmp_path / "s")
    await ear.hear(2)
    listening.close()
    assert ear.away == ["the daemon has fallen silent"]


async def test_a_poll_ends_in_time(tmp_path: Path) -> None:
    """Also where nothing comes, so that whoever shows something can show it again."""
    async with server(tmp_path / "s", OK):
        with Listener(tmp_path / "s", clock=boot_s) as listener:
            began_s = boot_s()
            assert await asyncio.to_thread(listener.poll, 0.3) == []
            assert boot_s() - began_s >= 0.25
