"""Listens to ``GET /v1/events``, over restarts of the daemon.

Synchronous, and without threads: ``poll`` waits for what comes next. Where the daemon goes away,
``away`` says why, and it is asked again with the last id that came, so that no change of a file is
missed or told twice.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Final, Self

from uploaderd.control.client import TIMEOUT_S, connect, nobody
from uploaderd.control.documents import AnswerError, refusal
from uploaderd.control.wire import Answer, Event, Parser

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

RETRY_S: Final = 2.0
RETRY_LEAST_S: Final = 0.1
RETRY_MAX_S: Final = 10.0
SILENCE_S: Final = 60.0
_PIECE: Final = 1 << 16
_OK: Final = 200
_SERVER_ERROR: Final = 500
_BODY: Final = 1 << 16


class Listener:
    """One listener; ``with Listener(...) as listener: listener.poll(1.0)``.

    Args:
        path: the daemon's status socket.
        clock: seconds of a clock that never jumps.
        sleep: waits so many seconds.
        silence_s: after so long without a byte it is asked anew; the daemon comments every 15 s.
        retry_s: how long to wait before that, until the daemon says how long.

    Attributes:
        away: why nobody is listened to at the moment, or None.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
        silence_s: float = SILENCE_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self.away: str | None = None
        self._path = path
        self._clock = clock
        self._sleep = sleep
        self._silence_s = silence_s
        self._retry_s = retry_s
        self._parser = Parser()
        self._sock: socket.socket | None = None
        self._answer = Answer()
        self._refused = b""
        self._heard_s = 0.0
        self._again_s = 0.0

    def __enter__(self) -> Self:
        """Nothing is asked before the first ``poll``."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up; the next ``poll`` asks anew and goes on after the last id."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()
        self._parser.broken()
        self._answer, self._refused = Answer(), b""

    def poll(self, timeout_s: float) -> list[Event]:
        """Wait for events for so long at most; a daemon that is away is asked now and then.

        Raises:
            AnswerError: the daemon will never give events, such as an older one.
        """
        until_s = self._clock() + timeout_s
        while True:
            left_s = until_s - self._clock()
            if self._sock is None and not self._ask(left_s):
                return []
            found = self._hear(max(until_s - self._clock(), 0))
            if found or self._clock() >= until_s or self.away:
                return found

    def _ask(self, left_s: float) -> bool:
        """Connect once it is time; sleep until then, but no longer than ``left_s``."""
        wait_s = self._again_s - self._clock()
        if wait_s > 0:
            self._sleep(min(wait_s, max(left_s, 0)))
            if wait_s > left_s:
                return False
        lines = ["GET /v1/events HTTP/1.1", "Host: localhost", "Accept: text/event-stream"]
        last = self._parser.last_id
        if last and last.isascii() and last.isprintable():
            lines.append(f"Last-Event-ID: {last}")
        try:
            self._sock = connect(self._path, TIMEOUT_S)
            self._sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        except OSError as error:
            self._lost(str(nobody(self._path, error)))
            return False
        self._heard_s = self._clock()
        return True

    def _hear(self, timeout_s: float) -> list[Event]:
        sock = self._sock
        if sock is None:
            raise AssertionError  # connected by the caller
        waiter = select.poll()
        waiter.register(sock, select.POLLIN)
        if not waiter.poll(timeout_s * 1000):
            if self._clock() - self._heard_s > self._silence_s:
                self._lost("the daemon has fallen silent")
            return []
        try:
            some = sock.recv(_PIECE)
        except OSError as error:
            self._lost(str(nobody(self._path, error)))
            return []
        self._heard_s = self._clock()
        try:
            body = self._answer.feed(some)
            if self._answer.status not in {None, _OK}:
                return self._refusal(body, over=not some or self._answer.ended)
            found = self._parser.feed(body)
        except ValueError as error:
            self._lost(f"no daemon answers on {self._path}: {error}")
            return []
        if self._answer.status == _OK:
            self.away = None
        if not some or self._answer.ended:
            self._lost("the daemon has hung up")
        return found

    def _refusal(self, body: bytes, *, over: bool) -> list[Event]:
        """Wait for the whole of an error; one that a restart may mend counts as absence."""
        self._refused = (self._refused + body)[:_BODY]
        if not over and len(self._refused) < _BODY:
            return []
        status = self._answer.status or 0
        error = refusal(status, self._refused)
        if status < _SERVER_ERROR and status != 429:  # noqa: PLR2004 - too many for now
            raise AnswerError(str(error), status=status, hint=error.hint, code=error.code)
        self._lost(str(error))
        return []

    def _lost(self, why: str) -> None:
        self.close()
        self.away = why
        retry_s = self._retry_s if self._parser.retry_s is None else self._parser.retry_s
        self._again_s = self._clock() + min(max(retry_s, RETRY_LEAST_S), RETRY_MAX_S)
