"""What can happen to a file; each event is a value that carries what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uploaderd.core.model import Arrival, Identity, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighted:
    """The spool saw it again, perhaps with another content."""

    identity: Identity
    arrival: Arrival


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """The same file stands at another path of its watch now.

    ``anew`` says that what was begun for it does not fit the new path.
    """

    path: bytes
    identity: Identity
    anew: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """It was looked at and is not ready; ``due_s`` is the next look."""

    identity: Identity
    reason: Reason
    due_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Nobody writes it any more: what will be uploaded, where to and what for."""

    identity: Identity
    target: str
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """It is no longer in the spool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The operator wants it no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """The operator holds it back, until the operator says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """The operator wants it tried again, and it was found in the spool, perhaps brought back.

    ``created_s`` is later than that of any other row of its path.
    """

    path: bytes
    identity: Identity
    arrival: Arrival
    created_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Its bytes are not those that were taken."""

    identity: Identity | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """It got a place among the files in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """All parts are stored and proved, the md5 is known and the source was checked once more."""

    md5: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The service holds the whole file; ``result`` is its File object as JSON text.

    ``filed_as`` is the name below the watch that it goes to, where one was looked for already.
    """

    remote_file: str
    result: str
    filed_as: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlreadyUploaded:
    """The same content is at the service since an earlier upload.

    ``filed`` says that a receipt of this content lies under this file's path already.
    """

    remote_file: str
    result: str
    md5: str
    filed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous:
    """``complete`` may have been acted upon, but its outcome is not known.

    ``looks`` counts how often the service's files were searched without finding it.
    """

    due_s: float
    looks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted:
    """The session cannot be finished; a new one begins.

    ``counted`` is False where it only waited: its time was over before its turn to send came.
    """

    detail: str
    counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """A transient cause outlasted the attempts; it is tried again at ``due_s``.

    ``deferrals`` counts this one and those right before it.
    """

    reason: Reason
    due_s: float
    deferrals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Only a person, or the end of the target's trouble, can help; ``due_s`` is the next look."""

    reason: Reason
    due_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """It will never succeed as it is; ``identity`` is what was refused, where it was looked at."""

    reason: Reason
    identity: Identity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The time that it waited for has come, or what it waited for has happened.

    ``anew`` is True where the operator said so: what was tried before does not count any more.
    """

    anew: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """The daemon started and found it in the journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilingAs:
    """After-care chose the name it goes to, before it touches anything."""

    filed_as: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FilingFailed:
    """After-care could not go on; it is tried again at ``due_s``."""

    detail: str
    due_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
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
