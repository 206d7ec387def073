"""What is damage and what is not; what a damaged journal and a refused write leave behind."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.fuzz.journals import WATCH, make
from tests.support.processes import ROOT
from uploaderd.core.model import PartState
from uploaderd.errors import JournalError
from uploaderd.journal import DamagedError, Journal
from uploaderd.journal.damage import fault
from uploaderd.journal.schema import SCHEMA_VERSION, migrate
from uploaderd.journal.seal import part_seal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STAMP = "20260102T030405Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal with files in every stage lies, closed."""
    make(tmp_path, closed=True, thorough_bytes=0)
    return tmp_path / "journal.sqlite3"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """The same, open."""
    opened = Journal(path)
    opened.open()
    opened.watch([WATCH])
    yield opened
    opened.close()


def change(path: Path, statement: str) -> None:
    """Change a journal behind its back, whatever its checks say."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute(statement)


@pytest.mark.parametrize(
    "content",
    [b"", b"not a database, and long enough to be read as one" * 50, b"SQLite format 3\0" * 300],
    ids=["empty", "text", "a database's first words"],
)
def test_a_file_that_is_no_journal_is_damage(tmp_path: Path, content: bytes) -> None:
    """It is said in a sentence, and the file is as it was until somebody sets it aside."""
    path = tmp_path / "journal.sqlite3"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="the journal is damaged") as caught:
        Journal(path).open()
    assert "sets it aside" in caught.value.hint
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "statement",
    [
        "DROP INDEX files_live",
        "DROP TABLE events",
        "ALTER TABLE parts DROP COLUMN sent",
        "PRAGMA user_version = 0",
        "UPDATE files SET state = 'elsewhere' WHERE id = 'file4'",
        "UPDATE files SET inode = 'x'",
        "UPDATE files SET updated = 1e200",
        "UPDATE events SET text = CAST(x'ff' AS TEXT) WHERE seq = 1",
        "UPDATE uploads SET size = 1000000000000 WHERE key = 'upload2'",
        "DELETE FROM parts WHERE upload = 'upload2' AND number = 3",
        "INSERT INTO errands VALUES ('file1', 'done', '[', 'owed', 0, 1, '')",
        "INSERT INTO errands VALUES ('file1', 'done', '[1]', 'owed', 0, 1, '')",
        "INSERT INTO errands VALUES ('file1', 'done', '[\"x\"]', 'lost', 0, 1, '')",
    ],
)
def test_a_journal_whose_parts_do_not_fit_is_damage(path: Path, statement: str) -> None:
    """What is missing, what makes no value and a plan with a gap are found at the opening."""
    change(path, statement)
    with pytest.raises(DamagedError):
        Journal(path).open()


def test_columns_in_another_order_are_damage(path: Path) -> None:
    """Rows are read by their order: two times that changed places would be taken for each other."""
    for old, new in (("started", "x"), ("finished", "started"), ("x", "finished")):
        change(path, f"ALTER TABLE files RENAME COLUMN {old} TO {new}")
    with pytest.raises(DamagedError, match="its table files is not what it must be"):
        Journal(path).open()


def test_damage_that_sqlite_quotes_in_its_own_words_is_said_all_the_same(path: Path) -> None:
    """A byte of the schema that is no UTF-8, in the middle of what SQLite complains about."""
    content = path.read_bytes()
    assert b"CHECK (length > 0)" in content
    path.write_bytes(content.replace(b"CHECK (length > 0)", b"CHECK (l\xa0ngth > 0)"))
    with pytest.raises(DamagedError):
        Journal(path).open()


def test_what_is_set_aside_keeps_all_its_files_and_never_covers_another(path: Path) -> None:
    """Database and log get the new name, twice in one second too; then a new one is begun."""
    names = []
    for _ in range(2):
        path.write_bytes(b"damaged")
        path.with_name(f"{path.name}-wal").write_bytes(b"its log")
        journal = Journal(path)
        with pytest.raises(DamagedError):
            journal.open()
        names.append(journal.set_aside(STAMP).name)
        journal.open()
        journal.close()
    assert names == [f"journal.sqlite3.damaged-{STAMP}", f"journal.sqlite3.damaged-{STAMP}-2"]
    for name in names:
        assert path.with_name(name).read_bytes() == b"damaged"
        assert path.with_name(f"{name}-wal").read_bytes() == b"its log"


def test_a_log_without_its_database_is_damage(path: Path) -> None:
    """SQLite would take the log up into the new database, or throw it away."""
    path.rename(path.with_name("elsewhere"))
    path.with_name(f"{path.name}-wal").write_bytes(b"its log")
    with pytest.raises(DamagedError, match="is gone"):
        Journal(path).open()


def test_half_a_journal_from_a_start_that_was_killed_is_made_anew(tmp_path: Path) -> None:
    """It has another name until it is whole, so it is never taken for the journal."""
    path = tmp_path / "journal.sqlite3"
    for end in (".new", ".new-wal", ".new-journal"):
        path.with_name(path.name + end).write_bytes(b"half")
    journal = Journal(path)
    journal.open()
    journal.prove()
    journal.close()
    assert [p.name for p in tmp_path.iterdir()] == ["journal.sqlite3"]


def test_damage_that_shows_at_a_question_is_told_as_such(path: Path) -> None:
    """Whatever was in order when it was opened."""
    journal = Journal(path, thorough_bytes=0)
    journal.open()
    journal.connection.execute("PRAGMA cache_size = 1")
    with path.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(os.urandom(path.stat().st_size - 2 * 4096))
    with pytest.raises(DamagedError, match="malformed"):
        journal.history("file4")
    journal.close()


def test_what_was_suspected_is_looked_through_whole_at_the_next_opening(path: Path) -> None:
    """In a journal of any size: else it would be opened, and end the daemon, again and again."""
    change(path, "UPDATE events SET text = CAST(x'ff' AS TEXT)")
    journal = Journal(path, thorough_bytes=0)
    journal.open()
    with pytest.raises(DamagedError, match="UTF-8"):
        journal.history("file4")
    journal.suspect()
    journal.close()
    with pytest.raises(DamagedError):
        Journal(path, thorough_bytes=0).open()


def test_a_suspicion_that_proves_wrong_is_forgotten(path: Path) -> None:
    """The whole journal was looked through: the next opening is as quick as any."""
    journal = Journal(path, thorough_bytes=0)
    journal.suspect()
    assert (path.parent / "journal.sqlite3.suspect").exists()
    journal.open()
    journal.close()
    assert [p.name for p in path.parent.iterdir()] == ["journal.sqlite3"]


def test_a_part_with_a_flipped_bit_counts_as_sent_and_never_as_stored(path: Path) -> None:
    """Its id is not shown, and its row goes on from there: it is sent once more."""
    change(
        path, "UPDATE parts SET part_id = 'part_file2_0' WHERE upload = 'upload2' AND number = 1"
    )
    journal = Journal(path)
    journal.open()
    part = journal.parts("upload2")[0]
    assert (part.state, part.part_id, part.digest) == (PartState.AMBIGUOUS, None, None)
    gone = journal.part_leaves("file2", part, "again", 1_700.0)
    stored = journal.part_stored("file2", gone, "again", part_id="p", digest=b"d" * 16, sent=10)
    assert journal.parts("upload2")[0] == stored
    journal.close()


def test_parts_that_an_older_version_stored_get_their_seal(tmp_path: Path) -> None:
    """Nothing is sent again because of the new version."""
    path = tmp_path / "journal.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        migrate(db, 0)
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute(
            "INSERT INTO parts (upload, number, offset, length, state, digest, part_id)"
            " VALUES ('u', 1, 0, 9, 'stored', ?, 'part_1'), ('u', 2, 9, 5, 'planned', NULL, NULL)",
            (b"d" * 16,),
        )
    journal = Journal(path)
    journal.open()
    assert [part.part_id for part in journal.parts("u")] == ["part_1", None]
    assert journal.connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
    journal.close()


def test_a_seal_is_the_same_for_ever() -> None:
    """It lies on disk: another way to make it would have every part sent again."""
    seal = part_seal("u", 1, 0, 10, b"d" * 16, "part_é")
    assert seal.hex() == "d8ee007b28094178"


FULL = """
import resource, sys
from pathlib import Path
from uploaderd.errors import JournalError
from uploaderd.journal import DamagedError, Journal
journal = Journal(Path(sys.argv[1]))
journal.open()
journal.watch(["/spool"])
log = Path(sys.argv[1] + "-wal")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
journal.prove()
resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, hard))
for attempt in range(3):
    try:
        journal.prove()
    except DamagedError:
        raise
    except JournalError as error:
        print(error)
    print(sorted(journal.counts()))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
