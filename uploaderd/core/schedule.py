"""Which part is sent next, and how long a session still lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uploaderd.core.model import Now, Upload

LONGEST_LIFE_S = 86_400.0
EXPIRY_MARGIN_S = 5.0  # a request that leaves later would meet a session that has just ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file that has a part to send.

    Attributes:
        deadline_s: what is left of its session, in seconds.
        in_flight: how many of its parts are being sent.
        hopeless: it cannot be finished in time at the measured rate.
    """

    file: str
    deadline_s: float
    in_flight: int
    hopeless: bool = False


def remaining_s(upload: Upload, now: Now) -> float:
    """What is left of the session's life, in seconds; negative once it is over.

    Within one boot CLOCK_BOOTTIME decides, since the service's hour runs through a suspend and
    the wall clock may jump. Across boots only the wall clock is left; a creation that lies in
    its future says that it was set back, and the session counts as over.
    """
    if upload.boot_id == now.boot_id:
        return upload.life_s - (now.boot_s - upload.created_boot_s)
    elapsed_s = now.wall_s - upload.created_s
    return upload.life_s - elapsed_s if elapsed_s >= 0 else -1.0


def life_s(created_at: float | None, expires_at: float | None, usual_s: float) -> float:
    """How long a session lives, in seconds, by the service's own stamps.

    The specification's example ends before it begins: what makes no sense counts as the usual
    life (protocol notes, "Objects").
    """
    if created_at is None or expires_at is None:
        return usual_s
    told_s = expires_at - created_at
    return told_s if 0 < told_s <= LONGEST_LIFE_S else usual_s


def expired(upload: Upload, now: Now) -> bool:
    """Whether nothing more should be sent to this session."""
    return remaining_s(upload, now) <= EXPIRY_MARGIN_S


def pick(candidates: Iterable[Candidate]) -> str | None:
    """The file whose session ends first.

    Those that can still be in time come before the hopeless ones. Among equals it is the one with
    the fewest parts in flight, then the lowest id, so that the choice never hangs on the order of
    a set.
    """

    def rank(c: Candidate) -> tuple[bool, float, int, str]:
        return (c.hopeless, c.deadline_s, c.in_flight, c.file)

    best = min(candidates, key=rank, default=None)
    return None if best is None else best.file
