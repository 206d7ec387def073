"""The kinds of values that a key of the configuration can hold; each says what is allowed."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from uploaderd.config import keys, units
from uploaderd.config.keys import Kind
from uploaderd.core.timetable import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import StrEnum

MIB = 2**20
_LONGEST_NAME = 64
_MOST_WORDS = 64
_LONGEST_COMMAND = 4096

T = TypeVar("T")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("put it in quotes" if isinstance(value, int) else "")  # noqa: TRY004
    return value


def _parsed(
    allowed: str, parse: Callable[[str], object], show: Callable[[Any], object] = str
) -> Kind:
    return Kind(allowed, lambda value: parse(_text(value)), show)


def _matching(allowed: str, pattern: str) -> Kind:
    def parse(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError
        return text

    return _parsed(allowed, parse)


def _between(parse: Callable[[str], T], low: Any, high: Any) -> Callable[[str], T]:  # noqa: ANN401
    def bounded(text: str) -> T:
        value = parse(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return bounded


def _whole(duration_s: float) -> int:
    if duration_s != int(duration_s):
        raise ValueError("the service counts whole seconds")
    return int(duration_s)


def choice(options: type[StrEnum]) -> Kind:
    """One of an enumeration's values."""
    return _parsed(", ".join(f'"{option}"' for option in options), lambda text: _one(options, text))


def _one(options: type[StrEnum], text: str) -> StrEnum:
    if text in list(options):
        return options(text)
    near = difflib.get_close_matches(text, list(options), n=1)
    raise ValueError(f'did you mean "{near[0]}"?' if near else "")


def integer(low: int, high: int) -> Kind:
    """A whole number within bounds."""

    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError
        return value

    return Kind(f"an integer from {low} to {high}", read)


def _or_auto(kind: Kind) -> Kind:
    """The same, or "auto", which is None."""

    def read(value: object) -> object:
        if isinstance(value, str) and value != "auto":
            raise ValueError("a number has no quotes" if value.isdigit() else "")
        return None if value == "auto" else kind.read(value)

    return Kind(
        f'"auto", or {kind.allowed}',
        read,
        lambda value: "auto" if value is None else kind.show(value),
    )


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - the caller asks for ValueError alone
    return value


def _patterns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("put it in brackets")  # noqa: TRY004 - as above
    for pattern in value:
        if not isinstance(pattern, str) or not pattern:
            raise ValueError(f"{keys.described(pattern)} is no pattern")
        if "/" in pattern:
            raise ValueError(f"{keys.shown(pattern)} would never match: a name has no slash")
    return tuple(value)


