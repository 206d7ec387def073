"""The statements that the journal's methods are made of; each runs inside a transaction.

Each statement hands the interpreter to the other threads and back, so there are as few as can be,
and an update names only the columns that change: each column of an index costs that index.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from uploaderd.core.model import File, FileState, Part, PartState, Upload, UploadState
from uploaderd.core.transitions import next_part_state
from uploaderd.core.values import replace
from uploaderd.errors import UploaderdError
from uploaderd.journal.rows import Values, changes, lifecycle_values, seal_of, to_file, to_part
from uploaderd.journal.store import StaleError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uploaderd.core.lifecycle import Begun, Decision


class TakenError(UploaderdError):
    """The service answered with an id that belongs to something else already; nothing was kept.

    Attributes:
        owner: the file that it is of, where it is a file's.
    """

    def __init__(self, text: str, owner: File | None = None) -> None:
        super().__init__(text)
        self.owner = owner


class Leaving(NamedTuple):
    """The request of a part that is about to leave, and when (wall time)."""

    request_id: str
    at_s: float


def insert(db: sqlite3.Connection, table: str, values: Values) -> None:
    """Add a row."""
    db.execute(_insertion(table, tuple(values)), tuple(values.values()))


@lru_cache(maxsize=16)
def _insertion(table: str, columns: tuple[str, ...]) -> str:
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"


def insert_file(db: sqlite3.Connection, file: File) -> File:
    """Add a file that was just seen."""
    _insert_row(db, file)
    remember(db, file, "found")
    return file


def insert_begun(db: sqlite3.Connection, begun: Begun) -> File:
    """Add a file that was just seen and looked at, as it is after both; return it so."""
    after = replace(begun.decision.file, version=begun.file.version + 1)
    _insert_row(db, after)
    remember(db, begun.file, "found")
    if begun.decision.history:
        remember(db, after, begun.event)
    return after


def _insert_row(db: sqlite3.Connection, file: File) -> None:
    first = {"watch": file.watch, "created": file.created_s, "version": file.version}
    insert(db, "files", lifecycle_values(file) | first)


def record(db: sqlite3.Connection, before: File, decision: Decision, event: str) -> File:
    """Write one transition; return the file as it is then.

    Raises:
        StaleError: the row went on since ``before`` was read.
        TakenError: what it arrived as is another file's.
    """
    if decision.abandon is not None:
        _abandon(db, decision, decision.abandon)
    elif decision.cut_off and decision.file.upload is not None:
        cut_off(db, decision.file.id, decision.file.upload)
    after = _go_on(db, before, decision.file, changes(before, decision.file))
    if decision.upload_state is not None and after.upload is not None:
        db.execute(_SESSION[decision.upload_state], (decision.upload_state.value, after.upload))
    if decision.upload_state is UploadState.COMPLETED:  # the reply that said so
        db.execute(
            "UPDATE requests SET outcome = 'ok'"
            " WHERE file = ? AND upload = ? AND call = 'complete' AND outcome IS NULL",
            (before.id, after.upload),
        )
    if decision.history:
        remember(db, after, event)
    return after


_SESSION = {
    UploadState.COMPLETING: "UPDATE uploads SET state = ?, complete_sent = 1 WHERE key = ?",
    UploadState.COMPLETED: "UPDATE uploads SET state = ? WHERE key = ?",
}


def _go_on(db: sqlite3.Connection, before: File, after: File, changed: Values) -> File:
    """Write what is ``changed`` of a file; return it with what others have counted meanwhile.

    That what it arrived as is nobody else's is seen to by an index: who it is of is only asked for
    where that refuses.
    """
    try:
        row = db.execute(
            _update(tuple(changed)), (*changed.values(), before.id, before.version)
        ).fetchone()
    except sqlite3.IntegrityError as error:
        owner = None if after.reason.code == "done.already_uploaded" else _owner(db, after)
        if owner is None:
            raise
        raise TakenError(f"{after.remote_file} is that of file {owner.id}", owner) from error
    if row is None:
        raise StaleError(f"file {before.id} went on meanwhile")
    return replace(after, version=before.version + 1, bytes_sent=row[0], bytes_resent=row[1])


@lru_cache(maxsize=256)
def _update(columns: tuple[str, ...]) -> str:
    settings = ", ".join(f"{name} = ?" for name in columns)
    return (
        f"UPDATE files SET {settings}, version = version + 1"
        " WHERE id = ? AND version = ? RETURNING bytes_sent, bytes_resent"
    )


def point_to(db: sqlite3.Connection, file: File, upload: str | None) -> File:
    """Let a file use a session, or none; return the file as it is then.

    Raises:
        StaleError: the row went on since ``file`` was read.
    """
    return _go_on(db, file, replace(file, upload=upload), {"upload": upload})


def cut_off(db: sqlite3.Connection, file: str, key: str) -> None:
    """End what was under way in a session that nobody works on any more."""
    rows = db.execute(
        "SELECT * FROM parts WHERE upload = ? AND state = 'in_flight'", (key,)
    ).fetchall()
    for part in map(to_part, rows):
        count(db, file, part, part.length)
        left = replace(part, sent=part.sent + part.length)
        write_part(db, left, after=PartState.AMBIGUOUS)
    db.execute(
        "UPDATE requests SET outcome = 'unknown' WHERE file = ? AND upload = ? AND outcome IS NULL",
        (file, key),
    )


def open_upload(db: sqlite3.Connection, upload: Upload) -> None:
    """Write what the service said of a session."""
    db.execute(
        "UPDATE uploads SET state = ?, remote_id = ?, server_created = ?, life = ? WHERE key = ?",
        (upload.state.value, upload.remote_id, upload.server_created_s, upload.life_s, upload.key),
    )


def end_upload(db: sqlite3.Connection, key: str, state: UploadState) -> None:
    """Write how a session ended."""
    db.execute("UPDATE uploads SET state = ? WHERE key = ?", (state.value, key))


def remember(db: sqlite3.Connection, file: File, event: str) -> None:
    """Append to the history."""
    db.execute(
        "INSERT INTO events (file, at, event, state, code, text) VALUES (?, ?, ?, ?, ?, ?)",
        (file.id, file.updated_s, event, file.state.value, file.reason.code, file.reason.text),
    )


def request(
    db: sqlite3.Connection,
    request_id: str,
    file: str,
    call: str,
    at_s: float,
    *,
    upload: str | None = None,
    part: int | None = None,
) -> None:
    """Write that a request is about to leave."""
    db.execute(
        "INSERT INTO requests (id, file, upload, call, part, at) VALUES (?, ?, ?, ?, ?, ?)",
        (request_id, file, upload, call, part, at_s),
    )


def part_leaves(db: sqlite3.Connection, file: str, part: Part, leaving: Leaving) -> None:
    """Write that a part's request is about to leave."""
    request_id, at_s = leaving
    request(db, request_id, file, "part", at_s, upload=part.upload, part=part.number)


