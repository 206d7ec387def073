"""The query of a request for files: which parameters there are, and what they may say."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

from uploaderd.errors import UsageError

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1000

_QUERY: Final = frozenset({"state", "limit", "after", "path"})


def split(raw: str) -> dict[str, bytes]:
    """Split a query by hand: a path's bytes need not be UTF-8, and yarl would replace them."""
    found: dict[str, bytes] = {}
    for pair in raw.split("&"):
        name, _, value = pair.partition("=")
        if not pair:
            continue
        if name not in _QUERY:
            raise UsageError(
                f"there is no parameter {name!r}", hint="known are: " + ", ".join(sorted(_QUERY))
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
