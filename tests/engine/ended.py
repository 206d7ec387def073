"""Files that have ended, in a rig's journal and folder."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING

from uploaderd.core.events import (
    Admitted,
    Assembled,
    Cancelled,
    Completed,
    Filed,
    FilingAs,
    Refused,
)
from uploaderd.core.model import FileState
from uploaderd.core.reasons import reason
from uploaderd.engine.retention import LONGEST_S

if TYPE_CHECKING:
    from tests.engine.kit import Rig
    from uploaderd.core.model import File

DAY_S = 86_400.0


async def done(
    rig: Rig,
    path: str,
    *,
    stays: bool = False,
    stamp: int | None = 1,
    created_at: int | None = 1,
) -> File:
    """A file that arrived and was filed; it ``stays`` where after_upload is keep.

    The service stamped its session and its file, or did not.
    """
    file = rig.session(rig.put(path), stored=True)
    rig.journal.connection.execute(
        "UPDATE uploads SET server_created = ? WHERE file = ?", (stamp, file.id)
    )
    md5 = hashlib.md5((rig.root / path).read_bytes(), usedforsecurity=False).hexdigest()
    result = json.dumps({"id": f"file-{file.id}", "created_at": created_at})
    for event in (
        Admitted(),
        Assembled(md5=md5),
        Completed(remote_file=f"file-{file.id}", result=result),
        FilingAs(filed_as=b"done/" + file.path),
        Filed(place=f"done/{path}"),
    ):
        file = await rig.ctx.apply(file, event)
    if not stays:
        (rig.root / path).unlink()
    return file


async def failed(rig: Rig, path: str) -> File:
    """A file that was refused and was filed."""
    file = rig.put(path, FileState.SETTLING, "settling.seen")
    for event in (
        Refused(reason=reason("failed.empty")),
        FilingAs(filed_as=b"failed/" + file.path),
        Filed(place=f"failed/{path}"),
    ):
        file = await rig.ctx.apply(file, event)
    (rig.root / path).unlink()
    return file


async def cancelled(rig: Rig, path: str) -> File:
    """A file that the operator wants no more; it lies where it lay."""
    return await rig.ctx.apply(rig.put(path), Cancelled())


async def forget(rig: Rig) -> int:
    """Go once round all that has ended; return in how many steps."""
    rig.clock.forward(7_200.0)
    steps = 0
    while await rig.engine._retention.step() <= LONGEST_S:
        steps += 1
        await asyncio.sleep(0)
    return steps


def rows(rig: Rig, table: str) -> int:
    """How many rows a table has."""
    count: int = rig.journal.connection.execute(
        f"SELECT count(*) FROM {table}"  # noqa: S608 - a name of ours
    ).fetchone()[0]
    return count
