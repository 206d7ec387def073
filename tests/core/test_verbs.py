"""What the operator's word means for a file in each state."""

from __future__ import annotations

import pytest

from tests.core.test_lifecycle import NOW, a_file
from uploaderd.core.events import Cancelled, Due, Sighted, Withheld
from uploaderd.core.lifecycle import decide
from uploaderd.core.model import FileState, Filing
from uploaderd.core.reasons import reason
from uploaderd.core.values import replace
from uploaderd.core.verbs import InapplicableError, Look, Return, Verb, meant

S = FileState
# state: what hold, release, retry and cancel mean; "-" is a refusal.
MEANT = """
settling   hold - - cancel
queued     hold - - cancel
uploading  hold - - cancel
completing -    - - -
uncertain  -    - look -
deferred   hold - go   cancel
held       hold - go   cancel
done       -    - - -
failed     -    - back -
cancelled  -    - - -
"""
SAID = {Withheld: "hold", Cancelled: "cancel", Due: "go", Look: "look", Return: "back"}
ROWS = {
    (FileState(state), verb): what
    for state, *cells in (line.split() for line in MEANT.strip().splitlines())
    for verb, what in zip((Verb.HOLD, Verb.RELEASE, Verb.RETRY, Verb.CANCEL), cells, strict=True)
}


@pytest.mark.parametrize("state", S)
@pytest.mark.parametrize("verb", Verb)
def test_each_pair_is_an_event_that_applies_or_a_refusal_that_says_why(
    state: FileState, verb: Verb
) -> None:
    """What a verb means can be decided; what it does not mean is said with a hint."""
    file = a_file(state, started_s=1_100.0)
    if file.filing is Filing.PENDING:
        file = replace(file, filing=Filing.FILED)
    if ROWS[state, verb] == "-":
        with pytest.raises(InapplicableError) as refused:
            meant(verb, file, NOW.wall_s)
        assert refused.value.why
        assert refused.value.hint
        return
    event = meant(verb, file, NOW.wall_s)
    assert SAID[type(event)] == ROWS[state, verb]
    if event is not None and not isinstance(event, Look | Return):
        decide(file, event, NOW)


@pytest.mark.parametrize("state", [S.SETTLING, S.QUEUED, S.UPLOADING, S.DEFERRED, S.HELD])
def test_what_is_held_is_released_where_it_was(state: FileState) -> None:
    """With its session where it had one; twice is no error, and retry points to release."""
    held = decide(a_file(state, started_s=1_100.0), Withheld(), NOW).file
    assert held.reason.code == "held.operator"
    assert held.due_s is None
    assert meant(Verb.HOLD, held, NOW.wall_s) is None
    with pytest.raises(InapplicableError, match="held by the operator"):
        meant(Verb.RETRY, held, NOW.wall_s)
    event = meant(Verb.RELEASE, held, NOW.wall_s)
    assert event == Due(anew=True)
    released = decide(held, event, NOW).file
    assert (released.state, released.upload) == (S.QUEUED, "u1")


def test_what_nobody_vouched_for_settles_after_its_release() -> None:
    """A file that was held while it settled may be half written."""
    held = decide(a_file(S.SETTLING), Withheld(), NOW).file
    event = meant(Verb.RELEASE, held, NOW.wall_s)
    assert isinstance(event, Sighted)


def test_a_retried_file_has_its_restarts_back() -> None:
    """What was begun anew too often gets all its tries again."""
    file = a_file(S.HELD, started_s=1_100.0, restarts=5, reason=reason("held.auth", detail="x"))
    event = meant(Verb.RETRY, file, NOW.wall_s)
    assert isinstance(event, Due)
    assert decide(file, event, NOW).file.restarts == 0


def test_a_cancelled_file_is_looked_for_where_it_lies() -> None:
    """One that the operator cancelled can be retried, and cancelling it again is no error."""
    file = decide(a_file(S.QUEUED), Cancelled(), NOW).file
    assert isinstance(meant(Verb.RETRY, file, NOW.wall_s), Return)
    assert meant(Verb.CANCEL, file, NOW.wall_s) is None


def test_a_failed_file_that_is_just_being_filed_is_not_retried() -> None:
    """It would be moved back while it is moved away."""
    with pytest.raises(InapplicableError, match="just being moved"):
        meant(Verb.RETRY, a_file(S.FAILED), NOW.wall_s)


def test_what_may_have_arrived_elsewhere_is_neither_held_nor_sent_again() -> None:
    """Only the target that it was sent to can tell, and that is not configured."""
    file = a_file(S.HELD, started_s=1_100.0, reason=reason("held.target", target="x"))
    for verb in (Verb.RETRY, Verb.HOLD, Verb.RELEASE):
        with pytest.raises(InapplicableError):
            meant(verb, file, NOW.wall_s)
    assert meant(Verb.CANCEL, file, NOW.wall_s) == Cancelled()
