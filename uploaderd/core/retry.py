"""What an answer of the service means, and how long to wait before trying again.

``answers.RULES`` is the whole truth about the first; the waits follow the protocol notes
("Retrying, as the official clients do it").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from uploaderd.core.answers import RULES, Call, Rule, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "RETRY_AFTER_CAP_S",
    "Call",
    "Classification",
    "Verdict",
    "backoff_s",
    "classify",
    "defer_s",
    "parse_retry_after",
]

RETRY_AFTER_CAP_S = 3600.0  # an upload lives an hour; a longer wait is a mistake or an attack
BACKOFF_BASE_S = 0.5  # protocol notes, "Retrying": min(0.5 * 2^n, max)
DEFER_BASE_S = 2.0
_TOP_EXPONENT = 60  # 2^60 s is past any cap, and no float overflows on the way
_TEXT_CHARS = 4096  # of an error are searched; a longer one is no error of the service


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """What an answer means.

    Attributes:
        rule: the name of the rule that decided.
        code: the reason's stable tail, such as ``rate_limited``.
        acted: whether the service may have done what was asked all the same.
        retry_after_s: the wait that the service asks for, bounded, or None.
        hint: what a person can do, empty where nobody needs to.
    """

    rule: str
    verdict: Verdict
    code: str
    acted: bool
    retry_after_s: float | None
    hint: str


def classify(
    call: Call,
    status: int,
    headers: Mapping[str, str],
    error: Mapping[str, Any] | None,
    *,
    wall_s: float | None = None,
) -> Classification:
    """Say what an answer means; never raises, whatever the answer holds.

    Args:
        call: what was asked.
        status: the HTTP status.
        headers: the reply's headers, their names in lower case.
        error: the reply's ``error`` object, or None where it had none.
        wall_s: Unix time now, for a Retry-After that is a date in a reply without ``Date``.
    """
    words, text = _read(error)
    asked = {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())
    rule = next(
        (
            rule
            for rule in RULES
            if call in rule.calls
            and status in rule.statuses
            and (rule.retry is None or rule.retry is asked)
            and (rule.structured is None or rule.structured is bool(words))
            and _fits(rule, words, text)
        ),
        RULES[-1],
    )
    return Classification(
        rule=rule.name,
        verdict=rule.verdict,
        code=rule.code,
        acted=call in rule.acted,
        retry_after_s=parse_retry_after(headers, wall_s),
        hint=rule.hint,
    )


def _read(error: Mapping[str, Any] | None) -> tuple[frozenset[str], str]:
    """Take what is text out of an error object: the exact words, and all of it to search in."""
    if error is None:
        return frozenset(), ""
    values = {
        name: value.lower()[:_TEXT_CHARS]
        for name in ("message", "code", "type", "param")
        if isinstance(value := error.get(name), str)
    }
    exact = frozenset(value for name, value in values.items() if name != "message")
    return exact | {"document"} if values else frozenset(), " \n".join(values.values())


def _fits(rule: Rule, words: frozenset[str], text: str) -> bool:
    if not rule.codes and rule.says is None:
        return True
    return not rule.codes.isdisjoint(words) or (
        rule.says is not None and rule.says.search(text) is not None
    )


def parse_retry_after(headers: Mapping[str, str], wall_s: float | None) -> float | None:
    """The wait in seconds that a reply asks for, within [0, ``RETRY_AFTER_CAP_S``], or None.

    Three forms (protocol notes, "Retrying"): ``retry-after-ms``, ``retry-after`` in seconds, and
    ``retry-after`` as a date. A date counts from the reply's own ``Date``, so that a wrong clock
    here does no harm, and from ``wall_s`` only where that is missing. What cannot be read is
    passed over; a date in the past or a negative number is no wait at all.
    """
    millis = _number(headers.get("retry-after-ms"))
    if millis is not None:
        return _bounded(millis / 1000)
    after = headers.get("retry-after")
    seconds = _number(after)
    if seconds is not None:
        return _bounded(seconds)
    until = _date(after)
    since = _date(headers.get("date"))
    since = wall_s if since is None else since
    if until is None or since is None:
        return None
    return _bounded(until - since)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _date(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), RETRY_AFTER_CAP_S)


def backoff_s(
    attempt: int, chance: float, *, max_wait_s: float, retry_after_s: float | None
) -> float:
    """The wait in seconds before the next attempt of one request.

    Full jitter within [0, min(0.5 * 2^attempt, ``max_wait_s``)); the service's own wait wins where
    it is longer, and isn't capped by ``max_wait_s``: coming back earlier would be pointless.

    Args:
        attempt: failures so far, less one: 0 after the first.
        chance: a number drawn from [0, 1).
        max_wait_s: the configured ``retry.max_wait``.
        retry_after_s: what ``parse_retry_after`` found.
    """
    exponent = min(max(attempt, 0), _TOP_EXPONENT)
    return max(chance * min(BACKOFF_BASE_S * 2.0**exponent, max_wait_s), retry_after_s or 0.0)


def defer_s(
    deferrals: int, chance: float, *, defer_max_s: float, retry_after_s: float | None
) -> float:
    """The wait in seconds of a deferred file: half of min(2 * 2^deferrals, cap), half by chance.

    Args:
        deferrals: how often in a row it was deferred before this time: 0 at first.
        chance: a number drawn from [0, 1).
        defer_max_s: the configured ``retry.defer_max``.
        retry_after_s: what ``parse_retry_after`` found; wins where it is longer.
    """
    exponent = min(max(deferrals, 0), _TOP_EXPONENT)
    longest = min(DEFER_BASE_S * 2.0**exponent, defer_max_s)
    return max(longest * (0.5 + chance / 2), retry_after_s or 0.0)
