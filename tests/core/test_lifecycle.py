"""Every pair of state and event: the table as a person reads it, and what each step changes."""

from __future__ import annotations

from typing import get_args

import pytest

from uploaderd.core import events
from uploaderd.core.events import Event
from uploaderd.core.lifecycle import awakened, decide
from uploaderd.core.model import (
    TERMINAL,
    Arrival,
    File,
    FileState,
    Filing,
    Identity,
    Now,
    PartState,
    Reason,
    UploadState,
)
from uploaderd.core.reasons import SENTENCES, reason
from uploaderd.core.transitions import (
    EFFECTS,
    PART_TABLE,
    TABLE,
    Effect,
    IllegalTransitionError,
    effects_of,
    next_part_state,
)
from uploaderd.core.values import replace

NOW = Now(wall_s=2_000.0, boot_s=50.0, boot_id="boot")
IDENTITY = Identity(dev=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
OTHER = replace(IDENTITY, inode=9)
WHY = Reason(code="deferred.network", text="No route.", until_s=2_010.0)

EVENTS: dict[str, Event] = {
    "Sighted": events.Sighted(identity=OTHER, arrival=Arrival.RENAMED),
    "Renamed": events.Renamed(path=b"y/x", identity=OTHER),
    "Unsettled": events.Unsettled(identity=IDENTITY, reason=WHY, due_s=2_001.0),
    "Settled": events.Settled(identity=OTHER, target="other", purpose="batch"),
    "Gone": events.Gone(),
    "Cancelled": events.Cancelled(),
    "Withheld": events.Withheld(),
    "Retried": events.Retried(
        path=b"x~2", identity=OTHER, arrival=Arrival.RENAMED, created_s=1_001.0
    ),
    "Changed": events.Changed(identity=OTHER),
    "Admitted": events.Admitted(),
    "Assembled": events.Assembled(md5="d" * 32),
    "Completed": events.Completed(remote_file="file-1", result="{}"),
    "AlreadyUploaded": events.AlreadyUploaded(
        remote_file="file-0", result="{}", md5="e" * 32, filed=False
    ),
    "Ambiguous": events.Ambiguous(due_s=2_002.0, looks=2),
    "Restarted": events.Restarted(detail="The session was over."),
    "Deferred": events.Deferred(reason=WHY, due_s=2_010.0, deferrals=3),
    "Held": events.Held(reason=reason("held.auth", detail="The key is wrong.")),
    "Refused": events.Refused(reason=reason("failed.empty")),
    "Due": events.Due(),
    "Recovered": events.Recovered(),
    "FilingAs": events.FilingAs(filed_as=b"done/x"),
    "FilingFailed": events.FilingFailed(detail="No space.", due_s=2_015.0),
    "Filed": events.Filed(place="done/x"),
}

# The table as it is meant, written a second time: a change has to be made in both.
MEANT = """
settling   Sighted>settling Renamed>settling Unsettled>settling Settled>queued Gone>cancelled
settling   Held>held Refused>failed Deferred>deferred Recovered>settling
queued     Sighted>settling Renamed>queued Gone>cancelled Admitted>uploading Recovered>queued
uploading  Renamed>uploading Gone>cancelled Changed>settling Assembled>completing
uploading  AlreadyUploaded>done Ambiguous>uncertain
uploading  Restarted>queued Deferred>deferred Held>held Refused>failed Recovered>queued
completing Renamed>completing Completed>done Ambiguous>uncertain Restarted>queued
completing Deferred>deferred Held>held
completing Refused>failed Recovered>uncertain
uncertain  Renamed>uncertain Changed>settling Gone>cancelled
uncertain  Completed>done Ambiguous>uncertain Restarted>queued Held>held Recovered>uncertain
deferred   Renamed>deferred Sighted>settling Gone>cancelled Due>queued Recovered>deferred
held       Renamed>held Sighted>settling Gone>cancelled Due>queued Recovered>held
done       Renamed>done Recovered>done FilingAs>done FilingFailed>done Filed>done
failed     Renamed>failed Recovered>failed FilingAs>failed FilingFailed>failed Filed>failed
cancelled  Recovered>cancelled
settling   Cancelled>cancelled
queued     Cancelled>cancelled
uploading  Cancelled>cancelled
deferred   Cancelled>cancelled
held       Cancelled>cancelled
settling   Withheld>held
queued     Withheld>held Held>held
uploading  Withheld>held
deferred   Withheld>held
held       Withheld>held Ambiguous>uncertain
failed     Retried>settling
cancelled  Retried>settling
"""
STEPS = {
    (FileState(line.split()[0]), step.partition(">")[0]): FileState(step.partition(">")[2])
    for line in MEANT.strip().splitlines()
    for step in line.split()[1:]
}


def a_file(state: FileState, **changes: object) -> File:
    """A file in a state, with a session."""
    file = File(
        id="f1",
        watch="/spool",
        path=b"x",
        identity=IDENTITY,
        arrival=Arrival.WRITTEN,
        target="openai",
        purpose="user_data",
        state=state,
        reason=reason("queued.slot"),
        created_s=1_000.0,
        updated_s=1_000.0,
        changed_s=1_000.0,
        owner="here",
        due_s=1_500.0,
        upload="u1",
        filing=Filing.PENDING if state in {FileState.DONE, FileState.FAILED} else Filing.NONE,
    )
    return replace(file, **changes)  # type: ignore[arg-type]


def test_every_event_is_tried() -> None:
    """The pairs below cover every event that exists."""
    assert {type(event) for event in EVENTS.values()} == set(get_args(Event))


@pytest.mark.parametrize("state", FileState)
@pytest.mark.parametrize("name", EVENTS)
def test_each_pair_is_a_step_of_the_table_or_a_refusal_that_changes_nothing(
    state: FileState, name: str
) -> None:
    """A pair leads where the table says; any other raises."""
    file = a_file(state)
    if (state, name) in STEPS:
        after = decide(file, EVENTS[name], NOW).file
        assert after.state is STEPS[state, name]
        assert after.updated_s == NOW.wall_s
        assert after.reason.text
    else:
        with pytest.raises(IllegalTransitionError, match=name):
            decide(file, EVENTS[name], NOW)
        assert file == a_file(state)


def test_the_table_has_no_step_that_is_not_meant() -> None:
    """The literal table and the one above are the same."""
    flat = {(s, e.__name__): to for s, row in TABLE.items() for e, to in row.items()}
    assert flat == STEPS


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_terminal_state_is_left_by_the_operators_word_alone(state: FileState) -> None:
    """Done, failed and cancelled lead only to themselves; what did not arrive may be retried."""
    said = {to for (start, e), to in STEPS.items() if start is state and e == "Retried"}
    assert {to for (start, e), to in STEPS.items() if start is state and e != "Retried"} == {state}
    assert said == (set() if state is FileState.DONE else {FileState.SETTLING})


@pytest.mark.parametrize("state", sorted(set(FileState) - TERMINAL))
def test_every_state_that_is_not_terminal_can_end(state: FileState) -> None:
    """From each state some terminal state can be reached."""
    reached, frontier = {state}, [state]
    while frontier:
        here = frontier.pop()
        for (start, _), to in STEPS.items():
            if start is here and to not in reached:
                reached.add(to)
                frontier.append(to)
    assert FileState.DONE in reached


@pytest.mark.parametrize(
    ("state", "name"),
    [
        (FileState.UPLOADING, "Gone"),
        (FileState.UPLOADING, "Changed"),
        (FileState.UPLOADING, "Restarted"),
        (FileState.UPLOADING, "Refused"),
        (FileState.COMPLETING, "Restarted"),
        (FileState.COMPLETING, "Refused"),
        (FileState.UNCERTAIN, "Restarted"),
        (FileState.QUEUED, "Sighted"),
        (FileState.QUEUED, "Gone"),
        (FileState.DEFERRED, "Sighted"),
        (FileState.HELD, "Gone"),
    ],
)
def test_a_session_that_nobody_will_finish_is_abandoned_in_the_same_step(
    state: FileState, name: str
) -> None:
    """Its cancel is an effect, and its key is handed to the journal."""
    decision = decide(a_file(state), EVENTS[name], NOW)
    assert decision.abandon == "u1"
    assert decision.file.upload is None
    assert Effect.CANCEL_UPLOAD in decision.effects


@pytest.mark.parametrize("name", ["Deferred", "Held", "Recovered", "Withheld"])
def test_a_passing_fault_or_a_restart_keeps_the_session(name: str) -> None:
    """What is stored stays of use."""
    decision = decide(a_file(FileState.UPLOADING), EVENTS[name], NOW)
    assert decision.file.upload == "u1"
    assert decision.abandon is None


def test_the_intent_to_complete_is_part_of_the_step() -> None:
    """The session becomes completing with the file, before any request."""
    decision = decide(a_file(FileState.UPLOADING), EVENTS["Assembled"], NOW)
    assert decision.upload_state is UploadState.COMPLETING
    assert decision.file.md5 == "d" * 32


def test_success_is_followed_by_after_care() -> None:
    """A completed file waits to be filed, at once."""
    decision = decide(a_file(FileState.COMPLETING), EVENTS["Completed"], NOW)
    assert decision.file.filing is Filing.PENDING
    assert decision.file.due_s == NOW.wall_s
    assert decision.effects == (Effect.FILE_AWAY,)
    assert decision.upload_state is UploadState.COMPLETED


def test_a_content_that_arrived_before_gets_a_receipt_where_it_has_none() -> None:
    """Under its own path; where one lies there already nothing is left to do."""
    file = a_file(FileState.UPLOADING, upload=None)
    event = events.AlreadyUploaded(remote_file="f", result="{}", md5="e" * 32, filed=False)
    first = decide(file, event, NOW)
    assert first.effects == (Effect.FILE_AWAY,)
    filed = decide(first.file, EVENTS["Filed"], NOW)
    assert filed.file.reason.code == "done.already_uploaded"
    assert decide(file, replace(event, filed=True), NOW).effects == ()


def test_a_filed_file_needs_nothing_more() -> None:
    """The end is the end."""
    done = decide(a_file(FileState.DONE), EVENTS["Filed"], NOW)
    assert done.file.filing is Filing.FILED
    assert done.effects == ()
    assert effects_of(done.file) == ()


def test_why_a_file_failed_is_not_hidden_by_trouble_with_its_filing() -> None:
    """Its reason stays what it was; only the next try moves."""
    failed = a_file(FileState.FAILED, reason=reason("failed.empty"))
    after = decide(failed, EVENTS["FilingFailed"], NOW).file
    assert after.reason.code == "failed.empty"
    assert after.due_s == 2_015.0


def test_a_changed_content_starts_from_nothing() -> None:
    """Session, md5, counts of failures: all belonged to the former content."""
    file = a_file(FileState.UPLOADING, md5="d" * 32, deferrals=4, restarts=2, started_s=1.0)
    after = decide(file, EVENTS["Changed"], NOW).file
    assert (after.upload, after.md5, after.deferrals, after.restarts) == (None, None, 0, 0)
    assert after.identity == OTHER
    assert after.changed_s == NOW.wall_s
    assert after.due_s == NOW.wall_s


def test_a_renamed_file_is_the_same_file_at_another_path() -> None:
    """Its session and its time stay; only a settling one is looked at at once."""
    after = decide(a_file(FileState.UPLOADING), EVENTS["Renamed"], NOW).file
    assert (after.path, after.identity, after.upload) == (b"y/x", OTHER, "u1")
    assert after.due_s == 1_500.0
    settling = decide(a_file(FileState.SETTLING), EVENTS["Renamed"], NOW).file
    assert (settling.due_s, settling.arrival) == (NOW.wall_s, Arrival.RENAMED)


def test_a_session_that_only_waited_costs_no_restart() -> None:
    """A long queue before a slow line is no failure of the file."""
    event = events.Restarted(detail="Its time was over.", counted=False)
    assert decide(a_file(FileState.UPLOADING, restarts=3), event, NOW).file.restarts == 3


def test_a_restart_counts() -> None:
    """So that it can be bounded."""
    after = decide(a_file(FileState.UPLOADING, restarts=1), EVENTS["Restarted"], NOW).file
    assert after.restarts == 2
    assert "The session was over." in after.reason.text


def test_a_deferred_file_keeps_its_time_over_a_restart_of_the_daemon() -> None:
    """A Retry-After is not shortened by a restart."""
    assert decide(a_file(FileState.DEFERRED), EVENTS["Recovered"], NOW).file.due_s == 1_500.0


def test_a_file_that_waits_for_a_person_is_not_woken_by_a_restart() -> None:
    """Held without a time stays held."""
    after = decide(a_file(FileState.HELD, due_s=None), EVENTS["Recovered"], NOW).file
    assert after.state is FileState.HELD
    assert after.due_s is None


@pytest.mark.parametrize("state", [FileState.DEFERRED, FileState.HELD])
def test_what_waited_while_it_settled_settles_again(state: FileState) -> None:
    """Nobody vouched for its content yet, so the end of the wait makes no queued file of it."""
    never_sent = a_file(state, upload=None, started_s=None)
    event = awakened(never_sent, NOW.wall_s)
    assert decide(never_sent, event, NOW).file.state is FileState.SETTLING
    had_a_place = a_file(state, started_s=1_200.0)
    event = awakened(had_a_place, NOW.wall_s)
    assert decide(had_a_place, event, NOW).file.state is FileState.QUEUED


def test_deferrals_of_a_file_are_not_looks_for_it_at_the_service() -> None:
    """A crash at complete after many deferrals leaves all the looks that there are."""
    asked = a_file(
        FileState.COMPLETING, md5="d" * 32, deferrals=9, reason=reason("completing.sent")
    )
    assert decide(asked, events.Recovered(), NOW).file.deferrals == 0
    looked = a_file(
        FileState.UNCERTAIN, md5="d" * 32, deferrals=3, reason=reason("uncertain.reply_lost")
    )
    assert decide(looked, events.Recovered(), NOW).file.deferrals == 3
    anew = decide(looked, events.Restarted(detail="It is not there."), NOW).file
    assert anew.deferrals == 0


def test_a_part_size_that_is_too_large_ends_its_session() -> None:
    """Each session keeps its part size: only a new one can have a smaller one."""
    why = reason("held.part_too_large", detail="The part is too large.")
    decision = decide(a_file(FileState.UPLOADING), events.Held(reason=why), NOW)
    assert decision.file.upload is None
    assert decision.abandon == "u1"


def test_recovering_twice_is_recovering_once() -> None:
    """For every state."""
    for state in FileState:
        once = decide(a_file(state), EVENTS["Recovered"], NOW).file
        assert decide(once, EVENTS["Recovered"], NOW).file == once


def test_a_step_that_changes_nothing_to_read_leaves_no_history() -> None:
    """A look at a settling file, or another wait for the same cause, is no event for a person."""
    settling = a_file(FileState.SETTLING)
    assert not decide(settling, EVENTS["Unsettled"], NOW).history
    assert decide(settling, EVENTS["Settled"], NOW).history
    uncertain = decide(a_file(FileState.COMPLETING), EVENTS["Ambiguous"], NOW)
    assert uncertain.history
    assert not decide(uncertain.file, EVENTS["Ambiguous"], NOW).history


def test_every_state_has_its_effect() -> None:
    """What a state needs done does not hang on how it was reached."""
    assert set(EFFECTS) == set(FileState)


@pytest.mark.parametrize("before", PartState)
@pytest.mark.parametrize("after", PartState)
def test_parts_step_as_the_table_says(before: PartState, after: PartState) -> None:
    """A part is sent before it is stored, and only a disproved one is forgotten."""
    meant = {
        ("planned", "in_flight"),
        ("in_flight", "stored"),
        ("in_flight", "planned"),
        ("in_flight", "ambiguous"),
        ("ambiguous", "in_flight"),
        ("stored", "planned"),
    }
    assert {(b.value, a.value) for b, row in PART_TABLE.items() for a in row} == meant
    if (before.value, after.value) in meant:
        assert next_part_state(before, after) is after
    else:
        with pytest.raises(IllegalTransitionError):
            next_part_state(before, after)


def test_every_reason_code_is_dotted_and_says_its_state() -> None:
    """Codes are stable names: state, dot, word."""
    for code in SENTENCES:
        state, dot, word = code.partition(".")
        assert FileState(state)
        assert dot
        assert word.replace("_", "").isalpha()


@pytest.mark.parametrize("state", [FileState.UPLOADING, FileState.UNCERTAIN, FileState.DONE])
def test_a_rename_does_not_vouch_for_what_was_written_before_it(state: FileState) -> None:
    """Where the bytes may be at the service already, the ctime that they were sent with stays."""
    now_there = replace(IDENTITY, ctime_ns=99)
    renamed = events.Renamed(path=b"y", identity=now_there)
    kept = decide(a_file(state), renamed, NOW).file.identity
    assert kept == (now_there if state is FileState.UPLOADING else IDENTITY)
