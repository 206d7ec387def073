"""The journal: a real SQLite file, one transaction a method, nothing half kept."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from uploaderd.core import events
from uploaderd.core.lifecycle import decide
from uploaderd.core.model import (
    Arrival,
    File,
    FileState,
    Filing,
    Identity,
    Now,
    PartState,
    Upload,
    UploadState,
)
from uploaderd.core.plan import ranges
from uploaderd.core.reasons import reason
from uploaderd.core.selection import Selection
from uploaderd.core.transitions import IllegalTransitionError
from uploaderd.core.values import replace
from uploaderd.errors import Exit, JournalError
from uploaderd.journal import Journal, StaleError, TakenError
from uploaderd.journal.schema import SCHEMA_VERSION, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NOW = Now(wall_s=2_000.0, boot_s=50.0, boot_id="boot")
WATCH = "/spool"


def new_file(path: bytes = b"x", **changes: object) -> File:
    """A file that was just seen."""
    file = File(
        id=f"id-{path!r}",
        watch=WATCH,
        path=path,
        identity=Identity(dev=1, inode=2**64 - 1, size=25, mtime_ns=4, ctime_ns=5),
        arrival=Arrival.FOUND,
        target="openai",
        purpose="user_data",
        state=FileState.SETTLING,
        reason=reason("settling.seen"),
        created_s=1_000.0,
        updated_s=1_000.0,
        changed_s=1_000.0,
        owner="here",
        due_s=1_000.0,
    )
    return replace(file, **changes)  # type: ignore[arg-type]


def new_upload(file: File, key: str = "u1") -> Upload:
    """The intent of a session for a file."""
    return Upload(
        key=key,
        file=file.id,
        target="openai",
        state=UploadState.CREATING,
        filename="x",
        purpose="user_data",
        size=25,
        part_bytes=10,
        created_s=1_500.0,
        created_boot_s=40.0,
        boot_id="boot",
        life_s=3_600.0,
    )


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal that watches one folder."""
    made = Journal(tmp_path / "journal.sqlite3")
    made.open()
    made.watch([WATCH])
    yield made
    made.close()


def take_in(journal: Journal, file: File) -> File:
    """Put a new file into the journal."""
    assert journal.intake(WATCH, {file.path: None}, lambda _existing, _path, _others: file) == [
        file
    ]
    return file


def step(journal: Journal, file: File, event: events.Event) -> File:
    """Decide and record one event."""
    return journal.record(file, decide(file, event, NOW), type(event).__name__.lower())


def uploading(journal: Journal, path: bytes = b"x", key: str = "u1") -> tuple[File, Upload]:
    """A file with an open session of three parts."""
    file = take_in(journal, new_file(path))
    file = step(
        journal, file, events.Settled(identity=file.identity, target="openai", purpose="user_data")
    )
    file = step(journal, file, events.Admitted())
    upload = new_upload(file, key)
    file = journal.begin_upload(file, upload, f"req-{key}")
    opened, parts = journal.upload_opened(
        upload,
        f"req-{key}",
        remote_id=f"upload_{key}",
        server_created_s=1_501.0,
        life_s=3_600.0,
        ranges=ranges(25, 10),
    )
    assert [p.length for p in parts] == [10, 10, 5]
    return file, opened


def store_all(journal: Journal, file: File, upload: Upload) -> None:
    """Send and store every part."""
    for part in journal.parts(upload.key):
        request = f"req-{part.upload}-{part.number}"
        gone = journal.part_leaves(file.id, part, request, 1_600.0)
        journal.part_stored(
            file.id,
            gone,
            request,
            part_id=f"part_{part.number}",
            digest=b"d" * 16,
            sent=part.length,
        )


def complete(journal: Journal, file: File, remote: str = "file-1") -> File:
    """Go from stored parts to done and filed."""
    file = step(journal, file, events.Assembled(md5="0" * 32))
    file = step(journal, file, events.Completed(remote_file=remote, result="{}"))
    file = step(journal, file, events.FilingAs(filed_as=b"done/x"))
    return step(journal, file, events.Filed(place="done/x"))


def test_what_was_kept_is_there_after_opening_again(journal: Journal) -> None:
    """Every field of a file survives, 64-bit inodes and odd bytes too."""
    file = take_in(journal, new_file(b"caf\xe9\n\"'.txt"))
    journal.close()
    journal.open()
    assert journal.file(file.id) == file


