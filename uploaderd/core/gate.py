"""One target's gate: open, slowed by the service for a while, or shut until its trouble ends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from uploaderd.core.values import replace


class GateState(StrEnum):
    """What may pass: ``OPEN`` all, ``LIMITED`` nothing until a time, ``SHUT`` but a probe then."""

    OPEN = "ok"
    LIMITED = "rate_limited"
    SHUT = "shut"
    PROBING = "probing"


PROBE_S = 60.0
PROBE_MAX_S = 900.0
OUTAGE_AFTER = 8  # requests in a row without a usable answer, whosesoever they were
OUTAGE_PROBE_S = 5.0  # an outage may be short, and a probe is one request
OUTAGE_PROBE_MAX_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A target's gate; times are wall seconds.

    Attributes:
        probes: how many probes failed in a row; each makes the next one wait longer.
        failures: how many requests in a row had no usable answer.
        code: the reason's tail while it is shut: auth, quota, endpoint, redirect or outage.
        detail: a sentence that says what the service answered.
    """

    state: GateState = GateState.OPEN
    code: str = ""
    probes: int = 0
    failures: int = 0
    detail: str = ""
    until_s: float | None = None

    def admits(self, now_s: float) -> bool:
        """Whether files may be taken up and parts may leave."""
        match self.state:
            case GateState.OPEN | GateState.PROBING:
                return True
            case GateState.LIMITED:
                return self.until_s is None or now_s >= self.until_s
            case GateState.SHUT:
                return False

    def lasts(self, now_s: float, over_s: float) -> bool:
        """Whether nothing will pass for longer than ``over_s``, as far as is known."""
        if self.state is GateState.LIMITED:
            return self.until_s is not None and self.until_s - now_s > over_s
        return self.state is GateState.SHUT

    def limited(self, until_s: float) -> Gate:
        """The service asked for a pause: nobody sends before ``until_s``.

        That is an answer, so it ends an outage; of a key or a quota it says nothing.
        """
        if self.state is GateState.SHUT:
            return self
        if self.state is GateState.PROBING and self.code != "outage":
            return replace(self, state=GateState.SHUT, until_s=until_s)
        latest = max(until_s, self.until_s or until_s)
        detail = "The service asked for a pause."
        return Gate(state=GateState.LIMITED, detail=detail, until_s=latest)

    def failed(self, detail: str, now_s: float, longest_s: float) -> Gate:
        """A request had no usable answer; many in a row, or a probe, mean an outage.

        Args:
            detail: what came instead, as a sentence.
            now_s: wall time now.
            longest_s: the longest wait before the next probe, in seconds.
        """
        failures = self.failures + 1
        if self.state is GateState.SHUT:
            return self
        if self.state is not GateState.PROBING and failures < OUTAGE_AFTER:
            return replace(self, failures=failures)
        probes = self.probes + (self.state is GateState.PROBING)
        wait_s = min(OUTAGE_PROBE_S * 2.0**probes, OUTAGE_PROBE_MAX_S, longest_s)
        return Gate(
            state=GateState.SHUT,
            code="outage",
            probes=probes,
            detail=detail,
            until_s=max(now_s + wait_s, self.until_s or 0.0),  # no sooner than it asked for
        )

    def shut(self, code: str, detail: str, now_s: float) -> Gate:
        """The key or the quota failed: nothing passes until a probe has succeeded."""
        probes = self.probes + (self.state is GateState.PROBING)
        wait_s = min(PROBE_S * 2.0**probes, PROBE_MAX_S)
        until_s = max(now_s + wait_s, self.until_s or 0.0)
        return Gate(state=GateState.SHUT, code=code, probes=probes, detail=detail, until_s=until_s)

    def probing(self) -> Gate:
        """Let one file pass, to see whether the trouble is over."""
        return replace(self, state=GateState.PROBING, until_s=None)

    def sooner(self, by_s: float) -> Gate:
        """The same gate after the wall clock was set back."""
        return self if self.until_s is None else replace(self, until_s=self.until_s - by_s)

    def no_later(self, latest_s: float) -> Gate:
        """The same gate, not waiting beyond what any wait may come to: a clock ran ahead once."""
        late = self.until_s is not None and self.until_s > latest_s
        return replace(self, until_s=latest_s) if late else self

    def succeeded(self, now_s: float) -> Gate:
        """A request was taken: whatever kept the gate shut is over."""
        if self.state is GateState.LIMITED and not self.admits(now_s):
            return self
        return Gate()
