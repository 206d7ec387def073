"""What hooks owe: written with the transition that ends the file, worked off one by one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from uploaderd.core.errands import Errand, ErrandState, wait_s
from uploaderd.core.values import replace
from uploaderd.journal.questions import Questions
from uploaderd.journal.rows import to_errand
from uploaderd.journal.store import StaleError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from uploaderd.core.model import File

Command = tuple[str, ...]


def owe(db: sqlite3.Connection, file: File, commands: Iterable[Command] | None) -> None:
    """Note that these commands are to be run for a file that ends in this very transaction.

    What was owed for an earlier end of it, before the operator had it tried again, is not any more.
    """
    if commands is None:
        return
    db.execute("DELETE FROM errands WHERE file = ?", (file.id,))
    db.executemany(
        "INSERT INTO errands (file, occasion, command, state, due) VALUES (?, ?, ?, 'owed', ?)",
        [(file.id, file.state.value, _to_text(command), file.updated_s) for command in commands],
    )


class Errands(Questions):
    """The journal's errands."""

    def errands_due(
        self, occasion: str, command: Command, now_s: float, limit: int, *, longest_s: float
    ) -> list[Errand]:
        """What one hook owes by now, the longest due first.

        A time beyond ``longest_s`` from now was meant for another clock and counts as come. For a
        file that is being tried again nothing is due: it will end once more.
        """
        rows: list[sqlite3.Row] = []
        for when, time_s in (("due <= ?", now_s), ("due > ?", now_s + longest_s)):
            rows += self._all(
                "SELECT * FROM errands WHERE state = 'owed' AND occasion = ? AND command = ?"
                f" AND {when} AND EXISTS (SELECT 1 FROM files WHERE id = errands.file"
                " AND files.state = occasion AND filing = 'filed') ORDER BY due LIMIT ?",
                (occasion, _to_text(command), time_s, limit - len(rows)),
            )
        return [to_errand(row) for row in rows]

    def next_errand_s(self, occasion: str, command: Command, after_s: float) -> float | None:
        """The wall time of the next run of a hook after ``after_s``."""
        row = self._one(
            "SELECT min(due) AS due FROM errands WHERE state = 'owed' AND occasion = ?"
            " AND command = ? AND due > ?",
            (occasion, _to_text(command), after_s),
        )
        return None if row is None else row["due"]

    def errands_of(self, file_id: str) -> list[Errand]:
        """What hooks owe one file, or have done for it."""
        rows = self._all("SELECT * FROM errands WHERE file = ? ORDER BY command", (file_id,))
        return [to_errand(row) for row in rows]

    def errand_counts(self) -> dict[ErrandState, int]:
        """How many errands there are in each state but ``DONE``."""
        rows = self._all(
            "SELECT state, count(*) AS n FROM errands WHERE state <> 'done' GROUP BY state"
        )
        return {ErrandState(row["state"]): row["n"] for row in rows}

    def errands_recover(self) -> None:
        """After a start: runs that nobody saw end are owed again, at the time noted for that."""
        with self.transaction() as db:
            db.execute("UPDATE errands SET state = 'owed' WHERE state = 'running'")

    def errand_begins(self, errand: Errand, now_s: float) -> Errand:
        """Note the intent of a run, and when the next one is due if nothing is heard of it.

        Raises:
            StaleError: it is not owed any more.
        """
        begun = replace(
            errand,
            state=ErrandState.RUNNING,
            attempts=errand.attempts + 1,
            due_s=now_s + wait_s(errand.attempts),
        )
        with self.transaction() as db:
            _write(db, begun, expected=ErrandState.OWED)
        return begun

    def errand_ends(self, ended: Errand, at_s: float, event: str, text: str) -> None:
        """Note how a run ended, in the errand and in the file's history.

        Raises:
            StaleError: no run of it was under way.
        """
        with self.transaction() as db:
            _write(db, ended, expected=ErrandState.RUNNING)
            db.execute(
                "INSERT INTO events (file, at, event, state, code, text)"
                " SELECT id, ?, ?, state, reason_code, ? FROM files WHERE id = ?",
                (at_s, event, text, ended.file),
            )

    def errand_interrupted(self, errand: Errand, now_s: float) -> None:
        """Take back the intent of a run that was ended before its time: it does not count."""
        owed = replace(
            errand, state=ErrandState.OWED, attempts=max(errand.attempts - 1, 0), due_s=now_s
        )
        with self.transaction() as db:
            _write(db, owed, expected=ErrandState.RUNNING)


def _write(db: sqlite3.Connection, errand: Errand, *, expected: ErrandState) -> None:
    row = db.execute(
        "UPDATE errands SET state = ?, attempts = ?, due = ?, outcome = ?"
        " WHERE file = ? AND command = ? AND state = ? RETURNING file",
        (
            errand.state.value,
            errand.attempts,
            errand.due_s,
            errand.outcome,
            errand.file,
            _to_text(errand.command),
            expected.value,
        ),
    ).fetchone()
    if row is None:
        raise StaleError(f"the errand for file {errand.file} went on meanwhile")


def _to_text(command: Command) -> str:
    return json.dumps(command)
