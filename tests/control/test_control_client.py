"""The client's own reading of an answer, against a server that breaks off."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from uploaderd.cli.common import answers
from uploaderd.control.client import Client, connect
from uploaderd.errors import NoDaemonError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def server(path: Path, *answers: bytes) -> AsyncIterator[list[str]]:
    """Answer each request with the next answer and hang up; an empty one hangs up at once."""
    heads: list[str] = []
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            heads.append((await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0])
            answer = left.pop(0)
            writer.write(answer)
            await writer.drain()
            if not answer.endswith(b"{}"):
                break
        writer.close()

    listening = await asyncio.start_unix_server(serve, path)
    try:
        yield heads
    finally:
        listening.close()
        await listening.wait_closed()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        OK[:9],
        OK + b"Content-Length: 5000\r\n\r\n{} ",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"220 smtp ready\r\n\r\n",
    ],
)
async def test_an_answer_that_breaks_off_is_none(tmp_path: Path, answer: bytes) -> None:
    """Also where what came so far could be read."""
    async with server(tmp_path / "s", answer) as heads:
        with Client(tmp_path / "s") as client, pytest.raises(NoDaemonError, match="breaks off"):
            await asyncio.to_thread(client.get, "/v1/status")
    assert heads == ["GET /v1/status HTTP/1.1"]


async def test_an_answer_without_a_length_ends_with_the_connection(tmp_path: Path) -> None:
    """As HTTP has it."""
    async with server(tmp_path / "s", OK + b"\r\n{ }"):
        with Client(tmp_path / "s") as client:
            assert await asyncio.to_thread(client.get, "/x") == b"{ }"


async def test_only_a_kept_connection_is_tried_again(tmp_path: Path) -> None:
    """The daemon may have closed it meanwhile; a fresh one that breaks off says enough."""
    whole = OK + b"Content-Length: 2\r\n\r\n{}"
    async with server(tmp_path / "s", whole, b"", whole, whole) as heads:
        with Client(tmp_path / "s") as client:
            for path in ("/1", "/2", "/3"):
                assert await asyncio.to_thread(client.get, path) == b"{}"
    assert [head.split()[1] for head in heads] == ["/1", "/2", "/2", "/3"]


def full(path: Path, stack: ExitStack) -> socket.socket:
    """Listen on a socket whose queue is full."""
    listening = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    listening.bind(str(path))
    listening.listen(1)
    try:
        while True:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            waiting.setblocking(False)
            waiting.connect(str(path))
    except BlockingIOError:
        return listening


async def test_who_comes_to_a_full_queue_waits_for_its_turn(tmp_path: Path) -> None:
    """A thousand others keep nobody out for good; the queue's owner counts as answering."""
    with ExitStack() as stack:
        listening = full(tmp_path / "s", stack)
        assert answers(tmp_path / "s")
        turn = asyncio.create_task(asyncio.to_thread(connect, tmp_path / "s", 30.0))
        await asyncio.sleep(0)
        stack.enter_context(listening.accept()[0])
        stack.enter_context(await turn)


def test_nobody_waits_for_ever_in_a_full_queue(tmp_path: Path) -> None:
    """When its time is over it is told that nobody answers."""
    with ExitStack() as stack:
        full(tmp_path / "s", stack)
        with pytest.raises(BlockingIOError):
            connect(tmp_path / "s", 0.05)
