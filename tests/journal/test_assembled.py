"""One method for what goes together, and no word of it where it must not be."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.journal.test_journal import (
    NOW,
    new_file,
    new_upload,
    step,
    store_all,
    take_in,
    uploading,
)
from tests.journal.test_journal import journal as journal  # noqa: PLC0414 - a fixture
from uploaderd.core import events
from uploaderd.core.lifecycle import decide
from uploaderd.core.model import FileState, UploadState
from uploaderd.core.plan import ranges
from uploaderd.core.values import replace
from uploaderd.journal import Leaving, StaleError, TakenError

if TYPE_CHECKING:
    from uploaderd.core.model import File, Part, Upload
    from uploaderd.journal import Journal

MD5 = "0" * 32


def assemble(journal: Journal, file: File, upload: Upload, request: str) -> File | None:
    """Keep the intent of its complete."""
    decision = decide(file, events.Assembled(md5=MD5), NOW)
    return journal.assembled(file, decision, upload, request, NOW.wall_s)


def test_the_intent_of_complete_and_its_request_are_kept_together(journal: Journal) -> None:
    """The file, its session, its history and the request's id."""
    file, upload = uploading(journal)
    store_all(journal, file, upload)
    after = assemble(journal, file, upload, "req-complete")
    assert after == journal.file(file.id)
    assert after is not None
    assert (after.state, after.md5, after.version) == (
        FileState.COMPLETING,
        MD5,
        file.version + 1,
    )
    kept = journal.upload(upload.key)
    assert kept is not None
    assert (kept.state, kept.complete_sent) == (UploadState.COMPLETING, True)
    assert [r["id"] for r in journal.requests(file.id) if r["call"] == "complete"] == [
        "req-complete"
    ]
    assert journal.history(file.id)[-1].event == "assembled"


@pytest.mark.parametrize("in_doubt", [events.Ambiguous(due_s=3_000.0), None])
def test_nothing_is_kept_while_its_twin_is_in_doubt(
    journal: Journal, in_doubt: events.Event | None
) -> None:
    """Two completes of one name and purpose would be one too many to tell apart."""
    first, upload = uploading(journal, b"a", "u1")
    store_all(journal, first, upload)
    asked = assemble(journal, first, upload, "req-1")
    assert asked is not None
    if in_doubt is not None:
        asked = step(journal, asked, in_doubt)
    second, other = uploading(journal, b"b", "u2")
    store_all(journal, second, other)
    before = journal.file(second.id)
    assert assemble(journal, second, other, "req-2") is None
    assert journal.file(second.id) == before
    assert journal.upload("u2") == other
    assert all(r["call"] != "complete" for r in journal.requests(second.id))
    if in_doubt is None:
        step(journal, asked, events.Completed(remote_file="file-1", result="{}"))
        assert assemble(journal, second, other, "req-2") is not None


def test_a_stale_intent_leaves_no_request(journal: Journal) -> None:
    """Whoever decided on an older row is told, and nothing of it stays."""
    file, upload = uploading(journal)
    store_all(journal, file, upload)
    step(journal, file, events.Withheld())
    with pytest.raises(StaleError):
        assemble(journal, file, upload, "req-complete")
    assert all(r["call"] != "complete" for r in journal.requests(file.id))


def test_an_id_of_another_session_is_not_taken(journal: Journal) -> None:
    """The session stays without one, and no parts are planned for it."""
    _, known = uploading(journal, b"a", "u1")
    file = take_in(journal, new_file(b"b"))
    settled = events.Settled(identity=file.identity, target="openai", purpose="user_data")
    file = step(journal, step(journal, file, settled), events.Admitted())
    upload = new_upload(file, "u2")
    file = journal.begin_upload(file, upload, "req-u2")
    with pytest.raises(TakenError) as caught:
        journal.upload_opened(
            upload,
            "req-u2",
            remote_id=known.remote_id or "",
            server_created_s=None,
            life_s=60.0,
            ranges=ranges(25, 10),
        )
    assert caught.value.owner is None
    assert journal.upload("u2") == upload
    assert journal.parts("u2") == []
    assert [r["outcome"] for r in journal.requests(file.id)] == [None]


