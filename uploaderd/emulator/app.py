"""The HTTP face: routes, keys, headers, and each request's way through its faults."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, cast

from aiohttp import web

from uploaderd.emulator import judge
from uploaderd.emulator.exchange import AnswerError, CutError, Exchange
from uploaderd.emulator.faults import Call, FaultPlan, Point
from uploaderd.emulator.form import read_form
from uploaderd.emulator.refusals import Refusal, missing, wrong_type
from uploaderd.emulator.rules import RefusalTime
from uploaderd.emulator.stats import Outcome, RequestRecord, Stats

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from uploaderd.emulator.service import Service

    Act: TypeAlias = Callable[[Exchange], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)

_OF_UPLOADS = frozenset({Call.PART, Call.COMPLETE, Call.CANCEL})
_LIFE = "expires_after[seconds]"
_ANCHOR = "expires_after[anchor]"


class Face:
    """The service behind HTTP; `closing` is set when the emulator ends."""

    def __init__(
        self, service: Service, *, faults: FaultPlan, stats: Stats, api_key: str | None
    ) -> None:
        self.service = service
        self.rules = service.rules
        self.faults = faults
        self.stats = stats
        self.closing = asyncio.Event()
        self._api_key = api_key

    def routes(self) -> list[web.RouteDef]:
        """Return the service's routes under each base path of its flavour."""
        table: list[tuple[str, str, Call, Act]] = [
            ("POST", "/uploads", Call.CREATE, self._create),
            ("POST", "/uploads/{id}/parts", Call.PART, self._part),
            ("POST", "/uploads/{id}/complete", Call.COMPLETE, self._complete),
            ("POST", "/uploads/{id}/cancel", Call.CANCEL, self._cancel),
            ("GET", "/files", Call.LIST, self._list),
            ("POST", "/files", Call.UPLOAD_FILE, self._upload_file),
            ("GET", "/files/{id}", Call.RETRIEVE, self._retrieve),
            ("DELETE", "/files/{id}", Call.DELETE, self._delete),
            ("GET", "/files/{id}/content", Call.CONTENT, self._content),
        ]
        bases = ["/v1", "/openai", "/openai/v1"] if self.rules.azure else ["/v1"]
        return [
            web.route(method, base + path, partial(self._serve, call, act, base))
            for base in bases
            for method, path, call, act in table
        ]

    async def nowhere(self, request: web.Request) -> web.StreamResponse:
        """Answer a path or a method that the service does not have."""
        refusal = Refusal(f"Invalid URL ({request.method} {request.path})", status=404)
        response = self._refuse(refusal)
        self._put_headers(response, new_request_id(), took_s=0)
        return response

    def _put_headers(self, response: web.StreamResponse, request_id: str, *, took_s: float) -> None:
        """Put the service's headers on a reply (protocol notes, objects)."""
        headers = {
            "Date": formatdate(self.service.clock.now(), usegmt=True),
            "Server": "uploaderd-emulator",
            "x-request-id": request_id,
            "openai-organization": "emulator",
            "openai-processing-ms": str(int(took_s * 1000)),
            "openai-version": "2020-10-01",
        }
        if self.rules.azure:
            headers["apim-request-id"] = request_id
        if self.rules.rate_limit_headers:
            headers["x-ratelimit-limit-requests"] = "1000"
            headers["x-ratelimit-remaining-requests"] = "999"
            headers["x-ratelimit-reset-requests"] = "60ms"
        for name, value in headers.items():
            # A fault may have set one of them, and wins.
            response.headers.setdefault(name, value)

    async def _serve(
        self, call: Call, act: Act, base: str, request: web.Request
    ) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        record = self._begin(call, request)
        drawn = self.faults.draw(call)
        record.faults = tuple(fault.spec for fault in drawn)
        exchange = Exchange(
            request,
            record=record,
            stats=self.stats,
            rules=self.rules,
            faults=drawn,
            closing=self.closing,
            expire=self.service.expire,
        )
        try:
            response, hang_up = await self._answer(exchange, act, base)
        finally:
            # Whatever else ends a request: the client or the emulator went away.
            self.stats.end(record, Outcome.GONE, None)
        self._put_headers(response, record.request_id, took_s=loop.time() - started_s)
        return await _hang_up_after(request, response) if hang_up else response

    def _begin(self, call: Call, request: web.Request) -> RequestRecord:
        record = self.stats.begin(call, at_s=self.service.clock.now())
        record.request_id = new_request_id()
        record.client_request_id = request.headers.get("X-Client-Request-Id", "")
        record.chunked = request.can_read_body and request.content_length is None
        id_ = request.match_info.get("id", "")
        if call in _OF_UPLOADS:
            record.upload_id = id_
        else:
            record.file_id = id_
        return record

    async def _answer(
        self, exchange: Exchange, act: Act, base: str
    ) -> tuple[web.StreamResponse, bool]:
        """Return the answer and whether to break the connection after it; note the outcome."""
        request, record = exchange.request, exchange.record
        response: web.StreamResponse
        hang_up = False
        try:
            response, hang_up = await self._pass(exchange, act, base)
        except AnswerError as answer:
            response, hang_up = answer.response, answer.close
        except CutError:
            self.stats.end(record, Outcome.LOST if exchange.acted else Outcome.CUT, None)
            if request.transport is not None:
                request.transport.abort()
            return web.Response(), False
        except web.RequestPayloadError:
            if _is_gone(request):
                return web.Response(), False
            response = self._refuse(Refusal("The request body could not be read."))
            hang_up = True
        except Exception:
            if _is_gone(request):
                return web.Response(), False
            # A full disk, or a fault of the emulator's own: its keeper is told, the client too.
            log.exception("the emulator failed at %s %s", request.method, request.path)
            response = self._refuse(
                Refusal("The server had an error.", status=500, kind="server_error")
            )
        if not _is_gone(request):
            self.stats.end(record, Outcome.ANSWERED, response.status)
        return response, hang_up

    async def _pass(
        self, exchange: Exchange, act: Act, base: str
    ) -> tuple[web.StreamResponse, bool]:
        """Return the answer, and whether to break the connection after it."""
        hang_up = False
        try:
            await exchange.reach(Point.BEFORE)
            self._check_entry(exchange.request, base)
            response = await act(exchange)
            exchange.acted = True
        except Refusal as refusal:
            response = self._refuse(refusal)
            early = self.rules.part_refusal is RefusalTime.BEFORE_BODY
            if exchange.record.call is Call.PART and early:
                hang_up = not exchange.request.content.is_eof()
            else:
                await exchange.drain()
        await exchange.reach(Point.REPLY)
        return response, hang_up

    def _check_entry(self, request: web.Request, base: str) -> None:
        """Refuse a request without a key, or with the wrong one, or without Azure's version."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else ""
        if self.rules.azure:
            key = request.headers.get("api-key", key)
        if not key:
            raise Refusal(
                "You didn't provide an API key. You need to provide your API key in an "
                "Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
                status=401,
            )
        if self._api_key is not None and not hmac.compare_digest(
            key.encode(errors="surrogateescape"), self._api_key.encode()
        ):
            raise Refusal("Incorrect API key provided: ****.", status=401, code="invalid_api_key")
        if base == "/openai" and "api-version" not in request.query:
            raise Refusal("Resource not found", status=404, code="404")

    def _refuse(self, refusal: Refusal) -> web.Response:
        return web.json_response(refusal.document(self.rules), status=refusal.status)

    async def _create(self, exchange: Exchange) -> web.StreamResponse:
        document = self.service.create(await exchange.json())
        exchange.record.upload_id = cast("str", document["id"])
        return web.json_response(document)

    async def _part(self, exchange: Exchange) -> web.StreamResponse:
        upload_id = exchange.record.upload_id
        self.service.expect_part(upload_id, exchange.request.content_length)
        draft = self.service.store.draft()
        try:
            await read_form(
                exchange,
                draft,
                file_field="data",
                check=partial(self.service.check_part, upload_id, whole=False),
            )
            document = await self.service.add_part(upload_id, draft)
        finally:
            draft.discard()
        exchange.record.part_id = cast("str", document["id"])
        return web.json_response(document)

    async def _complete(self, exchange: Exchange) -> web.StreamResponse:
        body = await exchange.json()
        return web.json_response(await self.service.complete(exchange.record.upload_id, body))

    async def _cancel(self, exchange: Exchange) -> web.StreamResponse:
        async for _ in exchange.steps():
            pass
        await exchange.reach(Point.AFTER)
        return web.json_response(await self.service.cancel(exchange.record.upload_id))

    async def _list(self, exchange: Exchange) -> web.StreamResponse:
        asked = judge.read_list(exchange.request.query)
        await exchange.reach(Point.AFTER)
        return web.json_response(self.service.list_files(asked))

    async def _retrieve(self, exchange: Exchange) -> web.StreamResponse:
        await exchange.reach(Point.AFTER)
        return web.json_response(self.service.retrieve_file(exchange.record.file_id))

    async def _delete(self, exchange: Exchange) -> web.StreamResponse:
        await exchange.reach(Point.AFTER)
        return web.json_response(self.service.delete_file(exchange.record.file_id))

    async def _content(self, exchange: Exchange) -> web.StreamResponse:
        await exchange.reach(Point.AFTER)
        path = self.service.content(exchange.record.file_id)
        return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})

    async def _upload_file(self, exchange: Exchange) -> web.StreamResponse:
        draft = self.service.store.draft()
        try:
            form = await read_form(
                exchange,
                draft,
                file_field="file",
                plain_fields=frozenset({"purpose", _LIFE, _ANCHOR}),
                check=self._check_file_bytes,
            )
            if "purpose" not in form.values:
                raise missing("purpose")
            document = await self.service.add_file(
                draft,
                filename=form.filename or "file",
                purpose=form.values["purpose"],
                life_s=self._life_s(form.values),
            )
        finally:
            draft.discard()
        exchange.record.file_id = cast("str", document["id"])
        return web.json_response(document, status=self.rules.file_created_status)

    def _check_file_bytes(self, count: int) -> None:
        if count > self.rules.file_max_bytes:
            raise Refusal(
                f"The file is larger than the maximum of {self.rules.file_max_bytes} bytes.",
                status=413,
                param="file",
            )

    def _life_s(self, values: dict[str, str]) -> int | None:
        if _LIFE not in values and _ANCHOR not in values:
            return None
        seconds = values.get(_LIFE, "")
        if not (seconds.isascii() and seconds.isdigit()):
            raise wrong_type("expires_after.seconds", "an integer number of seconds")
        asked = {"anchor": values.get(_ANCHOR), "seconds": int(seconds)}
        return judge.read_expires_after(asked, self.rules)


def new_request_id() -> str:
    """Return a new `x-request-id`."""
    return "req_" + secrets.token_hex(16)


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def _hang_up_after(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Answer, then break the connection although the client may still be sending."""
    response.force_close()
    await response.prepare(request)
    await response.write_eof()
    if request.protocol is not None:
        request.protocol.force_close()
    return response
