"""A token bucket: how long bytes must wait so that a rate is kept."""

from __future__ import annotations


class Pace:
    """Hands out waits; the caller tells the time, in seconds of any steady clock.

    Reservations queue up: each begins where the one before ends, so that any number of senders
    share one rate and the order of asking is the order of sending.
    """

    def __init__(self) -> None:
        self._free_s = 0.0

    def reserve(self, count: int, rate_bps: int | None, now_s: float) -> float:
        """Reserve ``count`` bytes; return how many seconds to wait before they are sent.

        ``rate_bps`` is in bytes a second, None for no limit. An idle bucket saves nothing up, so
        there is no burst after a pause.
        """
        if rate_bps is None:
            self._free_s = now_s
            return 0.0
        start_s = max(self._free_s, now_s)
        self._free_s = start_s + count / rate_bps
        return start_s - now_s
