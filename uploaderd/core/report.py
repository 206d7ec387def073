"""The documents that people and programs read: FILE, status and receipt (contract)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from uploaderd.core.gate import GateState
from uploaderd.core.model import UNDRAINED, FileState, Filing, PartState
from uploaderd.core.schedule import remaining_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from uploaderd.core.limits import Limit
    from uploaderd.core.model import File, Now, Part, Reason, Upload

Document = dict[str, object]
RECEIPT_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a file's parts are; bytes in flight are not counted as stored."""

    total: int = 0
    stored: int = 0
    in_flight: int = 0
    bytes_stored: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of a file's history."""

    at_s: float
    event: str
    state: str
    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchFacts:
    """How a watch hears of its files."""

    path: str
    mode: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightFacts:
    """How many parts are on their way to a target.

    Attributes:
        now: that many are.
        limit: that many may be, as things are.
        most: that many may be at best.
        code: why ``limit`` is what it is, as a stable word.
        why: the same as a sentence.
        frozen: it stays so for now, whatever happens.
        connection_bps: what one connection was seen to carry, in bytes a second; None: unknown.
    """

    now: int
    limit: int
    most: int
    code: str
    why: str
    frozen: bool = False
    connection_bps: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """Whether a target takes requests, and if not until when."""

    name: str
    state: str
    flight: FlightFacts
    until_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that is going on, at one moment."""

    version: str
    pid: int
    started_s: float
    state: str
    counts: Mapping[FileState, int]
    unfiled: int
    scanned: bool
    bytes_queued: int
    bytes_stored: int
    bytes_resent: int
    rate_bps: float
    limit: Limit
    watches: Sequence[WatchFacts]
    targets: Sequence[TargetFacts]
    active: Sequence[Document]
    trouble: str | None = None


def rfc3339(wall_s: float) -> str:
    """Write Unix seconds as RFC 3339 in UTC, with milliseconds."""
    text = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _time(wall_s: float | None) -> str | None:
    return None if wall_s is None else rfc3339(wall_s)


def escape_path(path: bytes) -> str:
    r"""Show a path as text: UTF-8 as it is, any other byte ``NN`` as ``\udcNN``.

    That is Python's ``surrogateescape`` followed by ``backslashreplace``; nothing is dropped.
    """
    text = path.decode("utf-8", "surrogateescape")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def full_path(file: File) -> str:
    """The file's absolute path as text."""
    watch = file.watch.encode("utf-8", "surrogateescape")
    return escape_path(watch.rstrip(b"/") + b"/" + file.path)


def _reason(why: Reason) -> Document:
    return {"code": why.code, "text": why.text, "until": _time(why.until_s)}


def file_document(
    file: File,
    upload: Upload | None,
    progress: Progress,
    now: Now,
    *,
    rate_bps: float = 0.0,
    moving: int = 0,
) -> Document:
    """FILE of the contract, with ``filed``, ``inode``, ``dev`` and ``bytes_moving`` added.

    ``moving`` are bytes of parts in flight that left already.
    """
    size = file.identity.size
    stored = size if file.state is FileState.DONE else progress.bytes_stored
    left = size - stored - moving
    live = upload is not None and file.state in {FileState.UPLOADING, FileState.COMPLETING}
    expires_s = upload.created_s + upload.life_s if upload is not None else None
    if live and upload is not None:
        expires_s = now.wall_s + remaining_s(upload, now)
    return {
        "id": file.id,
        "path": full_path(file),
        "watch": escape_path(file.watch.encode("utf-8", "surrogateescape")),
        "target": file.target,
        "purpose": file.purpose,
        "bytes": size,
        "state": file.state.value,
        "reason": _reason(file.reason),
        "parts": {
            "total": progress.total,
            "stored": progress.stored,
            "in_flight": progress.in_flight,
        },
        "bytes_stored": stored,
        "bytes_moving": moving,
        "bytes_resent": file.bytes_resent,
        "rate_bps": round(rate_bps),
        "eta_s": round(max(left, 0) / rate_bps, 1) if rate_bps >= 1 and live else None,
        "upload_id": upload.remote_id if upload is not None else None,
        "expires_at": _time(expires_s),
        "file_id": file.remote_file,
        "md5": file.md5,
        "attempts": file.attempts,
        "created_at": rfc3339(file.created_s),
        "updated_at": rfc3339(file.updated_s),
        "filed": file.filing is not Filing.PENDING,
        "filed_as": None if file.filed_as is None else escape_path(file.filed_as),
        "dev": file.identity.dev,
        "inode": file.identity.inode,
    }


def part_document(part: Part) -> Document:
    """One line of ``parts_list``."""
    return {
        "number": part.number,
        "offset": part.offset,
        "bytes": part.length,
        "state": part.state.value,
        "part_id": part.part_id,
        "digest": None if part.digest is None else f"xxh3_128:{part.digest.hex()}",
        "sends": part.sends,
    }


def moment_document(moment: Moment) -> Document:
    """One line of ``history``."""
    return {
        "at": rfc3339(moment.at_s),
        "event": moment.event,
        "state": moment.state,
        "code": moment.code,
        "text": moment.text,
    }


