"""What happens to a file next: ``decide`` reads the table and makes the file that it is then."""

from __future__ import annotations

from msgspec import Struct

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
from uploaderd.core.model import (
    Arrival,
    File,
    FileState,
    Filing,
    Now,
    Reason,
    UploadState,
)
from uploaderd.core.reasons import reason
from uploaderd.core.transitions import (
    TABLE,
    UPLOAD_STATES,
    Effect,
    IllegalTransitionError,
    effects_of,
)
from uploaderd.core.values import replace

# What may be at the service already: a rename must not vouch for what was written before it.
VOUCHED = frozenset({FileState.COMPLETING, FileState.UNCERTAIN, FileState.DONE, FileState.FAILED})
# The same of what waits for a person: nothing but a look at the service tells.
IN_DOUBT = frozenset({"held.target", "held.uncertain"})


class Decision(Struct, frozen=True, kw_only=True):
    """The file as it is from now on, and what is to be done about it.

    Attributes:
        abandon: the local key of a session that nobody will finish; the journal notes the intent
            to cancel it in the same transaction.
        upload_state: what the session in use becomes, in the same transaction.
        cut_off: what is under way in the session in use counts as sent without a reply.
        history: whether the change belongs into the file's history.
    """

    file: File
    effects: tuple[Effect, ...]
    abandon: str | None = None
    upload_state: UploadState | None = None
    cut_off: bool = False
    history: bool = True


class Begun(Struct, frozen=True, kw_only=True):
    """A new file, and what the first look at it came to, in one step.

    Attributes:
        file: as it was just seen.
        event: the name of what was decided about.
    """

    file: File
    decision: Decision
    event: str


def awakened(file: File, now_s: float, *, anew: bool = False) -> Event:
    """What the end of a wait means: a content that nobody vouched for yet settles first.

    What may have arrived is asked about, not sent.

    A file that never had a place since it was last seen to change was deferred or held while it
    was looked at, so it may be half written or unfit. ``anew`` is ``Due``'s.
    """
    if file.reason.code in IN_DOUBT and file.upload is not None and file.md5 is not None:
        return Ambiguous(due_s=now_s)
    if file.started_s is None:
        return Sighted(identity=file.identity, arrival=file.arrival)
    return Due(anew=anew)


def tells(before: File, after: File) -> bool:
    """Whether a step is worth a line of history; looks at a settling file are not."""
    if before.state is after.state is FileState.SETTLING:
        return False
    return (before.state, before.reason.code) != (after.state, after.reason.code)


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
        cut_off=isinstance(event, Withheld) and after.upload is not None,
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
        case Renamed(path=path, identity=identity, anew=anew):
            settling = file.state is FileState.SETTLING
            if (
                file.state in VOUCHED or file.reason.code in IN_DOUBT
            ):  # so that filing still asks for the bytes
                identity = replace(identity, ctime_ns=file.identity.ctime_ns)
            known = replace(file, upload=None, started_s=None, md5=None) if anew else file
            return replace(
                known,
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
        case Cancelled():
            why = reason("cancelled.operator")
            return replace(file, upload=None, reason=why, finished_s=now.wall_s)
        case Withheld():
            return replace(file, reason=reason("held.operator"))
        case Retried(path=path, identity=identity, arrival=arrival, created_s=created_s):
            found = replace(
                file,
                path=path,
                identity=identity,
                arrival=arrival,
                created_s=created_s,
                changed_s=now.wall_s,
                finished_s=None,
                filing=Filing.NONE,
                filed_as=None,
            )
            return _settle_again(found, "settling.retried", now)
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
        case Completed(remote_file=remote, result=result, filed_as=filed_as):
            arrived = replace(file, remote_file=remote, result=result, filed_as=filed_as)
            return _to_file_away(arrived, reason("done.filing"), now)
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
        case Due(anew=anew):
            why = reason("queued.resume" if file.upload else "queued.slot")
            return replace(file, reason=why, restarts=0 if anew else file.restarts)
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
