"""The daemon and its service manager: what it tells systemd, and what systemd hands over.

Outside systemd the variables are not set: nothing is sent, nothing is expected, nothing is handed
over. A service manager that does not listen never harms the daemon. The datagrams are those of
sd_notify(3), the variables those of sd_watchdog_enabled(3) and sd_listen_fds(3).
"""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from uploaderd import logs
from uploaderd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logs.get(__name__)

FIRST_FD: Final = 3  # SD_LISTEN_FDS_START

_SEND_S: Final = 1.0
_MICRO: Final = 1_000_000
_HINT: Final = "give its socket unit one ListenStream= with the path of the status socket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifier:
    """Speaks sd_notify's datagrams.

    Attributes:
        address: the socket's address in the kernel's form (a leading NUL is the abstract name
            space), or None where nobody listens.
    """

    address: bytes | None

    def ready(self) -> None:
        """Say that start-up, or a reload, is over."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Set the line that ``systemctl status`` shows."""
        self._send("STATUS=" + " ".join(text.split()))

    def stopping(self) -> None:
        """Say that the daemon drains and will exit."""
        self._send("STOPPING=1")

    def reloading(self, monotonic_usec: int) -> None:
        """Say that the configuration is being read again; ``ready`` ends it, come what may.

        Args:
            monotonic_usec: CLOCK_MONOTONIC as the reload begins, in microseconds.
        """
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_usec}")

    def watchdog(self) -> None:
        """Say that the daemon is alive and gets on with its work."""
        self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> None:
        """Ask for so much time from now on for the start or the stop that is under way.

        The manager takes it only as an addition: its own timeout still holds at least.
        """
        self._send(f"EXTEND_TIMEOUT_USEC={max(0, round(seconds * _MICRO))}")

    def _send(self, message: str) -> None:
        if self.address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_SEND_S)
                sock.connect(self.address)
                sock.sendall(message.encode("utf-8", "backslashreplace"))
        except OSError as error:
            log.debug("systemd.not_told", exc=error, message=message)


def notifier(env: Mapping[str, str]) -> Notifier:
    """Read ``$NOTIFY_SOCKET``: a path, or ``@name`` in the abstract name space."""
    address = env.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):
        return Notifier(address=b"\0" + address[1:].encode("utf-8", "surrogateescape"))
    if address.startswith("/"):
        return Notifier(address=address.encode("utf-8", "surrogateescape"))
    return Notifier(address=None)


def watchdog_s(env: Mapping[str, str]) -> float | None:
    """How often to say ``watchdog``, in seconds: half of what the manager allows.

    None where it does not watch, or watches another process.
    """
    if not _is_ours(env, "WATCHDOG_PID", unset=True):
        return None
    micros = _number(env, "WATCHDOG_USEC")
    return micros / _MICRO / 2 if micros else None


def listening(env: Mapping[str, str]) -> socket.socket | None:
    """Take over the status socket that a socket unit made.

    It is listening, non-blocking and not inherited by what the daemon starts. None where nothing
    was handed over to this process.

    Raises:
        ConfigError: something else than one listening Unix stream socket was handed over.
    """
    if not _is_ours(env, "LISTEN_PID", unset=False):
        return None
    count = _number(env, "LISTEN_FDS")
    if not count:
        return None
    names = env.get("LISTEN_FDNAMES", "").split(":")
    if count > 1:
        for descriptor in range(FIRST_FD, FIRST_FD + count):
            _close(descriptor)
        raise ConfigError(
            f"systemd handed over {count} sockets ({', '.join(names)}), but the daemon has one",
            hint=_HINT,
        )
    return _taken(FIRST_FD, names[0])


def _taken(descriptor: int, name: str) -> socket.socket:
    """Make a socket object of a descriptor that has to be the right thing."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            _close(descriptor)
            raise _wrong(name, "is no socket")
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise _wrong(name, f"cannot be used: {error.strerror or error}") from error
    why = None
    if sock.family != socket.AF_UNIX:
        why = "is no Unix socket"
    elif sock.type != socket.SOCK_STREAM:
        why = "is no stream socket"
    elif not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        why = "does not listen; Accept=yes is not for this daemon"
    if why is not None:
        sock.close()
        raise _wrong(name, why)
    sock.set_inheritable(False)
    sock.settimeout(0)
    return sock


def _wrong(name: str, why: str) -> ConfigError:
    called = f" {name}" if name else ""
    return ConfigError(f"what systemd handed over as status socket{called} {why}", hint=_HINT)


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError as error:
        log.debug("systemd.descriptor_kept", exc=error, descriptor=descriptor)


def _is_ours(env: Mapping[str, str], name: str, *, unset: bool) -> bool:
    """Whether the variable holds this process's id; ``unset`` where it is not there at all."""
    return _number(env, name) == os.getpid() if name in env else unset


def _number(env: Mapping[str, str], name: str) -> int | None:
    """A variable's plain decimal number, or None where it is missing or is none."""
    text = env.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else None
