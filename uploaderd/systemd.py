"""What the daemon tells systemd: ready, what it is doing, that it stops.

Outside systemd there is no ``$NOTIFY_SOCKET`` and nothing is sent. A service manager that does
not listen never harms the daemon.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uploaderd import logs

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logs.get(__name__)

_SEND_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifier:
    """Speaks sd_notify's datagrams.

    Attributes:
        address: the socket's address in the kernel's form (a leading NUL is the abstract name
            space), or None where nobody listens.
    """

    address: bytes | None

    def ready(self) -> None:
        """Say that start-up is over."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Set the line that ``systemctl status`` shows."""
        self._send("STATUS=" + " ".join(text.split()))

    def stopping(self) -> None:
        """Say that the daemon drains and will exit."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self.address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_SEND_S)
                sock.connect(self.address)
                sock.sendall(message.encode("utf-8", "backslashreplace"))
        except OSError as error:
            log.debug("systemd_not_told", exc=error, message=message)


def notifier(env: Mapping[str, str]) -> Notifier:
    """Read ``$NOTIFY_SOCKET``: a path, or ``@name`` in the abstract name space."""
    address = env.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):
        return Notifier(address=b"\0" + address[1:].encode("utf-8", "surrogateescape"))
    if address.startswith("/"):
        return Notifier(address=address.encode("utf-8", "surrogateescape"))
    return Notifier(address=None)
