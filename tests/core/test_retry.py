"""What an answer means, row by row, and how long the waits are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.core.answers import RULES
from uploaderd.core.retry import (
    RETRY_AFTER_CAP_S,
    Call,
    Classification,
    Verdict,
    backoff_s,
    classify,
    defer_s,
    parse_retry_after,
)

CREATE, PART, COMPLETE, CANCEL, LIST = Call
TRANSIENT, BLOCKED, LOST, CHECKSUM, REJECTED = Verdict
YES = {"x-should-retry": "true"}
NO = {"x-should-retry": "false"}


def error(
    message: str = "", code: object = None, kind: object = None, param: object = None
) -> dict[str, Any]:
    """An error object."""
    return {"message": message, "type": kind, "code": code, "param": param}


SOME = error("It did not work.")

# rule, call, status, headers, error, verdict, code, acted
CASES: list[tuple[str, Call, int, dict[str, str], Any, Verdict, str, bool]] = [
    ("no error at all", PART, 204, {}, None, TRANSIENT, "bad_reply", True),
    ("no error at all", LIST, 102, {}, None, TRANSIENT, "bad_reply", False),
    ("redirect", CREATE, 307, {}, None, BLOCKED, "redirect", False),
    ("redirect", PART, 304, YES, None, BLOCKED, "redirect", False),
    ("quota by code", CREATE, 429, {}, error("x", "insufficient_quota"), BLOCKED, "quota", False),
    ("quota by code", PART, 429, YES, error(kind="insufficient_quota"), BLOCKED, "quota", False),
    ("quota by code", CREATE, 400, {}, error("", "billing_hard_limit_reached"),
     BLOCKED, "quota", False),
    ("quota by code", LIST, 429, {}, error("", "credit_balance_exhausted"),
     BLOCKED, "quota", False),
    ("payment required", CREATE, 402, {}, None, BLOCKED, "quota", False),
    ("rate limit by code", PART, 429, NO, error("see billing limit", "rate_limit_exceeded"),
     TRANSIENT, "rate_limited", False),
    ("slow down", PART, 503, {}, error("", "slow_down"), TRANSIENT, "rate_limited", False),
    ("slow down", COMPLETE, 503, {}, error("", "slow_down"), TRANSIENT, "rate_limited", True),
    ("quota by message", CREATE, 429, {}, error("You exceeded your current quota, please check"),
     BLOCKED, "quota", False),
    ("quota by message", CREATE, 403, {}, error("Your project's spend limit is reached"),
     BLOCKED, "quota", False),
    ("quota by message", COMPLETE, 400, {}, error("You've exceeded your file storage quota."),
     BLOCKED, "quota", False),
    ("unauthorised", PART, 401, {}, SOME, BLOCKED, "auth", False),
    ("unauthorised", CREATE, 401, YES, None, BLOCKED, "auth", False),
    ("unauthorised", CREATE, 407, {}, None, BLOCKED, "auth", False),
    ("complete: expired or cancelled", COMPLETE, 400, {},
     error("Upload u is not pending: its status is expired.", "upload_not_pending"),
     LOST, "not_pending", False),
    ("complete: expired or cancelled", COMPLETE, 409, NO, error("The upload was canceled"),
     LOST, "not_pending", False),
    ("not pending by code", COMPLETE, 400, {},
     error("It may be completed, cancelled or expired.", "upload_not_pending"),
     LOST, "not_pending", True),
    ("not pending by code", PART, 400, YES, error("Upload u is not pending", "upload_not_pending"),
     LOST, "not_pending", False),
    ("not pending by code", CANCEL, 409, {}, error("x", "upload_not_pending"),
     LOST, "not_pending", False),
    ("not pending by code", COMPLETE, 404, {}, error("md5 part", "upload_not_pending"),
     LOST, "not_pending", True),
    ("complete: unknown field", COMPLETE, 400, {}, error("Unrecognized argument supplied: md5"),
     BLOCKED, "endpoint", False),
    ("complete: unknown field", COMPLETE, 400, {}, error("Unknown parameter: 'md5'.",
     "unknown_parameter", None, "md5"), BLOCKED, "endpoint", False),
    ("complete: md5", COMPLETE, 400, {}, error("The MD5 of the file does not match"),
     CHECKSUM, "checksum", False),
    ("complete: md5", COMPLETE, 400, {}, error("mismatch", param="md5"),
     CHECKSUM, "checksum", False),
    ("complete: parts", COMPLETE, 400, {}, error("listed twice", param="part_ids"),
     LOST, "parts_lost", False),
    ("part: over the declared bytes", PART, 400, {}, error("goes beyond the declared bytes"),
     LOST, "over_declared", False),
    ("part: over the declared bytes", PART, 413, {}, error("exceeds the upload size"),
     LOST, "over_declared", False),
    ("part: too large", PART, 413, {}, None, BLOCKED, "part_too_large", False),
    ("part: too large by message", PART, 400, {}, error("Part exceeds the maximum of 64 MB"),
     BLOCKED, "part_too_large", False),
    ("not pending", PART, 409, {}, error("Upload has been cancelled"), LOST, "not_pending", False),
    ("not pending", PART, 410, {}, error("The upload expired"), LOST, "not_pending", False),
    ("not pending", COMPLETE, 409, YES, error("Upload is already completed"),
     LOST, "not_pending", True),
    ("not pending", CANCEL, 400, {}, error("Upload status: completed"), LOST, "not_pending", False),
    ("complete: bytes", COMPLETE, 400, {}, error("The number of bytes uploaded does not match"),
     LOST, "size_mismatch", False),
    ("complete: parts", COMPLETE, 400, {}, error("No such part: part_1"),
     LOST, "parts_lost", False),
    ("complete: parts", COMPLETE, 404, {}, error("Part not found"), LOST, "parts_lost", False),
    ("unknown upload", PART, 404, {}, error("No such Upload object: u"),
     LOST, "unknown_upload", False),
    ("unknown upload", COMPLETE, 404, {}, error("Upload not found"), LOST, "unknown_upload", True),
    ("unknown upload", CANCEL, 400, {}, error("the upload does not exist"),
     LOST, "unknown_upload", False),
    ("upload gone", PART, 404, {}, None, LOST, "unknown_upload", False),
    ("upload gone", COMPLETE, 410, {}, SOME, LOST, "unknown_upload", True),
    ("part: bytes", PART, 400, {}, error("more bytes than allowed"), LOST, "over_declared", False),
    ("part: damaged on the way", PART, 400, {}, error("There was an error parsing the body"),
     TRANSIENT, "server_error", False),
    ("complete: server error", COMPLETE, 500, {}, SOME, TRANSIENT, "server_error", True),
    ("complete: server error", COMPLETE, 503, NO, None, TRANSIENT, "server_error", True),
    ("rate limit that no wait cures", CREATE, 429, NO, SOME, BLOCKED, "quota", False),
    ("conflict with the session, for good", PART, 409, NO, SOME, LOST, "not_pending", False),
    ("conflict with the session, for good", COMPLETE, 409, NO, SOME, LOST, "not_pending", True),
    ("not to be tried again", CREATE, 409, NO, SOME, REJECTED, "rejected", False),
    ("not to be tried again", PART, 500, NO, SOME, REJECTED, "rejected", False),
    ("to be tried again, not done", CREATE, 400, YES, SOME, TRANSIENT, "server_error", False),
    ("to be tried again, not done", PART, 422, YES, SOME, TRANSIENT, "server_error", False),
    ("rate limit", LIST, 429, {}, None, TRANSIENT, "rate_limited", False),
    ("rate limit", PART, 429, {}, error("Add a payment method at platform/account/billing"),
     TRANSIENT, "rate_limited", False),
    ("rate limit", PART, 429, {}, error("exceeded call rate limit; see aka.ms/oai/quotaincrease"),
     TRANSIENT, "rate_limited", False),
    ("timeout", PART, 408, {}, None, TRANSIENT, "server_error", True),
    ("timeout", LIST, 408, NO, None, TRANSIENT, "server_error", False),
    ("conflict", CREATE, 409, {}, SOME, TRANSIENT, "conflict", True),
    ("conflict", COMPLETE, 409, YES, SOME, TRANSIENT, "conflict", True),
    ("server error", CREATE, 500, {}, None, TRANSIENT, "server_error", True),
    ("server error", PART, 529, {}, error("", "server_is_overloaded"),
     TRANSIENT, "server_error", True),
    ("server error", LIST, 502, NO, None, TRANSIENT, "server_error", False),
    ("gateway", PART, 403, {}, None, TRANSIENT, "gateway", False),
    ("gateway", CREATE, 400, {}, {}, TRANSIENT, "gateway", False),
    ("forbidden", PART, 403, {}, error("Missing scopes: api.files.write"), BLOCKED, "auth", False),
    ("no such endpoint", CREATE, 404, {}, None, BLOCKED, "endpoint", False),
    ("no such endpoint", LIST, 404, {}, SOME, BLOCKED, "endpoint", False),
    ("no such method", CREATE, 405, {}, None, BLOCKED, "endpoint", False),
    ("list refused", LIST, 400, {}, SOME, TRANSIENT, "list_refused", False),
    (
        "create: about an upload",
        CREATE,
        400,
        {},
        {"code": "upload_not_pending"},
        TRANSIENT,
        "bad_reply",
        True,
    ),
    ("create: rule of the purpose", CREATE, 400, {}, error("bad", param="purpose"),
     REJECTED, "purpose_rule", False),
    ("create: too large by param", CREATE, 400, {}, error("bad", param="bytes"),
     REJECTED, "too_large", False),
    ("create: life of the file", CREATE, 400, {}, error("Invalid 'seconds': below 3600"),
     REJECTED, "rejected", False),
    ("create: rule of the purpose by message", CREATE, 400, {}, error("Invalid file extension"),
     REJECTED, "purpose_rule", False),
    ("create: too large", CREATE, 413, {}, None, REJECTED, "too_large", False),
    ("create: too large by message", CREATE, 400, {}, error("File exceeds the limit of 8 GB"),
     REJECTED, "too_large", False),
    ("refused", CREATE, 422, {}, SOME, REJECTED, "rejected", False),
    ("refused", PART, 400, {}, SOME, REJECTED, "rejected", False),
    ("refused", COMPLETE, 418, {}, None, REJECTED, "rejected", False),
    ("no status of HTTP", PART, -1, {}, None, TRANSIENT, "bad_reply", True),
    ("no status of HTTP", LIST, 1000, {}, None, TRANSIENT, "bad_reply", False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "call", "status", "headers", "document", "verdict", "code", "acted"), CASES
)
def test_each_answer_has_its_meaning(
    rule: str,
    call: Call,
    status: int,
    headers: dict[str, str],
    document: Any,  # noqa: ANN401 - an error object of a foreign server
    verdict: Verdict,
    code: str,
    acted: bool,
) -> None:
    """The rule that is meant decides, with its verdict, its code and what may have been done."""
    found = classify(call, status, headers, document)
    assert (found.rule, found.verdict, found.code, found.acted) == (rule, verdict, code, acted)


def test_every_rule_has_a_case_and_a_name_of_its_own() -> None:
    """No row of the table goes untested."""
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert {case[0] for case in CASES} == set(names)


def test_whoever_must_act_is_told_what_to_do() -> None:
    """Each rule that blocks a target has a hint."""
    assert all(rule.hint for rule in RULES if rule.verdict is BLOCKED)


JUNK: st.SearchStrategy[Any] = st.none() | st.dictionaries(
    st.sampled_from(["message", "type", "code", "param", "detail"]),
    st.none()
    | st.integers()
    | st.text()
    | st.lists(st.text())
    | st.sampled_from(["md5", "part", "pending", "insufficient_quota", "bytes"]),
)


@given(
    st.sampled_from(Call),
    st.integers() | st.integers(100, 599),
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "x-should-retry", "date"]), st.text()
    ),
    JUNK,
    st.none() | st.floats(),
)
def test_no_answer_is_without_a_meaning(
    call: Call,
    status: int,
    headers: dict[str, str],
    document: dict[str, Any] | None,
    wall_s: float | None,
) -> None:
    """Whatever a server says, classify returns and its wait is bounded."""
    found = classify(call, status, headers, document, wall_s=wall_s)
    assert isinstance(found, Classification)
    assert found.retry_after_s is None or 0 <= found.retry_after_s <= RETRY_AFTER_CAP_S


@given(st.integers(500, 599), JUNK, st.sampled_from([{}, YES, NO]))
def test_a_server_error_at_complete_is_always_open(
    status: int, document: dict[str, Any] | None, headers: dict[str, str]
) -> None:
    """No word of a failing server makes the outcome of a complete certain."""
    found = classify(COMPLETE, status, headers, document)
    assert (found.verdict, found.acted) == (TRANSIENT, True)


DATE = "Sat, 21 Nov 2026 12:00:00 GMT"
DATE_S = 1795262400.0


@pytest.mark.parametrize(
    ("headers", "wall_s", "expected"),
    [
        ({}, None, None),
        ({"retry-after": "7"}, None, 7.0),
        ({"retry-after": " 1.5 "}, None, 1.5),
        ({"retry-after-ms": "250.5", "retry-after": "7"}, None, 0.2505),
        ({"retry-after-ms": "soon", "retry-after": "7"}, None, 7.0),
        ({"retry-after": "-3"}, None, 0.0),
        ({"retry-after": "nan"}, None, None),
        ({"retry-after": "inf"}, None, RETRY_AFTER_CAP_S),
        ({"retry-after": "1e300"}, None, RETRY_AFTER_CAP_S),
        ({"retry-after": "-inf"}, None, 0.0),
        ({"retry-after": ""}, None, None),
        ({"retry-after": "tomorrow"}, DATE_S, None),
        ({"retry-after": DATE}, DATE_S - 30, 30.0),
        ({"retry-after": DATE}, DATE_S + 30, 0.0),
        ({"retry-after": DATE}, None, None),
        ({"retry-after": DATE, "date": "Sat, 21 Nov 2026 11:59:00 GMT"}, 0.0, 60.0),
        ({"retry-after": DATE, "date": "junk"}, DATE_S - 30, 30.0),
        ({"retry-after": "Sat, 21 Nov 9026 12:00:00 GMT"}, DATE_S, RETRY_AFTER_CAP_S),
        ({"retry-after": "Sat, 99 Nov 2026 12:00:00 GMT"}, DATE_S, None),
    ],
)
def test_a_wait_that_is_asked_for_is_read_in_all_its_forms(
    headers: dict[str, str], wall_s: float | None, expected: float | None
) -> None:
    """Milliseconds, seconds and dates, bounded; what can't be read is passed over."""
    assert parse_retry_after(headers, wall_s) == pytest.approx(expected)


