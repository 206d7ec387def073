"""Is the journal damaged, or only out of reach? Damage alone is ever set aside."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from uploaderd.errors import JournalError

if TYPE_CHECKING:
    from pathlib import Path

DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG})
_PERMISSION = "give the daemon's user the right to read and write it and its folder"
HINTS = {
    sqlite3.SQLITE_FULL: "make room on its disk; work goes on by itself after that",
    sqlite3.SQLITE_IOERR: "see the kernel's log (dmesg) and mend its disk; nothing was set aside",
    sqlite3.SQLITE_BUSY: "another program holds it: close that one",
    sqlite3.SQLITE_LOCKED: "another program holds it: close that one",
    sqlite3.SQLITE_READONLY: _PERMISSION,
    sqlite3.SQLITE_PERM: _PERMISSION,
    sqlite3.SQLITE_CANTOPEN: f"{_PERMISSION}, and see that files can be opened (LimitNOFILE)",
}


class DamagedError(JournalError):
    """The journal's content makes no sense: it is set aside at the next start, never mended."""


def damaged(why: str) -> DamagedError:
    """Say so in one sentence."""
    return DamagedError(
        f"the journal is damaged: {why}",
        hint="start the daemon again: it looks the journal through, and sets it aside if need be",
    )


def fault(path: Path, error: Exception, doing: str) -> JournalError:
    """Map an error of SQLite's, or of the file's, to what happens next."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        if isinstance(error, sqlite3.OperationalError) and "decode" in str(error):
            return damaged("a text in it is not UTF-8")
        return JournalError(
            f"the journal {path} cannot be {doing}: {error}",
            hint="check its folder's permissions and free space",
        )
    if code & 0xFF in DAMAGE:
        return damaged(str(error))
    return JournalError(
        f"the journal {path} cannot be {doing}: {error}",
        hint=HINTS.get(code & 0xFF, "check its folder's permissions and free space"),
    )
