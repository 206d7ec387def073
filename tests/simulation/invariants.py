"""What must hold in the end, of the journal, the service and the spool together."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from uploaderd.core.reasons import TARGET_TROUBLE
from uploaderd.core.values import replace
from uploaderd.spool import naming
from uploaderd.spool.ignore import Ignore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.simulation.clock import SimClock
    from tests.simulation.disk import Disk, Inode
    from tests.simulation.scenario import Scenario
    from tests.simulation.service import SimService
    from uploaderd.config import Watch
    from uploaderd.journal import Journal

ENDED = ("completed", "cancelled", "expired", "lost")
PERSONS = frozenset(
    {"held.operator", "held.uncertain", "held.restarts", "held.unreadable", "held.deadline"}
)
OURS = (b"done/", b"failed/")


def unfinished(disk: Disk, journal: Journal, settings: Watch) -> list[str]:
    """What is still to be done: each a sentence; nothing if the daemon may rest."""
    left = []
    rows = journal.connection.execute("SELECT rowid, * FROM files").fetchall()
    for row in rows:
        moving = row["state"] not in {"done", "failed", "cancelled", "held"}
        if moving or row["filing"] == "pending" or row["reason_code"] in TARGET_TROUBLE:
            left.append(f"{row['path']!r} is {row['state']} ({row['reason_code']})")
    cancelling = journal.connection.execute("SELECT key FROM uploads WHERE state = 'cancelling'")
    left += [f"session {row['key']} is still to be cancelled" for row in cancelling]
    latest = {bytes(row["path"]): row for row in sorted(rows, key=_age)}
    ignored = Ignore(settings.ignore)
    for path, inode in disk.paths.items():
        if path.startswith(OURS) or ignored(path):
            continue
        row = latest.get(path)
        if row is None or not _is_of(row, inode):
            left.append(f"{path!r} lies in the spool and nobody knows of it")
    return left


def _age(row: Any) -> int:  # noqa: ANN401 - a row
    """Which of two rows came later; the wall clock may say otherwise."""
    return int(row["rowid"])


def _is_of(row: Any, inode: Inode) -> bool:  # noqa: ANN401 - a row
    """Whether the row speaks of what lies there; what was cancelled may change its mode."""
    now = inode.identity
    known = replace(
        now,
        inode=int(row["inode"]),
        size=row["size"],
        mtime_ns=row["mtime_ns"],
        ctime_ns=row["ctime_ns"],
    )
    return known.same_bytes(now) if row["state"] == "cancelled" else known == now


def examine(
    scenario: Scenario,
    clock: SimClock,
    disk: Disk,
    service: SimService,
    journal: Journal,
    forgotten: Mapping[str, Any],
) -> list[str]:
    """All that does not hold, each with its invariant's name.

    What was ``forgotten`` still holds of the service and of ``done/``.
    """
    there = journal.connection.execute("SELECT rowid, * FROM files").fetchall()
    known = {row["id"] for row in there}
    rows = [*there, *(row for key, row in forgotten.items() if key not in known)]
    uploads = journal.connection.execute("SELECT * FROM uploads").fetchall()
    told = journal.connection.execute("SELECT file FROM events WHERE code = 'held.uncertain'")
    unsure = {row["file"] for row in told}  # also if it changed since, and went on
    return [
        *_i2_whole(scenario, clock, disk, service),
        *_i3_rows(rows, service),
        *_i3_once(rows, uploads, unsure, disk, service),
        *_i3_all(scenario, there, disk, service),
        *_i3_receipts(rows, disk, service),
        *_i4(rows, uploads, service),
        *_i6(rows, uploads, service),
    ]


def _i2_whole(scenario: Scenario, clock: SimClock, disk: Disk, service: SimService) -> list[str]:
    """Each remote file is one version of a file as it stood when it was whole."""
    broken = []
    for file in service.files.values():
        versions = [v for _, v in disk.versions if v.content == file.content]
        if not versions:
            broken.append(f"I2: {file.id} ({file.filename}) holds what no file ever held")
        elif scenario.leases and not any(v.closed for v in versions):
            broken.append(f"I2: {file.id} ({file.filename}) was taken while it was written")
        elif not scenario.leases and not clock.jumped:
            quiet_s = max((v.until_s or clock.true_s) - v.since_s for v in versions)
            if quiet_s < scenario.settle_s * 0.99 and not any(v.renamed for v in versions):
                broken.append(f"I2: {file.id} ({file.filename}) was taken after {quiet_s:.2f} s")
    return broken


def _i3_rows(rows: list[Any], service: SimService) -> list[str]:
    """Each row that is done names a file of the service's, and no two the same."""
    broken = []
    named: Counter[str] = Counter()
    for row in rows:
        if row["state"] != "done":
            continue
        remote = service.files.get(row["remote_file"])
        if remote is None:
            broken.append(
                f"I3: {row['path']!r} is done as {row['remote_file']}, which is not there"
            )
        elif remote.md5 != row["md5"] or len(remote.content) != row["size"]:
            broken.append(f"I3: {row['path']!r} is done, but {remote.id} has other bytes")
        if row["reason_code"] != "done.already_uploaded":
            named[row["remote_file"]] += 1
    broken += [f"I3: {count} rows are done as {one}" for one, count in named.items() if count > 1]
    return broken


