"""The limit of bandwidth that is in force, as whoever looks on is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Whose(StrEnum):
    """By whose word a limit is in force."""

    CONFIGURED = "configured"
    TIMETABLE = "timetable"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What is in force now.

    Attributes:
        rate_bps: bytes a second, None for no limit.
        why: by whose word.
        until_s: the wall time at which another rate comes into force, None where none is known.
        configured: what the configuration says, as it is written there.
    """

    rate_bps: int | None
    why: Whose
    configured: str
    until_s: float | None = None
