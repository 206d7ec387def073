"""Rows to values and back."""

from __future__ import annotations

import json
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

from uploaderd.core.errands import Errand, ErrandState
from uploaderd.core.model import (
    Arrival,
    File,
    FileState,
    Filing,
    Identity,
    Part,
    PartState,
    Reason,
    Upload,
    UploadState,
)
from uploaderd.core.values import replace
from uploaderd.journal.damage import damaged
from uploaderd.journal.seal import part_seal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

T = TypeVar("T")

Values = dict[str, object]

LATEST_S = 1e11  # no clock of ours goes as far; a flipped bit in a time does


def _sane(make: Callable[[sqlite3.Row], T]) -> Callable[[sqlite3.Row], T]:
    """Let a row that makes no value be damage, in one sentence."""

    @wraps(make)
    def checked(row: sqlite3.Row) -> T:
        try:
            return make(row)
        except (ValueError, TypeError) as error:
            raise damaged(f"a row makes no sense: {error}") from error

    return checked


def _times(*them: float | None) -> None:
    for seconds in them:
        if seconds is not None and not -LATEST_S < seconds < LATEST_S:
            raise ValueError(f"{seconds} is no time")


def lifecycle_values(file: File) -> Values:
    """The columns that a transition may change; counters are only ever added to, by SQL."""
    return {
        "id": file.id,
        "path": file.path,
        **_identity_values(file.identity),
        "arrival": file.arrival.value,
        "target": file.target,
        "purpose": file.purpose,
        "state": file.state.value,
        "reason_code": file.reason.code,
        "reason_text": file.reason.text,
        "reason_until": file.reason.until_s,
        "updated": file.updated_s,
        "changed": file.changed_s,
        "owner": file.owner,
        "due": file.due_s,
        "upload": file.upload,
        "remote_file": file.remote_file,
        "md5": file.md5,
        "result": file.result,
        "attempts": file.attempts,
        "deferrals": file.deferrals,
        "restarts": file.restarts,
        "started": file.started_s,
        "finished": file.finished_s,
        "filing": file.filing.value,
        "filed_as": file.filed_as,
    }


_SAME_NAME = (
    *("path", "target", "purpose", "owner", "upload", "remote_file", "md5", "result"),
    *("attempts", "deferrals", "restarts", "filed_as"),
)
_TIMES = tuple((name, f"{name}_s") for name in ("created", "changed", "started", "finished"))
_WORDS = ("arrival", "state", "filing")


def changes(before: File, after: File) -> Values:
    """The columns in which a transition differs; those that others change too are always there."""
    changed: Values = {"updated": after.updated_s, "due": after.due_s}
    if after.identity != before.identity:
        changed |= _identity_values(after.identity)
    for name in _SAME_NAME:
        value = getattr(after, name)
        if value != getattr(before, name):
            changed[name] = value
    for name, ours in _TIMES:
        value = getattr(after, ours)
        if value != getattr(before, ours):
            changed[name] = value
    for name in _WORDS:
        value = getattr(after, name)
        if value is not getattr(before, name):
            changed[name] = value.value
    if after.reason != before.reason:
        changed["reason_code"] = after.reason.code
        changed["reason_text"] = after.reason.text
        changed["reason_until"] = after.reason.until_s
    return changed


def _identity_values(identity: Identity) -> Values:
    return {
        "dev": identity.dev,
        "inode": str(identity.inode),
        "size": identity.size,
        "mtime_ns": identity.mtime_ns,
        "ctime_ns": identity.ctime_ns,
    }