def test_every_commit_is_synchronous_in_wal_mode(journal: Journal) -> None:
    """The pragmas that the promise rests on are in force."""
    assert journal.connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert journal.connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert journal.connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_a_path_has_one_file_at_work(journal: Journal) -> None:
    """A second row for the same path is refused by the schema itself."""
    take_in(journal, new_file())
    second = new_file(id="other")
    with pytest.raises(JournalError, match="UNIQUE"):
        journal.intake(WATCH, {b"x": None}, lambda _existing, _path, _others: second)


def test_after_the_end_the_same_path_may_come_again(journal: Journal) -> None:
    """The ended file stays as history, the newest one is the one that counts."""
    file, upload = uploading(journal)
    store_all(journal, file, upload)
    complete(journal, file)
    again = new_file(id="again", created_s=3_000.0)
    seen: list[File | None] = []

    def judge(existing: File | None, _path: bytes, _others: Sequence[File]) -> File:
        seen.append(existing)
        return again

    journal.intake(WATCH, {b"x": None}, judge)
    assert [f.state for f in seen if f is not None] == [FileState.DONE]
    found: list[File | None] = []
    journal.intake(WATCH, {b"x": None}, lambda existing, _path, _others: found.append(existing))
    assert found == [again]


def test_a_batch_is_kept_whole_or_not_at_all(journal: Journal) -> None:
    """A fault in the middle leaves nothing of it."""
    files = {b"a": new_file(b"a"), b"b": replace(new_file(b"b"), id=new_file(b"a").id)}
    with pytest.raises(JournalError):
        journal.intake(WATCH, dict.fromkeys(files), lambda _existing, path, _others: files[path])
    assert journal.counts() == {}


def test_a_write_that_knows_an_older_file_is_refused(journal: Journal) -> None:
    """Two who decide about the same file cannot both be right."""
    file = take_in(journal, new_file())
    step(
        journal, file, events.Settled(identity=file.identity, target="openai", purpose="user_data")
    )
    with pytest.raises(StaleError):
        step(journal, file, events.Gone())
    kept = journal.file(file.id)
    assert kept is not None
    assert kept.state is FileState.QUEUED


def test_the_history_tells_each_change_once(journal: Journal) -> None:
    """From found to done, in order, with the reason of each."""
    file, upload = uploading(journal)
    store_all(journal, file, upload)
    complete(journal, file)
    assert [(m.event, m.code) for m in journal.history(file.id)] == [
        ("found", "settling.seen"),
        ("settled", "queued.slot"),
        ("admitted", "uploading.parts"),
        ("assembled", "completing.sent"),
        ("completed", "done.filing"),
        ("filed", "done.uploaded"),
    ]


def test_the_intent_of_create_is_there_before_its_reply(journal: Journal) -> None:
    """With its request id; a restart finds it and calls it lost."""
    file = take_in(journal, new_file())
    file = step(
        journal, file, events.Settled(identity=file.identity, target="openai", purpose="user_data")
    )
    file = step(journal, file, events.Admitted())
    journal.begin_upload(file, new_upload(file), "req-create")
    assert [r["id"] for r in journal.requests(file.id)] == ["req-create"]
    journal.recover(9_999.0)
    upload = journal.upload("u1")
    assert upload is not None
    assert upload.state is UploadState.LOST
    recovered = journal.file(file.id)
    assert recovered is not None
    assert recovered.upload is None
    assert journal.requests(file.id)[0]["outcome"] == "unknown"


def test_a_stored_part_has_its_id_and_digest(journal: Journal) -> None:
    """And the file counts what was sent."""
    file, upload = uploading(journal)
    store_all(journal, file, upload)
    assert {p.state for p in journal.parts(upload.key)} == {PartState.STORED}
    kept = journal.file(file.id)
    assert kept is not None
    assert (kept.bytes_sent, kept.bytes_resent, kept.attempts) == (25, 0, 1)
    assert journal.progress(upload.key).bytes_stored == 25


