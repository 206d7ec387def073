"""Renaming without ever replacing: renameat2(2) where it is, check-then-rename where it is not."""

from __future__ import annotations

import ctypes
import errno
import os

_NOREPLACE = 1  # RENAME_NOREPLACE, linux/fs.h
# EINVAL: the file system (nfs among them) does not know the flag; ENOSYS: the kernel does not.
_UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

_libc = ctypes.CDLL(None, use_errno=True)


def rename_new(source: bytes, destination: bytes, *, from_fd: int, to_fd: int) -> None:
    """Rename ``source`` below ``from_fd`` to ``destination`` below ``to_fd``, which must be free.

    Where the kernel cannot promise that, the name is looked at first; only somebody else who
    takes it within that moment could still be overwritten.

    Raises:
        FileExistsError: the name is taken.
        OSError: anything else that renameat2(2) says.
    """
    try:
        _renameat2(source, destination, from_fd, to_fd)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
    else:
        return
    if exists(destination, to_fd):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), destination)
    os.rename(source, destination, src_dir_fd=from_fd, dst_dir_fd=to_fd)


def exists(name: bytes, fd: int) -> bool:
    """True if anything, a dangling symlink included, stands at ``name`` below ``fd``."""
    return status(name, fd) is not None


def status(name: bytes, fd: int) -> os.stat_result | None:
    """Return what stands at ``name`` below ``fd``, not followed; None if nothing does."""
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def sync_folder(fd: int) -> None:
    """Make the names in a folder durable (fsync(2)); where folders know no fsync, nothing."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP, errno.EROFS}:
            raise


def _renameat2(source: bytes, destination: bytes, from_fd: int, to_fd: int) -> None:
    function = getattr(_libc, "renameat2", None)
    if function is None:  # a C library older than the call
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if function(from_fd, source, to_fd, destination, _NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source, None, destination)
