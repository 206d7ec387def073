"""A rate of bytes a second over the last seconds."""

from __future__ import annotations

from collections import deque

WINDOW_S = 5.0
SLICE_S = 0.25


class Meter:
    """Counts bytes in slices of time; the caller tells the time, in seconds of any steady clock."""

    def __init__(self) -> None:
        self._slices: deque[tuple[float, int]] = deque()

    def add(self, count: int, now_s: float) -> None:
        """Count ``count`` bytes that moved at ``now_s``."""
        if self._slices and now_s - self._slices[-1][0] < SLICE_S:
            start, before = self._slices.pop()
            self._slices.append((start, before + count))
        else:
            self._slices.append((now_s, count))
        self._trim(now_s)

    def rate_bps(self, now_s: float) -> float:
        """Bytes a second over the last ``WINDOW_S`` seconds, or over less if it began later."""
        self._trim(now_s)
        if not self._slices:
            return 0.0
        span_s = max(now_s - self._slices[0][0], SLICE_S)
        return sum(count for _, count in self._slices) / span_s

    def _trim(self, now_s: float) -> None:
        while self._slices and now_s - self._slices[0][0] > WINDOW_S:
            self._slices.popleft()
