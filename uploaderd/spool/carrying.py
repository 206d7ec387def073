"""Taking a file aside, looking at it there, and carrying it to its place or giving it back.

A name can come to mean another file between a check and a rename. So a file is first renamed to a
hidden name beside its own, where no producer meddles, and looked at there; one that was caught by
mistake goes back. A crash in between leaves the hidden name, and the same call finds it again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from uploaderd.core.settle import Writers
from uploaderd.errors import SpoolError
from uploaderd.spool import beneath, naming
from uploaderd.spool.renaming import rename_new, status, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from uploaderd.core.model import Identity

_STEP = 1 << 20
_COARSE_NS = 2_000_000_000  # vfat keeps mtime to two seconds


class Moved(StrEnum):
    """What came of moving or removing a file.

    ``SOURCE_GONE`` says that its name leads to nothing or to another file: it may have got another
    name. ``SOURCE_CHANGED`` says that it has its name still, and another content.
    """

    MOVED = "moved"
    ALREADY = "already"
    SOURCE_GONE = "source_gone"
    SOURCE_CHANGED = "source_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sure:
    """What makes sure that a file is the one that ended.

    Attributes:
        ask: the status of an open file and its writers, both of one moment.
        md5: of the content that ended; None if that was never read.
    """

    ask: Callable[[int], tuple[os.stat_result, Writers]]
    md5: str | None


def aside_of(fd: int, name: bytes, identity: Identity) -> bytes:
    """Return the hidden name that a file waits under in the folder ``fd``."""
    return naming.aside(name, identity.inode, limit=name_limit(fd))


def take(fd: int, name: bytes, identity: Identity, sure: Sure) -> Moved:
    """Rename the file aside if it is that content; ``MOVED`` says that it now waits there.

    Size and mtime tell one content from another, but mtime can be put back. So where the ctime is
    another one too, which a mere change of permissions also brings, the md5 decides.

    Raises:
        SpoolError: someone has it open for writing; it has its name again.
    """
    return take_as(aside_of(fd, name, identity), fd, name, identity, sure)


def take_as(aside: bytes, fd: int, name: bytes, identity: Identity, sure: Sure) -> Moved:
    """As ``take``, where the hidden name is known already."""
    waiting = status(aside, fd)
    untouched = False
    if waiting is None:
        found = status(name, fd)
        if found is None:
            return Moved.SOURCE_GONE
        if not _is(found, identity):
            return _missed(found, identity)
        untouched = found.st_ctime_ns == identity.ctime_ns
        try:
            rename_new(name, aside, from_fd=fd, to_fd=fd)
        except FileNotFoundError:
            return Moved.SOURCE_GONE
        waiting = status(aside, fd)
    kept = False
    try:
        if waiting is not None and _is(waiting, identity):
            regular = stat.S_ISREG(waiting.st_mode)
            kept = not regular or _still(fd, aside, name, identity, sure, read=not untouched)
    finally:
        if not kept:
            put_back(fd, aside, name)
    return Moved.MOVED if kept else _missed(waiting, identity)


def _missed(found: os.stat_result | None, identity: Identity) -> Moved:
    here = found is not None and (found.st_dev, found.st_ino) == (identity.dev, identity.inode)
    return Moved.SOURCE_CHANGED if here else Moved.SOURCE_GONE


def _still(
    fd: int, aside: bytes, name: bytes, identity: Identity, sure: Sure, *, read: bool
) -> bool:
    """True if what waits is that content; nobody new can open it by its name any more."""
    try:
        source = os.open(aside, beneath.FILE_BENEATH, dir_fd=fd)
    except PermissionError:
        if read and sure.md5 is not None:
            raise
        return True
    try:
        now, writers = sure.ask(source)
        if writers is Writers.OPEN:
            raise SpoolError(
                f"{beneath.shown(name)} is open for writing.", hint="It is filed once it is closed."
            )
        if not _is(now, identity):
            return False
        if sure.md5 is None or not read:
            return True
        with os.fdopen(source, "rb", closefd=False) as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    finally:
        os.close(source)
    return digest.hexdigest() == sure.md5


def put_back(fd: int, aside: bytes, name: bytes) -> None:
    """Give a file its name back, or the next free one if a producer took it meanwhile."""
    for candidate in naming.candidates(name, limit=name_limit(fd)):
        try:
            rename_new(aside, candidate, from_fd=fd, to_fd=fd)
        except FileExistsError:
            continue
        except FileNotFoundError:
            return
        sync_folder(fd)
        return


def finished(
    fd: int, name: bytes, identity: Identity, sure: Sure, to_fd: int, new_name: bytes
) -> bool:
    """True if an earlier call brought the file to its place; what it left behind is cleared.

    False says that something else stands there, and that the file has its own name again.
    """
    there = status(new_name, to_fd)
    if there is None or _is(there, identity):
        return there is not None
    aside = aside_of(fd, name, identity)
    if status(aside, fd) is None and looks_moved(there, identity):
        take(fd, name, identity, sure)  # it may have been given back since
    if status(aside, fd) is not None:
        # A copy to another file system was cut short before its source went. Only the bytes
        # themselves may decide over deleting that.
        if _same_content(aside, fd, new_name, to_fd):
            os.unlink(aside, dir_fd=fd)
            return True
        put_back(fd, aside, name)
        return False
    source = status(name, fd)
    untouched = source is not None and _is(source, identity)
    return not untouched and looks_moved(there, identity)


def looks_moved(found: os.stat_result, identity: Identity) -> bool:
    """True if what stands at the destination may be the file, renamed or copied there by us.

    The receipt keeps the name for us, so a copy is known by what it takes over: size and mtime.
    """
    if _is(found, identity):
        return True
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_size == identity.size
        and abs(found.st_mtime_ns - identity.mtime_ns) < _COARSE_NS
    )


def _is(found: os.stat_result, identity: Identity) -> bool:
    """True for that content; a FIFO's or socket's mtime moves, so there the inode decides.

    A folder is never a file that ended, though it may have got its name and its inode.
    """
    if stat.S_ISDIR(found.st_mode):
        return False
    if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode):
        return beneath.identity_of(found).same_bytes(identity)
    return (found.st_dev, found.st_ino) == (identity.dev, identity.inode)


def _same_content(one: bytes, one_fd: int, other: bytes, other_fd: int) -> bool:
    try:
        first = os.open(one, beneath.FILE_BENEATH, dir_fd=one_fd)
    except OSError:
        return False
    try:
        second = os.open(other, beneath.FILE_BENEATH, dir_fd=other_fd)
    except OSError:
        os.close(first)
        return False
    with os.fdopen(first, "rb") as left, os.fdopen(second, "rb") as right:
        if not stat.S_ISREG(os.fstat(left.fileno()).st_mode):
            return False
        while True:
            step = left.read(_STEP)
            if step != right.read(_STEP):
                return False
            if not step:
                return True


def carry(aside: bytes, fd: int, new_name: bytes, to_fd: int) -> None:
    """Rename the waiting file to its place; across file systems, copy it there whole."""
    try:
        rename_new(aside, new_name, from_fd=fd, to_fd=to_fd)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    else:
        return
    found = status(aside, fd)
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise SpoolError(
            "What is no regular file cannot be moved to another file system.",
            hint="Move or delete it by hand.",
        )
    _copy(aside, fd, new_name, to_fd)
    sync_folder(to_fd)
    os.unlink(aside, dir_fd=fd)


def _copy(aside: bytes, fd: int, new_name: bytes, to_fd: int) -> None:
    draft = naming.copying(new_name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(draft, dir_fd=to_fd)
    source = os.open(aside, beneath.FILE_BENEATH, dir_fd=fd)
    try:
        was = os.fstat(source)
        target = _create(draft, to_fd, stat.S_IMODE(was.st_mode) & 0o777)
        try:
            while step := os.read(source, _STEP):
                _write_all(target, step)
            os.utime(target, ns=(was.st_atime_ns, was.st_mtime_ns))
            os.fsync(target)
        finally:
            os.close(target)
        rename_new(draft, new_name, from_fd=to_fd, to_fd=to_fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft, dir_fd=to_fd)
        raise
    finally:
        os.close(source)


def write_new(name: bytes, document: bytes, fd: int) -> None:
    """Write a new file whole and durable; the name must be free."""
    target = _create(name, fd, 0o666)
    try:
        _write_all(target, document)
        os.fsync(target)
    finally:
        os.close(target)


def _create(name: bytes, fd: int, mode: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, mode, dir_fd=fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def name_limit(fd: int) -> int:
    """Return the longest name in bytes that the file system takes; 255 at most.

    Some (vfat, ntfs) count characters and report more bytes than a name may really have.
    """
    return min(os.fstatvfs(fd).f_namemax or naming.NAME_MAX, naming.NAME_MAX)
