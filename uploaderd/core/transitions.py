"""All that can follow from what: one literal table a noun, and what each state needs done.

A pair that a table does not name raises and changes nothing. ``DONE``, ``FAILED`` and
``CANCELLED`` are terminal: only their after-care still moves. The operator alone may have what did
not arrive tried again.
"""

from __future__ import annotations

from enum import StrEnum

from uploaderd.core.events import (
    Admitted,
    AlreadyUploaded,
    Ambiguous,
    Assembled,
    Cancelled,
    Changed,
    Completed,
    Deferred,
    Due,
    Event,
    Filed,
    FilingAs,
    FilingFailed,
    Gone,
    Held,
    Recovered,
    Refused,
    Renamed,
    Restarted,
    Retried,
    Settled,
    Sighted,
    Unsettled,
    Withheld,
)
from uploaderd.core.model import TERMINAL, File, FileState, Filing, PartState, UploadState


class IllegalTransitionError(ValueError):
    """An event that the state does not know: a bug, and nothing was changed."""


S = FileState
TABLE: dict[FileState, dict[type[Event], FileState]] = {
    S.SETTLING: {
        Renamed: S.SETTLING,
        Sighted: S.SETTLING,
        Unsettled: S.SETTLING,
        Settled: S.QUEUED,
        Gone: S.CANCELLED,
        Cancelled: S.CANCELLED,
        Withheld: S.HELD,
        Held: S.HELD,
        Refused: S.FAILED,
        Deferred: S.DEFERRED,
        Recovered: S.SETTLING,
    },
    S.QUEUED: {
        Renamed: S.QUEUED,
        Sighted: S.SETTLING,
        Gone: S.CANCELLED,
        Cancelled: S.CANCELLED,
        Withheld: S.HELD,
        Admitted: S.UPLOADING,
        Held: S.HELD,
        Recovered: S.QUEUED,
    },
    S.UPLOADING: {
        Renamed: S.UPLOADING,
        Gone: S.CANCELLED,
        Cancelled: S.CANCELLED,
        Withheld: S.HELD,
        Changed: S.SETTLING,
        Ambiguous: S.UNCERTAIN,
        Assembled: S.COMPLETING,
        AlreadyUploaded: S.DONE,
        Restarted: S.QUEUED,
        Deferred: S.DEFERRED,
        Held: S.HELD,
        Refused: S.FAILED,
        Recovered: S.QUEUED,
    },
    S.COMPLETING: {
        Renamed: S.COMPLETING,
        Completed: S.DONE,
        Ambiguous: S.UNCERTAIN,
        Restarted: S.QUEUED,
        Deferred: S.DEFERRED,
        Held: S.HELD,
        Refused: S.FAILED,
        Recovered: S.UNCERTAIN,
    },
    S.UNCERTAIN: {
        Renamed: S.UNCERTAIN,
        Changed: S.SETTLING,
        Gone: S.CANCELLED,
        Completed: S.DONE,
        Ambiguous: S.UNCERTAIN,
        Restarted: S.QUEUED,
        Held: S.HELD,
        Recovered: S.UNCERTAIN,
    },
    S.DEFERRED: {
        Renamed: S.DEFERRED,
        Sighted: S.SETTLING,
        Gone: S.CANCELLED,
        Cancelled: S.CANCELLED,
        Withheld: S.HELD,
        Due: S.QUEUED,
        Recovered: S.DEFERRED,
    },
    S.HELD: {
        Ambiguous: S.UNCERTAIN,
        Renamed: S.HELD,
        Sighted: S.SETTLING,
        Gone: S.CANCELLED,
        Cancelled: S.CANCELLED,
        Withheld: S.HELD,
        Due: S.QUEUED,
        Recovered: S.HELD,
    },
    S.DONE: {
        Renamed: S.DONE,
        Recovered: S.DONE,
        FilingAs: S.DONE,
        FilingFailed: S.DONE,
        Filed: S.DONE,
    },
    S.FAILED: {
        Renamed: S.FAILED,
        Retried: S.SETTLING,
        Recovered: S.FAILED,
        FilingAs: S.FAILED,
        FilingFailed: S.FAILED,
        Filed: S.FAILED,
    },
    S.CANCELLED: {Retried: S.SETTLING, Recovered: S.CANCELLED},
}

PART_TABLE: dict[PartState, frozenset[PartState]] = {
    PartState.PLANNED: frozenset({PartState.IN_FLIGHT}),
    PartState.IN_FLIGHT: frozenset({PartState.STORED, PartState.PLANNED, PartState.AMBIGUOUS}),
    PartState.AMBIGUOUS: frozenset({PartState.IN_FLIGHT}),
    PartState.STORED: frozenset({PartState.PLANNED}),  # disproved by the ordered pass
}


# Where a session follows the file; the intent of a complete is durable before it leaves.
UPLOAD_STATES: dict[type[Event], UploadState] = {
    Assembled: UploadState.COMPLETING,
    Completed: UploadState.COMPLETED,
}


class Effect(StrEnum):
    """What the engine has to do about a file, now or at its ``due_s``; each may be replayed."""

    LOOK = "look"
    ADMIT = "admit"
    TRANSMIT = "transmit"
    COMPLETE = "complete"
    RECONCILE = "reconcile"
    WAKE = "wake"
    FILE_AWAY = "file_away"
    CANCEL_UPLOAD = "cancel_upload"


EFFECTS: dict[FileState, Effect | None] = {
    S.SETTLING: Effect.LOOK,
    S.QUEUED: Effect.ADMIT,
    S.UPLOADING: Effect.TRANSMIT,
    S.COMPLETING: Effect.COMPLETE,
    S.UNCERTAIN: Effect.RECONCILE,
    S.DEFERRED: Effect.WAKE,
    S.HELD: Effect.WAKE,
    S.DONE: Effect.FILE_AWAY,
    S.FAILED: Effect.FILE_AWAY,
    S.CANCELLED: None,
}


def effects_of(file: File) -> tuple[Effect, ...]:
    """What a file in this state needs done; after a restart this is all there is to know."""
    effect = EFFECTS[file.state]
    if effect is None or (file.state in TERMINAL and file.filing is not Filing.PENDING):
        return ()
    return (effect,)


def next_part_state(before: PartState, after: PartState) -> PartState:
    """Check one step of a part.

    Raises:
        IllegalTransitionError: the step is not in ``PART_TABLE``.
    """
    if after not in PART_TABLE[before]:
        raise IllegalTransitionError(f"a part cannot go from {before} to {after}")
    return after
