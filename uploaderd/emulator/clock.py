"""The service's clock: the machine's wall clock, plus what tests have moved it by."""

from __future__ import annotations

import math
import time

from uploaderd.errors import UsageError


class Clock:
    """Wall time in Unix seconds that can be moved forward, never back.

    The offset lives as long as the object: an emulator that starts again on the same store starts
    at the machine's own time.
    """

    def __init__(self) -> None:
        self._offset_s = 0.0

    @property
    def offset_s(self) -> float:
        """How far the clock has been moved, in seconds."""
        return self._offset_s

    def now(self) -> float:
        """Return the service's time in Unix seconds."""
        return time.time() + self._offset_s  # noqa: TID251 - this is the Clock that others take

    def advance(self, seconds: float) -> None:
        """Move the clock forward; a negative or endless step is a UsageError."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise UsageError(f"the clock moves forward by a number of seconds, not by {seconds!r}")
        self._offset_s += seconds
