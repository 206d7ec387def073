"""Opening what lies beneath a folder, one name at a time, never through a symlink.

No path longer than one name ever reaches the kernel, so neither PATH_MAX nor a component that is
swapped for a symlink between a check and its use can matter (openat(2), "Rationale").
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from uploaderd.core.model import Identity
from uploaderd.errors import GoneError, SpoolError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Readable, not O_PATH: only a real open triggers an automount, and fsync(2) needs one.
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK
FOLDER_BENEATH = FOLDER | os.O_NOFOLLOW
# O_NONBLOCK: a FIFO or a lease must not make the open wait (fifo(7), fcntl(2) "Leases").
FILE_BENEATH = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
# Takes hold of a name without opening what it means, so that even a device notices nothing.
NOT_OPENED = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

GONE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.ENAMETOOLONG, errno.ENODEV}
)
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM})


def names(path: bytes) -> list[bytes]:
    """Split a path below the watch into its names.

    Raises:
        SpoolError: an empty name, ``.``, ``..`` or a NUL, none of which a scan can bring.
    """
    parts = path.split(b"/")
    if any(part in {b"", b".", b".."} or b"\0" in part for part in parts):
        raise SpoolError(f"{shown(path)} is not a path below the watched folder.")
    return parts


def descend(start: int, folders: Iterable[bytes]) -> int:
    """Open the folder that ``folders`` leads to from ``start``; the caller closes the result."""
    fd = start
    for name in folders:
        try:
            below = os.open(name, FOLDER_BENEATH, dir_fd=fd)
        finally:
            if fd != start:
                os.close(fd)
        fd = below
    return os.dup(start) if fd == start else fd


def identity_of(status: os.stat_result) -> Identity:
    """Pick out of a stat what tells one content from another."""
    return Identity(
        dev=status.st_dev,
        inode=status.st_ino,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
    )


def shown(path: bytes) -> str:
    """Write a path for a person: what is not UTF-8 or not printable is escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def translated(error: OSError, path: bytes) -> SpoolError:
    """Map an error met beneath a watch to what happens next."""
    name, why = shown(path), os.strerror(error.errno or 0)
    if error.errno in GONE:
        return GoneError(f"{name} is no longer there.")
    if error.errno in _SCARCE:
        return SpoolError(
            f"{name} cannot be opened: {why}.", hint="Raise the limit on open files (LimitNOFILE)."
        )
    if error.errno in _FULL:
        return SpoolError(
            f"There is no room for {name}: {why}.", hint="Make room; it goes on by itself."
        )
    if error.errno in _DENIED:
        return UnreadableError(
            f"{name} may not be opened: {why}.", hint="Give the daemon's user the permission."
        )
    if error.errno == errno.EROFS:
        return SpoolError(
            f"{name} lies on a read-only file system.", hint="Mount the watched folder writable."
        )
    return UnreadableError(f"{name} cannot be read: {why}.", hint="See the kernel's log (dmesg).")


@contextlib.contextmanager
def mapped(path: bytes) -> Iterator[None]:
    """Map what the file system says about ``path``, but that a name is taken."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise translated(error, path) from error
