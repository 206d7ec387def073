"""When is a dropped file whole? What the kernel says, how it arrived and how long it was quiet.

A file renamed into place is whole by convention. One written in place is whole once nobody has it
open for writing and it stayed unchanged for the watch's ``settle`` time. Where the kernel cannot
say who writes (a network file system, a foreign owner) only the quiet time is left, counted on our
own clock. A file that goes on growing is never given up: it is merely not ready yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from uploaderd.core.model import Arrival

if TYPE_CHECKING:
    from uploaderd.core.model import Identity, Now

_MIN_LOOK_AGAIN_S = 1.0
_MAX_LOOK_AGAIN_S = 10.0


class Writers(StrEnum):
    """Whether anyone has the file open for writing, as far as the kernel tells us."""

    OPEN = "open"
    NONE = "none"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The file is whole: take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Someone has it open for writing; a close is told by an event, else look again then."""

    look_again_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """It changed too recently; if nothing more happens it is ready at ``until_wall_s``."""

    until_wall_s: float


Verdict = Ready | Busy | Quiet


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What was seen of a file before this look.

    Attributes:
        first_seen_s: wall time at which it was first seen.
        changed_s: wall time of the last change that was seen of it, or the last event of it.
        held_open_s: how long one writer was seen to hold it open, up to its close; 0 if unseen.
    """

    first_seen_s: float
    changed_s: float
    held_open_s: float = 0.0


def judge(
    *,
    identity: Identity,
    before: Identity | None,
    arrival: Arrival,
    writers: Writers,
    marks: Marks,
    settle_s: float,
    now: Now,
) -> Verdict:
    """Say whether a file is whole.

    Args:
        identity: what it is now.
        before: what it was at the look before this one, None at the first.
        arrival: how it came to its name.
        writers: what the kernel said together with ``identity``.
        marks: what was seen of it before.
        settle_s: the quiet time that the watch asks for; 0 is to rely on the kernel alone.
        now: this moment.
    """
    if writers is Writers.OPEN:
        return Busy(look_again_s=min(max(settle_s, _MIN_LOOK_AGAIN_S), _MAX_LOOK_AGAIN_S))
    sure = writers is Writers.NONE or before in {None, identity}
    if arrival is Arrival.RENAMED and sure and not _rewritten(identity, before):
        return Ready()
    # Who holds a file open for longer than the quiet time says by closing it that it is done.
    if settle_s <= 0 or (writers is Writers.NONE and marks.held_open_s >= settle_s):
        return Ready()
    if before is not None and identity != before:
        return Quiet(until_wall_s=now.wall_s + settle_s)
    since = _quiet_since(
        ctime_s=identity.ctime_ns / 1e9,
        found_whole=arrival is Arrival.FOUND and writers is Writers.NONE,
        found=arrival is Arrival.FOUND,
        first_seen_s=marks.first_seen_s,
        changed_s=marks.changed_s,
        now_s=now.wall_s,
    )
    if since is None:
        # Every mark lies in the future, so the clock was set back and no age can be told: one
        # quiet time between two looks that agree has to do, or the file would wait for the clock.
        return Ready() if before is not None else Quiet(until_wall_s=now.wall_s + settle_s)
    until = since + settle_s
    return Ready() if until <= now.wall_s else Quiet(until_wall_s=until)


def _rewritten(identity: Identity, before: Identity | None) -> bool:
    """True if the renamed file itself changed in place later, so that the rename says nothing.

    Another inode is another file renamed over the first, which is whole. Where nobody can say who
    writes, it may as well have been made there, and a ctime alone may hide a write.
    """
    return (
        before is not None
        and (identity.dev, identity.inode) == (before.dev, before.inode)
        and not identity.same_bytes(before)
    )


def _quiet_since(
    *,
    ctime_s: float,
    found_whole: bool,
    found: bool,
    first_seen_s: float,
    changed_s: float,
    now_s: float,
) -> float | None:
    """Return the wall time of the last change, from the marks that do not lie in the future.

    ctime, since a copy may preserve mtime but nobody can set ctime (inode(7)). A found file that
    nobody writes may have been lying there for long, so its ctime alone counts. Where writers are
    unknown ctime may be a server's clock: a found file then counts from what was seen here.
    """
    if found_whole:
        marks = [ctime_s] if ctime_s <= now_s else [first_seen_s]
    elif found:
        marks = [first_seen_s, changed_s]
    else:
        marks = [changed_s, ctime_s]
    past = [mark for mark in marks if mark <= now_s]
    return max(past, default=None)
