"""One request on its way through the service: its body in steps, its faults, its record."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from uploaderd.emulator.faults import Action, Fault, Point
from uploaderd.emulator.refusals import Refusal, generic
from uploaderd.emulator.store import STEP_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from uploaderd.emulator.rules import Rules
    from uploaderd.emulator.stats import RequestRecord, Stats

JSON_MAX_BYTES = 16 << 20


class CutError(Exception):
    """A fault breaks the connection here."""


class AnswerError(Exception):
    """A fault answers here in the service's place."""

    def __init__(self, response: web.Response, *, close: bool) -> None:
        super().__init__(response.status)
        self.response = response
        self.close = close


class Exchange:
    """One request, and the faults that strike it at each point it reaches."""

    def __init__(
        self,
        request: web.Request,
        *,
        record: RequestRecord,
        stats: Stats,
        rules: Rules,
        faults: tuple[Fault, ...],
        closing: asyncio.Event,
        expire: Callable[[str], None],
    ) -> None:
        self.request = request
        self.record = record
        self.rules = rules
        self.acted = False
        self._stats = stats
        self._pending = [one for one in faults if one.action is not Action.SLOW]
        self._rate_bps = min(
            (one.rate_bps for one in faults if one.action is Action.SLOW), default=math.inf
        )
        self._closing = closing
        self._expire = expire
        self._body_bytes = 0

    async def reach(self, point: Point) -> None:
        """Let the faults of this point strike; those in a body too short for them strike after."""
        due = [
            one
            for one in self._pending
            if one.point is point or (point is Point.AFTER and one.point is Point.BODY)
        ]
        for one in due:
            await self._strike(one)

    async def received(self, count: int) -> None:
        """Count bytes of the body's payload, at the pace and with the faults that are due."""
        self._body_bytes += count
        self._stats.receive(self.record, count)
        if self._rate_bps < math.inf:
            await self._pause(count / self._rate_bps)
        for one in list(self._pending):
            if one.point is Point.BODY and self._body_bytes >= one.at_bytes:
                await self._strike(one)

    async def steps(self) -> AsyncIterator[bytes]:
        """Give the raw body in steps."""
        async for step in self.request.content.iter_chunked(STEP_BYTES):
            yield step

    async def json(self) -> object:
        """Read a JSON body; a Refusal for anything else."""
        body = bytearray()
        async for step in self.steps():
            body += step
            await self.received(len(step))
            if len(body) > JSON_MAX_BYTES:
                raise Refusal("The request body is too large.", status=413)
        await self.reach(Point.AFTER)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise Refusal("We could not parse the JSON body of your request.") from None

    async def drain(self) -> None:
        """Read what is left of the body to nowhere, so that the client gets to read the answer."""
        with contextlib.suppress(aiohttp.ClientError, ConnectionError, ValueError):
            async for _ in self.steps():
                pass

    async def _strike(self, fault: Fault) -> None:
        self._pending.remove(fault)
        match fault.action:
            case Action.STALL:
                await self._pause(fault.seconds)
            case Action.CUT | Action.LOSE:
                raise CutError
            case Action.EXPIRE:
                self._expire(self.record.upload_id)
            case Action.REFUSE | Action.GARBLE:
                raise AnswerError(answer_of(fault, self.rules), close=fault.close)
            case Action.SLOW:
                raise AssertionError(fault)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the emulator's end: then the connection breaks."""
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                await self._closing.wait()
        except TimeoutError:
            return
        raise CutError


def answer_of(fault: Fault, rules: Rules) -> web.Response:
    """Return the answer that a refusing or garbling fault gives."""
    if fault.body is not None:
        body = fault.body
        html = body.lstrip().startswith("<")
        content_type = "text/html" if html else "application/json"
    elif fault.action is Action.GARBLE:
        body, content_type = '{"id": "upl', "application/json"
    else:
        refusal = generic(fault.answer_status, code=fault.code, message=fault.message)
        body, content_type = json.dumps(refusal.document(rules)), "application/json"
    response = web.Response(status=fault.answer_status, text=body, content_type=content_type)
    for name, value in fault.headers:
        if name.lower() in {"content-type", "content-length"}:
            response.headers[name] = value
        else:
            response.headers.add(name, value)
    return response
