"""One event, one line: constant names with keys and values, for people, journald or programs.

No value can forge a line or a field: control characters, line separators and undecodable bytes
are escaped, what holds a space, a quote or ``=`` is quoted, and what is very long is cut.
Exceptions are one line; their tracebacks are there at debug only. What repeats is counted
(``repeats``). The events are listed in ``docs/events-of-the-log.md``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import traceback
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from math import inf, isfinite
from typing import TYPE_CHECKING, Final, TextIO

from uploaderd.config.secrets import Redactor, Secret
from uploaderd.config.settings import LogFormat, LogLevel
from uploaderd.repeats import Line, Repeats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

ROOT = "uploaderd"
VALUE_CHARS: Final = 8_000
TRACEBACK_CHARS: Final = 16_000
# journald breaks a line at LineMax= (48 KiB), and reads a priority from what follows.
LINE_BYTES: Final = 40_000

# sd-daemon(3): SD_DEBUG, SD_INFO, SD_WARNING, SD_ERR; what is graver is SD_CRIT.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
_HEAD = frozenset({"time", "level", "logger", "event", "repeated"})


class Log:
    """A module's voice. ``exc`` is the exception to tell of; other keywords are the fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        """What only a developer wants to know."""
        self._write(logging.DEBUG, event, exc, fields)

    def info(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        """What happened as it should."""
        self._write(logging.INFO, event, exc, fields)

    def warning(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        """What mends itself, or will have to be looked at."""
        self._write(logging.WARNING, event, exc, fields)

    def error(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        """What a person must act on."""
        self._write(logging.ERROR, event, exc, fields)

    def exception(
        self, event: str, /, *, exc: BaseException | None = None, **fields: object
    ) -> None:
        """An error, with the exception that is being handled, if no other one is given."""
        self._write(logging.ERROR, event, exc or sys.exception(), fields)

    def _write(
        self, level: int, event: str, exc: BaseException | None, fields: dict[str, object]
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, exc_info=exc, extra={"fields": fields})


def get(name: str) -> Log:
    """The log of a module, by its ``__name__``."""
    return Log(name)


def configure(
    level: LogLevel,
    format: LogFormat,  # noqa: A002 - the configuration's word for it
    *,
    stream: TextIO | None = None,
    env: Mapping[str, str],
    secrets: Iterable[Secret] = (),
) -> None:
    """Send every log line to ``stream`` (standard error if None), in place of earlier calls.

    Args:
        level: the least grave events of uploaderd; other libraries are heard from warning on.
        format: ``AUTO`` is text, with journald's priorities if ``stream`` leads there.
        stream: where to write.
        env: for systemd's ``$JOURNAL_STREAM``.
        secrets: what must never be written, besides what earlier calls named: a request may still
            be under way with a key that was replaced.
    """
    stream = sys.stderr if stream is None else stream
    root = logging.getLogger()
    before = [old for old in root.handlers if isinstance(old, _Handler)]
    known = {*secrets, *(one for old in before for one in old.secrets)}
    render = _text
    if format is LogFormat.JSON:
        render = _json
    elif format is LogFormat.AUTO and _leads_to_journald(stream, env):
        render = _journald
    handler = _Handler(stream, render, known, tracebacks=level is LogLevel.DEBUG)
    for old in before:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    logging.getLogger(ROOT).setLevel(level.upper())


class _Handler(logging.Handler):
    """Writes each record as a line, unless it is kept back because it repeats another."""

    def __init__(
        self,
        stream: TextIO,
        render: Callable[[Line], str],
        secrets: set[Secret],
        *,
        tracebacks: bool,
    ) -> None:
        super().__init__()
        self.secrets = secrets
        redactor = Redactor(secrets)
        self.addFilter(redactor)
        self._stream = stream
        self._render = render
        self._redact = redactor.redact
        self._tracebacks = tracebacks
        self._repeats = Repeats()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = inf  # the wall time that it is set to

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._told(record)
            written = self._repeats.take(line)
            self._write(written)
            if line not in written:
                self._later(line.time_s)
        except Exception:  # noqa: BLE001 - what goes on must not be stopped by what is said of it
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Stay silent: the default prints the unredacted arguments to the same broken stream."""

    def close(self) -> None:
        """Write what was kept back; logging calls this at exit too."""
        with self._alone():
            self._stop_timer()
            with suppress(Exception):
                self._write(self._repeats.all())
        super().close()

    def _told(self, record: logging.LogRecord) -> Line:
        ours = hasattr(record, "fields")
        fields: dict[str, object] = {
            f"{key}_" if key in _HEAD else key: _cut(value)
            for key, value in getattr(record, "fields", {}).items()
        }
        exc = record.exc_info[1] if record.exc_info else None
        if exc is not None:
            said = f"{type(exc).__name__}: {exc}".removesuffix(": ")
            fields["error"] = _cut(self._redact(said))
            if self._tracebacks:
                whole = self._redact("".join(traceback.format_exception(exc)))
                fields["traceback"] = whole[-TRACEBACK_CHARS:]
        return Line(
            time_s=record.created,
            level=record.levelno,
            logger=record.name,
            event=str(_cut(record.getMessage())),
            fields=fields,
            ours=ours,
        )

    def _write(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._stream.write(self._render(line) + "\n")
            self._stream.flush()

    def _later(self, now_s: float) -> None:
        """Let the running event loop write in time what was kept back, if nothing else is said."""
        due_s = self._repeats.due_s
        if due_s is None or due_s >= self._timer_s:
            return
        with suppress(RuntimeError):  # there is no loop in this thread: the next line will do
            loop = asyncio.get_running_loop()
            self._stop_timer()
            self._timer = loop.call_later(max(due_s - now_s, 0), self._in_time, due_s)
            self._timer_s = due_s

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_s = None, inf

    def _in_time(self, due_s: float) -> None:
        with self._alone():
            self._stop_timer()
            with suppress(Exception):
                self._write(self._repeats.over(due_s))
            self._later(due_s)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()


def _text(line: Line) -> str:
    time = datetime.fromtimestamp(line.time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _short(f"{time} {logging.getLevelName(line.level):<7} {_line(line)}")


def _journald(line: Line) -> str:
    return _short(f"<{_PRIORITIES.get(line.level, 2)}>{_line(line)}")


def _line(line: Line) -> str:
    event = _escaped(line.event if line.ours else f"{line.logger}: {line.event}")
    fields = {**line.fields, "repeated": line.repeated} if line.repeated else line.fields
    return " ".join([event, *(f"{key}={_quoted(value)}" for key, value in fields.items())])


def _json(line: Line) -> str:
    time = datetime.fromtimestamp(line.time_s, UTC).isoformat(timespec="milliseconds")
    head: dict[str, object] = {
        "time": time.replace("+00:00", "Z"),
        "level": logging.getLevelName(line.level).lower(),
        "logger": line.logger,
        "event": line.event,
    }
    if line.repeated:
        head["repeated"] = line.repeated
    told = {k: v if _is_json(v) else _told(v) for k, v in {**head, **line.fields}.items()}
    return json.dumps(told)


def _cut(value: object) -> object:
    """The value, or the beginning of its text where that is too long for a line."""
    if isinstance(value, bytes):
        return value if len(value) <= VALUE_CHARS else value[:VALUE_CHARS] + "…".encode()
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return text if len(text) <= VALUE_CHARS else text[:VALUE_CHARS] + "…"


def _short(line: str) -> str:
    """The line as it is, or its beginning where journald would break it."""
    if len(line) <= LINE_BYTES // 4:
        return line
    whole = line.encode("utf-8", "backslashreplace")
    if len(whole) <= LINE_BYTES:
        return line
    return whole[:LINE_BYTES].decode("utf-8", "ignore") + "…"


def _is_json(value: object) -> bool:
    return value is None or isinstance(value, int) or (isinstance(value, float) and isfinite(value))


def _told(value: object) -> str:
    """A value's text; bytes that are not UTF-8 are backslash escapes."""
    text = os.fsdecode(value) if isinstance(value, bytes) else str(value)
    return text.encode("utf-8", "backslashreplace").decode()


def _quoted(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "-", True: "true", False: "false"}[value]
    text = os.fsdecode(value) if isinstance(value, bytes) else str(value)
    if text and not any(c in ' "=\\' for c in text) and text.isprintable():
        return text
    return '"' + _escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escaped(text: str) -> str:
    """``text`` with all that is not printable as Python's escapes; bidi controls are among it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _leads_to_journald(stream: TextIO, env: Mapping[str, str]) -> bool:
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return env.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
