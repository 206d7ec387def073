"""What is forgotten after its time, what is not however old it is, and what that costs nobody."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.engine.ended import DAY_S, cancelled, done, failed, forget, rows
from uploaderd.client.replies import RemoteFile
from uploaderd.config import Hook, HookEvent, Watch
from uploaderd.config.settings import AfterUpload
from uploaderd.core.events import Admitted, AlreadyUploaded, Restarted
from uploaderd.core.model import FileState
from uploaderd.core.values import replace
from uploaderd.core.verbs import Verb
from uploaderd.engine.assembling import reconcile
from uploaderd.engine.retention import FILES, LONGEST_S, ROWS
from uploaderd.errors import RejectedError
from uploaderd.journal.store import LOG_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.kit import Rig
    from uploaderd.core.model import File

TABLES = ("files", "uploads", "parts", "requests", "events", "errands")


@pytest.fixture(autouse=True)
def _ninety_days(rig: Rig) -> None:
    """As by default."""
    rig.ctx.keep_s = 90 * DAY_S


def keeps(rig: Rig) -> None:
    """Let uploaded files stay where they are."""
    rig.place.settings = Watch(path=rig.root, after_upload=AfterUpload.KEEP)


def known(rig: Rig) -> set[str]:
    """The files that the journal knows."""
    return {row["id"] for row in rig.journal.connection.execute("SELECT id FROM files")}


async def later(rig: Rig, days: float = 91.0) -> None:
    """Let days pass, and something else happen: the newest history is always kept."""
    rig.clock.forward(days * DAY_S)
    if "witness" not in known(rig):
        await failed(rig, "witness")
    else:
        file = rig.at("witness")
        rig.journal.connection.execute(
            "INSERT INTO events (file, at, event, state, code, text) VALUES (?, ?, '', '', '', '')",
            (file.id, rig.ctx.wall_s),
        )


async def test_what_ended_long_ago_is_forgotten_with_all_that_hangs_on_it(rig: Rig) -> None:
    """And what ended lately is not."""
    rig.ctx.hooks = (Hook(on=HookEvent.DONE, command=("true",)),)
    await done(rig, "old")
    await failed(rig, "bad")
    rig.ctx.hooks = ()
    await later(rig, 50)
    await done(rig, "young")
    await later(rig, 50)
    await forget(rig)
    assert known(rig) == {"young", "witness"}
    for table in ("uploads", "parts"):
        assert rows(rig, table) == 1, table
    assert rows(rig, "errands") == 0
    assert {row["file"] for row in rig.journal.connection.execute("SELECT file FROM events")} == {
        "young",
        "witness",
    }
    assert rig.journal.connection.execute("PRAGMA foreign_key_check").fetchall() == []


async def test_nothing_is_forgotten_for_ever(rig: Rig) -> None:
    """With ``keep = "forever"``, until another time is configured."""
    rig.ctx.keep_s = None
    await done(rig, "old")
    await later(rig, 10_000)
    await forget(rig)
    assert known(rig) == {"old", "witness"}
    rig.ctx.keep_s = DAY_S
    await forget(rig)
    assert known(rig) == {"witness"}


async def test_places_in_the_history_are_never_given_twice(rig: Rig) -> None:
    """The newest row stays, and so does its file, until there is a newer one."""
    await done(rig, "a")
    await done(rig, "b")
    newest = rig.journal.newest()
    rig.clock.forward(1_000 * DAY_S)
    await forget(rig)
    assert known(rig) == {"b"}
    assert rows(rig, "events") == 1
    assert rig.journal.newest() == newest
    rig.put("c")
    assert rig.journal.newest() == newest + 1


async def test_old_history_of_what_still_waits_goes_too(rig: Rig) -> None:
    """A file that was tried again for a year does not fill the journal; it goes on all the same."""
    file = rig.session(rig.put("waits"))
    rig.journal.request("asked", file.id, "part", rig.ctx.wall_s)
    await later(rig)
    await forget(rig)
    assert rig.at("waits") == file
    assert rig.journal.history("waits") == []
    assert [row["id"] for row in rig.journal.requests("waits")] == ["asked"]  # not answered yet
    assert len(rig.journal.parts("key-waits")) == 1


async def test_content_that_is_kept_stays_known(rig: Rig) -> None:
    """Where files are kept, the same content is never sent again: details go, the file does not."""
    keeps(rig)
    file = await done(rig, "kept", stays=True)
    gone = await done(rig, "gone")
    await later(rig)
    await forget(rig)
    await later(rig)
    await forget(rig)
    assert known(rig) == {"kept", "gone", "witness"}
    assert rows(rig, "parts") == 0
    assert rig.journal.history("kept") == []
    assert rig.journal.requests("kept") == []
    for name, one in (("kept", file), ("gone", gone)):
        path = os.fsencode(name)
        found = rig.journal.uploaded_content(rig.place.name, path, one.identity.size, one.md5)
        assert found is not None
        assert (found.remote_file, found.result) == (one.remote_file, one.result)
    # A name that comes again is known by its md5, and one that stands there is not looked at.
    await rig.engine._watching.see(rig.place, [b"kept"])
    assert rows(rig, "files") == 3
    assert rig.journal.known_remote("openai", "kept") == {"file-kept"}


async def touched(rig: Rig, path: str, number: int) -> File:
    """A kept file that got another time stamp and the same bytes."""
    file = replace(rig.put(f"{path}{number}"), path=os.fsencode(path))
    os.utime(rig.root / path, ns=(number, number))
    (rig.root / f"{path}{number}").unlink()
    there = rig.place.tree.identify(file.path)
    rig.journal.connection.execute(
        "UPDATE files SET path = ?, mtime_ns = ?, ctime_ns = ?, inode = ? WHERE id = ?",
        (file.path, there.mtime_ns, there.ctime_ns, str(there.inode), file.id),
    )
    file = await rig.ctx.apply(rig.at(file.id), Admitted())
    known_md5 = rig.at(path).md5
    assert known_md5 is not None
    event = AlreadyUploaded(remote_file=f"file-{path}", result="{}", md5=known_md5, filed=True)
    return await rig.ctx.apply(file, event)


async def test_a_file_that_is_touched_every_day_leaves_no_rows(rig: Rig) -> None:
    """Only the row of what stands there now stays, beside that of what arrived."""
    keeps(rig)
    await done(rig, "a", stays=True)
    for number in range(5):
        await touched(rig, "a", number)
    await later(rig)
    await forget(rig)
    assert known(rig) == {"a", "a4", "witness"}
    assert not rig.journal.has_forgotten("openai")  # the id is known still
    (rig.root / "a").unlink()
    await later(rig)
    await forget(rig)
    assert known(rig) == {"a", "witness"}


async def test_what_the_operator_cancelled_stays_unwanted_while_it_lies_there(rig: Rig) -> None:
    """However long ago it was; once it is gone, so is the row."""
    await cancelled(rig, "unwanted")
    (rig.root / "sub").mkdir()
    await cancelled(rig, "sub/unwanted")
    await later(rig)
    await forget(rig)
    assert known(rig) == {"unwanted", "sub_unwanted", "witness"}
    await rig.engine._watching.see(rig.place, [b"unwanted", b"sub/unwanted"])
    assert rows(rig, "files") == 3
    (rig.root / "unwanted").unlink()
    (rig.root / "sub/unwanted").unlink()
    (rig.root / "sub").rmdir()
    await forget(rig)
    assert known(rig) == {"witness"}


async def test_a_file_system_that_is_not_mounted_now_may_come_back(rig: Rig) -> None:
    """What lay on another device than the folder that is left is not known to be gone."""
    for name in ("a", "sub/b", "c"):
        await cancelled(rig, name)
    (rig.root / "a").unlink()
    (rig.root / "sub/b").unlink()
    rig.journal.connection.execute("UPDATE files SET dev = dev + 1")
    await later(rig)
    await forget(rig)
    assert known(rig) == {"a", "sub_b", "c", "witness"}
    rig.place.tree.root.rename(rig.root.with_name("away"))
    rig.journal.connection.execute("UPDATE files SET dev = dev - 1")
    await forget(rig)
    assert known(rig) == {"a", "sub_b", "c", "witness"}


async def test_files_of_a_folder_that_is_not_watched_rest(rig: Rig) -> None:
    """Nobody can look there, and nothing new comes from there."""
    await done(rig, "old")
    await later(rig)
    rig.journal.watch([])
    await forget(rig)
    assert known(rig) == {"old", "witness"}


async def test_what_a_hook_still_owes_is_done_first(rig: Rig) -> None:
    """Unless that hook is not configured any more."""
    rig.ctx.hooks = (Hook(on=HookEvent.DONE, command=("true",)),)
    await done(rig, "owing")
    await later(rig)
    await forget(rig)
    assert known(rig) == {"owing", "witness"}
    rig.ctx.hooks = (Hook(on=HookEvent.FAILED, command=("true",)),)
    await forget(rig)
    assert known(rig) == {"witness"}


async def test_what_is_still_to_be_cancelled_is_not_forgotten(rig: Rig) -> None:
    """Not before the service was told."""
    await cancelled(rig, "other")
    file = rig.session(rig.put("a"))
    await rig.engine.operator.say(Verb.CANCEL, file.id)
    for name in ("a", "other"):
        (rig.root / name).unlink()
    await later(rig)
    await forget(rig)
    assert known(rig) == {"a", "witness"}
    rig.journal.connection.execute("UPDATE uploads SET state = 'cancelled'")
    await forget(rig)
    assert known(rig) == {"witness"}


async def test_an_id_that_tells_one_file_from_another_is_remembered(rig: Rig) -> None:
    """As long as a file of that name may be searched for that began before the old one ended."""
    doubt = rig.session(rig.put("sub/x"), stored=True)
    await done(rig, "x")
    await done(rig, "y")
    await later(rig)
    await forget(rig)
    assert known(rig) == {"x", "sub_x", "witness"}
    assert rig.journal.known_remote("openai", "x") == {"file-x"}
    rig.put("sub/x2")
    doubt = await rig.ctx.apply(rig.at("sub/x"), Admitted())
    await rig.ctx.apply(doubt, Restarted(detail="x"))
    await forget(rig)
    assert known(rig) == {"sub_x", "sub_x2", "witness"}


@pytest.mark.parametrize(("upload_s", "file_s"), [(None, 1), (1, None)])
async def test_without_stamps_the_ids_are_all_there_is(
    rig: Rig, upload_s: int | None, file_s: int | None
) -> None:
    """A service that tells no times may show an old file for ever: its id is never forgotten."""
    await done(rig, "x", stamp=upload_s, created_at=file_s)
    await later(rig)
    await forget(rig)
    assert known(rig) == {"x", "witness"}
    assert rows(rig, "parts") == 0


@pytest.mark.parametrize("forgets", [True, False])
async def test_a_search_without_a_time_adopts_nothing_that_may_be_old(
    rig: Rig, *, forgets: bool
) -> None:
    """Once something was forgotten at a target, a person must look at what fits by name alone."""
    await done(rig, "x")
    if forgets:
        await later(rig)
        await forget(rig)
        assert "x" not in known(rig)
    file = await rig.uncertain("sub/x", due_s=0.0)
    rig.client.errors["complete"] = RejectedError("It is not pending.", code="not_pending")
    found = RemoteFile(
        id="file-new",
        bytes=file.identity.size,
        created_at=None,
        filename="x",
        purpose="user_data",
        document={"id": "file-new"},
    )

    async def list_files(*_: object, **__: object) -> list[RemoteFile]:
        return [found]

    rig.client.list_files = list_files  # type: ignore[method-assign]
    await reconcile(rig.ctx, rig.service, rig.at("sub/x"))
    state = rig.at("sub/x").state
    assert state is (FileState.HELD if forgets else FileState.DONE)


async def test_a_big_file_is_forgotten_in_small_steps(rig: Rig) -> None:
    """With 10,000 parts and as many requests: no transaction deletes more than a few hundred."""
    file = await done(rig, "big")
    db = rig.journal.connection
    db.executemany(
        "INSERT INTO parts (upload, number, offset, length, state) VALUES (?, ?, ?, 1, 'planned')",
        [(file.upload, number, number) for number in range(2, 10_001)],
    )
    db.executemany(
        "INSERT INTO requests VALUES (?, ?, ?, 'part', 1, ?, 'ok')",
        [(f"r{number}", file.id, file.upload, rig.ctx.wall_s) for number in range(10_000)],
    )
    await later(rig)
    before = db.total_changes
    assert not rig.journal.forget([(file, True)], [], ROWS)
    assert 0 < db.total_changes - before <= ROWS
    rig.clock.forward(7_200.0)
    most, steps = 0, 0
    while True:
        before = db.total_changes
        pause_s = await rig.engine._retention.step()
        most = max(most, db.total_changes - before)
        steps += 1
        if pause_s > LONGEST_S:
            break
    assert known(rig) == {"witness"}
    assert rows(rig, "parts") == rows(rig, "uploads") == 0
    assert most <= 2 * ROWS + FILES
    assert steps >= 20_000 / ROWS / 2


async def test_the_journal_stops_growing(rig: Rig, tmp_path: Path) -> None:
    """As many files are forgotten as go through, and the pages that they leave are used again."""
    rig.ctx.keep_s = DAY_S
    sizes, count = [], 0

    def size_of(end: str) -> int:
        path = tmp_path / f"journal.sqlite3{end}"
        return path.stat().st_size if path.exists() else 0

    for _ in range(8):
        for _ in range(40):
            count += 1
            await done(rig, f"file-{count}")
        rig.clock.forward(2 * DAY_S)
        await forget(rig)
        rig.journal.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        sizes.append(size_of(""))
        assert size_of("-wal") <= LOG_BYTES + (1 << 20)
    assert rows(rig, "files") == 1
    assert rows(rig, "events") == 1
    assert sizes[-1] <= 1.25 * sizes[0], sizes  # eight times as many would have been there
    assert rig.journal.connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


async def test_a_session_that_goes_asks_no_other_file(rig: Rig) -> None:
    """Every question of a round has its index: 200,000 files make it no slower."""
    db = rig.journal.connection
    for question, index in (
        ("SELECT 1 FROM parts WHERE upload = 'x'", "PRIMARY KEY"),
        ("SELECT 1 FROM uploads WHERE file = 'x'", "uploads_file"),
        ("SELECT 1 FROM requests WHERE file = 'x'", "requests_file"),
        ("SELECT 1 FROM events WHERE file = 'x'", "events_file"),
        ("SELECT 1 FROM errands WHERE file = 'x'", "PRIMARY KEY"),
        ("SELECT id FROM requests WHERE at < 1 AND outcome IS NOT NULL ORDER BY at", "requests_at"),
    ):
        plan = " ".join(str(row["detail"]) for row in db.execute(f"EXPLAIN QUERY PLAN {question}"))
        assert index in plan, (question, plan)
        assert "SCAN" not in plan or index == "requests_at", plan
    # What a foreign key asks is in no plan, but in the program (sqlite.org/opcode.html).
    (page,) = db.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'files_upload'"
    ).fetchone()
    program = db.execute("EXPLAIN DELETE FROM uploads WHERE key = 'x'").fetchall()
    assert page in {row["p2"] for row in program if row["opcode"] == "OpenRead"}


async def test_a_file_that_went_on_meanwhile_is_left_alone(rig: Rig) -> None:
    """What was judged is not what stands there any more."""
    file = await done(rig, "a")
    await later(rig)
    stale = replace(file, version=file.version - 1)
    assert rig.journal.forget([(stale, True)], [], ROWS)
    assert "a" in known(rig)
    assert rig.journal.forget([(file, True)], [], ROWS)
    assert "a" not in known(rig)