def _i3_once(
    rows: list[Any], uploads: list[Any], unsure: set[str], disk: Disk, service: SimService
) -> list[str]:
    """No content is at the service more often than it was dropped; none is there unclaimed."""
    broken = []
    uncertain = any(row["reason_code"] == "held.uncertain" for row in rows)
    counts = Counter(file.content for file in service.files.values())
    for content, count in counts.items():
        dropped = disk.drops.get(content, 0)
        if count > max(dropped, 1) and not uncertain:
            names = [file.id for file in service.files.values() if file.content == content]
            broken.append(f"I3: dropped {dropped} times, there {count} times: {', '.join(names)}")
    claimed = {row["remote_file"] for row in rows if row["state"] == "done"}
    owners = {upload["remote_id"]: upload["file"] for upload in uploads}
    broken += [
        f"I3: {remote.id} ({remote.filename}) is at the service and no row says so"
        for remote in service.files.values()
        if remote.id not in claimed and owners.get(remote.upload) not in unsure
    ]
    return broken


def _i3_all(scenario: Scenario, rows: list[Any], disk: Disk, service: SimService) -> list[str]:
    """What lies in the spool in the end is there for a reason."""
    broken = []
    latest = {bytes(row["path"]): row for row in sorted(rows, key=_age)}
    ignored = Ignore(())
    for path, inode in disk.paths.items():
        if path.rpartition(b"/")[2].startswith(naming.OURS):
            broken.append(f"I3: {path!r} was left behind")
        if path.startswith(OURS) or path.rpartition(b"/")[2].startswith(b".") or ignored(path):
            continue
        row = latest.get(path)
        if row is None or row["state"] in {"held", "cancelled"}:
            continue
        if row["state"] == "done" and scenario.after_upload == "keep":
            if service.files[row["remote_file"]].content != inode.data:
                broken.append(f"I3: {path!r} is kept as done, with other bytes")
            continue
        broken.append(f"I3: {path!r} lies in the spool, but is {row['state']}")
    return broken


def _i3_receipts(rows: list[Any], disk: Disk, service: SimService) -> list[str]:
    """What lies in done/ has its receipt there, and each receipt is true."""
    broken = []
    by_id = {row["id"]: row for row in rows}
    for path, inode in disk.paths.items():
        if not path.startswith(OURS):
            continue
        if not path.endswith(naming.RECEIPT):
            written_since = inode.filed is not None and inode.filed != inode.data
            if path + naming.RECEIPT not in disk.paths and not written_since:
                broken.append(f"I3: {path!r} has no receipt")
            continue
        receipt = json.loads(inode.data)
        row = by_id.get(receipt["id"])
        if row is None or row["filing"] != "filed" or bytes(row["filed_as"] or b"") != path[:-13]:
            broken.append(f"I3: {path!r} is the receipt of no file that was filed there")
            continue
        if path.startswith(b"done/") != (
            receipt["outcome"] == "uploaded" and row["state"] == "done"
        ):
            broken.append(f"I3: {path!r} tells of another outcome")
        moved = disk.paths.get(path[:-13])
        if row["state"] == "done":
            remote = service.files.get(receipt["file_id"])
            if remote is None or remote.md5 != receipt["md5"]:
                broken.append(f"I3: {path!r} names a file that is not there")
            elif moved is not None and moved.filed != remote.content:
                broken.append(f"I3: {path[:-13]!r} is not what was uploaded")
    filed = {row["id"] for row in rows if row["filing"] == "filed"}
    filed -= {row["id"] for row in rows if row["reason_code"] == "done.already_uploaded"}
    there = {
        json.loads(inode.data)["id"]
        for path, inode in disk.paths.items()
        if path.startswith(OURS) and path.endswith(naming.RECEIPT)
    }
    broken += [f"I3: {by_id[one]['path']!r} is filed without a receipt" for one in filed - there]
    return broken


def _i4(rows: list[Any], uploads: list[Any], service: SimService) -> list[str]:
    """Each session ended, or belongs to a file that a person was told of."""
    broken = []
    in_use = {row["upload"] for row in rows if row["state"] == "held"}
    for upload in uploads:
        state, remote = upload["state"], service.uploads.get(upload["remote_id"] or "")
        if state not in ENDED and upload["key"] not in in_use:
            broken.append(f"I4: session {upload['key']} ({upload['remote_id']}) is left {state}")
        if state in ENDED and remote is not None and service.status_of(remote) == "pending":
            broken.append(f"I4: {remote.id} is pending, but the journal says {state}")
        if state == "completed" and (remote is None or remote.ended != "completed"):
            broken.append(f"I4: {upload['remote_id']} is completed in the journal alone")
    return broken


def _i6(rows: list[Any], uploads: list[Any], service: SimService) -> list[str]:
    """What is held says what a person has to do, and only a person could."""
    broken = []
    claimed = {row["remote_file"] for row in rows if row["state"] == "done"}
    sessions = {upload["key"]: upload for upload in uploads}
    for row in rows:
        if row["state"] != "held":
            continue
        code = row["reason_code"]
        if code not in PERSONS:
            broken.append(f"I6: {row['path']!r} is held without need: {code} {row['reason_text']}")
        elif code == "held.uncertain":
            name = sessions[row["upload"]]["filename"]
            like_it = [
                file.id
                for file in service.files.values()
                if file.id not in claimed
                and file.filename == name
                and (service.rules.bytes_null or len(file.content) == row["size"])
            ]
            if len(like_it) < 2:
                broken.append(f"I6: {row['path']!r} is held as uncertain, between {like_it}")
    return broken
