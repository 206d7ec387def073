"""The voice of the command line.

What was asked for goes to standard output, everything that is said about it to standard error:

    uploaderd: error: <a sentence: what is wrong>
    uploaderd: hint: <what to do about it>
    uploaderd: warning: <a sentence: what is odd, though the command goes on>
    uploaderd: <a sentence: what it waits for>

Sentences begin small, end without a full stop, name the thing they talk about, and never hold a
key or a traceback. A name from the file system is shown without its control characters.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import Final

_NAMED: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
# Blanks of all widths, and what joins letters: unprintable to Python, but in many honest names.
_HONEST: Final = frozenset({"\u200c", "\u200d"})
# For a terminal that cannot show them; each stays one column wide.
_POOR: Final = str.maketrans({"…": "~", "→": ">"})


def shown(text: str | os.PathLike[str]) -> str:
    """Make text from outside safe to print.

    No control characters, none that turn the direction of what follows, no lone surrogates.
    """
    plain = os.fspath(text)
    return plain if plain.isprintable() else "".join(map(_shown, plain))


def _shown(char: str) -> str:
    if char.isprintable() or char in _HONEST or unicodedata.category(char) == "Zs":
        return char
    if char in _NAMED:
        return _NAMED[char]
    code = ord(char)
    if code <= 0xFF:  # noqa: PLR2004 - two digits
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - four digits


def writable(text: str) -> str:
    """Write text with what standard output can show; what it cannot is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    if not encoding.lower().startswith("utf"):
        text = text.translate(_POOR)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def error(message: str, *, hint: str = "") -> None:
    """Say what went wrong, and what to do about it."""
    _say(f"uploaderd: error: {shown(message)}")
    if hint:
        _say(f"uploaderd: hint: {shown(hint)}")


def warning(message: str) -> None:
    """Say what is odd."""
    _say(f"uploaderd: warning: {shown(message)}")


def note(message: str) -> None:
    """Say what the command waits for."""
    _say(f"uploaderd: {shown(message)}")


def out(text: str) -> None:
    """Print a line of what was asked for."""
    stream = sys.stdout
    stream.write(writable(text) + "\n")
    stream.flush()


def _say(line: str) -> None:
    stream = sys.stderr
    encoding = stream.encoding or "utf-8"
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()
