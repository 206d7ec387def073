"""What a request asks: which parameters and keys there are, and what they may say."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from uploaderd.core.model import FileState
from uploaderd.core.reasons import SENTENCES
from uploaderd.core.selection import Selection
from uploaderd.errors import UsageError

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1000

FILES: Final = frozenset({"state", "watch", "target", "code", "path", "limit", "after"})
EVENTS: Final = frozenset({"last_event_id"})


def split(raw: str, known: frozenset[str]) -> dict[str, bytes]:
    """Split a query by hand: a path's bytes need not be UTF-8, and yarl would replace them."""
    found: dict[str, bytes] = {}
    for pair in raw.split("&"):
        name, _, value = pair.partition("=")
        if not pair:
            continue
        if name not in known:
            raise UsageError(
                f"there is no parameter {name!r}", hint="known are: " + ", ".join(sorted(known))
            )
        if name in found:
            raise UsageError(f"the parameter {name} is there twice", hint="give it once")
        found[name] = unquote_to_bytes(value.replace("+", " "))
    return found


def text(query: dict[str, bytes], name: str) -> str | None:
    """Give a parameter's text; an empty one is as good as none."""
    return query.get(name, b"").decode("utf-8", "backslashreplace") or None


def limit(text: str | None) -> int:
    """Read how many rows a page may have; a figure with more digits than the largest is none."""
    if text is None:
        return LIMIT_DEFAULT
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(LIMIT_MAX))
    if not digits or not 1 <= int(text) <= LIMIT_MAX:
        raise UsageError(f"{text!r} is not a limit", hint=f"a whole number, 1 to {LIMIT_MAX}")
    return int(text)


def selection(query: dict[str, bytes]) -> Selection:
    """Read which files are asked for; a code that no reason has would find nothing for ever."""
    watch = text(query, "watch")
    wanted = Selection(
        states=_states(text(query, "state")),
        watch=None if watch is None else watch.rstrip("/") or "/",
        path=query.get("path"),
        target=text(query, "target"),
        code=text(query, "code"),
    )
    if not any(wanted.has_code(code) for code in SENTENCES):
        raise UsageError(
            f"no reason's code is or begins with {wanted.code!r}",
            hint="such as: held, or held.auth; see the list of reason codes",
        )
    return wanted


def _states(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    states = tuple(dict.fromkeys(one.strip() for one in text.split(",")))
    for one in states:
        if one not in set(FileState):
            raise UsageError(
                f"there is no state {one!r}", hint="one of: " + ", ".join(sorted(FileState))
            )
    return states


class _Limit(msgspec.Struct, forbid_unknown_fields=True):
    limit: str


def limit_said(body: bytes) -> str:
    """Read what ``POST /v1/limit`` says, which is not yet known to be a limit."""
    try:
        return msgspec.json.decode(body, type=_Limit).limit
    except (ValueError, RecursionError) as wrong:  # msgspec's own are among the first
        raise UsageError(
            f"that is no limit: {wrong}", hint='send a JSON object such as {"limit": "5MiB/s"}'
        ) from wrong
