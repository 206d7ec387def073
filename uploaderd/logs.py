"""One event, one line: constant names with keys and values, for people, journald or programs.

No value can forge a line or a field: control characters, line separators and undecodable bytes
are escaped, and what holds a space, a quote or ``=`` is quoted. Exceptions are one line; their
tracebacks are there at debug only.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, TextIO

from uploaderd.config.secrets import Redactor, Secret
from uploaderd.config.settings import LogFormat, LogLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ROOT = "uploaderd"
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
_HEAD = frozenset({"time", "level", "logger", "event"})


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

    def exception(self, event: str, /, **fields: object) -> None:
        """An error, with the exception that is being handled."""
        self._write(logging.ERROR, event, sys.exception(), fields)

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
        secrets: what must never be written.
    """
    stream = sys.stderr if stream is None else stream
    redactor = Redactor(secrets)
    handler = _Handler(stream)
    handler.addFilter(redactor)
    render = _text
    if format is LogFormat.JSON:
        render = _json
    elif format is LogFormat.AUTO and _leads_to_journald(stream, env):
        render = _journald
    handler.setFormatter(_Formatter(render, redactor, tracebacks=level is LogLevel.DEBUG))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    logging.getLogger(ROOT).setLevel(level.upper())


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Stay silent: the default prints the unredacted arguments to the same broken stream."""


class _Formatter(logging.Formatter):
    def __init__(
        self,
        render: Callable[[logging.LogRecord, dict[str, object]], str],
        redactor: Redactor,
        *,
        tracebacks: bool,
    ) -> None:
        super().__init__()
        self._render = render
        self._redactor = redactor
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            f"{key}_" if key in _HEAD else key: value
            for key, value in getattr(record, "fields", {}).items()
        }
        exc = record.exc_info[1] if record.exc_info else None
        if exc is not None:
            redact = self._redactor.redact
            fields["error"] = redact(f"{type(exc).__name__}: {exc}".removesuffix(": "))
            if self._tracebacks:
                fields["traceback"] = redact("".join(traceback.format_exception(exc)))
        return self._render(record, fields)


def _text(record: logging.LogRecord, fields: dict[str, object]) -> str:
    time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{time} {record.levelname:<7} {_line(record, fields)}"


def _journald(record: logging.LogRecord, fields: dict[str, object]) -> str:
    return f"<{_PRIORITIES.get(record.levelno, 2)}>{_line(record, fields)}"


def _line(record: logging.LogRecord, fields: dict[str, object]) -> str:
    ours = hasattr(record, "fields")
    event = _escaped(record.getMessage() if ours else f"{record.name}: {record.getMessage()}")
    return " ".join([event, *(f"{key}={_quoted(value)}" for key, value in fields.items())])


def _json(record: logging.LogRecord, fields: dict[str, object]) -> str:
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    head = {
        "time": time.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": record.getMessage(),
    }
    told = {k: v if _is_json(v) else _told(v) for k, v in {**head, **fields}.items()}
    return json.dumps(told)


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