def _command(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        raise ValueError("no shell reads it: give each word its own quotes, in brackets")  # noqa: TRY004 - as above
    if not isinstance(value, list) or not value:
        raise ValueError
    for word in value:
        if not isinstance(word, str) or "\0" in word:
            raise ValueError(f"{keys.described(word)} is no word of a command")
    program = value[0]
    if not program or ("/" in program and not program.startswith("/")):
        raise ValueError("the program is named by its whole path, or by a name found on $PATH")
    if len(value) > _MOST_WORDS or sum(map(len, value)) > _LONGEST_COMMAND:
        raise ValueError("that is too long for a command: put it into a script")
    return tuple(value)


def _name(text: str) -> str:
    if not 1 <= len(text) <= _LONGEST_NAME or " " in text or not text.isprintable():
        raise ValueError
    return text


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError
    try:
        path = Path(text).expanduser()
    except RuntimeError as exc:
        raise ValueError("there is no such home folder") from exc
    if not path.is_absolute():
        raise ValueError("a relative path depends on where the daemon was started: begin with /")
    if ".." in path.parts:
        raise ValueError('write the path without ".."')
    return Path(os.path.normpath(path))


def _url(text: str) -> str:
    if re.fullmatch(r"[!-~]+", text) is None or "\\" in text:
        raise ValueError("a URL is made of visible ASCII characters")
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"}:
        raise ValueError("it begins with https:// or http://")
    if not parts.hostname or parts.port == 0:  # .port raises ValueError by itself out of range
        raise ValueError("there is no host in it")
    if "@" in parts.netloc:
        raise ValueError("a user name or password does not belong into it")
    if "?" in text or "#" in text:
        raise ValueError("leave the query away; api_version is a key of its own")
    return text.rstrip("/")


def _optional(kind: Kind) -> Kind:
    return Kind(
        f"empty, or {kind.allowed}",
        lambda value: None if value == "" else kind.read(value),
        lambda value: "" if value is None else kind.show(value),
    )


FLAG = Kind("true or false", _flag)
PATTERNS = Kind('an array of names or shell patterns, such as ["*.tmp"]', _patterns, list)
PATH = _parsed('an absolute path, or one that begins with "~/"', _path)
OPTIONAL_PATH = _optional(PATH)
URL = _parsed("an http or https URL without query or password", _url)
MODE = _parsed(
    'a file mode in octal, as a string such as "0660"',
    lambda text: int(str(_matching("", "0?[0-7]{3}").read(text)), 8),
    lambda mode: f"{mode:04o}",
)
NAME = _parsed("a name of 1 to 64 visible characters", _name)
PURPOSE = _matching(
    'a purpose such as "user_data", "batch" or "fine-tune"', r"[A-Za-z0-9._-]{1,64}"
)
HEADER = _matching("empty, or visible ASCII characters", r"[!-~]{0,256}")
API_VERSION = _matching('empty, or a version such as "2025-04-01-preview"', r"[A-Za-z0-9.-]{0,64}")
MIME_TYPE = _matching(
    'empty, or a type such as "application/pdf"',
    r"(?a:([\w.+-]+/[\w.+-]+( ?; ?[\w.+-]+=[\w.+-]+)*)?)",
)
DURATION = _parsed(
    'a duration from "1ms" to "30d", such as "500ms", "2s", "15m" or "1h30m"',
    _between(units.parse_duration, 0.001, 30 * DAY_S),
    units.format_duration,
)
PAUSE = _parsed(
    'a duration from "0s" to "30d", such as "0s", "500ms", "2s" or "1h30m"',
    _between(units.parse_duration, 0.0, 30 * DAY_S),
    units.format_duration,
)
LIFE = _optional(
    _parsed(
        'a duration in whole seconds from "1h" to "30d"',
        lambda text: _whole(_between(units.parse_duration, 3600, 30 * DAY_S)(text)),
        units.format_duration,
    )
)
KEEP = _parsed(
    '"forever", or a duration from "1d" to "3650d", such as "90d"',
    lambda text: (
        None if text == "forever" else _between(units.parse_duration, DAY_S, 3650 * DAY_S)(text)
    ),
    lambda keep_s: "forever" if keep_s is None else units.format_duration(keep_s),
)
COMMAND = Kind(
    'an array of a program and its arguments, such as ["/usr/local/bin/notify", "me"]',
    _command,
    list,
)
RUN_TIME = _parsed(
    'a duration from "100ms" to "1d", such as "30s"',
    _between(units.parse_duration, 0.1, DAY_S),
    units.format_duration,
)
PART_SIZE = _parsed(
    '"auto", or a size from "1MiB" to "64MiB"',
    lambda text: None if text == "auto" else _between(units.parse_size, MIB, 64 * MIB)(text),
    lambda size: "auto" if size is None else units.format_size(size),
)
PARTS_IN_FLIGHT = _or_auto(integer(1, 64))
BANDWIDTH = _parsed(
    '"unlimited", a rate such as "10MiB/s", or a timetable such as "08:00,2MiB/s 18:00,unlimited"'
    ' or "Mon-08:00,2MiB/s Fri-18:00,unlimited"',
    units.parse_timetable,
    units.format_timetable,
)