@_sane
def to_file(row: sqlite3.Row) -> File:
    """A row of ``files``."""
    # By the schema's order, which the opening checks: sqlite3 searches for each name.
    key, watch, path, dev, inode, size, mtime_ns, ctime_ns, *rest = row
    arrival, target, purpose, state, code, text, until_s, created_s, updated_s, *rest = rest
    changed_s, owner, version, due_s, upload, remote_file, md5, result, attempts, *rest = rest
    deferrals, restarts, bytes_sent, bytes_resent, *rest = rest
    started_s, finished_s, filing, filed_as, *_ = rest
    _times(until_s, created_s, updated_s, changed_s, due_s, started_s, finished_s)
    return File(
        id=key,
        watch=watch,
        path=bytes(path),
        identity=Identity(
            dev=dev, inode=int(inode), size=size, mtime_ns=mtime_ns, ctime_ns=ctime_ns
        ),
        arrival=Arrival(arrival),
        target=target,
        purpose=purpose,
        state=FileState(state),
        reason=Reason(code=code, text=text, until_s=until_s),
        created_s=created_s,
        updated_s=updated_s,
        changed_s=changed_s,
        owner=owner,
        due_s=due_s,
        upload=upload,
        remote_file=remote_file,
        md5=md5,
        result=result,
        attempts=attempts,
        deferrals=deferrals,
        restarts=restarts,
        bytes_sent=bytes_sent,
        bytes_resent=bytes_resent,
        started_s=started_s,
        finished_s=finished_s,
        filing=Filing(filing),
        filed_as=None if filed_as is None else bytes(filed_as),
        version=version,
    )


def upload_values(upload: Upload) -> Values:
    """All columns of ``uploads``."""
    return {
        "key": upload.key,
        "file": upload.file,
        "target": upload.target,
        "state": upload.state.value,
        "filename": upload.filename,
        "purpose": upload.purpose,
        "size": upload.size,
        "part_bytes": upload.part_bytes,
        "created": upload.created_s,
        "created_boot": upload.created_boot_s,
        "boot_id": upload.boot_id,
        "life": upload.life_s,
        "remote_id": upload.remote_id,
        "server_created": upload.server_created_s,
        "complete_sent": int(upload.complete_sent),
    }


@_sane
def to_upload(row: sqlite3.Row) -> Upload:
    """A row of ``uploads``; what was asked for beside it comes after its own columns."""
    key, file, target, state, filename, purpose, size, part_bytes, created_s, *rest = row
    created_boot_s, boot_id, life_s, remote_id, server_created_s, complete_sent, *_ = rest
    _times(created_s, created_boot_s, life_s, server_created_s)
    return Upload(
        key=key,
        file=file,
        target=target,
        state=UploadState(state),
        filename=filename,
        purpose=purpose,
        size=size,
        part_bytes=part_bytes,
        created_s=created_s,
        created_boot_s=created_boot_s,
        boot_id=boot_id,
        life_s=life_s,
        remote_id=remote_id,
        server_created_s=server_created_s,
        complete_sent=bool(complete_sent),
    )


@_sane
def to_part(row: sqlite3.Row) -> Part:
    """A row of ``parts``; a stored part whose seal is broken counts as sent, never as stored.

    So no id with a flipped bit ever reaches the service: the part is sent again instead.
    """
    part = Part(
        upload=row["upload"],
        number=row["number"],
        offset=row["offset"],
        length=row["length"],
        state=PartState(row["state"]),
        digest=row["digest"],
        part_id=row["part_id"],
        sends=row["sends"],
        sent=row["sent"],
    )
    if part.state is PartState.STORED and row["seal"] != seal_of(part):
        return replace(part, state=PartState.AMBIGUOUS, digest=None, part_id=None)
    return part


@_sane
def to_errand(row: sqlite3.Row) -> Errand:
    """A row of ``errands``."""
    _times(row["due"])
    words = json.loads(row["command"])
    if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
        raise ValueError(f"{row['command']} is no command")
    return Errand(
        file=row["file"],
        occasion=row["occasion"],
        command=tuple(words),
        state=ErrandState(row["state"]),
        attempts=row["attempts"],
        due_s=row["due"],
        outcome=row["outcome"],
    )


def seal_of(part: Part) -> bytes:
    """The seal that a stored part is kept with."""
    return part_seal(part.upload, part.number, part.offset, part.length, part.digest, part.part_id)
