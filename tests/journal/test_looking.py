"""What is counted along, and what those who look on are shown, beside a writer at work."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.test_journal import WATCH, new_file, step, take_in, uploading
from uploaderd.core import events
from uploaderd.core.model import FileState, Filing
from uploaderd.core.reasons import reason
from uploaderd.core.selection import Selection
from uploaderd.core.values import replace
from uploaderd.errors import JournalError
from uploaderd.journal import Journal, StaleError
from uploaderd.journal.following import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUMS = (
    "SELECT state, count(*), sum(size), sum(bytes_resent), sum(filing = 'pending') FROM files"
    " WHERE watch = ? GROUP BY state"
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["add", "state", "size", "resent", "filing", "watch", "due", "forget"]),
        st.integers(0, 5),
        st.integers(0, 9),
        st.booleans(),
    ),
    max_size=25,
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal that watches one folder."""
    made = Journal(tmp_path / "journal.sqlite3")
    made.open()
    made.watch([WATCH])
    yield made
    made.close()


@pytest.fixture
def reader(journal: Journal) -> Iterator[Reader]:
    """A connection beside the journal's own."""
    made = Reader(journal.path)
    made.open()
    yield made
    made.close()


def change(journal: Journal, what: str, which: int, how: int) -> None:
    """Change rows as some method of the journal might."""
    target = (f"id-{bytes([97 + which])!r}",)
    states = ("settling", "queued", "deferred", "held", "cancelled")
    with journal.transaction() as db:
        match what:
            case "state":
                db.execute("UPDATE files SET state = ? WHERE id = ?", (states[how % 5], *target))
            case "size":
                db.execute("UPDATE files SET size = ? WHERE id = ?", (how, *target))
            case "resent":
                db.execute("UPDATE files SET bytes_resent = bytes_resent + ?", (how,))
            case "filing":
                db.execute(
                    "UPDATE files SET state = 'failed', filing = ? WHERE id = ?",
                    ("pending" if how % 2 else "filed", *target),
                )
            case "watch":
                db.execute("UPDATE files SET watch = '/elsewhere' WHERE id = ?", target)
            case "due":
                db.execute("UPDATE files SET due = ?", (how,))
            case _:
                db.execute("DELETE FROM events WHERE file = ?", target)
                db.execute("DELETE FROM files WHERE id = ?", target)


def take_back(journal: Journal) -> None:
    """Change rows, and then not."""
    with journal.transaction() as db:
        db.execute("UPDATE files SET size = size + 7, bytes_resent = 3")
        db.execute("DELETE FROM events")
        raise StaleError("on second thoughts")


def right(journal: Journal) -> None:
    """Assert that what is counted along is what a scan finds."""
    rows = journal.connection.execute(SUMS, (WATCH,)).fetchall()
    found = {FileState(row[0]): row[1:] for row in rows}
    assert journal.counts() == {state: row[0] for state, row in found.items()}
    open_states = [s for s in found if s not in {"held", "done", "failed", "cancelled"}]
    assert journal.byte_totals() == (
        sum(found[state][1] for state in open_states),
        sum(row[1] for state, row in found.items() if state == "done"),
        sum(row[2] for row in found.values()),
    )
    assert journal.unfiled() == sum(row[3] for row in found.values())


@settings(max_examples=25, deadline=None)
@given(CHANGES)
def test_sums_are_those_of_a_scan(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int, int, bool]]
) -> None:
    """Whatever is written, taken back, refused or forgotten, and after another opening."""
    path = tmp_path_factory.mktemp("sums") / "journal.sqlite3"
    journal = Journal(path)
    journal.open()
    with closing(journal):
        journal.watch([WATCH])
        for what, which, how, whole in changes:
            try:
                if what == "add":
                    take_in(journal, new_file(bytes([97 + which])))
                elif whole:
                    change(journal, what, which, how)
                else:
                    take_back(journal)
            except (JournalError, StaleError):
                pass
            right(journal)
        journal.close()
        journal.open()
        journal.watch([WATCH])
        right(journal)


def test_sums_do_not_wait_for_the_disk(journal: Journal) -> None:
    """They are there for any thread while a transaction is open, as they were before it."""
    take_in(journal, new_file())
    with journal.transaction() as db:
        db.execute("UPDATE files SET state = 'held', size = 99")
        seen: list[object] = []
        asking = threading.Thread(
            target=lambda: seen.extend([journal.counts(), journal.byte_totals()])
        )
        asking.start()
        asking.join(10)
        assert seen == [{FileState.SETTLING: 1}, (25, 0, 0)]
    assert journal.counts() == {FileState.HELD: 1}


def test_a_reader_sees_what_is_committed_and_waits_for_nobody(
    journal: Journal, reader: Reader
) -> None:
    """Neither does it hold up the writer while it is in the middle of its rows."""
    file = take_in(journal, new_file())
    assert set(reader.sights([file.id])) == {file.id}
    with journal.transaction() as db:
        db.execute("UPDATE files SET size = 99")
        assert reader.sights([file.id])[file.id].file.identity.size == 25
        rows = reader.connection.execute("SELECT * FROM events UNION ALL SELECT * FROM events")
        rows.fetchone()
    step(journal, file, events.Gone())
    rows.close()
    assert reader.sights([file.id])[file.id].file.state is FileState.CANCELLED


def test_a_reader_cannot_write(reader: Reader) -> None:
    """Whatever is asked of it."""
    with pytest.raises(JournalError, match="cannot be written"):
        reader.era("x")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.connection.execute("DELETE FROM settings")


