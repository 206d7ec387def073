"""What happened, step by step: hashed always, printed on a replay."""

from __future__ import annotations

import hashlib
import logging
import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TROUBLE = frozenset({"loop.trouble", "file.trouble", "watch.trouble"})


class Trace:
    """One line a step: virtual time, actor, what.

    Attributes:
        troubles: what the daemon's own log calls trouble; nobody hears a dead one.
    """

    def __init__(self, time_s: Callable[[], float], *, loud: bool) -> None:
        self._time_s = time_s
        self._hash = hashlib.blake2b(digest_size=8)
        self.loud = loud
        self.deaf = False
        self.steps = 0
        self.troubles: list[str] = []

    def say(self, actor: str, what: str) -> None:
        """Note a step."""
        line = f"{self._time_s():12.6f} {actor:9} {what}\n"
        self._hash.update(line.encode("utf-8", "backslashreplace"))
        self.steps += 1
        if self.loud:
            sys.stdout.write(line)

    def digest(self) -> str:
        """The same for the same seed, on every machine and in every process."""
        return self._hash.hexdigest()


class _Ear(logging.Handler):
    """Hears the daemon's own log: what it calls trouble is one."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        event = record.getMessage()
        if self._trace.loud:
            fields: dict[str, object] = getattr(record, "fields", {})
            text = " ".join(f"{key}={value!r}" for key, value in fields.items())
            sys.stdout.write(f"{'':12} {'log':9} {event} {text}\n")
        if event in TROUBLE and not self._trace.deaf and not self._trace.troubles:
            error = record.exc_info[1] if record.exc_info else None
            told = "" if error is None else "".join(traceback.format_exception(error))
            self._trace.troubles.append(f"{event}: {told}")


@contextmanager
def listening(trace: Trace) -> Iterator[None]:
    """Hear what the daemon logs meanwhile."""
    logger = logging.getLogger("uploaderd")
    ear = _Ear(trace)
    before = (logger.level, logger.propagate)
    logger.addHandler(ear)
    logger.setLevel(logging.DEBUG if trace.loud else logging.ERROR)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(ear)
        logger.setLevel(before[0])
        logger.propagate = before[1]
