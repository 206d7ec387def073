"""Rows to values and back: nothing changes places."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from uploaderd.core.model import (
    Arrival,
    File,
    FileState,
    Filing,
    Identity,
    Reason,
    Upload,
    UploadState,
)
from uploaderd.core.values import replace
from uploaderd.journal.damage import DamagedError
from uploaderd.journal.rows import LATEST_S, lifecycle_values, to_file, to_upload, upload_values
from uploaderd.journal.schema import SCHEMA_VERSION, migrate
from uploaderd.journal.writing import insert

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = File(
    id="id",
    watch="/watch",
    path=b"path",
    identity=Identity(dev=1, inode=2**64 - 1, size=3, mtime_ns=4, ctime_ns=5),
    arrival=Arrival.WRITTEN,
    target="target",
    purpose="purpose",
    state=FileState.DONE,
    reason=Reason(code="code", text="text", until_s=6.5),
    created_s=7.5,
    updated_s=8.5,
    changed_s=9.5,
    owner="owner",
    due_s=10.5,
    upload="upload",
    remote_file="remote",
    md5="m" * 32,
    result="result",
    attempts=11,
    deferrals=12,
    restarts=13,
    bytes_sent=14,
    bytes_resent=15,
    started_s=16.5,
    finished_s=17.5,
    filing=Filing.FILED,
    filed_as=b"filed as",
    version=18,
)
UPLOAD = Upload(
    key="key",
    file="id",
    target="target",
    state=UploadState.OPEN,
    filename="filename",
    purpose="purpose",
    size=1,
    part_bytes=2,
    created_s=3.5,
    created_boot_s=4.5,
    boot_id="boot",
    life_s=5.5,
    remote_id="remote",
    server_created_s=6.5,
    complete_sent=True,
)


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """An empty journal in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for step in range(SCHEMA_VERSION):
            migrate(connection, step)
        connection.row_factory = sqlite3.Row
        yield connection


def written(db: sqlite3.Connection, file: File) -> sqlite3.Row:
    """The row that a file is kept in."""
    others = {"watch": file.watch, "created": file.created_s, "version": file.version}
    counted = {"bytes_sent": file.bytes_sent, "bytes_resent": file.bytes_resent}
    insert(db, "files", lifecycle_values(file) | others | counted)
    row: sqlite3.Row = db.execute("SELECT * FROM files").fetchone()
    return row


def test_each_column_of_a_file_is_the_field_that_it_was(db: sqlite3.Connection) -> None:
    """All are different, so that two that change places show."""
    assert to_file(written(db, FILE)) == FILE


def test_each_column_of_a_session_is_the_field_that_it_was(db: sqlite3.Connection) -> None:
    """What a question asks for beside it does not matter."""
    insert(db, "uploads", upload_values(UPLOAD))
    row = db.execute('SELECT *, 99 AS "left" FROM uploads').fetchone()
    assert to_upload(row) == UPLOAD
    assert row["left"] == 99


@pytest.mark.parametrize(
    "name", ["created_s", "updated_s", "changed_s", "due_s", "started_s", "finished_s"]
)
def test_a_time_that_no_clock_shows_is_damage(db: sqlite3.Connection, name: str) -> None:
    """On either side of what is possible, whichever time it is."""
    for seconds in (LATEST_S, -LATEST_S):
        row = written(db, replace(FILE, **{name: seconds}))  # type: ignore[arg-type]
        with pytest.raises(DamagedError, match="no time"):
            to_file(row)
        db.execute("DELETE FROM files")


def test_a_wait_that_no_clock_shows_is_damage(db: sqlite3.Connection) -> None:
    """A reason's time is one of them."""
    row = written(db, replace(FILE, reason=replace(FILE.reason, until_s=LATEST_S)))
    with pytest.raises(DamagedError, match="no time"):
        to_file(row)