def test_a_stored_part_is_not_sent_again(journal: Journal) -> None:
    """The table of parts forbids it."""
    file, upload = uploading(journal)
    store_all(journal, file, upload)
    with pytest.raises(IllegalTransitionError):
        journal.part_leaves(file.id, journal.parts(upload.key)[0], "again", 1_700.0)
    assert "again" not in {r["id"] for r in journal.requests(file.id)}


def test_bytes_that_leave_twice_are_counted_as_resent(journal: Journal) -> None:
    """Half a part that was cut off, then the whole: half of it went twice."""
    file, upload = uploading(journal)
    part = journal.part_leaves(file.id, journal.parts(upload.key)[0], "r1", 1_600.0)
    part = journal.part_not_stored(file.id, part, "r1", outcome="cut", sent=5, ambiguous=True)
    assert part.state is PartState.AMBIGUOUS
    part = journal.part_leaves(file.id, part, "r2", 1_601.0)
    journal.part_stored(file.id, part, "r2", part_id="p", digest=b"d" * 16, sent=10)
    kept = journal.file(file.id)
    assert kept is not None
    assert (kept.bytes_sent, kept.bytes_resent) == (15, 5)


def test_a_part_in_flight_is_ambiguous_when_the_session_is_taken_up(journal: Journal) -> None:
    """Nobody knows how much of it left: it counts as sent whole. Doing it twice changes nothing."""
    file, upload = uploading(journal)
    journal.part_leaves(file.id, journal.parts(upload.key)[0], "r1", 1_600.0)
    for _ in range(2):
        taken, parts = journal.take_up(file.id, upload.key)
        assert taken == upload
        assert [p.state.value for p in parts] == ["ambiguous", "planned", "planned"]
        kept = journal.file(file.id)
        assert kept is not None
        assert kept.bytes_sent == 10


def test_a_disproved_part_is_planned_again(journal: Journal) -> None:
    """Its id and digest are forgotten."""
    file, upload = uploading(journal)
    store_all(journal, file, upload)
    forgotten = journal.part_disproved(journal.parts(upload.key)[1])
    assert (forgotten.state, forgotten.part_id) == (PartState.PLANNED, None)
    assert journal.parts(upload.key)[1] == forgotten


def test_an_abandoned_session_waits_for_its_cancel(journal: Journal) -> None:
    """The intent is kept with the transition; its end is kept when it is known."""
    file, upload = uploading(journal)
    step(journal, file, events.Changed(identity=None))
    assert [u.key for u in journal.cancelling(10, ["openai"])] == [upload.key]
    assert journal.cancelling(10, []) == []
    assert [u.key for u in journal.cancelling_elsewhere(10, ["other"])] == [upload.key]
    assert journal.cancelling_elsewhere(10, ["openai"]) == []
    journal.upload_ended(upload, UploadState.CANCELLED, "req-cancel")
    assert journal.cancelling(10, ["openai"]) == []


def test_a_session_begun_anew_counts_its_bytes_as_sent_twice(journal: Journal) -> None:
    """They will leave once more."""
    file, upload = uploading(journal)
    store_all(journal, file, upload)
    after = step(journal, file, events.Restarted(detail="Over."))
    kept = journal.file(after.id)
    assert kept is not None
    assert kept.bytes_resent == 25


def test_the_intent_of_complete_is_kept_with_the_transition(journal: Journal) -> None:
    """So that a restart knows that it may have been asked."""
    file, upload = uploading(journal)
    store_all(journal, file, upload)
    step(journal, file, events.Assembled(md5="0" * 32))
    kept = journal.upload(upload.key)
    assert kept is not None
    assert kept.state is UploadState.COMPLETING
    assert kept.complete_sent


def test_a_remote_file_belongs_to_one_file(journal: Journal) -> None:
    """No second row can adopt it."""
    for n, path in enumerate((b"a", b"b")):
        file, upload = uploading(journal, path, f"u{n}")
        store_all(journal, file, upload)
        file = step(journal, file, events.Assembled(md5="0" * 32))
        done = events.Completed(remote_file="file-1", result="{}")
        if n == 0:
            step(journal, file, done)
            assert journal.known_remote("openai", "x") == {"file-1"}
        else:
            with pytest.raises(TakenError, match="that of file id-b'a'") as caught:
                step(journal, file, done)
            assert caught.value.owner is not None
            assert caught.value.owner.path == b"a"
            assert journal.file(file.id) == file


