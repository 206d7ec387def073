"""What happens to a file next: one literal table, and ``decide`` that reads it.

A pair that the table does not name raises and changes nothing. ``DONE``, ``FAILED`` and
``CANCELLED`` are terminal: only their after-care still moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from uploaderd.core.events import (
    Admitted,
    AlreadyUploaded,
    Ambiguous,
    Assembled,
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
    Settled,
    Sighted,
    Unsettled,
)
from uploaderd.core.model import (
    TERMINAL,
    Arrival,
    File,
    FileState,
    Filing,
    Now,
    PartState,
    Reason,
    UploadState,
)
from uploaderd.core.reasons import reason


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
        Held: S.HELD,
        Refused: S.FAILED,
        Deferred: S.DEFERRED,
        Recovered: S.SETTLING,
    },
    S.QUEUED: {
        Renamed: S.QUEUED,
        Sighted: S.SETTLING,
        Gone: S.CANCELLED,
        Admitted: S.UPLOADING,
        Recovered: S.QUEUED,
    },
    S.UPLOADING: {
        Renamed: S.UPLOADING,
        Gone: S.CANCELLED,
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
        Due: S.QUEUED,
        Recovered: S.DEFERRED,
    },
    S.HELD: {
        Renamed: S.HELD,
        Sighted: S.SETTLING,
        Gone: S.CANCELLED,
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
        Recovered: S.FAILED,
        FilingAs: S.FAILED,
        FilingFailed: S.FAILED,
        Filed: S.FAILED,
    },
    S.CANCELLED: {Recovered: S.CANCELLED},
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The file as it is from now on, and what is to be done about it.

    Attributes:
        abandon: the local key of a session that nobody will finish; the journal notes the intent
            to cancel it in the same transaction.
        upload_state: what the session in use becomes, in the same transaction.
        history: whether the change belongs into the file's history.
    """

    file: File
    effects: tuple[Effect, ...]
    abandon: str | None = None
    upload_state: UploadState | None = None
    history: bool = True


def effects_of(file: File) -> tuple[Effect, ...]:
    """What a file in this state needs done; after a restart this is all there is to know."""
    effect = EFFECTS[file.state]
    if effect is None or (file.state in TERMINAL and file.filing is not Filing.PENDING):
        return ()
    return (effect,)


def awakened(file: File) -> Event:
    """What the end of a wait means: a content that nobody vouched for yet settles first.

    A file that never had a place since it was last seen to change was deferred or held while it
    was looked at, so it may be half written or unfit.
    """
    if file.started_s is None:
        return Sighted(identity=file.identity, arrival=file.arrival)
    return Due()


def tells(before: File, after: File) -> bool:
    """Whether a step is worth a line of history; looks at a settling file are not."""
    if before.state is after.state is FileState.SETTLING:
        return False
    return (before.state, before.reason.code) != (after.state, after.reason.code)


def next_part_state(before: PartState, after: PartState) -> PartState:
    """Check one step of a part.

    Raises:
        IllegalTransitionError: the step is not in ``PART_TABLE``.
    """
    if after not in PART_TABLE[before]:
        raise IllegalTransitionError(f"a part cannot go from {before} to {after}")
    return after


def decide(file: File, event: Event, now: Now) -> Decision:
    """Apply one event to one file.

    Raises:
        IllegalTransitionError: the table has no such pair; nothing was changed.
    """
    try:
        state = TABLE[file.state][type(event)]
    except KeyError:
        raise IllegalTransitionError(
            f"{type(event).__name__} does not apply to a file that is {file.state}"
        ) from None
    due_s = file.due_s if isinstance(event, Recovered | Renamed) else None
    after = _apply(replace(file, state=state, updated_s=now.wall_s, due_s=due_s), event, now)
    abandoned = file.upload is not None and after.upload is None
    upload_state = UPLOAD_STATES.get(type(event))
    effects = effects_of(after) + ((Effect.CANCEL_UPLOAD,) if abandoned else ())
    return Decision(
        file=after,
        effects=effects,
        abandon=file.upload if abandoned else None,
        upload_state=upload_state,
        history=tells(file, after),
    )


