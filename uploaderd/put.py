"""Dropping a file into a watch so that it is never seen half-written and never overwrites.

It is copied under a temporary name that the default ignore rules skip, synced, and renamed; the
folder is synced after that, so that what was said to be dropped survives a power cut.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from uploaderd.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COPY_BYTES: Final = 8 * 2**20
_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
# What the kernel or the file system says where renameat2 or copy_file_range does not work.
_NOT_HERE: Final = frozenset(
    {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EXDEV, errno.EBADF, errno.EPERM}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """One file in the spool.

    Attributes:
        changed_ns: its ctime just before it got its name, which nobody can set back: a row of the
            journal that is older speaks of another file, even if it had the same inode.
    """

    source: Path
    path: Path
    size: int
    dev: int
    inode: int
    changed_ns: int


def refuse_unusable(source: Path) -> None:
    """Refuse what cannot be dropped; SpoolError says why."""
    with _opened(source):
        pass


def drop(source: Path, folder: Path) -> Dropped:
    """Copy ``source`` into ``folder`` under its own name, or ``name~2.ext`` where that is taken.

    Raises:
        SpoolError: the source or the folder cannot be used.
    """
    try:
        _make(folder)
        temporary = folder / f".uploaderd-put-{secrets.token_hex(8)}.tmp"
        with _opened(source) as reader:
            try:
                found = _copy(reader, temporary)
                path = _rename_free(temporary, folder / source.name)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink()
                raise
        _sync(folder)
    except OSError as error:
        raise SpoolError(
            f"{source} could not be dropped into {folder}: {error.strerror or error}",
            hint="check the folder's permissions and the room on its disk",
        ) from error
    return Dropped(
        source=source,
        path=path,
        size=found.st_size,
        dev=found.st_dev,
        inode=found.st_ino,
        changed_ns=found.st_ctime_ns,
    )


@contextmanager
def _opened(source: Path) -> Iterator[int]:
    """Open a regular file for reading; a FIFO neither blocks nor passes."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SpoolError(
            f"{source} cannot be read: {error.strerror}",
            hint="check the path and its permissions; nothing of it was dropped",
        ) from error
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise SpoolError(f"{source} is a folder", hint="name the files in it")
        if not stat.S_ISREG(kind):
            raise SpoolError(
                f"{source} is not a regular file", hint="only regular files are uploaded"
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _make(folder: Path) -> None:
    """Make a purpose's folder in a watch; the watch itself is there, or its name is wrong."""
    with suppress(FileExistsError):
        folder.mkdir()
        _sync(folder.parent)


def _copy(reader: int, temporary: Path) -> os.stat_result:
    """Copy to a new file and say which; once renamed it may be gone at any moment."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    writer = os.open(temporary, flags, 0o666)
    try:
        with suppress(OSError):
            while _kernel_copy(reader, writer):
                pass
        # Whatever the kernel did not copy; both descriptors stand where it stopped.
        while block := os.read(reader, _COPY_BYTES):
            view = memoryview(block)
            while view:
                view = view[os.write(writer, view) :]
        os.fsync(writer)
        return os.fstat(writer)
    finally:
        os.close(writer)


def _kernel_copy(reader: int, writer: int) -> int:
    """Let the kernel copy, without a copy at all where the file system shares blocks."""
    return os.copy_file_range(reader, writer, 2**30)


def _rename_free(temporary: Path, wished: Path) -> Path:
    """Rename to the first free name."""
    for name in _names(wished):
        try:
            _rename_no_replace(temporary, name)
        except FileExistsError:
            continue
        return name
    raise AssertionError  # pragma: no cover - the names have no end


def _names(wished: Path) -> Iterator[Path]:
    yield wished
    number = 2
    while True:
        yield wished.with_name(f"{wished.stem}~{number}{wished.suffix}")
        number += 1


def _rename_no_replace(source: Path, target: Path) -> None:
    try:
        _renameat2(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        # No way to do both at once here; between the two steps only another `put` could come.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        source.rename(target)


def _renameat2(source: Path, target: Path) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    call = getattr(library, "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    old, new = os.fsencode(source), os.fsencode(target)
    if call(_AT_FDCWD, old, _AT_FDCWD, new, _RENAME_NOREPLACE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(target))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
