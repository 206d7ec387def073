"""The table of answers: what each means, by the first rule that fits it.

Its sources are the protocol notes ("What happens when it goes wrong", "Retrying, as the official
clients do it") and, where they say nothing, the reason that stands with the rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Call(StrEnum):
    """The five things that are asked of the service."""

    CREATE = "create"
    PART = "part"
    COMPLETE = "complete"
    CANCEL = "cancel"
    LIST = "list"


class Verdict(StrEnum):
    """What happens next; one error class each."""

    TRANSIENT = "transient"
    BLOCKED = "blocked"
    SESSION_LOST = "session_lost"
    CHECKSUM = "checksum"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row: all that it names must fit; ``codes`` and ``says`` are two ways to fit the text.

    Attributes:
        calls: the calls that it is about.
        statuses: the HTTP statuses that it is about.
        retry: what ``x-should-retry`` must say, or None where it does not matter.
        codes: the error's ``code``, ``type`` or ``param``, exactly, in lower case.
        says: searched in the error's message, code, type and param, in lower case.
        structured: True wants an error document, False wants none (a gateway's page).
        acted: the calls that may have been done all the same.
    """

    name: str
    verdict: Verdict
    code: str
    calls: frozenset[Call] = frozenset(Call)
    statuses: range | frozenset[int] = range(400, 600)
    retry: bool | None = None
    codes: frozenset[str] = frozenset()
    says: re.Pattern[str] | None = None
    structured: bool | None = None
    acted: frozenset[Call] = frozenset()
    hint: str = ""


_SESSION = frozenset({Call.PART, Call.COMPLETE, Call.CANCEL})
_CHANGES = frozenset({Call.CREATE, Call.PART, Call.COMPLETE, Call.CANCEL})
_COMPLETE = frozenset({Call.COMPLETE})
_PART = frozenset({Call.PART})
_CREATE = frozenset({Call.CREATE})
_LIST = frozenset({Call.LIST})
_4XX = range(400, 500)
_5XX = range(500, 1000)
_REFUSED = frozenset({400, 404, 409, 410, 422})
_MALFORMED = frozenset({400, 413, 415, 422})

_KEY_HINT = "check the target's key, its permissions and its organization and project"
_QUOTA_HINT = "check the plan, the credit and the spend limit of the account"
_ENDPOINT_HINT = "check the target's base_url, flavour and api_version"
_PART_SIZE_HINT = "set a smaller part_size under [transfer]"

_QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "billing_not_active",
        "spend_limit_reached",
        "spend_limit_exceeded",
    }
)
# A mere "billing" or "quota" proves nothing: rate limits link to the billing and quota pages.
_QUOTA_SAYS = re.compile(
    r"insufficient[ _]quota|exceeded your current quota|credit[ _]balance|out of credits?"
    r"|billing (hard|soft) limit|billing[ _]not[ _]active|spend(ing)?[ _]limit"
    r"|storage (quota|limit|capacity)"
)
_ENDED = r"(complet(ed|ing)|cancel+ed|expired)"
_ENDED_WITHOUT = re.compile(r"\A(?!.*complet(ed|ing)).*\b(expired|cancel+ed)\b", re.DOTALL)
_NOT_PENDING = re.compile(
    r"not[ _-](\w+ )?pending|no longer (pending|open|active)|must be pending|isn't pending"
    rf"|(already|been|is|was|status\W+) *{_ENDED}|{_ENDED} upload|upload_{_ENDED}|\bexpired\b"
    r"|\bpending\b"
)
_UNKNOWN = re.compile(r"not found|no such|not[ _]exist|unknown upload|does ?n.t exist|not_found")
_UNKNOWN_FIELD = re.compile(
    r"(unknown|unrecogni[sz]ed|unexpected|unsupported|extra|additional)\W+(\w+\W+){0,2}"
    r"(parameter|argument|field|key|propert(y|ies)|input)"
)
_CHECKSUM = re.compile(r"\bmd5\b|checksum|digest|\bhash\b")
_PART_IDS = re.compile(r"\bparts?\b|part_ids?")
_BYTES = re.compile(r"\bbytes?\b|\bsizes?\b|\blength\b")
_DECLARED = re.compile(
    r"declared|total|remaining|upload'?s? (size|bytes|length)|bytes (initially )?specified"
)
_PART_TOO_LARGE = re.compile(
    r"\b(part|chunk|payload|request|entity|body)\b.{0,40}\btoo (large|big|long)\b"
    r"|(part|chunk).{0,40}(maximum|\bmax\b|limit)|(maximum|\bmax\b).{0,20}(part|chunk)"
    r"|\b64 ?mi?b\b|67,?108,?864|64,?000,?000"
)
_OVER = re.compile(r"exceed|beyond|larger|greater|more (\w+ )?than|too many|\bbytes?\b|\bsizes?\b")
_DAMAGED = re.compile(r"pars(e|ing) the body|truncated|incomplete|unexpected end|malformed")
_PURPOSE_RULE = re.compile(
    r"purpose|extension|mime|file ?(type|format)|filename|unsupported (type|format)|\.jsonl"
)
_TOO_LARGE = re.compile(
    r"\bbytes\b|too (large|big)|\b(max(imum)?|exceeds?)\b.{0,30}\b(size|limit|gb|mb)\b"
)
_SLOW_DOWN = frozenset({"slow_down", "rate_limit_exceeded", "too_many_requests"})

