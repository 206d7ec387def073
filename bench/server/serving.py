"""One connection of the server: HTTP/1.1 over a blocking socket, bodies thrown away.

A body that nobody wants to read is not even copied where the connection is plain: the kernel is
asked to drop it (``MSG_TRUNC``, tcp(7)), and to come back when all of it is gone (``MSG_WAITALL``).
Over TLS it has to be decrypted into one buffer.
"""

from __future__ import annotations

import mmap
import re
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

    from bench.server.service import Service

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)
_END = b"\r\n\r\n"
_HEAD_BYTES = 64 << 10
_STEP_BYTES = 4 << 20  # so often is told how much of a body has arrived
_READ = 1 << 16
_DROPPED = mmap.mmap(-1, _STEP_BYTES)  # never written to by MSG_TRUNC, so it costs no memory


class Connection:
    """Serves the requests of one connection, one after the other."""

    def __init__(self, raw: socket.socket, tls: ssl.SSLContext | None, service: Service) -> None:
        self._raw: socket.socket | ssl.SSLSocket = raw
        self._tls = tls
        self._service = service
        self._buffer = bytearray(_READ)
        self._read = b""  # what arrived and belongs to nobody yet

    def serve(self) -> None:
        """Answer until the other side ends the connection."""
        with suppress(OSError):
            if self._tls is not None:
                self._raw = self._tls.wrap_socket(self._raw, server_side=True)
            while self._request():
                pass
        with suppress(OSError):
            self._raw.close()

    def _request(self) -> bool:
        while (cut := self._read.find(_END)) < 0:
            got = self._raw.recv(_READ)
            if not got or len(self._read) > _HEAD_BYTES:
                return False
            self._read += got
        began_ns = time.monotonic_ns()
        head, self._read = self._read[: cut + 2], self._read[cut + 4 :]
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        method, target, _ = head.split(b" ", 2)
        answer = self._service.begin(method.decode(), target.decode(), size, began_ns)
        if size and not self._read and _EXPECTS.search(head):
            self._raw.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        if answer.wanted:
            body = self._body(size)
            answer.row[5] = len(body)
        else:
            self._discard(size, answer.row)
        if answer.row[5] < size:
            return False
        self._raw.sendall(self._service.end(answer, body))
        return True

    def _body(self, size: int) -> bytes:
        while len(self._read) < size:
            got = self._raw.recv(min(_READ, size - len(self._read)))
            if not got:
                break
            self._read += got
        body, self._read = self._read[:size], self._read[size:]
        return body

    def _discard(self, size: int, row: list[int]) -> None:
        """Throw the body away; ``row`` is told how much of it there was."""
        row[5] = done = min(size, len(self._read))
        self._read = self._read[done:]
        plain = self._tls is None
        while done < size:
            if plain:
                step = min(size - done, _STEP_BYTES)
                got = self._raw.recv_into(_DROPPED, step, socket.MSG_TRUNC | socket.MSG_WAITALL)
            else:
                got = self._raw.recv_into(self._buffer, min(size - done, _READ))
            if not got:
                return
            done += got
            row[5] = done