def answered(db: sqlite3.Connection, request_id: str, outcome: str) -> None:
    """Write how a request ended."""
    db.execute("UPDATE requests SET outcome = ? WHERE id = ?", (outcome, request_id))


def plan_parts(db: sqlite3.Connection, parts: Iterable[Part]) -> None:
    """Add the parts of a new session."""
    db.executemany(
        "INSERT INTO parts (upload, number, offset, length, state, sends)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [(p.upload, p.number, p.offset, p.length, p.state.value, p.sends) for p in parts],
    )


def write_part(db: sqlite3.Connection, part: Part, *, after: PartState) -> Part:
    """Write a part's next state; return the part as it is then.

    Raises:
        StaleError: its session is not in the journal.
    """
    written = replace(part, state=next_part_state(part.state, after))
    cursor = db.execute(
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
    if cursor.rowcount != 1:
        raise StaleError(f"part {part.number} of session {part.upload} is not there any more")
    return written


def count(db: sqlite3.Connection, file: str, part: Part, sent: int) -> None:
    """Count bytes that left: those that covered the part before were sent twice."""
    covered = min(part.sent + sent, part.length) - min(part.sent, part.length)
    if covered == sent:
        db.execute("UPDATE files SET bytes_sent = bytes_sent + ? WHERE id = ?", (sent, file))
        return
    db.execute(
        "UPDATE files SET bytes_sent = bytes_sent + ?, bytes_resent = bytes_resent + ?"
        " WHERE id = ?",
        (sent, sent - covered, file),
    )


def _abandon(db: sqlite3.Connection, decision: Decision, key: str) -> None:
    cut_off(db, decision.file.id, key)
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


def _owner(db: sqlite3.Connection, file: File) -> File | None:
    """Another file that arrived as what this one is to have arrived as."""
    row = db.execute(
        "SELECT * FROM files WHERE target = ? AND remote_file = ? AND id <> ?"
        " AND reason_code <> 'done.already_uploaded'",
        (file.target, file.remote_file, file.id),
    ).fetchone()
    return None if row is None else to_file(row)
