"""Rates of bytes a second: over the last seconds, and over the time in which bytes could move."""

from __future__ import annotations

from collections import deque

WINDOW_S = 5.0
LEARNT_S = 5.0  # less than that says nothing about a link
MEMORY_S = 60.0
SLICE_S = 0.25
SETTLE_S = 0.25  # new connections fill their buffers first, old ones empty theirs
ROUND_S = 0.3
ROUND_STEPS = 12  # bytes come in steps: of fewer, one more or less would decide
ROUND_IDLE = 0.1  # of a round may pass with a place free, and it counts all the same
LEARNT_BYTES = 64 << 20  # on a fast link so many say enough, however soon they are there


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


class Rounds:
    """Cuts time into rounds in which all places were in use, and says what moved in each."""

    def __init__(self) -> None:
        self._spoilt_s: float | None = None
        self._since_s: float | None = None
        self._last_s = 0.0
        self._idle_s = 0.0
        self._bytes = 0
        self._step = 0

    def spoil(self) -> None:
        """What was counted in this round says nothing; a new one begins a little later."""
        self._since_s = self._spoilt_s = None

    def add(
        self, count: int, now_s: float, *, places: int, full: bool, hasty: bool = False
    ) -> float | None:
        """Count bytes that moved just now; return bytes a second if that ended a round.

        Args:
            count: how many.
            now_s: now.
            places: how many parts may move at once.
            full: whether so many do.
            hasty: half as many bytes will do.
        """
        if self._spoilt_s is None:
            self._spoilt_s = now_s
        if self._since_s is None:
            if now_s - self._spoilt_s >= SETTLE_S:
                self._since_s = self._last_s = now_s  # these moved before it
                self._bytes, self._idle_s, self._step = 0, 0.0, count
            return None
        if not full:
            self._idle_s += now_s - self._last_s
        self._last_s = now_s
        self._bytes += count
        self._step = max(self._step, count)
        lasted_s = now_s - self._since_s
        if self._idle_s > ROUND_IDLE * max(lasted_s, ROUND_S):
            self.spoil()
            return None
        steps = max(ROUND_STEPS, 2 * places) // (2 if hasty else 1)
        if lasted_s < ROUND_S or self._bytes < steps * self._step:
            return None
        self._since_s, self._idle_s = now_s, 0.0
        bps, self._bytes, self._step = self._bytes / lasted_s, 0, 0
        return bps


class Work:
    """What one connection carries, of parts that arrived: each from its request to its reply."""

    def __init__(self) -> None:
        self._bytes = 0.0
        self._busy_s = 0.0

    def add(self, count: int, took_s: float) -> None:
        """A part of ``count`` bytes arrived, and was under way for ``took_s`` seconds."""
        self._bytes += count
        self._busy_s += max(took_s, 0.0)
        if self._busy_s > 2 * MEMORY_S:
            self._busy_s /= 2
            self._bytes /= 2

    def rate_bps(self) -> float | None:
        """Bytes a second of one connection; None while too little is known."""
        known = self._busy_s >= LEARNT_S or self._bytes >= LEARNT_BYTES
        return self._bytes / self._busy_s if known and self._busy_s > 0 else None
