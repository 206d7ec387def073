"""Replies without an end: an error in bounded memory, never a hang."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path

import pytest

from tests.client.stage import staged
from tests.support.proxy import Does, Trouble
from uploaderd.errors import TransientError

MIB = 1 << 20
STALL_S = 0.5  # where none of it is seen to move
MOST_BYTES = 64 * MIB


def _zeros(wbits: int) -> tuple[bytes, bytes]:
    """The begin of a compressed stream, and a block that stands for 16 MiB of zeros in it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    begin = packer.compress(b" ") + packer.flush(zlib.Z_FULL_FLUSH)
    return begin, packer.compress(bytes(16 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)


GZIP, GZIP_BLOCK = _zeros(31)
DEFLATE, DEFLATE_BLOCK = _zeros(15)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

ENDLESS = {
    "a line of the head": (OK + b"X-Long: ", b"x" * 65_536),
    "the head": (OK, b"X-More: x\r\n" * 1000),
    "the status line": (b"HTTP/1.1 200 ", b"OK" * 30_000),
    "lines before the head": (b"", b"\r\n" * 30_000),
    "provisional replies": (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 1000),
    "a body without a length": (OK + b"\r\n{", b" " * 65_536),
    "a body of a petabyte": (OK + b"Content-Length: 1000000000000000\r\n\r\n{", b" " * 65_536),
    "chunks": (CHUNKED, b"10000\r\n" + b" " * 65_536 + b"\r\n"),
    "a chunk's extension": (CHUNKED + b"1;", b"x" * 65_536),
    "a chunk's length": (CHUNKED, b"0" * 65_536),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-More: x\r\n" * 1000),
    "gzip": (OK + b"Content-Encoding: gzip\r\n\r\n" + GZIP, GZIP_BLOCK),
    "deflate": (OK + b"Content-Encoding: deflate\r\n\r\n" + DEFLATE, DEFLATE_BLOCK),
    "empty blocks of gzip": (
        OK + b"Content-Encoding: gzip\r\n\r\n" + GZIP,
        b"\x00\x00\x00\xff\xff" * 10_000,
    ),
}


def peak_bytes(*, afresh: bool = False) -> int:
    """The most memory that this process has held, since the last time it was asked afresh."""
    if afresh:
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not say")


LISTS = ("the head", "provisional replies", "a body of a petabyte", "chunks", "gzip")


@pytest.mark.parametrize(
    ("what", "name"), [(what, "part") for what in ENDLESS] + [(what, "list") for what in LISTS]
)
async def test_a_reply_without_an_end_is_an_error(what: str, name: str, tmp_path: Path) -> None:
    """It is given up soon, in bounded memory, though its bytes never stop moving."""
    begin, on_and_on = ENDLESS[what]
    async with staged(tmp_path, stall_s=STALL_S) as stage:
        before = peak_bytes(afresh=True)
        trouble = Trouble(does=Does.REPLACE_REPLY, says=begin, on_and_on=on_and_on, times=2)
        stage.proxy.plan(trouble)
        async with asyncio.timeout(15):
            error = await stage.fails(name)
        assert isinstance(error, TransientError)
        assert error.acted or name == "list"
        assert peak_bytes() - before < MOST_BYTES
