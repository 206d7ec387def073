"""Is the journal damaged, or only out of reach? Damage alone is ever set aside."""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import TYPE_CHECKING

from uploaderd.errors import JournalError

if TYPE_CHECKING:
    from pathlib import Path

DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG})
LONGEST = 200
_ROOM = "make room on its disk"
_BROKEN = "see the kernel's log (dmesg) and mend its disk; nothing was set aside"
_BUSY = "another program holds it: close that one"
_RIGHTS = "give the daemon's user the right to read and write it and its folder"
_ANY = "check its folder's permissions and free space"
HINTS = {
    sqlite3.SQLITE_FULL: _ROOM,
    sqlite3.SQLITE_IOERR: _BROKEN,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_READONLY: _RIGHTS,
    sqlite3.SQLITE_PERM: _RIGHTS,
    sqlite3.SQLITE_CANTOPEN: f"{_RIGHTS}, and see that files can be opened (LimitNOFILE)",
}
SYSTEM_HINTS = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EIO: _BROKEN,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.EMFILE: "raise the limit on open files (LimitNOFILE)",
}

_failing: set[Path] = set()  # journals whose disk failed since it last took a write


class DamagedError(JournalError):
    """The journal's content makes no sense: it is set aside at the next start, never mended."""


def is_well(path: Path) -> None:
    """Its disk takes what is written again."""
    _failing.discard(path)


def damaged(why: str) -> DamagedError:
    """Say so in one sentence, also where ``why`` quotes what is damaged."""
    words = " ".join(why.split())
    plain = "".join(char if char.isprintable() else "?" for char in words)
    return DamagedError(
        f"the journal is damaged: {plain if len(plain) <= LONGEST else plain[:LONGEST] + '…'}",
        hint="start the daemon again: it looks the journal through, and sets it aside if need be",
    )


def fault(path: Path, error: Exception, doing: str) -> JournalError:
    """Map an error of SQLite's, or of the file's, to what happens next.

    Whatever is read while its disk fails is no word on what is on it: SQLite may call that
    malformed too. It counts as damage once a write has succeeded since (``is_well``).
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF == sqlite3.SQLITE_IOERR:
        _failing.add(path)
    if code is not None and code & 0xFF in DAMAGE and path not in _failing:
        return damaged(str(error))
    garbled = (
        isinstance(error, sqlite3.OperationalError) and code is None and "decode" in str(error)
    )
    # The latter comes where SQLite's message quotes the text.
    if garbled or isinstance(error, UnicodeDecodeError):
        return damaged("a text in it is not UTF-8")
    why, hint = str(error), _ANY
    if code is not None:
        hint = HINTS.get(code & 0xFF, _ANY)
    elif isinstance(error, OSError):
        why, hint = os.strerror(error.errno or 0), SYSTEM_HINTS.get(error.errno or 0, _ANY)
    return JournalError(f"the journal {path} cannot be {doing}: {why}", hint=hint)
