"""Group commit: many methods, one sync, and each with its own outcome."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.journal.test_journal import WATCH, new_file
from uploaderd.core.model import FileState
from uploaderd.errors import JournalError
from uploaderd.journal import Journal, StaleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from uploaderd.core.model import File


class Commits:
    """Counts the syncs of a journal, and breaks one off if told to."""

    def __init__(self) -> None:
        self.count = 0
        self.kept_before: list[int] = []
        self.breaks: sqlite3.Error | None = None
        self.path: Path | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Around each commit."""
        self.count += 1
        if self.path is not None:
            self.kept_before.append(kept(self.path))
        if self.breaks is not None:
            error, self.breaks = self.breaks, None
            raise error
        yield


def kept(path: Path) -> int:
    """How many files another connection sees, which is what a crash would leave."""
    with closing(sqlite3.connect(path)) as other:
        return int(other.execute("SELECT count(*) FROM files").fetchone()[0])


@pytest.fixture
def commits() -> Commits:
    """The counter of the journal below."""
    return Commits()


@pytest.fixture
def journal(tmp_path: Path, commits: Commits) -> Iterator[Journal]:
    """A journal that watches the folder of the test's files."""
    made = Journal(tmp_path / "journal.sqlite3")
    made.open()
    made.watch([WATCH])
    made.measure = commits
    yield made
    made.close()


def seen(journal: Journal, path: bytes) -> partial[Any]:
    """The call that takes in a new file."""
    return partial(journal.intake, WATCH, {path: None}, lambda *_: new_file(path))


def stale(journal: Journal, file: File) -> partial[Any]:
    """A call that writes and then finds that it came too late."""

    def call() -> None:
        with journal.transaction() as db:
            db.execute("UPDATE files SET size = size + 1000 WHERE id = ?", (file.id,))
            raise StaleError(file.id)

    return partial(call)


def fill(journal: Journal) -> partial[Any]:
    """A call for which there is no room."""

    def call() -> None:
        with journal.transaction() as db:
            pages = db.execute("PRAGMA page_count").fetchone()[0]
            db.execute(f"PRAGMA max_page_count = {pages}")
            try:
                for number in range(1000):
                    db.execute("INSERT INTO settings VALUES (?, ?)", (f"{number}", "x" * 4000))
            finally:
                db.execute("PRAGMA max_page_count = 1000000")

    return partial(call)


def test_calls_that_come_together_share_one_sync(journal: Journal, commits: Commits) -> None:
    """However many: nothing of them is there before it, all of them after it."""
    commits.path = journal.path
    outcomes = journal.together([seen(journal, b"%d" % number) for number in range(20)])
    assert [outcome.value[0].path for outcome in outcomes] == [b"%d" % n for n in range(20)]
    assert (commits.count, commits.kept_before) == (1, [0])
    assert kept(journal.path) == 20
    assert journal.counts() == {FileState.SETTLING: 20}


def test_one_that_fails_takes_nothing_of_the_others_with_it(journal: Journal) -> None:
    """What it had written is taken back, in the rows and in the sums."""
    file = seen(journal, b"x")()[0]
    before, late, after = journal.together(
        [seen(journal, b"a"), stale(journal, file), seen(journal, b"b")]
    )
    assert isinstance(late.error, StaleError)
    assert before.error is after.error is None
    assert kept(journal.path) == 3
    assert journal.file(file.id) == file
    assert journal.byte_totals()[0] == 3 * file.identity.size


def test_where_the_sync_fails_nobody_is_told_that_it_was_kept(
    journal: Journal, commits: Commits
) -> None:
    """Nor is what was only read after the first write; what was read before it stands."""
    commits.breaks = sqlite3.OperationalError("disk I/O error")
    asked = partial(journal.file, "nobody")
    early, *others = journal.together([asked, seen(journal, b"a"), asked, seen(journal, b"b")])
    assert early.error is None
    assert [type(outcome.error) for outcome in others] == [JournalError] * 3
    assert kept(journal.path) == 0
    assert journal.counts() == {}
    assert [o.error for o in journal.together([seen(journal, b"a"), asked])] == [None, None]
    assert journal.counts() == {FileState.SETTLING: 1}


def test_those_that_only_ask_need_no_sync(journal: Journal, commits: Commits) -> None:
    """A group without a write begins no transaction."""
    journal.together([partial(journal.file, "a"), partial(journal.file, "b")])
    assert commits.count == 0


def test_a_full_disk_is_told_to_all_whose_writes_are_gone(journal: Journal) -> None:
    """Whatever SQLite took back by itself: who was told that it was kept finds it kept."""
    outcomes = journal.together([seen(journal, b"a"), fill(journal), seen(journal, b"b")])
    assert isinstance(outcomes[1].error, JournalError)
    told = sum(outcome.error is None for outcome in (outcomes[0], outcomes[2]))
    assert kept(journal.path) == told
    assert journal.counts().get(FileState.SETTLING, 0) == told
    assert journal.together([seen(journal, b"c"), seen(journal, b"d")])[1].error is None


def test_a_transaction_that_sqlite_ended_fails_those_before_and_spares_those_after(
    journal: Journal,
) -> None:
    """The rest of the group begins another one."""

    def broken() -> None:
        with journal.transaction() as db:
            db.execute("ROLLBACK")
            raise sqlite3.OperationalError("disk I/O error")

    outcomes = journal.together([seen(journal, b"a"), partial(broken), seen(journal, b"b")])
    assert [type(outcome.error) for outcome in outcomes] == [JournalError, JournalError, type(None)]
    assert kept(journal.path) == 1
    assert journal.counts() == {FileState.SETTLING: 1}


def test_who_says_that_the_disk_takes_writes_has_seen_it(
    journal: Journal, commits: Commits
) -> None:
    """What came before is synced first, and the proof has a sync of its own."""
    journal.together([seen(journal, b"a"), partial(journal.prove), seen(journal, b"b")])
    assert commits.count == 3
    commits.breaks = sqlite3.OperationalError("disk I/O error")
    first, proof = journal.together([seen(journal, b"c"), partial(journal.prove)])
    assert isinstance(first.error, JournalError)
    assert proof.error is None


def test_where_another_program_holds_the_journal_it_is_waited_for_once(journal: Journal) -> None:
    """Not once for each of those who wait: nobody would hear of anything for minutes."""
    journal.connection.execute("PRAGMA busy_timeout = 300")
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began_s = time.monotonic()
        journal.together([seen(journal, b"a")])
        once_s = time.monotonic() - began_s
        outcomes = journal.together([seen(journal, b"%d" % number) for number in range(20)])
        all_s = time.monotonic() - began_s - once_s
        assert all(isinstance(outcome.error, JournalError) for outcome in outcomes)
        assert all_s < 5 * once_s
    assert journal.together([seen(journal, b"a"), seen(journal, b"b")])[1].error is None
