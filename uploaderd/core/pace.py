"""A token bucket: when the next bytes may leave, so that a rate is kept by all who send.

The bucket holds next to nothing. Each grant moves the moment of the next one on by as long as its
bytes take at the rate, so they leave evenly. Whoever comes a little late makes up for it, at
``CATCH_UP`` times the rate at most; whoever comes after a rest does not. So in any stretch of time
the bytes are at most those of the stretch and of ``SLACK_S`` at the rate, and one grant more.
"""

from __future__ import annotations

STEP_S = 0.05  # what is granted at once is at most so long at the rate
LEAST_BYTES = 1024  # or so much, lest a slow line be cut into crumbs
LONGEST_STEP_S = 0.25  # and never more than that
SLACK_S = 0.5  # what was missed is made up for within so long; more of it is a rest
CATCH_UP = 2.0
GRAIN_S = 0.002  # no timer is finer: what may leave by then may leave now


class Pace:
    """One rate over all who send; the caller tells the time, in seconds of any steady clock."""

    def __init__(self) -> None:
        self._free_s = 0.0
        self._soon_s = 0.0  # before that nothing leaves, however late it is
        self._rate_bps: int | None = None

    @property
    def unlimited(self) -> bool:
        """Whether all may leave at once."""
        return self._rate_bps is None

    def change(self, rate_bps: int | None, now_s: float) -> None:
        """Go by another rate from now on; by the same one, nothing changes.

        What has left already is paid for at the rate that is faster, and nothing missed before is
        made up for.

        Args:
            rate_bps: bytes a second, None for no limit.
            now_s: the time.
        """
        before, self._rate_bps = self._rate_bps, rate_bps
        if rate_bps == before:
            return
        owed_s = max(self._free_s - now_s, 0.0)
        if rate_bps is None:
            owed_s = 0.0
        elif before is not None:
            owed_s = min(owed_s, owed_s * before / rate_bps)
        self._free_s = self._soon_s = now_s + owed_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until bytes may leave again; 0 where they may now."""
        if self._rate_bps is None:
            return 0.0
        wait_s = max(self._free_s, self._soon_s) - now_s
        return wait_s if wait_s > GRAIN_S else 0.0

    def grant(self, most: int, now_s: float) -> int:
        """Let some bytes leave now; only where ``wait_s`` is 0.

        Returns:
            how many, from 1 to ``most``: what leaves within ``STEP_S`` at the rate, or
            ``LEAST_BYTES``, and never more than ``LONGEST_STEP_S`` would carry.
        """
        rate_bps = self._rate_bps
        if rate_bps is None:
            return most
        if now_s - self._free_s > SLACK_S:
            self._free_s = now_s
        step = min(int(rate_bps * LONGEST_STEP_S), max(LEAST_BYTES, int(rate_bps * STEP_S)))
        count = max(1, min(most, step))
        self._free_s += count / rate_bps
        # Not grant by grant: a timer that is late each time would never let it catch up.
        self._soon_s = max(self._soon_s, now_s - STEP_S) + count / rate_bps / CATCH_UP
        return count
