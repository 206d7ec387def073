"""Waiting for files to end, over restarts of the daemon."""

from __future__ import annotations

import os
import re
import stat
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uploaderd.cli import voice
from uploaderd.cli.common import boot_s
from uploaderd.control.documents import AnswerError
from uploaderd.core.report import escape_path
from uploaderd.core.selection import Selection
from uploaderd.errors import NoDaemonError, UploaderdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from uploaderd.control.client import Client
    from uploaderd.control.documents import Row

POLL_S: Final = 0.25
AWAY_S: Final = 60.0
UNSEEN_S: Final = 10.0
_SERVER_ERROR: Final = 500
# States and reasons in which a file may stay for long; a person who waits is told.
_STUCK: Final = frozenset({"held", "deferred", "uncertain", "queued.target"})
_NUMBER: Final = re.compile(rb"~\d+(?=(\.[^./]*)?$)")


@dataclass(slots=True, kw_only=True)
class Wanted:
    """A file to wait for: what it is called, how to find its row, and what became of it.

    Attributes:
        label: the caller's word for it.
        paths: where it is, or was, in the spool.
        inode: tells it from its forerunners at the same path; None where it is not known.
        since_ns: a row that was made before this moment is another file's.
    """

    label: str
    id: str | None = None
    paths: Sequence[bytes] = ()
    inode: tuple[int, int] | None = None
    since_ns: int = 0
    row: Row | None = None
    lost: bool = False
    said: set[str] = field(default_factory=set)

    @property
    def ended(self) -> bool:
        """It has a row that will not change any more, or it will never have one."""
        return self.lost or (self.row is not None and self.row.ended)


def by_name(client: Client, name: str) -> Wanted:
    """Read FILE: an id, else a path that is in the spool now or was once.

    Raises:
        UploaderdError: it is neither.
    """
    if "/" not in name:
        row = client.file(name)
        if row is not None:
            return Wanted(label=name, id=row.id, row=row)
    paths = _spellings(name)
    wanted = Wanted(label=name, paths=paths, inode=_inode(name))
    wanted.row = find(client, wanted) or _filed(client, paths)
    if wanted.row is not None:
        wanted.id = wanted.row.id
    elif wanted.inode is None:
        raise UploaderdError(f"no file has the id or the path {name}", hint="see: uploaderd list")
    elif not any(_places(client, paths)):
        raise UploaderdError(
            f"{name} is not in a watched folder",
            hint="name it as it lies in the spool, or by its id (see: uploaderd list); to drop it: "
            "uploaderd put",
        )
    return wanted


def find(client: Client, wanted: Wanted) -> Row | None:
    """Ask for the newest row that speaks of this file."""
    if wanted.id is not None:
        return client.file(wanted.id)
    for path in wanted.paths:
        for row in client.rows(Selection(path=path)):
            if wanted.inode is not None and (row.dev, row.inode) != wanted.inode:
                continue
            if _ns(row.created_at) >= wanted.since_ns // 1_000_000 * 1_000_000:
                return row
    return None


def wait_all(client: Client, wanted: Sequence[Wanted], *, grace_s: float = AWAY_S) -> None:
    """Block until every file has ended; say once of each what holds it up.

    Args:
        client: asks the daemon.
        wanted: the files.
        grace_s: how long nobody may answer before NoDaemonError is raised.
    """
    began_s = boot_s()
    while True:
        pending = [one for one in wanted if not one.ended]
        if not pending:
            return
        patiently(lambda: _look(client, pending, waited_s=boot_s() - began_s), grace_s=grace_s)  # noqa: B023 - called at once
        if any(not one.ended for one in pending):
            time.sleep(POLL_S)


def patiently(ask: Callable[[], object], *, grace_s: float = AWAY_S) -> None:
    """Ask the daemon, again and again while it is away for less than ``grace_s``."""
    away_s: float | None = None
    while True:
        try:
            ask()
        except (NoDaemonError, AnswerError) as error:
            if isinstance(error, AnswerError) and error.status < _SERVER_ERROR:
                raise
            now_s = boot_s()
            if away_s is None:
                away_s = now_s
                if grace_s >= AWAY_S:
                    voice.note(f"{error}; waiting for the daemon to come back")
            if now_s - away_s >= grace_s:
                raise
            time.sleep(POLL_S)
        else:
            return