def drained(counts: Mapping[FileState, int], *, unfiled: int, scanned: bool) -> bool:
    """Whether all that was dropped has ended and left the spool, or waits for a person.

    Before every watch was ``scanned`` once, nobody knows what was dropped meanwhile.
    """
    return scanned and unfiled == 0 and not any(counts.get(state, 0) for state in UNDRAINED)


def status_document(snapshot: Snapshot) -> Document:
    """``GET /v1/status`` of the contract.

    Added are ``trouble``: what is wrong, or null; and ``bandwidth``: the limit that is in force
    (``limit_bps``, null for none), by whose word, until when, and what the configuration says.
    """
    return {
        "version": snapshot.version,
        "pid": snapshot.pid,
        "started_at": rfc3339(snapshot.started_s),
        "state": snapshot.state,
        "drained": drained(snapshot.counts, unfiled=snapshot.unfiled, scanned=snapshot.scanned),
        "counts": {state.value: snapshot.counts.get(state, 0) for state in FileState},
        "bytes": {
            "queued": snapshot.bytes_queued,
            "stored": snapshot.bytes_stored,
            "resent": snapshot.bytes_resent,
        },
        "rate_bps": round(snapshot.rate_bps),
        "bandwidth": {
            "limit_bps": snapshot.limit.rate_bps,
            "why": snapshot.limit.why.value,
            "until": _time(snapshot.limit.until_s),
            "configured": snapshot.limit.configured,
        },
        "watches": [{"path": w.path, "mode": w.mode, "why": w.why} for w in snapshot.watches],
        "targets": [_target(target) for target in snapshot.targets],
        "active": list(snapshot.active),
        "trouble": snapshot.trouble,
    }


def _target(target: TargetFacts) -> Document:
    flight = target.flight
    bps = flight.connection_bps
    return {
        "name": target.name,
        "state": target.state,
        "until": _time(target.until_s),
        "parts_in_flight": {
            "now": flight.now,
            "limit": flight.limit,
            "most": flight.most,
            "code": flight.code,
            "why": flight.why,
            "frozen": flight.frozen,
        },
        "connection_bps": None if bps is None else round(bps),
    }


def receipt_document(
    file: File, upload: Upload | None, parts: Sequence[Part], result: object
) -> Document:
    """The lasting record of one file's outcome.

    ``id`` is added to the contract's keys: it tells after a crash that a receipt is this file's.
    """
    uploaded = file.state is FileState.DONE
    return {
        "schema": RECEIPT_SCHEMA,
        "id": file.id,
        "outcome": "uploaded" if uploaded else "failed",
        "path": full_path(file),
        "bytes": file.identity.size,
        "md5": file.md5,
        "purpose": file.purpose,
        "target": file.target,
        "upload_id": upload.remote_id if upload is not None else None,
        "file_id": file.remote_file,
        "file": result,
        "parts": [
            {
                "number": part.number,
                "offset": part.offset,
                "bytes": part.length,
                "part_id": part.part_id,
                "digest": None if part.digest is None else f"xxh3_128:{part.digest.hex()}",
            }
            for part in parts
            if part.state is PartState.STORED
        ],
        "attempts": file.attempts,
        "bytes_sent": file.bytes_sent,
        "bytes_resent": file.bytes_resent,
        "started_at": _time(file.started_s),
        "finished_at": _time(file.finished_s),
        "reason": _reason(file.reason),
    }


def headline(status: Document) -> str:
    """What is going on, in the line that a service manager shows; from the status document."""
    counts = status["counts"]
    active, targets = status["active"], status["targets"]
    if not (
        isinstance(counts, dict) and isinstance(active, list) and isinstance(targets, list)
    ):  # pragma: no cover - ours
        raise TypeError
    waiting = sum(counts[state] for state in ("settling", "queued", "deferred"))
    said = []
    if status["trouble"]:
        said.append(f"Trouble: {status['trouble']}")
    well = {GateState.OPEN, GateState.LIMITED}
    shut = [one["name"] for one in targets if one["state"] not in well]
    if status["state"] == "draining":
        said.append("Stopping: what is on the wire comes to its end")
    elif status["state"] == "paused":
        said.append(f"Paused by the operator, {waiting} files wait")
    elif active:
        said.append(f"Uploading {len(active)} files at {_rate(status['rate_bps'])}, {waiting} wait")
    elif waiting:
        said.append(f"{waiting} files wait")
    else:
        said.append("Nothing is left to do" if status["drained"] else "Looking for files")
    if shut:
        said.append(f"{', '.join(shut)} takes nothing")
    said += [f"{counts[state]} {state}" for state in ("uncertain", "held") if counts[state]]
    return "; ".join(said)


def _rate(bps: object) -> str:
    """Bytes a second for a person, in binary units."""
    rate = float(bps) if isinstance(bps, int | float) else 0.0
    for unit in ("B/s", "KiB/s", "MiB/s"):
        if rate < 1024:  # noqa: PLR2004 - the unit's own step
            return f"{rate:.0f} {unit}" if unit == "B/s" else f"{rate:.1f} {unit}"
        rate /= 1024
    return f"{rate:.1f} GiB/s"
