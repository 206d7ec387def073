"""The status socket's place in the file system: who may have it, and in which mode it is born."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from uploaderd import logs
from uploaderd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logs.get(__name__)

SOCKET_PATH_BYTES: Final = 107
BACKLOG: Final = 128

_PROBE_S: Final = 1.0


def claim(path: Path, mode: int) -> socket.socket:
    """Make, bind and listen on a socket at ``path`` that only ``mode`` lets in.

    Raises:
        ConfigError: the path is too long, is taken, or its folder cannot be used.
    """
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise ConfigError(
            f"the status socket's path is longer than the {SOCKET_PATH_BYTES} bytes"
            f" that the system allows: {path}",
            hint="set daemon.socket to a shorter path",
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_folder(path.parent, mode)
        with _folder_lock(path.parent):
            _make_room(path)
            # On Linux the name is born with the socket's own mode, less the umask (unix(7) is
            # silent, unix_bind_bsd in net/unix/af_unix.c is not): never with more than is wanted.
            # And nobody can connect before listen. The umask itself belongs to all threads.
            os.fchmod(sock.fileno(), mode)
            sock.bind(os.fspath(path))
            _give_mode(path, mode)
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"the status socket {path} cannot be made: {error.strerror or error}",
            hint="set daemon.socket to a path in a folder that the daemon may write to",
        ) from error
    except BaseException:
        sock.close()
        raise
    sock.settimeout(0)
    return sock


def _give_mode(path: Path, mode: int) -> None:
    """Give back what the umask took, to the socket alone: whatever else stands there is not ours.

    A mode cannot be set on a name without following it (chmod(2), AT_SYMLINK_NOFOLLOW), but on
    what a descriptor points to.
    """
    born = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(born)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise ConfigError(
                f"somebody put something else in the place of the socket {path}",
                hint="set daemon.socket to a path in a folder that only the daemon may write to",
            )
        if stat.S_IMODE(found.st_mode) != mode:
            os.chmod(f"/proc/self/fd/{born}", mode)  # noqa: PTH101 - that is no path of a file
    finally:
        os.close(born)


def _make_folder(folder: Path, socket_mode: int) -> None:
    """Make the folder; where we do, only those whom the socket lets in may pass through it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    passing = (0o010 if socket_mode & 0o070 else 0) | (0o001 if socket_mode & 0o007 else 0)
    folder.chmod(0o700 | passing)


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Let one daemon at a time look and bind, so that none takes another's newborn for stale."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another daemon is starting on a socket in {folder} at this moment",
                hint="start again, or set daemon.socket to a path of its own",
            ) from error
        yield
    finally:
        os.close(descriptor)


def _make_room(path: Path) -> None:
    """Remove a stale socket; refuse whatever else is at the path."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(
            f"{path} exists and is not a socket; it was left untouched",
            hint="set daemon.socket to another path, or move that file away",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            if identity(path) == (found.st_dev, found.st_ino):
                path.unlink(missing_ok=True)
            log.info("socket.stale_removed", path=str(path))
            return
        except FileNotFoundError:
            return
        except PermissionError as error:
            raise ConfigError(
                f"the socket {path} belongs to someone else",
                hint="set daemon.socket to another path",
            ) from error
        except (TimeoutError, BlockingIOError):
            pass  # so many wait for it that there is no room for one more
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise
    raise ConfigError(
        f"another daemon answers on {path}",
        hint="stop it first, or give this one a socket and a state folder of its own",
    )


def identity(path: Path) -> tuple[int, int] | None:
    """Tell one socket at this path from a later one."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