def test_the_name_that_was_looked_for_is_kept_with_the_success(journal: Journal) -> None:
    """So after-care need not look for one."""
    file, upload = uploading(journal)
    store_all(journal, file, upload)
    asked = assemble(journal, file, upload, "req-complete")
    assert asked is not None
    done = events.Completed(remote_file="file-1", result="{}", filed_as=b"done/x")
    after = step(journal, asked, done)
    assert after == journal.file(file.id)
    assert after.filed_as == b"done/x"


def test_a_part_of_a_session_that_is_gone_does_not_leave(journal: Journal) -> None:
    """What would have no row to tell of it must not be sent."""
    file, upload = uploading(journal)
    part = journal.parts(upload.key)[0]
    journal.connection.execute("DELETE FROM parts WHERE upload = ?", (upload.key,))
    with pytest.raises(StaleError):
        journal.part_leaves(file.id, part, "req-part", 1_600.0)
    assert all(r["call"] != "part" for r in journal.requests(file.id))


def test_an_only_part_may_leave_with_its_sessions_id(journal: Journal) -> None:
    """One transaction keeps what two would: the id, the plan, the part and its request."""

    def opened(path: bytes, key: str, leaving: Leaving | None) -> tuple[File, Part]:
        file = take_in(journal, new_file(path))
        settled = events.Settled(identity=file.identity, target="openai", purpose="user_data")
        file = step(journal, step(journal, file, settled), events.Admitted())
        upload = new_upload(file, key)
        file = journal.begin_upload(file, upload, f"create-{key}")
        _, [part] = journal.upload_opened(
            upload,
            f"create-{key}",
            remote_id=f"upload_{key}",
            server_created_s=None,
            life_s=60.0,
            ranges=ranges(25, 25),
            leaving=leaving,
        )
        return file, part

    both, alike = opened(b"a", "u1", Leaving("part-u1", 1_600.0))
    after, part = opened(b"b", "u2", None)
    part = journal.part_leaves(after.id, part, "part-u2", 1_600.0)
    assert alike == replace(part, upload="u1")
    assert journal.parts("u1") == [alike]
    assert [(r["call"], r["part"], r["at"], r["outcome"]) for r in journal.requests(both.id)] == [
        (r["call"], r["part"], r["at"], r["outcome"]) for r in journal.requests(after.id)
    ]
    stored = journal.part_stored(
        both.id, alike, "part-u1", part_id="part_1", digest=b"d" * 16, sent=25
    )
    assert journal.parts("u1") == [stored]


def test_a_success_that_is_another_files_undoes_no_other_call(journal: Journal) -> None:
    """It is refused by the index alone, before anything of it was written."""
    owner, upload = uploading(journal, b"a", "u1")
    store_all(journal, owner, upload)
    asked = assemble(journal, owner, upload, "req-1")
    assert asked is not None
    owner = step(journal, asked, events.Completed(remote_file="file-1", result="{}"))
    second, other = uploading(journal, b"b", "u2")
    store_all(journal, second, other)
    asked = assemble(journal, second, other, "req-2")
    assert asked is not None
    wrong = decide(asked, events.Completed(remote_file="file-1", result="{}"), NOW)
    before = journal.connection.total_changes
    outcomes = journal.together(
        [
            partial(journal.set_setting, "a", "1"),
            partial(journal.record, asked, wrong, "completed"),
        ]
    )
    error = outcomes[1].error
    assert isinstance(error, TakenError)
    assert error.owner == owner
    assert outcomes[0].error is None
    assert journal.connection.total_changes == before + 1
    assert journal.file(second.id) == asked