CHANCE = st.floats(0, 1, exclude_max=True)
ASKED = st.none() | st.floats(0, RETRY_AFTER_CAP_S)


@given(st.integers(-5, 10_000), CHANCE, st.floats(0, 1e6), ASKED)
def test_a_backoff_is_full_jitter_unless_the_service_asks_for_more(
    attempt: int, chance: float, max_wait_s: float, asked_s: float | None
) -> None:
    """Within [0, min(0.5 * 2^n, max]], or exactly what was asked for where that is longer."""
    wait_s = backoff_s(attempt, chance, max_wait_s=max_wait_s, retry_after_s=asked_s)
    top_s = min(0.5 * 2.0 ** min(max(attempt, 0), 60), max_wait_s)
    assert (asked_s or 0) <= wait_s <= max(top_s, asked_s or 0)
    if asked_s is None:
        assert wait_s == pytest.approx(chance * top_s)


@given(st.integers(-5, 10_000), CHANCE, st.floats(0, 1e6), ASKED)
def test_a_deferral_waits_at_least_half_of_its_step(
    deferrals: int, chance: float, defer_max_s: float, asked_s: float | None
) -> None:
    """Within [step / 2, step], where step is min(2 * 2^n, cap), or what was asked for."""
    wait_s = defer_s(deferrals, chance, defer_max_s=defer_max_s, retry_after_s=asked_s)
    step_s = min(2.0 * 2.0 ** min(max(deferrals, 0), 60), defer_max_s)
    assert max(step_s / 2, asked_s or 0) <= wait_s <= max(step_s, asked_s or 0)
