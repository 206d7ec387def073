"""Times as the commands read and say them; nothing here asks what time it is but ``now_s``."""

from __future__ import annotations

from datetime import UTC, datetime

from uploaderd.clock import SystemClock
from uploaderd.config.units import human_duration, parse_duration
from uploaderd.core.report import rfc3339
from uploaderd.errors import UsageError


def now_s() -> float:
    """Unix seconds now."""
    return SystemClock().now().wall_s


def seconds(stamp: str | None) -> float | None:
    """Read RFC 3339 as Unix seconds; None where it is none."""
    try:
        moment = datetime.fromisoformat(stamp or "")
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def written(wall_s: float | None) -> str:
    """Write Unix seconds as the daemon writes times; nothing where they are no time of ours."""
    try:
        return "" if wall_s is None else rfc3339(wall_s)
    except (ValueError, OverflowError, OSError):
        return ""


def left(stamp: str | None, now: float) -> float | None:
    """How many seconds it is from ``now`` until ``stamp``, none of them negative."""
    at = seconds(stamp)
    return None if at is None else max(at - now, 0.0)


def until(stamp: str | None, now: float) -> str:
    """Say for how long something still lasts: ``in 5m 10s``; empty without a time."""
    rest = left(stamp, now)
    return "" if rest is None else f"in {short(rest)}"


def short(duration_s: float) -> str:
    """A duration for people, in whole seconds: it is read again a second later."""
    return human_duration(float(int(duration_s)))


def stamp(text: str, now: float, *, option: str) -> str:
    """Read a time, or a span that lies behind ``now``, as the daemon writes times.

    Raises:
        UsageError: it is neither.
    """
    try:
        return rfc3339(now - parse_duration(text))
    except (ValueError, OverflowError, OSError):
        pass
    at = seconds(text)
    if at is None:
        raise UsageError(
            f"{option} {text!r} is no time",
            hint="a span such as 2h or 3d, or a time such as 2026-02-03T04:05:06Z (UTC)",
        )
    return rfc3339(at)
