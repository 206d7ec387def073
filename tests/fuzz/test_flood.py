"""Clients of the status socket that send without an end, drip, or leave."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fuzz.test_control_fuzz import (
    GOOD,
    MIB,
    POST,
    Complaints,
    complaints,
    serving,
    still_well,
)
from uploaderd.control.server import Limits

__all__ = ["complaints"]

PATIENT = Limits(connections=64, request_s=30.0, idle_s=0.5)
FLOODS = {
    "a body without an end": POST + b"Content-Length: 99999999999\r\n\r\n",
    "chunks without an end": POST + b"Transfer-Encoding: chunked\r\n\r\n",
    "headers without an end": b"GET /v1/status HTTP/1.1\r\nHost: x\r\n",
    "questions and no reading": b"",
    "one long line": b"GET /",
}
WAVES = {
    "a body without an end": b"x" * 65536,
    "chunks without an end": b"1000\r\n" + b"x" * 4096 + b"\r\n",
    "headers without an end": b"X-Some: " + b"y" * 4000 + b"\r\n",
    "questions and no reading": GOOD * 100,
    "one long line": b"x" * 65536,
}
FLOOD_BYTES = 48 * MIB


def resident_bytes() -> int:
    """The memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def flood(path: Path, first: bytes, wave: bytes) -> int:
    """Send without reading until the server hangs up, or so many bytes have gone."""
    _, writer = await asyncio.open_unix_connection(path)
    sent = 0
    with suppress(ConnectionError):
        writer.write(first)
        while sent < FLOOD_BYTES and not writer.transport.is_closing():
            writer.write(wave)
            sent += len(wave)
            await writer.drain()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return sent


@pytest.mark.parametrize("kind", list(FLOODS))
async def test_a_flood_is_not_kept(kind: str, complaints: Complaints) -> None:
    """Whoever sends without an end is hung up on or read past; the memory does not grow with it."""
    async with serving(PATIENT) as path, asyncio.timeout(120):
        await still_well(path)
        before = resident_bytes()
        found = await asyncio.gather(*(flood(path, FLOODS[kind], WAVES[kind]) for _ in range(4)))
        grown = resident_bytes() - before
        await still_well(path)
    assert grown < 24 * MIB, (kind, grown, found)
    assert complaints.found == []


async def test_a_client_that_drips_is_dropped(complaints: Complaints) -> None:
    """A head of which a byte comes now and then has the same time as any other."""
    async with serving(Limits(request_s=0.3, idle_s=3600)) as path, asyncio.timeout(60):
        reader, writer = await asyncio.open_unix_connection(path)
        ended = asyncio.ensure_future(reader.read())
        with suppress(ConnectionError):
            writer.write(b"GET /v1/status HTTP/1.1\r\n")
            while not ended.done():
                writer.write(b"x")
                await asyncio.wait({ended}, timeout=0.02)
        with suppress(ConnectionError):
            assert await ended == b""
        writer.close()
    assert complaints.found == []


async def test_a_client_that_leaves_before_its_answer_is_no_trouble(complaints: Complaints) -> None:
    """Half-closed or gone: nothing is in the log, and others are answered."""
    async with serving() as path:
        for more in (b"", b"Expect: 100-continue\r\n"):
            for _ in range(20):
                _, writer = await asyncio.open_unix_connection(path)
                writer.write(GOOD.removesuffix(b"\r\n") + more + b"\r\n")
                writer.write_eof()
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
        await still_well(path)
    assert complaints.found == []


async def test_a_body_that_turns_bad_behind_the_answer_is_no_trouble(
    complaints: Complaints,
) -> None:
    """The answer did not wait for the body; what is wrong with that is the client's."""
    async with serving(PATIENT) as path, asyncio.timeout(60):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 405")
        with suppress(ConnectionError):
            writer.write(b"this is no length\r\n")
            await reader.read()
        writer.close()
        await still_well(path)
    assert complaints.found == []
