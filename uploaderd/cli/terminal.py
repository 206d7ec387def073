"""What standard output is: a terminal or a pipe, how wide, and whether it may have colours."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Final

from uploaderd.cli import voice

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uploaderd.cli.panel import Line, Style

LEAST: Final = 20
_CODES: Final[dict[Style, str]] = {
    "title": "1",
    "head": "1",
    "dim": "2",
    "good": "32",
    "warn": "33",
    "bad": "31",
    "act": "36",
}


def is_terminal() -> bool:
    """Whether a person sits there."""
    try:
        return sys.stdout.isatty()
    except ValueError:  # closed
        return False


def moves() -> bool:
    """Whether what was written can be written over."""
    return is_terminal() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}


def colored(*, asked: bool) -> bool:
    """Whether colours are wanted: not in a pipe, with ``$NO_COLOR``, or where nobody asked."""
    return asked and moves() and not os.environ.get("NO_COLOR")


def columns() -> int:
    """How wide the terminal is; ``$COLUMNS`` has the last word."""
    return max(shutil.get_terminal_size().columns, LEAST)


def write(lines: Iterable[Line], *, color: bool) -> None:
    """Write the lines of a panel."""
    for style, text in lines:
        code = _CODES.get(style) if color and text else None
        voice.out(text if code is None else f"\x1b[{code}m{text}\x1b[0m")
