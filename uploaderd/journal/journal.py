"""What may be written; one transaction a method."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from uploaderd.core.model import File, FileState, Part, PartState, Upload, UploadState
from uploaderd.core.transitions import next_part_state
from uploaderd.journal.configured import Configured
from uploaderd.journal.counting import Counting
from uploaderd.journal.errands import Errands, owe
from uploaderd.journal.following import Following
from uploaderd.journal.retention import Retention
from uploaderd.journal.rows import (
    Values,
    lifecycle_values,
    seal_of,
    to_file,
    to_part,
    upload_values,
)
from uploaderd.journal.store import StaleError
from uploaderd.journal.together import Together

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from uploaderd.core.lifecycle import Decision
    from uploaderd.core.model import Identity
    from uploaderd.core.plan import Range
    from uploaderd.journal.errands import Command


class Journal(Together, Counting, Following, Configured, Errands, Retention):
    """The daemon's memory; what a method returned is durable.

    Every method raises ``JournalError`` when the disk or the database refuses, and then nothing
    of it was kept; those that go on from a file raise ``StaleError`` when its row went on since
    it was read.
    """

    def intake(
        self,
        watch: str,
        paths: Mapping[bytes, Identity | None],
        judge: Callable[[File | None, bytes, Sequence[File]], File | tuple[File, Decision] | None],
    ) -> list[File]:
        """Let ``judge`` decide about each path, and keep what it says.

        It is given the newest file at the path, the path, and the files at work elsewhere in the
        watch with the inode that stands there now. It returns a new file, a file with a decision
        about it, or None for nothing to do.
        """
        kept = []
        with self.transaction() as db:
            for path, identity in paths.items():
                others: list[File] = []
                if identity is not None:
                    others = self._at_work_by_inode(db, watch, identity.dev, identity.inode)
                verdict = judge(self._latest(db, watch, path), path, others)
                if isinstance(verdict, File):
                    kept.append(_insert_file(db, verdict))
                elif verdict is not None:
                    kept.append(_record(db, *verdict, "sighted"))
        return kept

    def record(
        self, before: File, decision: Decision, event: str, owed: Iterable[Command] | None = None
    ) -> File:
        """Keep one transition: the file, its session's state, its history, the cancel's intent.

        ``owed`` are the commands of the hooks that wait for this very transition, or None.
        """
        with self.transaction() as db:
            after = _record(db, before, decision, event)
            owe(db, after, owed)
            return after

    def request(
        self,
        request_id: str,
        file: str,
        call: str,
        at_s: float,
        *,
        upload: str | None = None,
    ) -> None:
        """Note that a request is about to leave."""
        with self.transaction() as db:
            _request(db, request_id, file, call, at_s, upload=upload)

    def answered(self, request_id: str, outcome: str) -> None:
        """Note how a request ended."""
        with self.transaction() as db:
            _answered(db, request_id, outcome)

    def begin_upload(self, file: File, upload: Upload, request_id: str) -> File:
        """Note the intent of a ``create`` before it leaves; return the file that points to it."""
        with self.transaction() as db:
            _insert(db, "uploads", upload_values(upload))
            _request(db, request_id, file.id, "create", upload.created_s, upload=upload.key)
            row = db.execute(
                "UPDATE files SET upload = ?, version = version + 1"
                " WHERE id = ? AND version = ? RETURNING *",
                (upload.key, file.id, file.version),
            ).fetchone()
            if row is None:
                raise StaleError(f"file {file.id} went on meanwhile")
            return to_file(row)

    def upload_opened(
        self,
        upload: Upload,
        request_id: str,
        *,
        remote_id: str,
        server_created_s: float | None,
        life_s: float,
        ranges: Iterable[Range],
    ) -> tuple[Upload, list[Part]]:
        """Keep the id that ``create`` was answered with, and the plan of parts."""
        with self.transaction() as db:
            _answered(db, request_id, "ok")
            opened = replace(
                upload,
                state=UploadState.OPEN,
                remote_id=remote_id,
                server_created_s=server_created_s,
                life_s=life_s,
            )
            db.execute(
                "UPDATE uploads SET state = ?, remote_id = ?, server_created = ?, life = ?"
                " WHERE key = ?",
                (opened.state.value, remote_id, server_created_s, life_s, upload.key),
            )
            db.executemany(
                "INSERT INTO parts (upload, number, offset, length, state) VALUES (?, ?, ?, ?, ?)",
                [(upload.key, r.number, r.offset, r.length, "planned") for r in ranges],
            )
        return opened, self.parts(upload.key)

    def upload_not_opened(self, file: File, upload: Upload, request_id: str, outcome: str) -> File:
        """Note that ``create`` brought no id, and take the file off that session."""
        with self.transaction() as db:
            _answered(db, request_id, outcome)
            _end_upload(db, upload.key, UploadState.LOST)
            row = db.execute(
                "UPDATE files SET upload = NULL, version = version + 1"
                " WHERE id = ? AND version = ? RETURNING *",
                (file.id, file.version),
            ).fetchone()
            if row is None:
                raise StaleError(f"file {file.id} went on meanwhile")
            return to_file(row)

    def upload_ended(self, upload: Upload, state: UploadState, request_id: str) -> None:
        """Note how the cancel of an abandoned session ended."""
        with self.transaction() as db:
            _answered(db, request_id, state.value)
            _end_upload(db, upload.key, state)

    def part_leaves(self, file: str, part: Part, request_id: str, at_s: float) -> Part:
        """Note that a part is about to leave."""
        with self.transaction() as db:
            _request(db, request_id, file, "part", at_s, upload=part.upload, part=part.number)
            return _write_part(db, replace(part, sends=part.sends + 1), after=PartState.IN_FLIGHT)

    def part_stored(
        self, file: str, part: Part, request_id: str, *, part_id: str, digest: bytes, sent: int
    ) -> Part:
        """Keep a part's id and the digest of the bytes that it was sent with."""
        with self.transaction() as db:
            _answered(db, request_id, "ok")
            _count(db, file, part, sent)
            return _write_part(
                db,
                replace(part, part_id=part_id, digest=digest, sent=part.sent + sent),
                after=PartState.STORED,
            )

    def part_not_stored(
        self, file: str, part: Part, request_id: str, *, outcome: str, sent: int, ambiguous: bool
    ) -> Part:
        """Note that a part must be sent again; ``ambiguous`` where no reply was seen."""
        with self.transaction() as db:
            _answered(db, request_id, outcome)
            _count(db, file, part, sent)
            return _write_part(
                db,
                replace(part, sent=part.sent + sent),
                after=PartState.AMBIGUOUS if ambiguous else PartState.PLANNED,
            )

    def part_disproved(self, part: Part) -> Part:
        """Forget a stored part: the bytes on disk are not those that it was sent with."""
        with self.transaction() as db:
            return _write_part(
                db, replace(part, part_id=None, digest=None), after=PartState.PLANNED
            )

    def take_up(self, file: str, key: str) -> tuple[Upload | None, list[Part]]:
        """Read a session to go on with it; what was in flight when it was left is ambiguous.

        Such a part counts as sent whole, since nobody knows how much of it left.
        """
        with self.transaction() as db:
            _cut_off(db, file, key)
        return self.upload(key), self.parts(key)

    def recover(self, latest_due_s: float) -> None:
        """After a start: a create without a reply is lost, other requests ended nobody knows how.

        No file waits beyond ``latest_due_s``, whatever the wall clock said when it was deferred.
        """
        with self.transaction() as db:
            db.execute(
                "UPDATE files SET upload = NULL, version = version + 1 WHERE upload IN"
                " (SELECT key FROM uploads WHERE state = 'creating')"
            )
            db.execute("UPDATE uploads SET state = 'lost' WHERE state = 'creating'")
            db.execute("UPDATE requests SET outcome = 'unknown' WHERE outcome IS NULL")
            _bring_near(db, latest_due_s)

    def awaken(self, targets: Iterable[str], now_s: float) -> None:
        """Let the deferred files of these targets be tried now."""
        names = tuple(targets)
        with self.transaction() as db:
            db.execute(
                "UPDATE files SET due = ? WHERE state = 'deferred' AND due > ?"
                " AND reason_code NOT LIKE '%.deadline'"
                f" AND target IN ({', '.join('?' * len(names))})",
                (now_s, now_s, *names),
            )

    def bring_near(self, latest_due_s: float) -> None:
        """Let no file wait beyond ``latest_due_s``: such a time was meant for another clock.

        Those that wait for an hour with more bandwidth are left out.
        """
        with self.transaction() as db:
            _bring_near(db, latest_due_s)

    def set_setting(self, name: str, value: str | None) -> None:
        """Keep what the operator said; None forgets it."""
        with self.transaction() as db:
            if value is None:
                db.execute("DELETE FROM settings WHERE name = ?", (name,))
            else:
                db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def clock_set_back(self, by_s: float) -> None:
        """Let no file wait longer because the wall clock was set back."""
        with self.transaction() as db:
            db.execute("UPDATE files SET due = due - ? WHERE due IS NOT NULL", (by_s,))
            db.execute("UPDATE errands SET due = due - ? WHERE state <> 'done'", (by_s,))


