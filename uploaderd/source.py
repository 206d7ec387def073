"""Reading one open spool file: positioned reads, the md5 pass, and the body of one request.

Everything is read through the one descriptor that was opened and checked, never by path.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from typing import TYPE_CHECKING

import xxhash

from uploaderd.core.model import Identity
from uploaderd.errors import ChangedError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from uploaderd.core.plan import Range
    from uploaderd.seams import Offload

STEP_BYTES = 256 * 1024
_PASS_BYTES = 1 << 20


class Source:
    """One open spool file; owns its descriptor.

    ``close`` may be called while a thread still reads: the descriptor then lives until that read
    ends, since its number could by then be somebody else's file.

    Attributes:
        identity: what the file was when it was opened.
        loaded: all of its bytes, once ``load`` read them: from then on nothing here blocks.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.loaded: memoryview | None = None
        self._lock = threading.Lock()
        self._readers = 0
        self._closed = False
        self._asks_cache = True
        self.identity = self.identity_now()

    def identity_now(self) -> Identity:
        """Say what the open file is now, wherever its name has gone.

        Raises:
            UnreadableError: the file system does not answer.
        """
        with self._in_use() as fd:
            status = os.fstat(fd)
        return Identity(
            dev=status.st_dev,
            inode=status.st_ino,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
        )

    def load(self, most_bytes: int) -> None:
        """Read all of it into memory, unless it has more bytes than ``most_bytes``.

        Raises:
            ChangedError: the file became shorter since it was opened.
            UnreadableError: the device or the server does not deliver.
        """
        size = self.identity.size
        if self.loaded is None and size <= most_bytes:
            self.loaded = memoryview(self.pread(0, size))

    def pread(self, offset: int, length: int) -> bytes:
        """Read exactly ``length`` bytes from ``offset``.

        Raises:
            ChangedError: the file ends before that.
            UnreadableError: the device or the server does not deliver.
        """
        if self.loaded is not None:
            return bytes(self._in_memory(offset, length))
        with self._in_use() as fd:
            data = os.pread(fd, length, offset)
            if len(data) == length:
                return data
            pieces = [data]
            missing = length - len(data)
            while missing:
                data = os.pread(fd, missing, offset + length - missing)
                if not data:
                    raise _too_short(offset + length)
                pieces.append(data)
                missing -= len(data)
        return b"".join(pieces)

    def readinto(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` from ``offset``; raises as ``pread`` does."""
        if self.loaded is not None:
            buffer[:] = self._in_memory(offset, len(buffer))
            return
        with self._in_use() as fd:
            done = 0
            while done < len(buffer):
                count = os.preadv(fd, [buffer[done:]], offset + done)
                if not count:
                    raise _too_short(offset + len(buffer))
                done += count

    def readinto_cached(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` with what is in memory already, from ``offset`` on; never waits.

        Returns:
            how many bytes; where they are fewer than wanted, ``readinto`` has the rest or says
            what is wrong.
        """
        if self.loaded is not None:
            data = self.loaded[offset : offset + len(buffer)]
            buffer[: len(data)] = data
            return len(data)
        with self._in_use() as fd:
            try:
                return os.preadv(fd, [buffer], offset, os.RWF_NOWAIT) if self._asks_cache else 0
            except BlockingIOError:
                return 0
            except OSError:  # a file system that doesn't know the flag, or a fault
                self._asks_cache = False
                return 0

    def close(self) -> None:
        """Let go of the file, at once or when the last read ends; again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            idle = self._readers == 0
        if idle:
            os.close(self._fd)

    def _in_memory(self, offset: int, length: int) -> memoryview:
        data = (self.loaded or memoryview(b""))[offset : offset + length]
        if len(data) < length:
            raise _too_short(offset + length)
        return data

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[int]:
        with self._lock:
            if self._closed:
                raise ValueError("the source is closed")
            self._readers += 1
        try:
            yield self._fd
        except OSError as error:
            raise _unreadable(error) from error
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._readers -= 1
            last = self._closed and self._readers == 0
        if last:
            os.close(self._fd)


class Md5Pass:
    """The one ordered pass through a file: md5 of the whole, xxh3_128 of each part on the way.

    Attributes:
        offset: how far it has come, in bytes.
    """

    def __init__(self, source: Source, ranges: Sequence[Range]) -> None:
        self._source = source
        self._ranges = ranges
        self._end = ranges[-1].offset + ranges[-1].length if ranges else 0
        self._next = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._part = xxhash.xxh3_128()
        self._buffer = memoryview(bytearray(min(_PASS_BYTES, self._end)))
        self.offset = 0

    @property
    def finished(self) -> bool:
        """True when every part was read."""
        return self.offset == self._end

    def advance(self, budget_bytes: int, limit: int) -> list[tuple[int, bytes]]:
        """Read on, at most ``budget_bytes`` and never past ``limit``; for a thread.

        Returns:
            the number and the digest of each part that was finished on the way.

        Raises:
            ChangedError: the file became shorter.
            UnreadableError: the device or the server does not deliver.
        """
        stop = min(self.offset + budget_bytes, limit, self._end)
        finished: list[tuple[int, bytes]] = []
        while self.offset < stop:
            part = self._ranges[self._next]
            part_end = part.offset + part.length
            step = min(len(self._buffer), stop - self.offset, part_end - self.offset)
            view = self._buffer[:step]
            self._source.readinto(view, self.offset)
            self._md5.update(view)
            self._part.update(view)
            self.offset += step
            if self.offset == part_end:
                finished.append((part.number, self._part.digest()))
                self._part.reset()
                self._next += 1
        return finished

    def hexdigest(self) -> str:
        """Return the md5 of the whole file.

        Raises:
            ValueError: the pass is not finished.
        """
        if not self.finished:
            raise ValueError(f"the pass has read {self.offset} of {self._end} bytes")
        return self._md5.hexdigest()


class PartBody:
    """The body of one attempt to send a part: an async iterable that can be gone through once.

    All steps lie in the same memory: each is good until the next one is asked for. What the page
    cache holds is read where the caller runs, since a copy takes less than a hop to a thread; only
    what has to come from the device is awaited.

    Attributes:
        length: the bytes it will yield in all.
        sent: those that its consumer has taken and come back from, so handed to the transport.
        waits: it waits for ``pace``, which says how many of the bytes asked for may leave now.
    """

    def __init__(
        self,
        source: Source,
        part: Range,
        *,
        offload: Offload,
        step_bytes: int = STEP_BYTES,
        on_bytes: Callable[[int], None] | None = None,
        pace: Callable[[int], Awaitable[int]] | None = None,
    ) -> None:
        self.length = part.length
        self.sent = 0
        self.waits = False
        self._source = source
        self._offset = part.offset
        self._offload = offload
        self._step_bytes = step_bytes
        self._on_bytes = on_bytes
        self._pace = pace
        self._hash = xxhash.xxh3_128()
        self._begun = False

    def digest(self) -> bytes:
        """Return the xxh3_128 of what was yielded.

        Raises:
            ValueError: not all of it was sent.
        """
        if self.sent != self.length:
            raise ValueError(f"{self.sent} of {self.length} bytes were sent")
        return self._hash.digest()

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        """Yield the part's bytes in steps, each after ``pace`` let it pass.

        Raises:
            ChangedError: the file became shorter.
            UnreadableError: the device or the server does not deliver.
            RuntimeError: it was gone through before; an attempt needs a fresh one.
        """
        if self._begun:
            raise RuntimeError("the body of a part can be sent once; make a fresh one")
        self._begun = True
        memory = memoryview(bytearray(min(self._step_bytes, self.length)))
        while self.sent < self.length:
            size = min(self._step_bytes, self.length - self.sent)
            if self._pace is not None:
                self.waits = True
                size = await self._pace(size)
                self.waits = False
            step = memory[:size]
            await self._read(step, self._offset + self.sent)
            yield step
            self.sent += size
            if self._on_bytes is not None:
                self._on_bytes(size)

    async def _read(self, step: memoryview, offset: int) -> None:
        done = self._source.readinto_cached(step, offset)
        if done < len(step):
            await self._offload(self._source.readinto, step[done:], offset + done)
        self._hash.update(step)


def _too_short(expected: int) -> ChangedError:
    return ChangedError(f"The file became shorter: it ends before byte {expected}.")


def _unreadable(error: OSError) -> UnreadableError | ChangedError:
    if error.errno == errno.ESTALE:  # a server that forgot the file (nfs)
        return ChangedError("The file was replaced on its server while it was read.")
    return UnreadableError(
        f"The file cannot be read: {os.strerror(error.errno or 0)}.",
        hint="See the kernel's log (dmesg); the disk or its server is at fault.",
    )
