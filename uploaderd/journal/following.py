"""The journal's history as a stream: what came after a place in it, and whose history it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from uploaderd.core.report import Moment
from uploaderd.journal.looking import Looking, read_only

if TYPE_CHECKING:
    from uploaderd.journal.looking import Sight

ERA = "era"


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One row of the history.

    Attributes:
        seq: its place; places are never given twice, and grow by one as long as none is forgotten.
        sight: the file as it is now, or None where it is forgotten.
    """

    seq: int
    file_id: str
    moment: Moment
    sight: Sight | None


class Following(Looking):
    """Reads the history on, in order."""

    def era(self, new: str) -> str:
        """The word that tells this journal's history from any other's; ``new`` if it has none."""
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (ERA, new))
            found = db.execute("SELECT value FROM settings WHERE name = ?", (ERA,)).fetchone()
            return str(found["value"])

    def newest(self) -> int:
        """The place of the last row; 0 before the first."""
        row = self._one("SELECT coalesce(max(seq), 0) AS seq FROM events")
        return 0 if row is None else int(row["seq"])

    def news_after(self, seq: int, limit: int) -> list[News]:
        """The rows behind a place, in order, each with its file as it is now."""
        rows = self._all("SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))
        sights = self.sights(row["file"] for row in rows)
        return [
            News(
                seq=row["seq"],
                file_id=row["file"],
                moment=Moment(
                    at_s=row["at"],
                    event=row["event"],
                    state=row["state"],
                    code=row["code"],
                    text=row["text"],
                ),
                sight=sights.get(row["file"]),
            )
            for row in rows
        ]


class Reader(Following):
    """The journal's questions on a connection that cannot write; the journal is open before it."""

    def open(self) -> None:
        """Open it; JournalError where that cannot be."""
        self._connection = read_only(self)
