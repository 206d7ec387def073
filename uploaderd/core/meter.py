"""Rates of bytes a second: over the last seconds, and over the time in which bytes could move."""

from __future__ import annotations

from collections import deque

WINDOW_S = 5.0
LEARNT_S = 5.0  # less than that says nothing about a link
MEMORY_S = 60.0
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


class Goodput:
    """What the link carried while anything was being sent; idle time does not count.

    Older bytes weigh less: whenever twice ``MEMORY_S`` of busy time has come together, half of it
    is forgotten.
    """

    def __init__(self) -> None:
        self._bytes = 0.0
        self._busy_s = 0.0
        self._since_s: float | None = None

    def begin(self, now_s: float) -> None:
        """Something is being sent from now on."""
        self._since_s = now_s

    def end(self, now_s: float) -> None:
        """Nothing is being sent any more."""
        self.add(0, now_s)
        self._since_s = None

    def add(self, count: int, now_s: float) -> None:
        """Count bytes that moved; a negative number takes back what moved in vain."""
        self._bytes = max(self._bytes + count, 0.0)
        if self._since_s is not None:
            self._busy_s += now_s - self._since_s
            self._since_s = now_s
        if self._busy_s > 2 * MEMORY_S:
            self._busy_s /= 2
            self._bytes /= 2

    def rate_bps(self) -> float | None:
        """Bytes a second; None while too little is known."""
        return self._bytes / self._busy_s if self._busy_s >= LEARNT_S else None