def test_interrupted_files_are_found(journal: Journal) -> None:
    """What was uploading, completing or uncertain; what waits for its time is due by itself."""
    file, upload = uploading(journal, b"a", "u1")
    take_in(journal, new_file(b"rests"))
    assert [f.path for f in journal.interrupted()] == [b"a"]
    store_all(journal, file, upload)
    file = step(journal, file, events.Assembled(md5="0" * 32))
    file = step(journal, file, events.Completed(remote_file="file-1", result="{}"))
    assert file.filing is Filing.PENDING
    assert journal.interrupted() == []
    assert [f.id for f in journal.due(NOW.wall_s, 10) if f.filing is Filing.PENDING] == [file.id]


def test_files_of_a_folder_that_is_no_longer_watched_rest(journal: Journal) -> None:
    """They are neither due nor counted, and come back with their folder."""
    take_in(journal, new_file())
    journal.watch(["/other"])
    assert journal.due(9_999.0, 10) == []
    assert journal.counts() == {}
    journal.watch([WATCH])
    assert len(journal.due(9_999.0, 10)) == 1
    assert journal.counts() == {FileState.SETTLING: 1}


def test_no_file_waits_longer_than_it_may_after_the_clock_was_set_back(journal: Journal) -> None:
    """A time far in the future is brought near at the start."""
    take_in(journal, new_file(due_s=1e12))
    journal.recover(2_900.0)
    assert journal.next_due_s(0.0) == 2_900.0


def test_pages_go_from_the_newest_to_the_oldest_without_gaps(journal: Journal) -> None:
    """Also where several files were seen in the same moment."""
    for n in range(25):
        take_in(journal, new_file(f"{n:02}".encode(), created_s=1_000.0 + n // 5))
    seen: list[bytes] = []
    after: tuple[float, str] | None = None
    while page := journal.page(Selection(), limit=4, after=after):
        seen += [sight.file.path for sight in page]
        after = page[-1].file.created_s, page[-1].file.id
    assert len(seen) == len(set(seen)) == 25
    assert seen[0][0:1] == b"2"


def test_the_schema_refuses_what_cannot_be(journal: Journal) -> None:
    """A file that is done without the service's id, a stored part without its own."""
    uploading(journal)
    for statement in (
        "UPDATE files SET state = 'done'",
        "UPDATE files SET state = 'elsewhere'",
        "UPDATE files SET filing = 'pending'",
        "UPDATE parts SET state = 'stored'",
        "UPDATE parts SET length = 0",
        "UPDATE uploads SET remote_id = NULL",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            journal.connection.execute(statement)


def test_a_new_path_is_judged_with_the_files_at_work_that_have_its_inode(
    journal: Journal,
) -> None:
    """That is how a rename is told from a new file; what was filed is not among them."""
    ended, upload = uploading(journal, b"ended")
    store_all(journal, ended, upload)
    complete(journal, ended)
    there = take_in(journal, new_file(b"there"))
    found: list[Sequence[File]] = []
    journal.intake(
        WATCH,
        {b"new": there.identity, b"gone": None},
        lambda _existing, _path, others: found.append(others),
    )
    assert found == [[there], []]


def test_a_journal_from_a_newer_version_is_refused_with_that_version(tmp_path: Path) -> None:
    """And left as it is; a service manager need not try again."""
    path = tmp_path / "journal.sqlite3"
    made = Journal(path)
    made.open()
    made.connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    made.close()
    match = f"newer uploaderd.*schema {SCHEMA_VERSION + 1}"
    with pytest.raises(JournalError, match=match) as refused:
        Journal(path).open()
    assert refused.value.exit_code is Exit.CONFIG


def test_a_migration_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    """A column of that name in the way: the version stays, and so does every other thing."""
    path = tmp_path / "journal.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        migrate(db, 0)
        db.execute("ALTER TABLE parts ADD COLUMN seal TEXT")
        before = db.execute("SELECT * FROM sqlite_master").fetchall()
    with pytest.raises(JournalError, match="duplicate column"):
        Journal(path).open()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT * FROM sqlite_master").fetchall() == before
        assert db.execute("PRAGMA user_version").fetchone()[0] == 1