def _insert(db: sqlite3.Connection, table: str, values: Values) -> None:
    columns = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)


def _bring_near(db: sqlite3.Connection, latest_due_s: float) -> None:
    db.execute(
        "UPDATE files SET due = ? WHERE due > ? AND reason_code NOT LIKE '%.deadline'",
        (latest_due_s, latest_due_s),
    )


def _insert_file(db: sqlite3.Connection, file: File) -> File:
    _insert(
        db,
        "files",
        lifecycle_values(file)
        | {"watch": file.watch, "created": file.created_s, "version": file.version},
    )
    _remember(db, file, "found")
    return file


def _record(db: sqlite3.Connection, before: File, decision: Decision, event: str) -> File:
    values = lifecycle_values(decision.file) | {"created": decision.file.created_s}
    settings = ", ".join(f"{name} = :{name}" for name in values if name != "id")
    row = db.execute(
        f"UPDATE files SET {settings}, version = version + 1"
        " WHERE id = :id AND version = :expected RETURNING *",
        values | {"expected": before.version},
    ).fetchone()
    if row is None:
        raise StaleError(f"file {before.id} went on meanwhile")
    if decision.abandon is not None:
        _abandon(db, decision, decision.abandon)
    elif decision.cut_off and decision.file.upload is not None:
        _cut_off(db, decision.file.id, decision.file.upload)
    if decision.upload_state is not None and decision.file.upload is not None:
        db.execute(
            "UPDATE uploads SET state = :state,"
            " complete_sent = complete_sent OR :state = 'completing' WHERE key = :key",
            {"state": decision.upload_state.value, "key": decision.file.upload},
        )
    if decision.upload_state is UploadState.COMPLETED:  # the reply that said so
        db.execute(
            "UPDATE requests SET outcome = 'ok'"
            " WHERE upload = ? AND call = 'complete' AND outcome IS NULL",
            (decision.file.upload,),
        )
    if decision.history:
        _remember(db, decision.file, event)
    return to_file(row)


