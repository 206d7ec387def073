"""One watched folder and safe access to everything beneath it.

Synchronous: whoever is on an event loop calls this in a thread. Any number of threads may.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from uploaderd.core.settle import Writers
from uploaderd.errors import ChangedError, GoneError, NotRegularError, SpoolError
from uploaderd.spool import beneath, lease, mounts
from uploaderd.spool.claims import Claims
from uploaderd.spool.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from uploaderd.core.model import Identity
    from uploaderd.spool.walk import Seen

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a file is and whether it is being written, both of one moment."""

    identity: Identity
    writers: Writers


class Tree:
    """A watch's folder, held open, so that a path below it means the same until it is replaced.

    The folder itself may be a symlink, since the administrator named it; nothing below it is
    followed. A folder that was deleted, moved away or mounted over is noticed at the next miss or
    ``open``; the one that takes its place is used from then on.

    Attributes:
        claims: what is being filed now.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.claims = Claims()
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._ended = False
        self._here = (0, 0)
        self._openings = 0
        self._leases: dict[int, bool] = {}

    def open(self) -> int:
        """Open the folder, or make sure that the open one is still what stands at its path.

        Returns:
            a number that is another one when, by whatever call, another folder was taken up.

        Raises:
            SpoolError: it is missing, no folder, or not ours to read and write.
        """
        with self._lock:
            self._leases.clear()
        return self._make_sure()

    def close(self) -> None:
        """Let go of the folder; a later access opens it again."""
        with self._lock:
            self._drop()

    def end(self) -> None:
        """Let go of the folder for good: whoever comes late is refused, and opens nothing again."""
        with self._lock:
            self._ended = True
            self._drop()

    def file_system(self) -> str | None:
        """Return the type of the file system that the folder lies on; None if it is unknown."""
        fd = self.folder()
        try:
            return mounts.file_system(fd)
        finally:
            os.close(fd)

    def folder(self, path: bytes = b"") -> int:
        """Open a folder below the watch, or the watch itself, for reading; the caller closes it.

        Raises:
            GoneError: nothing is there, or it is no folder.
            UnreadableError: it may not be opened.
            SpoolError: the watched folder itself has vanished.
        """
        # Even the watch itself is opened anew: a duplicate would share one reading position.
        inner = beneath.names(path) if path else [b"."]
        return self._retry(path, lambda start: beneath.descend(start, inner))

    def look(self, path: bytes) -> Look:
        """Say what a file is now and who writes it.

        Raises:
            GoneError: nothing is there, or a folder by now.
            NotRegularError: a symlink, FIFO, socket or device is; it was not opened.
            UnreadableError: it may not be opened.
            SpoolError: the watched folder itself has vanished.
        """
        return self._at(path, self._look)

    def identify(self, path: bytes) -> Identity:
        """Say what stands at a path, of whatever kind, without opening or following it.

        Raises:
            GoneError: nothing is there, or a folder: what is in it is found on its own.
            SpoolError: the watched folder itself has vanished.
        """
        return self._at(path, _identify)

    def device_of(self, path: bytes) -> int:
        """Return the device of the deepest folder on the way to a path that is there.

        Raises:
            SpoolError: the watched folder itself has vanished.
        """
        folder = path
        while folder:
            folder = folder.rpartition(b"/")[0]
            try:
                fd = self.folder(folder)
            except GoneError:
                if not folder:
                    raise
                continue
            try:
                return os.fstat(fd).st_dev
            finally:
                os.close(fd)
        raise GoneError("The path of the watched folder itself is no file's.")

    def open_fd(self, path: bytes) -> int:
        """Open a regular file for reading; the caller closes it.

        Raises:
            GoneError: nothing is there, or a folder by now.
            NotRegularError: it is of another kind; it was not opened.
            UnreadableError: it may not be opened.
            ChangedError: someone holds a write lease on it, and so writes it.
            SpoolError: the watched folder itself has vanished.
        """
        return self._at(path, _open_regular)

    def ask(self, fd: int) -> tuple[os.stat_result, Writers]:
        """Say what an open file is and whether anyone writes it; ``fd`` as for ``lease.ask``."""
        if self._has_leases(fd):
            return lease.ask(fd)
        return os.fstat(fd), Writers.UNKNOWN

    def walk(
        self,
        *,
        recursive: bool,
        ignored: Callable[[bytes], bool],
        start: bytes = b"",
        enter: Callable[[bytes, int], None] | None = None,
        trouble: Callable[[bytes, SpoolError], None] | None = None,
    ) -> Iterator[Seen]:
        """Stream everything but folders that lies below ``start``, in no order.

        Args:
            recursive: whether to go into sub-folders.
            ignored: given a path, whether to leave it out; an ignored folder is not entered.
            start: the folder to begin at; the watch itself by default.
            enter: told of each folder, with its descriptor, before its first entry is read.
            trouble: told of a folder that cannot be read; the walk goes on without it.

        Raises:
            GoneError: ``start`` is not there.
            SpoolError: the watched folder itself has vanished.
        """
        walk = Walk(self.folder, recursive=recursive, ignored=ignored, enter=enter, trouble=trouble)
        return (seen for seen in walk.run(start) if seen is not None)

    @contextlib.contextmanager
    def parent(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """Lend the descriptor of the folder that a path lies in, and its last name there."""
        *inner, name = beneath.names(path)
        fd = self.folder(b"/".join(inner))
        try:
            yield fd, name
        finally:
            os.close(fd)

    def _at(self, path: bytes, action: Callable[[int, bytes], T]) -> T:
        *inner, name = beneath.names(path)

        def attempt(start: int) -> T:
            fd = beneath.descend(start, inner)
            try:
                return action(fd, name)
            finally:
                os.close(fd)

        return self._retry(path, attempt)

    def _retry(self, path: bytes, attempt: Callable[[int], T]) -> T:
        """Run an attempt from the folder, and once more if a miss shows that it was replaced."""
        again = True
        while True:
            start, opening = self._start()
            try:
                return attempt(start)
            except OSError as error:
                if again and error.errno in beneath.GONE and self._make_sure() != opening:
                    again = False
                    continue
                raise beneath.translated(error, path) from error
            finally:
                os.close(start)

    def _start(self) -> tuple[int, int]:
        # A descriptor of its own for each call: ``close`` in another thread must never turn one
        # that is in use into somebody else's file.
        with self._lock:
            if self._fd is None:
                self._reopen()
            if self._fd is None:  # pragma: no cover - _reopen raises instead
                raise SpoolError(f"The watched folder {self.root} is not open.")
            return os.dup(self._fd), self._openings

    def _make_sure(self) -> int:
        with self._lock:
            self._reopen()
            return self._openings

    def _reopen(self) -> None:
        if self._ended:
            raise SpoolError(f"The watched folder {self.root} is not watched any more.")
        try:
            fd = os.open(self.root, beneath.FOLDER)
        except OSError as error:
            self._drop()
            raise _unusable(self.root, error) from error
        status = os.fstat(fd)
        here = (status.st_dev, status.st_ino)
        if self._fd is not None and here == self._here:
            os.close(fd)
            return
        self._drop()
        self._leases.clear()
        if not os.access(b".", os.R_OK | os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True):
            os.close(fd)
            raise SpoolError(
                f"The watched folder {self.root} is not ours to read and write.",
                hint="Give the daemon's user read, write and search permission on it.",
            )
        self._fd, self._here = fd, here
        self._openings += 1

    def _drop(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _look(self, parent: int, name: bytes) -> Look:
        try:
            fd = _open_regular(parent, name)
        except ChangedError:
            return Look(identity=beneath.identity_of(_lstat(parent, name)), writers=Writers.OPEN)
        try:
            status, writers = self.ask(fd)
        finally:
            os.close(fd)
        return Look(identity=beneath.identity_of(status), writers=writers)

    def _has_leases(self, fd: int) -> bool:
        """True where a lease tells of every writer: local file systems, by device number."""
        dev = os.fstat(fd).st_dev
        known = self._leases.get(dev)
        if known is None:
            kind = mounts.file_system(fd)
            known = self._leases[dev] = kind is not None and not mounts.is_remote(kind)
        return known


def _lstat(parent: int, name: bytes) -> os.stat_result:
    return os.stat(name, dir_fd=parent, follow_symlinks=False)


def _identify(parent: int, name: bytes) -> Identity:
    status = _lstat(parent, name)
    _must_be_no_folder(status.st_mode, name)
    return beneath.identity_of(status)


def _open_regular(parent: int, name: bytes) -> int:
    # Opening a device or a FIFO can do something, and a name may mean another file in the next
    # moment: so it is taken hold of first, looked at, and only then opened itself.
    held = os.open(name, beneath.NOT_OPENED, dir_fd=parent)
    try:
        _must_be_regular(os.fstat(held).st_mode, name)
        fd = _open_held(held, parent, name)
    except OSError as error:
        if error.errno == errno.EAGAIN:  # a write lease, such as smbd's (fcntl(2), "Leases")
            raise ChangedError(f"{beneath.shown(name)} is being written.") from error
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise NotRegularError(f"{beneath.shown(name)} is no regular file.") from error
        raise
    finally:
        os.close(held)
    try:
        _must_be_regular(os.fstat(fd).st_mode, name)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_held(held: int, parent: int, name: bytes) -> int:
    try:
        # A magic link leads to the file itself, whatever its name means by now.
        return os.open(f"/proc/self/fd/{held}", beneath.FILE_BENEATH & ~os.O_NOFOLLOW)
    except FileNotFoundError:  # no /proc
        return os.open(name, beneath.FILE_BENEATH, dir_fd=parent)


_KINDS = {
    stat.S_IFLNK: "a symlink",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _must_be_no_folder(mode: int, name: bytes) -> None:
    if stat.S_ISDIR(mode):
        raise GoneError(f"{beneath.shown(name)} is a folder now.")


def _must_be_regular(mode: int, name: bytes) -> None:
    _must_be_no_folder(mode, name)
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "of a special kind")
        raise NotRegularError(
            f"{beneath.shown(name)} is {kind}, not a regular file.",
            hint="Drop the file itself.",
        )


def _unusable(root: Path, error: OSError) -> SpoolError:
    if error.errno in {errno.ENOENT, errno.ESTALE, errno.ENODEV}:
        return SpoolError(
            f"The watched folder {root} is not there.",
            hint="Create it, mount it, or correct the watch's path; it is taken up by itself.",
        )
    if error.errno == errno.ENOTDIR:
        return SpoolError(
            f"The watched path {root} is not a folder.", hint="A watch's path must be a folder."
        )
    return SpoolError(
        f"The watched folder {root} cannot be opened: {os.strerror(error.errno or 0)}.",
        hint="Give the daemon's user read, write and search permission on it.",
    )
