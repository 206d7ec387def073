"""What the operator's word means for a file in each state; beside ``TABLE``, literal as well.

``None`` means that it is so already. Retrying a file that left the spool, or that was cancelled, is
no event alone: it has to be found there again (see ``Retried`` and the engine's intake).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from uploaderd.core.events import Cancelled, Withheld
from uploaderd.core.lifecycle import IN_DOUBT, awakened
from uploaderd.core.model import FileState, Filing

if TYPE_CHECKING:
    from uploaderd.core.events import Event
    from uploaderd.core.model import File

WITHHELD = "held.operator"
UNWANTED = "cancelled.operator"


class Verb(StrEnum):
    """What an operator may say of one file."""

    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"


class InapplicableError(ValueError):
    """A verb that does not apply.

    Attributes:
        why: the end of a sentence that begins with the file's path.
        hint: what to do instead.
    """

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint or "see: uploaderd show"


class Look:
    """It is to be asked and looked for at once; nothing of what is asked already is given up."""


class Return:
    """It has to be found in the spool again before it can be retried."""


S = FileState
MAY_HAVE_ARRIVED = frozenset({S.COMPLETING, S.UNCERTAIN})
UNDER_WAY = frozenset({S.SETTLING, S.QUEUED, S.UPLOADING, S.COMPLETING})
ENDED = frozenset({S.DONE, S.FAILED, S.CANCELLED})


def meant(verb: Verb, file: File, now_s: float) -> Event | Look | Return | None:
    """What follows from a verb at a wall time.

    Raises:
        InapplicableError: it does not apply to the file as it is.
    """
    match verb:
        case Verb.CANCEL:
            return _cancel(file)
        case Verb.HOLD:
            return _hold(file)
        case Verb.RELEASE:
            return _release(file, now_s)
        case Verb.RETRY:
            return _retry(file, now_s)


def _cancel(file: File) -> Event | None:
    if file.reason.code == UNWANTED:
        return None
    if file.state in MAY_HAVE_ARRIVED:
        raise InapplicableError("may have arrived already, so it cannot be cancelled")
    if file.state in ENDED:
        raise InapplicableError(f"is {file.state.value}, so it cannot be cancelled")
    return Cancelled()


def _hold(file: File) -> Event | None:
    if file.reason.code == WITHHELD:
        return None
    if file.state in MAY_HAVE_ARRIVED:
        raise InapplicableError("may have arrived already, so it cannot be held")
    if file.state in ENDED:
        raise InapplicableError(f"is {file.state.value}, so there is nothing to hold")
    if file.reason.code in IN_DOUBT:
        raise InapplicableError(f"is held already ({file.reason.code})")
    return Withheld()


def _release(file: File, now_s: float) -> Event:
    if file.reason.code == WITHHELD:
        return awakened(file, now_s, anew=True)
    if file.state is S.HELD:
        raise InapplicableError(
            f"is held for another cause ({file.reason.code})",
            "mend the cause; then: uploaderd retry",
        )
    raise InapplicableError(f"is {file.state.value}, not held")


def _retry(file: File, now_s: float) -> Event | Look | Return:
    if file.reason.code == WITHHELD:
        raise InapplicableError("is held by the operator", "use: uploaderd release")
    if file.reason.code == "held.target":
        raise InapplicableError(
            "may have arrived at a target that is not configured",
            f"configure {file.target} again, then: uploaderd reload",
        )
    if file.state in {S.HELD, S.DEFERRED}:
        return awakened(file, now_s, anew=True)
    if file.state is S.UNCERTAIN:
        return Look()
    if file.state in UNDER_WAY:
        raise InapplicableError(f"is {file.state.value}: it is under way already")
    if file.state is S.FAILED and file.filing is Filing.PENDING:
        raise InapplicableError("is just being moved to failed/", "try again in a moment")
    if file.state is S.FAILED or file.reason.code == UNWANTED:
        return Return()
    if file.state is S.CANCELLED:
        raise InapplicableError("was removed from the spool", "drop it again")
    raise InapplicableError("has arrived, so there is nothing to retry")