def _cut_off(db: sqlite3.Connection, file: str, key: str) -> None:
    """End what was under way in a session that nobody works on any more."""
    rows = db.execute(
        "SELECT * FROM parts WHERE upload = ? AND state = 'in_flight'", (key,)
    ).fetchall()
    for part in map(to_part, rows):
        _count(db, file, part, part.length)
        left = replace(part, sent=part.sent + part.length)
        _write_part(db, left, after=PartState.AMBIGUOUS)
    db.execute(
        "UPDATE requests SET outcome = 'unknown' WHERE upload = ? AND outcome IS NULL", (key,)
    )


def _abandon(db: sqlite3.Connection, decision: Decision, key: str) -> None:
    _cut_off(db, decision.file.id, key)
    db.execute(
        "UPDATE uploads SET state = CASE WHEN remote_id IS NULL THEN 'lost' ELSE 'cancelling' END"
        " WHERE key = ? AND state IN ('creating', 'open', 'completing')",
        (key,),
    )
    if decision.file.state is FileState.QUEUED:  # the same bytes will be sent once more
        db.execute(
            "UPDATE files SET bytes_resent = bytes_resent + (SELECT coalesce(sum(min(sent,"
            " length)), 0) FROM parts WHERE upload = ?) WHERE id = ?",
            (key, decision.file.id),
        )


def _end_upload(db: sqlite3.Connection, key: str, state: UploadState) -> None:
    db.execute("UPDATE uploads SET state = ? WHERE key = ?", (state.value, key))


def _remember(db: sqlite3.Connection, file: File, event: str) -> None:
    db.execute(
        "INSERT INTO events (file, at, event, state, code, text) VALUES (?, ?, ?, ?, ?, ?)",
        (file.id, file.updated_s, event, file.state.value, file.reason.code, file.reason.text),
    )


def _request(
    db: sqlite3.Connection,
    request_id: str,
    file: str,
    call: str,
    at_s: float,
    *,
    upload: str | None = None,
    part: int | None = None,
) -> None:
    db.execute(
        "INSERT INTO requests (id, file, upload, call, part, at) VALUES (?, ?, ?, ?, ?, ?)",
        (request_id, file, upload, call, part, at_s),
    )


def _answered(db: sqlite3.Connection, request_id: str, outcome: str) -> None:
    db.execute("UPDATE requests SET outcome = ? WHERE id = ?", (outcome, request_id))


def _write_part(db: sqlite3.Connection, part: Part, *, after: PartState) -> Part:
    written = replace(part, state=next_part_state(part.state, after))
    db.execute(
        "UPDATE parts SET state = ?, digest = ?, part_id = ?, seal = ?, sends = ?, sent = ?"
        " WHERE upload = ? AND number = ?",
        (
            written.state.value,
            written.digest,
            written.part_id,
            seal_of(written) if written.state is PartState.STORED else None,
            written.sends,
            written.sent,
            written.upload,
            written.number,
        ),
    )
    return written


def _count(db: sqlite3.Connection, file: str, part: Part, sent: int) -> None:
    """Count bytes that left: those that covered the part before were sent twice."""
    covered = min(part.sent + sent, part.length) - min(part.sent, part.length)
    db.execute(
        "UPDATE files SET bytes_sent = bytes_sent + ?, bytes_resent = bytes_resent + ?"
        " WHERE id = ?",
        (sent, sent - covered, file),
    )
