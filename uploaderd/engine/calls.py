"""One request and its attempts: each is journalled before it leaves, and so is its outcome."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from uploaderd import logs
from uploaderd.core.deadline import hopeless
from uploaderd.core.events import Deferred, Event, Held, Refused, Restarted
from uploaderd.core.gate import GateState
from uploaderd.core.reasons import SENTENCES, reason
from uploaderd.core.retry import backoff_s, defer_s
from uploaderd.core.schedule import EXPIRY_MARGIN_S
from uploaderd.errors import (
    ChecksumError,
    ServiceError,
    SessionLostError,
    TargetBlockedError,
    TransientError,
)

if TYPE_CHECKING:
    from tenacity import AttemptManager

    from uploaderd.core.gate import Gate
    from uploaderd.core.model import File, Upload
    from uploaderd.engine.context import Context, Service

log = logs.get(__name__)

MAX_RESTARTS = 5
SHORT_LIFE_S = 4 * EXPIRY_MARGIN_S  # sessions that live no longer are not begun anew for ever


RATE_LIMIT_S = 2.0  # where the service asks for a pause and does not say how long
# What may as well be said of the next request to the same target: enough of it is an outage.
OUTAGE = frozenset({"network", "server_error", "gateway", "bad_reply"})


class Retrying:
    """The attempts of one request, in a row.

    A Retry-After longer than ``retry.max_wait`` ends them early: the file is deferred for so
    long instead, and its place goes to another. So does a target that is shut meanwhile.

    Nearly every request needs one attempt only, so tenacity comes in with the second: to set it up
    costs as much as a request.
    """

    def __init__(self, ctx: Context, service: Service) -> None:
        self._ctx = ctx
        self._service = service
        self._first: _First | None = None
        self._rest: AsyncRetrying | None = None

    def __aiter__(self) -> Self:
        """Once only."""
        return self

    async def __anext__(self) -> AttemptManager | _First:
        """The next attempt, after the wait before it."""
        if self._first is None:
            self._first = _First(self)
            return self._first
        if self._rest is None:
            error = self._first.error
            if error is None:
                raise StopAsyncIteration
            self._tell()
            await asyncio.sleep(self._wait_s(error, 1))
            rest = AsyncRetrying(
                stop=lambda state: self.is_over(_error(state), state.attempt_number + 1),
                wait=lambda state: self._wait_s(_error(state), state.attempt_number + 1),
                retry=retry_if_exception_type(TransientError),
                reraise=True,
                sleep=asyncio.sleep,
                before_sleep=lambda _: self._tell(),
            )
            self._rest = aiter(rest)
        return await anext(self._rest)

    def is_over(self, error: BaseException | None, number: int) -> bool:
        """Whether that many attempts were enough, or more would be in vain."""
        asked_s = _asked(error)
        too_long = asked_s is not None and asked_s > self._ctx.retry.max_wait_s
        shut = self._service.gate.state is GateState.SHUT
        return shut or too_long or number >= self._ctx.retry.attempts

    def _wait_s(self, error: BaseException | None, number: int) -> float:
        return backoff_s(
            number - 1,
            self._ctx.chance(),
            max_wait_s=self._ctx.retry.max_wait_s,
            retry_after_s=_asked(error),
        )

    def _tell(self) -> None:
        self._ctx.tally.retried(self._service.name)


class _First:
    """The first attempt.

    Attributes:
        error: why there is to be another one.
    """

    def __init__(self, attempts: Retrying) -> None:
        self.error: TransientError | None = None
        self._attempts = attempts

    def __enter__(self) -> None:
        """It begins."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> bool:
        """Keep to itself what the next attempt may mend."""
        if not isinstance(error, TransientError) or self._attempts.is_over(error, 1):
            return False
        self.error = error
        return True


def retrying(ctx: Context, service: Service) -> Retrying:
    """The attempts of one request, in a row."""
    return Retrying(ctx, service)


def _error(state: RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()


def _asked(error: BaseException | None) -> float | None:
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


def too_late(file: File, upload: Upload, rate_bps: float | None, *, untouched: bool) -> Event:
    """What the end of its session's time means; waiting for a turn is no failure.

    Args:
        file: the file that has not all its parts stored.
        upload: its session.
        rate_bps: what came through of late, or None where nobody knows.
        untouched: no request for any part ever left.
    """
    detail = "Its session's time was over before all parts were stored."
    if rate_bps and hopeless(upload.size, upload.life_s, rate_bps):
        detail += (
            f" It has {upload.size} bytes, a session lives {upload.life_s:.0f} s,"
            f" and {rate_bps:.0f} bytes a second came through."
        )
    if untouched and upload.life_s > SHORT_LIFE_S:
        return Restarted(detail=detail, counted=False)
    return begin_anew(file, detail)


def sentence(error: Exception) -> str:
    """An error as a sentence of its own; what may begin with a file's name stays as it is."""
    text = str(error).strip()
    if isinstance(error, ServiceError):
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
