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

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))}
_CONTROL[ord("\n")] = "\\n"
_CONTROL[ord("\t")] = "\\t"
_CONTROL[ord("\r")] = "\\r"


def shown(text: str | os.PathLike[str]) -> str:
    """Make text from outside safe to print: no control characters, no lone surrogates."""
    plain = os.fspath(text).translate(_CONTROL)
    return plain.encode("utf-8", "backslashreplace").decode("utf-8")


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
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def _say(line: str) -> None:
    stream = sys.stderr
    encoding = stream.encoding or "utf-8"
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()
