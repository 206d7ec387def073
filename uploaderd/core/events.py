"""What can happen to a file; each event is a value that carries what is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from uploaderd.core.values import replace

if TYPE_CHECKING:
    from uploaderd.core.model import Arrival, Identity, Reason


class Sighted(Struct, frozen=True, kw_only=True):
    """The spool saw it again, perhaps with another content."""

    identity: Identity
    arrival: Arrival


class Renamed(Struct, frozen=True, kw_only=True):
    """The same file stands at another path of its watch now.

    ``anew`` says that what was begun for it does not fit the new path.
    """

    path: bytes
    identity: Identity
    anew: bool = False


class Unsettled(Struct, frozen=True, kw_only=True):
    """It was looked at and is not ready; ``due_s`` is the next look."""

    identity: Identity
    reason: Reason
    due_s: float


class Settled(Struct, frozen=True, kw_only=True):
    """Nobody writes it any more: what will be uploaded, where to and what for."""

    identity: Identity
    target: str
    purpose: str


class Gone(Struct, frozen=True, kw_only=True):
    """It is no longer in the spool."""


class Cancelled(Struct, frozen=True, kw_only=True):
    """The operator wants it no more."""


class Withheld(Struct, frozen=True, kw_only=True):
    """The operator holds it back, until the operator says otherwise."""


class Retried(Struct, frozen=True, kw_only=True):
    """The operator wants it tried again, and it was found in the spool, perhaps brought back.

    ``created_s`` is later than that of any other row of its path.
    """

    path: bytes
    identity: Identity
    arrival: Arrival
    created_s: float


class Changed(Struct, frozen=True, kw_only=True):
    """Its bytes are not those that were taken."""

    identity: Identity | None


class Admitted(Struct, frozen=True, kw_only=True):
    """It got a place among the files in flight."""


class Assembled(Struct, frozen=True, kw_only=True):
    """All parts are stored and proved, the md5 is known and the source was checked once more."""

    md5: str


class Completed(Struct, frozen=True, kw_only=True):
    """The service holds the whole file; ``result`` is its File object as JSON text.

    ``filed_as`` is the name below the watch that it goes to, where one was looked for already.
    """

    remote_file: str
    result: str
    filed_as: bytes | None = None


class AlreadyUploaded(Struct, frozen=True, kw_only=True):
    """The same content is at the service since an earlier upload.

    ``filed`` says that a receipt of this content lies under this file's path already.
    """

    remote_file: str
    result: str
    md5: str
    filed: bool


class Ambiguous(Struct, frozen=True, kw_only=True):
    """``complete`` may have been acted upon, but its outcome is not known.

    ``looks`` counts how often the service's files were searched without finding it.
    """

    due_s: float
    looks: int = 0


class Restarted(Struct, frozen=True, kw_only=True):
    """The session cannot be finished; a new one begins.

    ``counted`` is False where it only waited: its time was over before its turn to send came.
    """

    detail: str
    counted: bool = True


class Deferred(Struct, frozen=True, kw_only=True):
    """A transient cause outlasted the attempts; it is tried again at ``due_s``.

    ``deferrals`` counts this one and those right before it.
    """

    reason: Reason
    due_s: float
    deferrals: int


class Held(Struct, frozen=True, kw_only=True):
    """Only a person, or the end of the target's trouble, can help; ``due_s`` is the next look."""

    reason: Reason
    due_s: float | None = None


class Refused(Struct, frozen=True, kw_only=True):
    """It will never succeed as it is; ``identity`` is what was refused, where it was looked at."""

    reason: Reason
    identity: Identity | None = None


class Due(Struct, frozen=True, kw_only=True):
    """The time that it waited for has come, or what it waited for has happened.

    ``anew`` is True where the operator said so: what was tried before does not count any more.
    """

    anew: bool = False


class Recovered(Struct, frozen=True, kw_only=True):
    """The daemon started and found it in the journal."""


class FilingAs(Struct, frozen=True, kw_only=True):
    """After-care chose the name it goes to, before it touches anything."""

    filed_as: bytes


class FilingFailed(Struct, frozen=True, kw_only=True):
    """After-care could not go on; it is tried again at ``due_s``."""

    detail: str
    due_s: float


class Filed(Struct, frozen=True, kw_only=True):
    """After-care is complete."""

    place: str


def shifted(event: Event, by_s: float) -> Event:
    """The same event after the wall clock was set ahead by ``by_s`` (negative: back)."""
    if not isinstance(event, Deferred | Held | Ambiguous) or event.due_s is None:
        return event
    moved = replace(event, due_s=event.due_s + by_s)
    if isinstance(moved, Ambiguous) or moved.reason.until_s is None:
        return moved
    return replace(moved, reason=replace(moved.reason, until_s=moved.reason.until_s + by_s))


Event = (
    Sighted
    | Renamed
    | Unsettled
    | Settled
    | Gone
    | Cancelled
    | Withheld
    | Retried
    | Changed
    | Admitted
    | Assembled
    | Completed
    | AlreadyUploaded
    | Ambiguous
    | Restarted
    | Deferred
    | Held
    | Refused
    | Due
    | Recovered
    | FilingAs
    | FilingFailed
    | Filed
)
