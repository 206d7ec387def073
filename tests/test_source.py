"""Reading one open file: exact reads, the md5 pass, the body of a request, over real files."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
import tracemalloc
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uploaderd.core.plan import Range, ranges
from uploaderd.errors import ChangedError, UnreadableError
from uploaderd.source import STEP_BYTES, Md5Pass, PartBody, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from uploaderd.seams import P, T


async def inline(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function at once, as the simulator does."""
    return function(*args, **kwargs)


def content(size: int) -> bytes:
    """Bytes in which no two stretches are alike."""
    return hashlib.shake_128(b"uploaderd").digest(size)


def opened(path: Path) -> Source:
    """Open a file as the spool does."""
    return Source(os.open(path, os.O_RDONLY))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of one and a half MiB."""
    path = tmp_path / "file"
    path.write_bytes(content(3 << 19))
    return path


@pytest.fixture
def source(file: Path) -> Iterator[Source]:
    """The file, open."""
    source = opened(file)
    yield source
    source.close()


def test_reads_exactly(source: Source, file: Path) -> None:
    """A read returns exactly the bytes asked for, wherever they lie."""
    data = file.read_bytes()
    for offset, length in ((0, 1), (0, len(data)), (12345, 67890), (len(data) - 1, 1), (7, 0)):
        assert source.pread(offset, length) == data[offset : offset + length]


def test_a_small_file_is_read_once(tmp_path: Path) -> None:
    """From then on it is what it was, whatever happens on the disk; a larger one is not kept."""
    path = tmp_path / "small"
    path.write_bytes(content(100))
    with contextlib.closing(opened(path)) as small:
        small.load(99)
        assert small.loaded is None
        small.load(100)
        path.write_bytes(b"other")
        assert small.pread(10, 80) == content(100)[10:90]
        into = bytearray(90)
        small.readinto(memoryview(into), 10)
        assert into == content(100)[10:]
        with pytest.raises(ChangedError):
            small.pread(50, 51)
        with pytest.raises(ChangedError):
            small.readinto(memoryview(bytearray(51)), 50)


def test_a_small_file_that_becomes_shorter_is_not_loaded(tmp_path: Path) -> None:
    """It changed between the look at it and the reading of it."""
    path = tmp_path / "small"
    path.write_bytes(content(100))
    with contextlib.closing(opened(path)) as small:
        os.truncate(path, 50)
        with pytest.raises(ChangedError):
            small.load(100)
        assert small.loaded is None


def test_past_the_end_is_changed(source: Source, file: Path) -> None:
    """A file that ends too early was changed, and no short read passes for a part."""
    size = file.stat().st_size
    with pytest.raises(ChangedError):
        source.pread(size - 10, 11)
    os.truncate(file, 100)
    with pytest.raises(ChangedError):
        source.pread(0, size)
    with pytest.raises(ChangedError):
        source.readinto(memoryview(bytearray(101)), 0)


def test_unreadable_is_told(tmp_path: Path) -> None:
    """What the kernel will not read is an error with a sentence, not a bare OSError."""
    source = Source(os.open(tmp_path, os.O_RDONLY))
    with pytest.raises(UnreadableError, match="cannot be read") as caught:
        source.pread(0, 1)
    assert caught.value.hint
    source.close()


def test_identity_follows_the_file(source: Source, file: Path) -> None:
    """The identity is that of the open file: a rename leaves the bytes, a write does not."""
    status = file.stat()
    assert (source.identity.inode, source.identity.size) == (status.st_ino, status.st_size)
    file.rename(file.with_name("elsewhere"))
    assert source.identity_now().same_bytes(source.identity)
    os.truncate(file.with_name("elsewhere"), 10)
    assert not source.identity_now().same_bytes(source.identity)


def test_close_waits_for_readers(file: Path) -> None:
    """A descriptor closed during a read keeps its number until that read has ended."""
    source = opened(file)
    fd = source._fd
    inside, leave = threading.Event(), threading.Event()

    def read() -> None:
        with source._in_use():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=read)
    thread.start()
    assert inside.wait(10)
    source.close()
    os.fstat(fd)
    leave.set()
    thread.join(10)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    source.close()
    with pytest.raises(ValueError, match="closed"):
        source.pread(0, 1)


def test_fresh_objects(source: Source) -> None:
    """Two reads never share memory, since a transport may still hold the first."""
    first, second = source.pread(0, 4096), source.pread(0, 4096)
    assert first == second
    assert first is not second


@given(
    size=st.integers(0, 5000),
    part_bytes=st.integers(1, 6000),
    steps=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 6000)), max_size=20),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_pass_agrees_with_hashlib(
    tmp_path: Path, size: int, part_bytes: int, steps: list[tuple[int, int]]
) -> None:
    """Whatever the size, the parts and the steps, each digest is that of the bytes."""
    data = content(size)
    path = tmp_path / "any"
    path.write_bytes(data)
    source = opened(path)
    plan = ranges(size, part_bytes)
    md5 = Md5Pass(source, plan)
    digests: dict[int, bytes] = {}
    for budget, limit in steps:
        before = md5.offset
        for number, digest in md5.advance(budget, limit):
            assert number not in digests
            digests[number] = digest
        assert before <= md5.offset <= max(before, min(limit, before + budget))
    while not md5.finished:
        digests.update(md5.advance(1000, size))
    assert md5.advance(1000, size) == []
    assert md5.hexdigest() == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert digests == {
        part.number: xxhash.xxh3_128_digest(data[part.offset : part.offset + part.length])
        for part in plan
    }
    source.close()


def test_pass_unfinished_has_no_digest(source: Source) -> None:
    """The md5 of half a file is never handed out."""
    md5 = Md5Pass(source, ranges(source.identity.size, 1 << 20))
    md5.advance(1000, 1 << 30)
    with pytest.raises(ValueError, match="has read"):
        md5.hexdigest()


def test_pass_notices_truncation(source: Source, file: Path) -> None:
    """A file that shrinks under the pass is changed."""
    md5 = Md5Pass(source, ranges(source.identity.size, 1 << 20))
    md5.advance(1000, 1 << 30)
    os.truncate(file, 500)
    with pytest.raises(ChangedError):
        md5.advance(1 << 30, 1 << 30)


def test_pass_needs_a_few_steps_of_memory(tmp_path: Path) -> None:
    """A pass over a large file in one part holds one buffer."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(256 << 20)
    source = opened(path)
    tracemalloc.start()
    try:
        md5 = Md5Pass(source, ranges(256 << 20, 64 << 20))
        md5.advance(128 << 20, 256 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
        source.close()


@pytest.mark.parametrize("step", [1, 7, 4096, 1 << 20])
async def test_body_yields_its_part(source: Source, file: Path, step: int) -> None:
    """A body yields its range in order, counts it and has its digest."""
    part = Range(number=3, offset=1000, length=9001)
    counted: list[int] = []
    paced: list[int] = []

    async def pace(most: int) -> int:
        paced.append(max(1, most // 2))
        return paced[-1]

    body = PartBody(
        source, part, offload=inline, step_bytes=step, on_bytes=counted.append, pace=pace
    )
    assert isinstance(body, AsyncIterable)
    pieces = [bytes(piece) async for piece in body]
    data = file.read_bytes()[1000:10001]
    assert b"".join(pieces) == data
    assert (body.length, body.sent, sum(counted), sum(paced)) == (9001, 9001, 9001, 9001)
    assert max(map(len, pieces)) <= step
    assert body.digest() == xxhash.xxh3_128_digest(data)


class PartlyCached(Source):
    """A file of which only the beginning of each stretch is in memory."""

    def readinto_cached(self, buffer: memoryview, offset: int) -> int:
        """Give a third of it."""
        return super().readinto_cached(buffer[: len(buffer) // 3], offset)


async def test_body_takes_from_memory_what_is_there(file: Path) -> None:
    """What is cached is not read again by a thread; the rest is, and all of it is digested."""
    source = PartlyCached(os.open(file, os.O_RDONLY))
    reads: list[int] = []

    async def counting(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        for each in args:
            reads.extend([len(each)] if isinstance(each, memoryview) else [])
        return function(*args, **kwargs)

    body = PartBody(
        source, Range(number=1, offset=5, length=9000), offload=counting, step_bytes=3000
    )
    data = file.read_bytes()[5:9005]
    assert b"".join([bytes(piece) async for piece in body]) == data
    assert body.digest() == xxhash.xxh3_128_digest(data)
    assert reads in ([2000] * 3, [3000] * 3), "3000 where the file system doesn't say what it has"
    source.close()


async def test_body_of_a_cached_file_needs_no_thread(source: Source) -> None:
    """A file that was just written is sent without a hop to a thread."""
    if not source.readinto_cached(memoryview(bytearray(1)), 0):
        pytest.skip("this file system doesn't say what is in memory")

    async def refuse(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        raise AssertionError(f"{function} was to run on a thread, with {args} and {kwargs}")

    body = PartBody(source, Range(number=1, offset=0, length=3 << 19), offload=refuse)
    assert sum([len(piece) async for piece in body]) == 3 << 19


def test_what_is_not_cached_is_left_to_a_thread(tmp_path: Path, source: Source) -> None:
    """Trouble is for the read that may wait to tell, and a closed file is not read at all."""
    folder = Source(os.open(tmp_path, os.O_RDONLY))
    size = source.identity.size
    assert folder.readinto_cached(memoryview(bytearray(10)), 0) == 0
    assert source.readinto_cached(memoryview(bytearray(10)), size) == 0
    assert source.readinto_cached(memoryview(bytearray(10)), size - 4) in {0, 4}
    for each in (folder, source):
        each.close()
        with pytest.raises(ValueError, match="closed"):
            each.readinto_cached(memoryview(bytearray(10)), 0)


async def test_body_needs_a_step_of_memory(tmp_path: Path) -> None:
    """All steps of a part lie in the same memory, however large the part is."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    source = opened(path)
    body = PartBody(source, Range(number=1, offset=0, length=64 << 20), offload=inline)
    places = set()
    tracemalloc.start()
    try:
        async for step in body:
            places.add(id(step.obj))
        assert tracemalloc.get_traced_memory()[1] < 2 * STEP_BYTES
    finally:
        tracemalloc.stop()
        source.close()
    assert len(places) == 1


async def test_body_counts_what_was_taken(source: Source) -> None:
    """A body that was given up half-way counts what was taken, and has no digest."""
    body = PartBody(
        source,
        Range(number=1, offset=0, length=1000),
        offload=inline,
        step_bytes=100,
        on_bytes=None,
        pace=None,
    )
    stream = aiter(body)
    for _ in range(4):
        await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert body.sent == 300
    with pytest.raises(ValueError, match="300 of 1000"):
        body.digest()


async def test_body_is_for_one_attempt(source: Source) -> None:
    """A second attempt needs a body of its own."""
    body = PartBody(source, Range(number=1, offset=0, length=10), offload=inline)
    assert len([piece async for piece in body]) == 1
    with pytest.raises(RuntimeError, match="fresh"):
        await anext(aiter(body))


async def test_body_of_a_truncated_file(source: Source, file: Path) -> None:
    """A body ends with an error, never short, when its file was cut."""
    body = PartBody(
        source,
        Range(number=1, offset=0, length=3 << 19),
        offload=asyncio.to_thread,
        step_bytes=4096,
    )
    stream = aiter(body)
    await anext(stream)
    os.truncate(file, 6000)
    with pytest.raises(ChangedError):
        async for _ in stream:
            pass
    assert body.sent < body.length