RULES: tuple[Rule, ...] = (
    # -- what no answer of a working service looks like ------------------------------------------
    Rule(name="no error at all", verdict=Verdict.TRANSIENT, code="bad_reply",
         statuses=range(300), acted=_CHANGES),
    # Never followed: the key must not go to another host.
    Rule(name="redirect", verdict=Verdict.BLOCKED, code="redirect", statuses=range(300, 400),
         hint="set base_url to the address that the service really has"),
    # -- a person must act, whatever x-should-retry says -----------------------------------------
    Rule(name="quota by code", verdict=Verdict.BLOCKED, code="quota", statuses=_4XX,
         codes=_QUOTA_CODES, hint=_QUOTA_HINT),
    Rule(name="payment required", verdict=Verdict.BLOCKED, code="quota",
         statuses=frozenset({402}), hint=_QUOTA_HINT),
    Rule(name="rate limit by code", verdict=Verdict.TRANSIENT, code="rate_limited",
         statuses=frozenset({429}), codes=_SLOW_DOWN),
    Rule(name="slow down", verdict=Verdict.TRANSIENT, code="rate_limited", statuses=_5XX,
         codes=_SLOW_DOWN, acted=_COMPLETE),
    Rule(name="quota by message", verdict=Verdict.BLOCKED, code="quota",
         statuses=frozenset({400, 403, 413, 429}), says=_QUOTA_SAYS, hint=_QUOTA_HINT),
    Rule(name="unauthorised", verdict=Verdict.BLOCKED, code="auth",
         statuses=frozenset({401, 407}), hint=_KEY_HINT),
    # -- the session, whatever x-should-retry says: 409 is retried even where it is permanent ----
    # It names the end that the upload came to, and that was no completion.
    Rule(name="complete: expired or cancelled", verdict=Verdict.SESSION_LOST, code="not_pending",
         calls=_COMPLETE, statuses=_REFUSED, says=_ENDED_WITHOUT),
    # A complete that is told so may have been preceded by one that worked, hence ``acted``.
    Rule(name="not pending by code", verdict=Verdict.SESSION_LOST, code="not_pending",
         calls=_SESSION, statuses=_REFUSED, codes=frozenset({"upload_not_pending"}),
         acted=_COMPLETE),
    # A server that knows no md5: beginning anew would end the same way, for every file.
    Rule(name="complete: unknown field", verdict=Verdict.BLOCKED, code="endpoint",
         calls=_COMPLETE, statuses=_MALFORMED, says=_UNKNOWN_FIELD,
         codes=frozenset({"unknown_parameter"}), hint=_ENDPOINT_HINT),
    Rule(name="complete: md5", verdict=Verdict.CHECKSUM, code="checksum",
         calls=_COMPLETE, statuses=_REFUSED, codes=frozenset({"md5"}), says=_CHECKSUM),
    Rule(name="part: over the declared bytes", verdict=Verdict.SESSION_LOST, code="over_declared",
         calls=_PART, statuses=frozenset({400, 409, 413, 422}), says=_DECLARED),
    # A proxy's limit or the service's: every part of that size meets it, so not the file's fault.
    Rule(name="part: too large", verdict=Verdict.BLOCKED, code="part_too_large",
         calls=_PART, statuses=frozenset({413}), hint=_PART_SIZE_HINT),
    Rule(name="part: too large by message", verdict=Verdict.BLOCKED, code="part_too_large",
         calls=_PART, statuses=frozenset({400, 422}), says=_PART_TOO_LARGE,
         hint=_PART_SIZE_HINT),
    Rule(name="not pending", verdict=Verdict.SESSION_LOST, code="not_pending",
         calls=_SESSION, statuses=_REFUSED, says=_NOT_PENDING, acted=_COMPLETE),
    Rule(name="complete: bytes", verdict=Verdict.SESSION_LOST, code="size_mismatch",
         calls=_COMPLETE, statuses=frozenset({400, 409, 422}), says=_BYTES),
    Rule(name="complete: parts", verdict=Verdict.SESSION_LOST, code="parts_lost",
         calls=_COMPLETE, statuses=frozenset({400, 404, 409, 422}), says=_PART_IDS),
    Rule(name="unknown upload", verdict=Verdict.SESSION_LOST, code="unknown_upload",
         calls=_SESSION, statuses=_REFUSED, says=_UNKNOWN, acted=_COMPLETE),
    Rule(name="upload gone", verdict=Verdict.SESSION_LOST, code="unknown_upload",
         calls=_SESSION, statuses=frozenset({404, 410}), acted=_COMPLETE),
    Rule(name="part: bytes", verdict=Verdict.SESSION_LOST, code="over_declared",
         calls=_PART, statuses=frozenset({400, 409, 422}), says=_OVER),
    # Our framing is fixed, so a form that cannot be read was damaged on its way.
    Rule(name="part: damaged on the way", verdict=Verdict.TRANSIENT, code="server_error",
         calls=_PART, statuses=frozenset({400, 422}), says=_DAMAGED),
    # -- x-should-retry decides, both ways (protocol notes, fact 8) ------------------------------
    # But the outcome of a complete is never guessed: 5xx stays open until reconciled.
    Rule(name="complete: server error", verdict=Verdict.TRANSIENT, code="server_error",
         calls=_COMPLETE, statuses=_5XX, acted=_COMPLETE),
    Rule(name="rate limit that no wait cures", verdict=Verdict.BLOCKED, code="quota",
         statuses=frozenset({429}), retry=False, hint=_QUOTA_HINT),
    Rule(name="conflict with the session, for good", verdict=Verdict.SESSION_LOST,
         code="not_pending", calls=_SESSION, statuses=frozenset({409}), retry=False,
         acted=_COMPLETE),
    Rule(name="not to be tried again", verdict=Verdict.REJECTED, code="rejected",
         calls=_CREATE | _PART, statuses=frozenset({408, 409, 425, *_5XX}), retry=False),
    Rule(name="to be tried again, not done", verdict=Verdict.TRANSIENT, code="server_error",
         statuses=frozenset(_4XX) - {408, 409, 429}, retry=True),
    # -- transient by status ---------------------------------------------------------------------
    Rule(name="rate limit", verdict=Verdict.TRANSIENT, code="rate_limited",
         statuses=frozenset({429})),
    Rule(name="timeout", verdict=Verdict.TRANSIENT, code="server_error",
         statuses=frozenset({408, 425}), acted=_CHANGES),
    Rule(name="conflict", verdict=Verdict.TRANSIENT, code="conflict",
         statuses=frozenset({409}), acted=_CHANGES),
    Rule(name="server error", verdict=Verdict.TRANSIENT, code="server_error",
         statuses=_5XX, acted=_CHANGES),
    # -- the target ------------------------------------------------------------------------------
    # A page instead of a document comes from a gateway, not from the service's own checks. It may
    # be about one body (a filter) or pass by itself, so it defers one file: it neither fails the
    # file nor stops the target.
    Rule(name="gateway", verdict=Verdict.TRANSIENT, code="gateway",
         statuses=frozenset({400, 403}), structured=False),
    Rule(name="forbidden", verdict=Verdict.BLOCKED, code="auth",
         statuses=frozenset({403}), hint=_KEY_HINT),
    Rule(name="no such endpoint", verdict=Verdict.BLOCKED, code="endpoint",
         calls=_CREATE | _LIST, statuses=frozenset({404, 410}), hint=_ENDPOINT_HINT),
    Rule(name="no such method", verdict=Verdict.BLOCKED, code="endpoint",
         statuses=frozenset({405}), hint=_ENDPOINT_HINT),
    # A list that is refused says nothing about the file whose outcome it was to tell.
    Rule(name="list refused", verdict=Verdict.TRANSIENT, code="list_refused",
         calls=_LIST, statuses=_4XX),
    # No create names an upload: this is the answer to another request on the same connection.
    Rule(name="create: about an upload", verdict=Verdict.TRANSIENT, code="bad_reply",
         calls=_CREATE, statuses=_REFUSED, codes=frozenset({"upload_not_pending"}),
         acted=_CREATE),
    # -- the file --------------------------------------------------------------------------------
    Rule(name="create: rule of the purpose", verdict=Verdict.REJECTED, code="purpose_rule",
         calls=_CREATE, statuses=_MALFORMED,
         codes=frozenset({"purpose", "filename", "mime_type"}),
         hint="check the watch's purpose and mime_type against the file's name"),
    Rule(name="create: too large by param", verdict=Verdict.REJECTED, code="too_large",
         calls=_CREATE, statuses=_MALFORMED, codes=frozenset({"bytes"})),
    Rule(name="create: life of the file", verdict=Verdict.REJECTED, code="rejected",
         calls=_CREATE, statuses=_MALFORMED, says=re.compile(r"expires_after|anchor|seconds"),
         hint="check the watch's expires_after"),
    Rule(name="create: rule of the purpose by message", verdict=Verdict.REJECTED,
         code="purpose_rule", calls=_CREATE, statuses=_MALFORMED, says=_PURPOSE_RULE,
         hint="check the watch's purpose and mime_type against the file's name"),
    Rule(name="create: too large", verdict=Verdict.REJECTED, code="too_large",
         calls=_CREATE, statuses=frozenset({413})),
    Rule(name="create: too large by message", verdict=Verdict.REJECTED, code="too_large",
         calls=_CREATE, statuses=_MALFORMED, says=_TOO_LARGE),
    Rule(name="refused", verdict=Verdict.REJECTED, code="rejected", statuses=_4XX),
    # -- a status that HTTP does not have --------------------------------------------------------
    Rule(name="no status of HTTP", verdict=Verdict.TRANSIENT, code="bad_reply",
         statuses=range(-(2**62), 2**62), acted=_CHANGES),
)  # fmt: skip
