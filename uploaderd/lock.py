"""One daemon a state directory and a watch: locks that the kernel drops when the holder dies."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from uploaderd.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class _Lock:
    """A descriptor that holds a lock until it is closed."""

    def __init__(self) -> None:
        self._fd: int | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the lock go."""
        self._close()

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class WatchLock(_Lock):
    """An exclusive flock(2) on a watched folder itself; nothing is written into it.

    Where the file system knows no such lock (some network ones), there is none.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __enter__(self) -> None:
        """Take the lock.

        Raises:
            ConfigError: the folder cannot be opened, or another daemon watches it.
        """
        try:
            self._fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(
                f"the watched folder {self._folder} cannot be opened: {error.strerror}",
                hint="create it, or give the daemon's user its rights, or correct the watch's path",
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._close()
            raise ConfigError(
                f"another uploaderd watches {self._folder}: each file would be uploaded twice",
                hint="stop that one, or give this one a folder of its own",
            ) from error
        except OSError:
            pass


class StateLock(_Lock):
    """An exclusive flock(2) on ``lock`` in the state directory; the file holds the owner's pid."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__()
        self._state_dir = state_dir

    def __enter__(self) -> None:
        """Make the directory, private to its owner, and take the lock.

        Raises:
            ConfigError: the directory cannot be used, or another daemon works on it.
        """
        hint = "create it for the daemon's user, or set daemon.state_dir to a writable folder"
        try:
            self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self._state_dir / "lock", flags, 0o600)
        except OSError as error:
            raise ConfigError(
                f"the state directory {self._state_dir} cannot be used: {error.strerror}", hint=hint
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = _read_pid(self._fd)
            self._close()
            raise ConfigError(
                f"another uploaderd (pid {pid}) works on the state directory {self._state_dir}",
                hint="stop that one, or give this one a daemon.state_dir of its own",
            ) from error
        _write_pid(self._fd)


def _read_pid(fd: int) -> str:
    try:
        return os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
    except OSError:
        return "unknown"


def _write_pid(fd: int) -> None:
    """Say who holds the lock; on a disk that is full or broken it holds without that.

    The old number is written over, not cut off first: a full disk might not give the room back.
    """
    pid = f"{os.getpid()}\n".encode()
    try:
        os.pwrite(fd, pid, 0)
        os.ftruncate(fd, len(pid))
    except OSError:
        with suppress(OSError):
            os.ftruncate(fd, 0)
