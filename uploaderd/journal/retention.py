"""Forgetting what has ended long ago, in transactions so small that nobody waits for them.

What is deleted leaves free pages, which SQLite uses again: the database stops growing where as
much is forgotten as comes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from uploaderd.journal.questions import ENDED, WATCHED, Questions
from uploaderd.journal.rows import to_file

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable

    from uploaderd.core.model import File

Names = frozenset[tuple[str, str]]

START = (float("-inf"), "")
_FORGOTTEN = "forgotten at {}"


class Retention(Questions):
    """The journal's forgetting."""

    def trim(self, before_s: float, most: int) -> int:
        """Forget up to ``most`` rows each of older history and requests; return how many went.

        The newest row of the history stays, so that its place is never given twice.
        """
        with self.transaction() as db:
            gone = db.execute(
                "DELETE FROM events WHERE seq < (SELECT max(seq) FROM events) AND seq IN (SELECT"
                " seq FROM (SELECT seq, at FROM events ORDER BY seq LIMIT ?) WHERE at < ?)",
                (most, before_s),
            ).rowcount
            return gone + (
                db.execute(
                    "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE at < ?"
                    " AND outcome IS NOT NULL ORDER BY at LIMIT ?)",
                    (before_s, most),
                ).rowcount
            )

    def ended_before(self, before_s: float, after: tuple[float, str], limit: int) -> list[File]:
        """Ended files of the watched folders by the time of their end, behind ``after``."""
        rows = self._all(
            "SELECT * FROM files INDEXED BY files_ended"
            " WHERE (filing = 'filed' OR state = 'cancelled') AND updated < ?"
            f" AND (updated, id) > (?, ?) AND {WATCHED} ORDER BY updated, id LIMIT ?",
            (before_s, *after, limit),
        )
        return [to_file(row) for row in rows]

    def forget(
        self,
        verdicts: Iterable[tuple[File, bool]],
        hooks: Collection[tuple[str, tuple[str, ...]]],
        most: int,
    ) -> bool:
        """Forget the details of ended files, and the files themselves where it is True.

        Left alone is a file that went on, whose session is still to be cancelled, that the newest
        history is about, or for which one of ``hooks`` (occasion and command) is still to run. A
        file whose id at the service may still have to be told from another's loses its details
        only.

        Returns:
            whether that is all; after about ``most`` rows it is not.
        """
        owing = {(on, json.dumps(command)) for on, command in hooks}
        doubted: Names | None = None
        left = most
        with self.transaction() as db:
            for file, whole in verdicts:
                if left <= 0:
                    return False
                if _is_needed(db, file, owing):
                    continue
                left -= _forget_details(db, file, left)
                if left <= 0:
                    return False
                db.execute("DELETE FROM errands WHERE file = ?", (file.id,))
                if doubted is None:
                    doubted = _in_doubt(db)
                if whole and not _may_be_taken_for_another(db, file, doubted):
                    left -= _forget_all(db, file)
                else:
                    db.execute(
                        "DELETE FROM uploads WHERE file = ? AND key IS NOT ?",
                        (file.id, file.upload),
                    )
        return True

    def has_forgotten(self, target: str) -> bool:
        """Whether a file that arrived at this target was ever forgotten."""
        return self.setting(_FORGOTTEN.format(target)) is not None


def _is_needed(db: sqlite3.Connection, file: File, owing: Collection[tuple[str, str]]) -> bool:
    there = db.execute(
        "SELECT 1 FROM files WHERE id = ? AND version = ?"
        " AND NOT EXISTS (SELECT 1 FROM uploads WHERE file = files.id"
        " AND state IN ('creating', 'open', 'completing', 'cancelling'))"
        " AND id IS NOT (SELECT file FROM events ORDER BY seq DESC LIMIT 1)",
        (file.id, file.version),
    ).fetchone()
    if there is None:
        return True
    owed = db.execute(
        "SELECT occasion, command FROM errands WHERE file = ? AND state IN ('owed', 'running')",
        (file.id,),
    )
    # What was owed for an end that was taken back is never run.
    return any(
        (row["occasion"], row["command"]) in owing and row["occasion"] == file.state for row in owed
    )


def _forget_details(db: sqlite3.Connection, file: File, most: int) -> int:
    """Delete up to ``most`` rows of what hangs on a file; return how many went."""
    gone = 0
    for query in (
        "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE file = ? LIMIT ?)",
        "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE file = ? LIMIT ?)",
    ):
        gone += db.execute(query, (file.id, max(most - gone, 0))).rowcount
    keys = [row["key"] for row in db.execute("SELECT key FROM uploads WHERE file = ?", (file.id,))]
    for key in keys:
        gone += db.execute(
            "DELETE FROM parts WHERE upload = ? AND number IN"
            " (SELECT number FROM parts WHERE upload = ? LIMIT ?)",
            (key, key, max(most - gone, 0)),
        ).rowcount
    return gone


def _forget_all(db: sqlite3.Connection, file: File) -> int:
    db.execute("UPDATE files SET upload = NULL WHERE id = ?", (file.id,))
    gone = db.execute("DELETE FROM uploads WHERE file = ?", (file.id,)).rowcount
    db.execute("DELETE FROM files WHERE id = ?", (file.id,))
    if file.remote_file is not None and file.reason.code != "done.already_uploaded":
        name = _FORGOTTEN.format(file.target)
        db.execute("INSERT OR IGNORE INTO settings VALUES (?, 'yes')", (name,))
    return gone + 1


def _in_doubt(db: sqlite3.Connection) -> Names:
    """Target and name of every file with a session that has not ended."""
    rows = db.execute(
        "SELECT DISTINCT f.target, u.filename FROM files f INDEXED BY files_session"
        " JOIN uploads u ON u.key = f.upload"
        f" WHERE f.upload IS NOT NULL AND f.state NOT IN {ENDED}"
    )
    return frozenset((row["target"], row["filename"]) for row in rows)


def _may_be_taken_for_another(db: sqlite3.Connection, file: File, doubted: Names) -> bool:
    """Whether only its id tells its remote file from what a lost complete may have made.

    That search goes by name and time (``core/reconcile.py``): where both were stamped, what is
    made later is told apart by its time, and what has no session yet is made later.
    """
    row = db.execute(
        "SELECT filename, server_created FROM uploads WHERE key = ?", (file.upload,)
    ).fetchone()
    if row is None or file.remote_file is None:
        return False
    stamped = row["server_created"] is not None and _created_at(file.result) is not None
    return not stamped or (file.target, row["filename"]) in doubted


def _created_at(result: str | None) -> object:
    try:
        document = json.loads(result or "null")
    except ValueError:
        return None
    return document.get("created_at") if isinstance(document, dict) else None