journal.prove()
journal.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
print("well", journal.connection.execute("PRAGMA integrity_check").fetchone()[0])
"""


def test_after_a_write_that_failed_the_connection_is_good_for_more(path: Path) -> None:
    """No transaction stays open, reading goes on, and writing does when there is room."""
    words = [
        sys.executable,
        "-c",
        FULL,
        str(path),
    ]
    ran = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    lines = ran.stdout.splitlines()
    assert lines[-1] == "well ok"
    assert len([line for line in lines if "cannot be written" in line]) == 3
    assert not [line for line in lines if "transaction" in line]


def test_an_error_of_the_disk_is_no_damage(path: Path) -> None:
    """A folder in its place cannot be read as a journal: refused, and nothing is set aside."""
    path.unlink()
    path.mkdir()
    with pytest.raises(JournalError) as caught:
        Journal(path).open()
    assert not isinstance(caught.value, DamagedError)
    assert path.is_dir()


def test_without_descriptors_it_is_refused_and_not_damaged(path: Path) -> None:
    """As many as are open already are allowed, and not one more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(JournalError, match="Too many open files") as caught:
            Journal(path).open()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not isinstance(caught.value, DamagedError)


def test_what_a_failing_disk_calls_malformed_is_no_damage(tmp_path: Path) -> None:
    """Until a write has succeeded since; what is malformed then is."""

    def said(code: int, words: str) -> sqlite3.DatabaseError:
        error = sqlite3.DatabaseError(words)
        error.sqlite_errorcode = code
        return error

    path = tmp_path / "journal.sqlite3"
    malformed = said(sqlite3.SQLITE_CORRUPT, "database disk image is malformed")
    assert isinstance(fault(path, malformed, "read"), DamagedError)
    fault(path, said(sqlite3.SQLITE_IOERR_READ, "disk I/O error"), "read")
    told = fault(path, malformed, "read")
    assert not isinstance(told, DamagedError)
    assert str(path) in str(told)
    assert isinstance(fault(tmp_path / "other", malformed, "read"), DamagedError)
    journal = Journal(path)
    journal.open()
    journal.prove()
    journal.close()
    assert isinstance(fault(path, malformed, "read"), DamagedError)
