"""Errands: the runs of hooks that are owed for files that have ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from uploaderd.core.model import Filing

if TYPE_CHECKING:
    from uploaderd.core.model import File

FIRST_S = 10.0
FACTOR = 3.0
LONGEST_S = 6 * 3600.0
"""The waits after each attempt in vain: 10 s, 30 s, 90 s … 6 h; nine of them take 15 hours."""


class ErrandState(StrEnum):
    """Where an errand stands; ``RUNNING`` is the journalled intent of a run."""

    OWED = "owed"
    RUNNING = "running"
    DONE = "done"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What one hook owes one file.

    Attributes:
        occasion: the state that the file ended in.
        command: the hook's, as it was configured when the file ended; it tells hooks apart.
        attempts: how many runs were begun.
        due_s: the wall time of the next run; while one is under way, of the one that follows if
            nothing is ever heard of it.
        outcome: how the last run ended, in words, or empty.
    """

    file: str
    occasion: str
    command: tuple[str, ...]
    state: ErrandState = ErrandState.OWED
    attempts: int = 0
    due_s: float
    outcome: str = ""

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """What tells it from all others."""
        return self.file, self.command


def falls_due(before: File, after: File) -> bool:
    """Whether this step is the one that hooks wait for: receipt and source lie where they stay."""
    return before.filing is Filing.PENDING and after.filing is Filing.FILED


def wait_s(attempts: int) -> float:
    """How long to wait after so many attempts in vain; none after the last that nobody saw end."""
    return 0.0 if attempts < 1 else min(FIRST_S * FACTOR ** min(attempts - 1, 20), LONGEST_S)