def _apply(file: File, event: Event, now: Now) -> File:  # noqa: C901, PLR0911, PLR0912 - one case an event
    match event:
        case Sighted(identity=identity, arrival=arrival):
            return _settle_again(
                replace(file, identity=identity, arrival=arrival, changed_s=now.wall_s),
                "settling.seen",
                now,
            )
        case Renamed(path=path, identity=identity):
            settling = file.state is FileState.SETTLING
            return replace(
                file,
                path=path,
                identity=identity,
                arrival=Arrival.RENAMED if settling else file.arrival,
                due_s=now.wall_s if settling else file.due_s,
            )
        case Unsettled(identity=identity, reason=why, due_s=due_s):
            changed_s = file.changed_s if identity == file.identity else now.wall_s
            return replace(file, identity=identity, reason=why, due_s=due_s, changed_s=changed_s)
        case Settled(identity=identity, target=target, purpose=purpose):
            return replace(
                file,
                identity=identity,
                target=target,
                purpose=purpose,
                deferrals=0,
                reason=reason("queued.slot"),
            )
        case Gone():
            return replace(
                file, upload=None, reason=reason("cancelled.gone"), finished_s=now.wall_s
            )
        case Changed(identity=identity):
            return _settle_again(
                replace(
                    file,
                    identity=identity or file.identity,
                    arrival=Arrival.WRITTEN,
                    changed_s=now.wall_s,
                ),
                "settling.changed",
                now,
            )
        case Admitted():
            return replace(
                file,
                attempts=file.attempts + 1,
                reason=reason("uploading.parts"),
                started_s=now.wall_s if file.started_s is None else file.started_s,
            )
        case Assembled(md5=md5):
            return replace(file, md5=md5, reason=reason("completing.sent"))
        case Completed(remote_file=remote, result=result):
            return _to_file_away(
                replace(file, remote_file=remote, result=result), reason("done.filing"), now
            )
        case AlreadyUploaded(remote_file=remote, result=result, md5=md5, filed=filed):
            known = replace(file, remote_file=remote, result=result, md5=md5)
            known = _to_file_away(known, reason("done.already_uploaded"), now)
            return replace(known, filing=Filing.FILED, due_s=None) if filed else known
        case Ambiguous(due_s=due_s, looks=looks):
            why = reason("uncertain.reply_lost", until_s=due_s)
            return replace(file, reason=why, due_s=due_s, deferrals=looks)
        case Restarted(detail=detail, counted=counted):
            return replace(
                file,
                upload=None,
                md5=None,
                deferrals=0,
                restarts=file.restarts + counted,
                reason=reason("queued.again", detail=detail),
            )
        case Deferred(reason=why, due_s=due_s, deferrals=deferrals):
            return replace(file, reason=why, due_s=due_s, deferrals=deferrals)
        case Held(reason=why, due_s=due_s):
            # A session keeps the part size that it began with.
            fits = why.code != "held.part_too_large"
            return replace(file, upload=file.upload if fits else None, reason=why, due_s=due_s)
        case Refused(reason=why, identity=identity):
            refused = replace(file, upload=None, identity=identity or file.identity)
            return _to_file_away(refused, why, now)
        case Due():
            return replace(file, reason=reason("queued.resume" if file.upload else "queued.slot"))
        case Recovered():
            return _recover(file, now)
        case FilingAs(filed_as=filed_as):
            return replace(file, filed_as=filed_as, due_s=now.wall_s)
        case FilingFailed(detail=detail, due_s=due_s):
            if not file.reason.code.startswith("done.filing"):
                return replace(file, due_s=due_s)  # why it ended so matters more
            why = reason("done.filing_failed", until_s=due_s, detail=detail)
            return replace(file, reason=why, due_s=due_s)
        case Filed(place=place):
            return replace(file, filing=Filing.FILED, reason=why_filed(file, place))


def why_filed(file: File, place: str) -> Reason:
    """The last reason of a file that is filed: why it failed stays, and so does an old arrival."""
    if file.state is FileState.DONE and file.reason.code != "done.already_uploaded":
        return reason("done.uploaded", place=place)
    return file.reason


def _settle_again(file: File, code: str, now: Now) -> File:
    """A content that nobody has vouched for yet: what was known of the former one is dropped."""
    return replace(
        file,
        upload=None,
        md5=None,
        attempts=0,
        deferrals=0,
        restarts=0,
        started_s=None,
        reason=reason(code),
        due_s=now.wall_s,
    )


def _to_file_away(file: File, why: Reason, now: Now) -> File:
    return replace(file, reason=why, filing=Filing.PENDING, due_s=now.wall_s, finished_s=now.wall_s)


def _recover(file: File, now: Now) -> File:
    """What a restart makes of each state; ``decide`` has set the state itself already."""
    match file.state:
        case FileState.QUEUED if file.upload is not None:
            return replace(file, reason=reason("queued.resume"))
        case FileState.UNCERTAIN:
            # Deferrals of its parts are no looks for it at the service.
            looks = file.deferrals if file.reason.code == "uncertain.reply_lost" else 0
            why = reason("uncertain.reply_lost")
            return replace(file, reason=why, due_s=now.wall_s, deferrals=looks)
        case FileState.SETTLING:
            return replace(file, due_s=now.wall_s)
        case FileState.HELD if file.due_s is not None:
            return replace(file, due_s=now.wall_s)
        case FileState.DONE | FileState.FAILED if file.filing is Filing.PENDING:
            return replace(file, due_s=now.wall_s)
        case _:
            return file