def test_a_sight_has_its_session_and_how_far_it_is(journal: Journal) -> None:
    """One question brings what a page of documents needs."""
    file, upload = uploading(journal)
    first = journal.parts(upload.key)[0]
    left = journal.part_leaves(file.id, first, "r1", 1.0)
    journal.part_stored(file.id, left, "r1", part_id="p1", digest=b"x" * 16, sent=10)
    journal.part_leaves(file.id, journal.parts(upload.key)[1], "r2", 1.0)
    alone = take_in(journal, new_file(b"y"))
    sights = journal.sights([file.id, alone.id, "nobody"])
    assert set(sights) == {file.id, alone.id}
    assert sights[file.id].upload == journal.upload(upload.key)
    assert sights[file.id].progress == journal.progress(upload.key)
    assert sights[file.id].progress.bytes_stored == 10
    assert sights[alone.id].upload is None


def some_files(journal: Journal) -> None:
    """Files in several states, watches, targets and with several codes."""
    states = {
        FileState.QUEUED: "queued.slot",
        FileState.HELD: "held.auth",
        FileState.DEFERRED: "deferred.network",
        FileState.FAILED: "failed.empty",
    }
    number = 0
    for state, watch, target in product(states, (WATCH, "/other"), ("openai", "azure")):
        for _ in range(3):
            number += 1
            path = f"{number:03}".encode()
            code = "held.quota" if number % 5 == 0 and state is FileState.HELD else states[state]
            file = new_file(
                path,
                watch=watch,
                target=target,
                state=state,
                reason=reason(code, detail="No."),
                created_s=1_000.0 + number // 4,
                filing=Filing.FILED if state is FileState.FAILED else Filing.NONE,
            )
            journal.intake(watch, {path: None}, lambda *_, file=file: file)


def test_pages_of_what_is_wanted_are_whole(journal: Journal) -> None:
    """Page by page the same rows, in the same order, as all at once; none twice, none missing."""
    some_files(journal)
    everything = [sight.file for sight in journal.page(Selection(), limit=1000, after=None)]
    assert len(everything) == 48
    for states, watch, target, code in product(
        [(), ("held",), ("held", "queued"), ("done",)],
        [None, WATCH],
        [None, "azure"],
        [None, "held", "held.auth", "deferred"],
    ):
        wanted = Selection(states=states, watch=watch, target=target, code=code)
        expected = [
            file.id
            for file in everything
            if (not states or file.state in states)
            and watch in {None, file.watch}
            and target in {None, file.target}
            # The reason of a queued file is for whoever shows it.
            and (file.state is FileState.QUEUED or wanted.has_code(file.reason.code))
        ]
        found: list[str] = []
        after: tuple[float, str] | None = None
        while page := journal.page(wanted, limit=5, after=after):
            found += [sight.file.id for sight in page]
            after = page[-1].file.created_s, page[-1].file.id
        assert found == expected, wanted


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Selection(states=("held",)), "files_state"),
        (Selection(), "files_created"),
        (Selection(watch=WATCH, path=b"x"), "files_path"),
        (Selection(states=("held",), watch=WATCH, target="a", code="held.auth"), "files_state"),
    ],
)
def test_pages_are_found_by_an_index(journal: Journal, wanted: Selection, index: str) -> None:
    """Nobody reads 200,000 files to find three, or sorts them to show ten."""
    asked: list[str] = []
    journal.connection.set_trace_callback(asked.append)
    journal.page(wanted, limit=5, after=(9e9, ""))
    journal.connection.set_trace_callback(None)
    plans = [
        str(row["detail"])
        for query in asked
        if query.startswith("SELECT * FROM files")
        for row in journal.connection.execute(f"EXPLAIN QUERY PLAN {query}")
    ]
    assert f"USING INDEX {index}" in plans[0], plans
    assert len(plans) == 1 or wanted.path is not None, plans  # what was at one path is few


def test_the_history_is_read_on_in_order(journal: Journal) -> None:
    """Each row once, with its file as it is now; none beyond the newest."""
    assert journal.newest() == 0
    assert journal.news_after(0, 10) == []
    file = take_in(journal, new_file())
    other = take_in(journal, new_file(b"y"))
    ended = step(journal, file, events.Gone())
    news = journal.news_after(0, 10)
    assert [(one.seq, one.file_id, one.moment.state) for one in news] == [
        (1, file.id, "settling"),
        (2, other.id, "settling"),
        (3, file.id, "cancelled"),
    ]
    assert news[0].sight is not None
    assert news[0].sight.file == ended
    assert [one.seq for one in journal.news_after(1, 1)] == [2]
    assert journal.newest() == 3


def test_a_journal_has_its_own_era(journal: Journal, tmp_path: Path) -> None:
    """The first word stays, over another opening too; another journal has another."""
    assert journal.era("one") == "one"
    assert journal.era("two") == "one"
    journal.close()
    journal.open()
    assert journal.era("three") == "one"
    other = Journal(tmp_path / "other.sqlite3")
    other.open()
    with closing(other):
        assert other.era("four") == "four"


def test_a_forgotten_file_has_no_sight(journal: Journal) -> None:
    """Its rows of history may be there still, such as the newest one."""
    file = take_in(journal, new_file())
    journal.connection.execute("PRAGMA foreign_keys = OFF")
    with journal.transaction() as db:
        db.execute("DELETE FROM files WHERE id = ?", (file.id,))
    assert [one.sight for one in journal.news_after(0, 10)] == [None]
    assert replace(file, id="x").id not in journal.sights([file.id])
