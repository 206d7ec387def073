"""One request and its attempts: each is journalled before it leaves, and so is its outcome."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from uploaderd import logs
from uploaderd.core.events import Deferred, Event, Held, Refused, Restarted
from uploaderd.core.gate import GateState
from uploaderd.core.reasons import SENTENCES, reason
from uploaderd.core.retry import backoff_s, defer_s
from uploaderd.errors import (
    ChecksumError,
    ServiceError,
    SessionLostError,
    TargetBlockedError,
    TransientError,
)

if TYPE_CHECKING:
    from uploaderd.core.gate import Gate
    from uploaderd.core.model import File
    from uploaderd.engine.context import Context, Service

log = logs.get(__name__)

MAX_RESTARTS = 5


RATE_LIMIT_S = 2.0  # where the service asks for a pause and does not say how long
# What may as well be said of the next request to the same target: enough of it is an outage.
OUTAGE = frozenset({"network", "server_error", "gateway", "bad_reply"})


def retrying(ctx: Context, service: Service) -> AsyncRetrying:
    """The attempts of one request, in a row.

    A Retry-After longer than ``retry.max_wait`` ends them early: the file is deferred for so
    long instead, and its place goes to another. So does a target that is shut meanwhile.
    """

    def wait(state: RetryCallState) -> float:
        return backoff_s(
            state.attempt_number - 1,
            ctx.chance(),
            max_wait_s=ctx.retry.max_wait_s,
            retry_after_s=_asked(state),
        )

    def stop(state: RetryCallState) -> bool:
        asked_s = _asked(state)
        too_long = asked_s is not None and asked_s > ctx.retry.max_wait_s
        shut = service.gate.state is GateState.SHUT
        return shut or too_long or stop_after_attempt(ctx.retry.attempts)(state)

    return AsyncRetrying(
        stop=stop,
        wait=wait,
        retry=retry_if_exception_type(TransientError),
        reraise=True,
        sleep=asyncio.sleep,
        before_sleep=lambda _: ctx.tally.retried(service.name),
    )


def _asked(state: RetryCallState) -> float | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error.retry_after_s if isinstance(error, TransientError) else None


def must_be_open(service: Service) -> None:
    """Let no request leave to a target that was shut while it waited.

    Raises:
        TransientError: it was, by an outage; nothing left.
        TargetBlockedError: it was, by what a person must mend; nothing left.
    """
    gate = service.gate
    if gate.state is not GateState.SHUT:
        return
    if gate.code == "outage":
        raise TransientError(gate.detail, code="network")
    raise TargetBlockedError(gate.detail, code=gate.code)


def note(ctx: Context, service: Service, error: ServiceError) -> None:
    """Let the target's gate learn from an answer."""
    now_s = ctx.wall_s
    if isinstance(error, TargetBlockedError):
        if service.gate.code != error.code:  # a probe that fails is no news
            log.error("target.shut", target=service.name, code=error.code, text=str(error))
        service.gate = service.gate.shut(error.code, str(error), now_s)
    elif isinstance(error, TransientError):
        if error.code == "rate_limited":
            wait_s = error.retry_after_s
            if wait_s is None:
                wait_s = min(RATE_LIMIT_S, ctx.retry.defer_max_s)
            before, service.gate = service.gate, service.gate.limited(now_s + wait_s)
            _tell_if_open(service, before)
        elif error.code in OUTAGE:
            known = service.gate.code
            longest_s = ctx.retry.defer_max_s
            service.gate = service.gate.failed(sentence(error), now_s, longest_s)
            if service.gate.state is GateState.SHUT and service.gate.code != known:
                log.error("target.shut", target=service.name, code="outage", text=str(error))
        else:
            taken(ctx, service)
    elif error.status is not None:
        taken(ctx, service)


def taken(ctx: Context, service: Service) -> None:
    """Let the gate learn that the target answers; what it kept waiting goes on."""
    before = service.gate
    service.gate = before.succeeded(ctx.wall_s)
    if _tell_if_open(service, before):
        ctx.wakes.admission.set()


def _tell_if_open(service: Service, before: Gate) -> bool:
    opened = bool(before.code) and not service.gate.code
    if opened:
        log.info("target.open", target=service.name)
    return opened


def outcome(error: ServiceError) -> str:
    """One word for the journal's list of requests."""
    status = "no reply" if error.status is None else str(error.status)
    return f"{status} {error.code} {error.request_id}".strip()


def next_step(ctx: Context, file: File, error: ServiceError, *, deferrals: int) -> Event:
    """What an error, after its attempts, means for the file.

    Args:
        ctx: the engine's context.
        file: the file whose request failed.
        error: the last attempt's error.
        deferrals: how many deferrals in a row this would make.
    """
    detail = sentence(error)
    match error:
        case TransientError():
            wait_s = defer_s(
                deferrals - 1,
                ctx.chance(),
                defer_max_s=ctx.retry.defer_max_s,
                retry_after_s=error.retry_after_s,
            )
            due_s = ctx.wall_s + wait_s
            code = f"deferred.{error.code}"
            if code not in SENTENCES:
                code = "deferred.server_error"
            return Deferred(
                reason=reason(code, until_s=due_s, detail=detail), due_s=due_s, deferrals=deferrals
            )
        case TargetBlockedError():
            code = f"held.{error.code}" if f"held.{error.code}" in SENTENCES else "held.auth"
            return Held(reason=reason(code, detail=detail))
        case SessionLostError() | ChecksumError():
            return begin_anew(file, detail)
        case _:
            code = f"failed.{error.code}"
            known = code in {"failed.purpose_rule", "failed.too_large"}
            return Refused(reason=reason(code if known else "failed.rejected", detail=detail))


def begin_anew(file: File, detail: str) -> Event:
    """A new session, unless too many were begun already."""
    if file.restarts >= MAX_RESTARTS:
        why = reason("held.restarts", detail=detail, restarts=file.restarts)
        return Held(reason=why)
    return Restarted(detail=detail)


def sentence(error: Exception) -> str:
    """An error as a sentence of its own; what may begin with a file's name stays as it is."""
    text = str(error).strip()
    if isinstance(error, ServiceError):
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
