"""How many files and bytes there are, counted along: nobody scans 200,000 rows for a status.

Triggers of this connection alone (sqlite.org/lang_createtrigger.html, "TEMP Triggers") tell of
every row that comes, changes or goes; what they told counts once its transaction is committed.
The sums live in memory, so they may be asked for on any thread while another one waits for a disk.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple

from uploaderd.core.model import FileState
from uploaderd.journal.damage import fault
from uploaderd.journal.inspection import THOROUGH_BYTES
from uploaderd.journal.questions import Questions
from uploaderd.journal.store import alone

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TO_STORE = frozenset(
    {
        FileState.SETTLING,
        FileState.QUEUED,
        FileState.UPLOADING,
        FileState.COMPLETING,
        FileState.DEFERRED,
        FileState.UNCERTAIN,
    }
)
COUNTED = ("watch", "state", "size", "bytes_resent", "filing")
PENDING = "pending"

_OLD, _NEW = (", ".join(f"{row}.{name}" for name in COUNTED) for row in ("OLD", "NEW"))
_CHANGE = f"AFTER UPDATE OF {', '.join(COUNTED)} ON main.files WHEN ({_OLD}) IS NOT ({_NEW})"
_TRIGGERS = tuple(
    f"CREATE TEMP TRIGGER tally_{name} {when} BEGIN SELECT tally_{name}({row}); END"
    for name, when, row in (
        ("more", "AFTER INSERT ON main.files", _NEW),
        ("less", "AFTER DELETE ON main.files", _OLD),
        ("moved", _CHANGE, f"{_OLD}, {_NEW}"),
    )
)
_ALL = "SELECT watch, state, size, bytes_resent, filing FROM files"


class Sums(NamedTuple):
    """What the files of one watch in one state come to."""

    files: int = 0
    bytes: int = 0
    resent: int = 0
    unfiled: int = 0


_NONE = Sums()
Row = tuple[Any, ...]  # the columns that are counted


class Counting(Questions):
    """The journal's sums, of the watched folders only."""

    def __init__(self, path: Path, *, thorough_bytes: int = THOROUGH_BYTES) -> None:
        super().__init__(path, thorough_bytes=thorough_bytes)
        self._sums: dict[tuple[str, str], Sums] = {}
        self._moves: list[tuple[Row | None, Row | None]] = []  # each as it was, and as it is
        self._counted: frozenset[str] = frozenset()

    @alone
    def open(self) -> None:
        """Open the database and count what is there, once."""
        super().open()
        try:
            width = len(COUNTED)
            self.connection.create_function("tally_more", width, self._came)
            self.connection.create_function("tally_less", width, self._went)
            self.connection.create_function("tally_moved", 2 * width, self._moved)
            for trigger in _TRIGGERS:
                self.connection.execute(trigger)
            self._sums = _counted(self.connection)
        except (sqlite3.Error, UnicodeError) as error:
            self.close()
            raise fault(self.path, error, "opened") from error

    @alone
    def watch(self, paths: Iterable[str]) -> None:
        """As ``Questions.watch``."""
        names = frozenset(paths)
        super().watch(names)
        self._counted = names

    def counts(self) -> dict[FileState, int]:
        """How many files are in each state."""
        found: dict[FileState, int] = {}
        for state, sums in self._watched():
            if sums.files:
                found[state] = found.get(state, 0) + sums.files
        return found

    def unfiled(self) -> int:
        """How many ended files still wait for their after-care."""
        return sum(sums.unfiled for _, sums in self._watched())

    def byte_totals(self) -> tuple[int, int, int]:
        """Bytes still to be stored, bytes of files that arrived, bytes sent twice."""
        rows = self._watched()
        return (
            sum(sums.bytes for state, sums in rows if state in TO_STORE),
            sum(sums.bytes for state, sums in rows if state is FileState.DONE),
            sum(sums.resent for _, sums in rows),
        )

    def _watched(self) -> list[tuple[FileState, Sums]]:
        sums = self._sums  # a commit on the journal's thread puts another one in its place
        return [(FileState(s), row) for (watch, s), row in sums.items() if watch in self._counted]

    # Called by the triggers, amid a statement: what is noted here is added up after the commit.

    def _came(self, *row: Any) -> None:  # noqa: ANN401 - as SQLite gives it
        self._moves.append((None, row))

    def _went(self, *row: Any) -> None:  # noqa: ANN401
        self._moves.append((row, None))

    def _moved(self, *rows: Any) -> None:  # noqa: ANN401
        self._moves.append((rows[: len(COUNTED)], rows[len(COUNTED) :]))

    def _began(self) -> None:
        super()._began()
        self._moves = []

    def _marked(self) -> int:
        return len(self._moves)

    def _forget(self, mark: int) -> None:
        del self._moves[mark:]

    def _committed(self) -> None:
        super()._committed()
        if self._moves:
            sums = dict(self._sums)
            for before, after in self._moves:
                _count(sums, before, -1)
                _count(sums, after, 1)
            self._sums, self._moves = sums, []


def _count(sums: dict[tuple[str, str], Sums], row: Row | None, sign: int) -> None:
    """Add a row, or take it away."""
    if row is None:
        return
    watch, state, size, resent, filing = row
    so_far = sums.get((watch, state), _NONE)
    sums[watch, state] = Sums(
        so_far.files + sign,
        so_far.bytes + sign * size,
        so_far.resent + sign * resent,
        so_far.unfiled + sign * (filing == PENDING),
    )


def _counted(connection: sqlite3.Connection) -> dict[tuple[str, str], Sums]:
    """Add up all rows, one after the other: GROUP BY would keep a million of them in memory."""
    cursor = connection.cursor()
    cursor.row_factory = None
    sums: dict[tuple[str, str], list[int]] = {}
    for watch, state, size, resent, filing in cursor.execute(_ALL):
        one = sums.setdefault((watch, state), [0, 0, 0, 0])
        one[0] += 1
        one[1] += size
        one[2] += resent
        one[3] += filing == PENDING
    return {key: Sums(*values) for key, values in sums.items()}