def failures(wanted: Iterable[Wanted]) -> int:
    """Say of each file that did not arrive why not, and count them."""
    count = 0
    for one in wanted:
        if one.lost:
            voice.error(f"{one.label} left the spool before the daemon had seen it")
        elif one.row is not None and one.row.state != "done":
            voice.error(
                f"{one.label} {_became(one.row.state)}: {one.row.reason.text}",
                hint=f"see: uploaderd show {one.row.id}",
            )
        else:
            continue
        count += 1
    return count


def _look(client: Client, pending: Sequence[Wanted], *, waited_s: float) -> None:
    for one in pending:
        row = find(client, one)
        if row is None:
            _unseen(one, waited_s)
            continue
        one.row, one.id = row, row.id
        if row.state in _STUCK or row.reason.code in _STUCK:
            _once(one, row.reason.code, f"{one.label} is {row.state}: {row.reason.text}")


def _unseen(one: Wanted, waited_s: float) -> None:
    """No row yet: the daemon is slow, or the file is gone, or nobody ever takes it."""
    if one.id is not None:
        one.lost = True
    elif waited_s > UNSEEN_S:
        if not any(os.path.lexists(path) for path in one.paths):
            one.lost = True
        else:
            _once(one, "unseen", f"the daemon has not seen {one.label} yet; see: uploaderd check")


def _once(one: Wanted, topic: str, message: str) -> None:
    if topic not in one.said:
        one.said.add(topic)
        voice.note(message)


def _became(state: str) -> str:
    return {"failed": "failed", "cancelled": "was cancelled"}.get(state, f"is {state}")


def _spellings(name: str) -> tuple[bytes, ...]:
    """Give the absolute path as written, and the one behind symlinked folders."""
    written = os.path.abspath(os.fsencode(name))  # noqa: PTH100 - bytes, and no symlink followed
    folder, base = os.path.split(written)
    real = os.path.join(os.path.realpath(folder), base)  # noqa: PTH118 - bytes
    return (written,) if real == written else (written, real)


def _inode(name: str) -> tuple[int, int] | None:
    try:
        found = Path(name).lstat()
    except OSError:
        return None
    return None if stat.S_ISDIR(found.st_mode) else (found.st_dev, found.st_ino)


def _places(client: Client, paths: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Split each path that is in a watch into the watch and the path below it."""
    for row in client.status().watches:
        watch = os.fsencode(row.path).rstrip(b"/") + b"/"
        real = os.path.realpath(watch) + b"/"
        for path in paths:
            for folder in {watch, real}:
                if path.startswith(folder):
                    yield watch, path.removeprefix(folder)


def _filed(client: Client, paths: Sequence[bytes]) -> Row | None:
    """Find the file that is in ``done/`` or ``failed/`` now; ``~2`` in its name may be ours."""
    for watch, below in _places(client, paths):
        outlet, _, rest = below.partition(b"/")
        if outlet not in {b"done", b"failed"}:
            continue
        shown = escape_path(below)
        for origin in dict.fromkeys((rest, _NUMBER.sub(b"", rest))):
            for row in client.rows(Selection(path=watch + origin)):
                if row.filed_as == shown:
                    return row
    return None


def _ns(stamp: str) -> int:
    """Read RFC 3339 as nanoseconds since 1970."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000) * 1_000_000


def known_id(asked: Client, name: str) -> str:
    """Find the file's id; a file at the same path that is not known yet hides no older one."""
    wanted = by_name(asked, name)
    if wanted.id is None:
        wanted.inode = None
        row = find(asked, wanted)
        if row is None:
            raise UploaderdError(
                f"the daemon has not seen {name} yet",
                hint="is its name ignored? see: uploaderd check",
            )
        return row.id
    return wanted.id
