"""How wide text is on a terminal, and how it is made to fit."""

from __future__ import annotations

import unicodedata
from typing import Final

MORE: Final = "…"
_JOINERS: Final = frozenset({"\u200b", "\u200c", "\u200d", "\u2060", "\ufe0e", "\ufe0f"})


def cell(char: str) -> int:
    """How many columns one character takes: none, one or two."""
    if char < "\u0300":
        return 1
    if char in _JOINERS or unicodedata.category(char) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1


def width(text: str) -> int:
    """How many columns a text without control characters takes."""
    return len(text) if text.isascii() else sum(map(cell, text))


def cut(text: str, columns: int) -> str:
    """Keep the beginning."""
    if width(text) <= columns:
        return text
    return _head(text, columns - 1) + MORE if columns > 0 else ""


def tail(text: str, columns: int) -> str:
    """Keep the end: of a path it says more than the beginning."""
    if width(text) <= columns:
        return text
    return MORE + _head(text[::-1], columns - 1)[::-1] if columns > 0 else ""


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """Fill up with blanks what is shorter, and cut what is longer."""
    text = cut(text, columns)
    blanks = " " * (columns - width(text))
    return blanks + text if right else text + blanks


def wrap(text: str, columns: int, *, lines: int, indent: int = 0) -> list[str]:
    """Break a sentence at its blanks into so many lines at most; the last one is cut.

    All but the first are indented.
    """
    found: list[str] = []
    left = text.split(" ")
    while left:
        begin = " " * indent if found else ""
        room = columns - len(begin)
        line = left.pop(0)
        if len(found) == lines - 1:
            found.append(begin + cut(" ".join([line, *left]), room))
            break
        while left and width(f"{line} {left[0]}") <= room:
            line += f" {left.pop(0)}"
        if width(line) > room:
            head = _head(line, room) or line[:1]
            left.insert(0, line[len(head) :])
            line = head
        found.append(begin + line)
    return found


def _head(text: str, columns: int) -> str:
    taken = 0
    for index, char in enumerate(text):
        taken += cell(char)
        if taken > columns:
            return text[:index]
    return text
