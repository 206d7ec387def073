"""What may be asked of the daemon, and of whom the server asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import web

from uploaderd import logs
from uploaderd.control import query
from uploaderd.control.answers import HEADERS, INTERNAL, document, error, refusal
from uploaderd.control.connections import Connection, Crowd
from uploaderd.errors import ConfigError, NotApplicableError, UploaderdError, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from uploaderd.core.selection import Selection

log = logs.get(__name__)

_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_SERVER_ERROR: Final = 500
_UNAVAILABLE: Final = 503
COMMENT: Final = b":\n\n"


class Stream(Protocol):
    """Events for one client, as the bytes of a text/event-stream."""

    async def next(self, patience_s: float) -> bytes | None:
        """Give what is to be sent next; nothing after so long without any; None at the end."""
        ...

    def end(self) -> None:
        """Come to an end with what has happened until now."""
        ...

    def close(self) -> None:
        """Nobody asks for more."""
        ...


class View(Protocol):
    """What the status socket shows; the engine's face."""

    async def status(self) -> dict[str, object]:
        """Give the status document."""
        ...

    async def files(self, wanted: Selection, *, limit: int, after: str | None) -> dict[str, object]:
        """Give one page of FILE documents, newest first; UsageError for an unknown cursor."""
        ...

    async def file(self, file_id: str) -> dict[str, object] | None:
        """Give one FILE with its parts and history, or None where no file has this id."""
        ...

    async def pause(self) -> dict[str, object]:
        """Begin no request more; give the status document."""
        ...

    async def resume(self) -> dict[str, object]:
        """Go on; give the status document."""
        ...

    async def limit(self, said: str) -> dict[str, object]:
        """Limit the bandwidth; give the status document; UsageError for what is no limit."""
        ...

    async def reload(self) -> dict[str, object]:
        """Read the configuration again; give the status document; ConfigError if it is refused."""
        ...

    async def cancel(self, file_id: str) -> dict[str, object] | None:
        """Give a file up; its FILE, None where no file has this id; NotApplicableError."""
        ...

    async def hold(self, file_id: str) -> dict[str, object] | None:
        """Keep a file back; as ``cancel``."""
        ...

    async def release(self, file_id: str) -> dict[str, object] | None:
        """Let a file go on that was held; as ``cancel``."""
        ...

    async def retry(self, file_id: str) -> dict[str, object] | None:
        """Try a file again, now; as ``cancel``."""
        ...

    async def events(self, last: str | None) -> Stream:
        """Follow what happens, from behind the event of this id or from now on."""
        ...

    async def metrics(self) -> tuple[bytes, str]:
        """Give the numbers, and the media type that they are written in."""
        ...

    async def health(self) -> str | None:
        """Give None while all is well, else a sentence that says what is not."""
        ...


def application(view: View, crowd: Crowd, streams: set[Stream]) -> web.Application:
    """Make the application; ``streams`` holds those that are open."""
    made = web.Application(middlewares=[_guard], client_max_size=64 * 1024)
    routes = _Routes(view, crowd, streams)
    made.router.add_get("/v1/status", routes.status)
    made.router.add_get("/v1/files", routes.files)
    made.router.add_get("/v1/files/{id}", routes.file)
    made.router.add_get("/v1/events", routes.events, allow_head=False)
    for name, verb in (
        ("cancel", view.cancel),
        ("hold", view.hold),
        ("release", view.release),
        ("retry", view.retry),
    ):
        made.router.add_post(f"/v1/files/{{id}}/{name}", _of_file(verb))
    for name, say in (("pause", view.pause), ("resume", view.resume), ("reload", view.reload)):
        made.router.add_post(f"/v1/{name}", _of_all(say))
    made.router.add_post("/v1/limit", routes.limit)
    made.router.add_get("/healthz", routes.healthz)
    made.router.add_get("/metrics", routes.metrics)
    return made


class _Routes:
    """One coroutine a call of the contract."""

    def __init__(self, view: View, crowd: Crowd, streams: set[Stream]) -> None:
        self._view = view
        self._crowd = crowd
        self._streams = streams

    async def status(self, _request: web.Request) -> web.Response:
        return document(await self._view.status())

    async def files(self, request: web.Request) -> web.Response:
        asked = query.split(request.rel_url.raw_query_string, query.FILES)
        return document(
            await self._view.files(
                query.selection(asked),
                limit=query.limit(query.text(asked, "limit")),
                after=query.text(asked, "after"),
            )
        )

    async def file(self, request: web.Request) -> web.Response:
        return _found(await self._view.file(request.match_info["id"]))

    async def limit(self, request: web.Request) -> web.Response:
        return document(await self._view.limit(query.limit_said(await request.read())))

    async def healthz(self, _request: web.Request) -> web.Response:
        why = await self._view.health()
        if why is None:
            return document({"status": "ok"})
        return error(_UNAVAILABLE, why, hint="see: uploaderd status")

    async def metrics(self, _request: web.Request) -> web.Response:
        body, media_type = await self._view.metrics()
        return web.Response(body=body, headers={**HEADERS, "Content-Type": media_type})

    async def events(self, request: web.Request) -> web.StreamResponse:
        asked = query.split(request.rel_url.raw_query_string, query.EVENTS)
        last = request.headers.get("Last-Event-ID") or query.text(asked, "last_event_id")
        crowd = self._crowd
        if crowd.closed:
            return error(_UNAVAILABLE, "the daemon is stopping", hint="ask again in a moment")
        if crowd.streams >= crowd.limits.streams:
            return error(
                _UNAVAILABLE,
                f"{crowd.streams} clients follow the events already, and no more may",
                hint="close one of them, or ask /v1/status now and then",
            )
        crowd.streams += 1
        try:
            stream = await self._view.events(last)
            self._streams.add(stream)
            try:
                return await self._follow(request, stream)
            finally:
                self._streams.discard(stream)
                stream.close()
        finally:
            crowd.streams -= 1
            crowd.moved.set()

    async def _follow(self, request: web.Request, stream: Stream) -> web.StreamResponse:
        """Hand on what comes; who does not fetch it in time is cut off."""
        answer = web.StreamResponse(headers=HEADERS)
        answer.content_type = "text/event-stream"
        connection, limits = request.protocol, self._crowd.limits
        if isinstance(connection, Connection):
            connection.on_lost = stream.end
        try:
            await answer.prepare(request)
            while (some := await stream.next(limits.silence_s)) is not None:
                _give(request, limits.idle_s)
                await answer.write(some or COMMENT)
                _give(request, None)
                if request.transport is None:
                    break
            await answer.write_eof()
        except ConnectionError:
            pass  # it is gone
        except UploaderdError as wrong:
            log.warning("socket.events_failed", exc=None, text=str(wrong))
            answer.force_close()
        finally:
            if isinstance(connection, Connection):
                connection.on_lost = None
        return answer


def _give(request: web.Request, seconds: float | None) -> None:
    if isinstance(request.protocol, Connection):
        request.protocol.give(seconds)


def _of_file(
    verb: Callable[[str], Awaitable[dict[str, object] | None]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        return _found(await verb(request.match_info["id"]))

    return handle


def _of_all(
    verb: Callable[[], Awaitable[dict[str, object]]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_request: web.Request) -> web.Response:
        return document(await verb())

    return handle


def _found(found: dict[str, object] | None) -> web.Response:
    if found is None:
        return error(_NOT_FOUND, "no file has this id", hint="see: uploaderd list")
    return document(found)


@web.middleware
async def _guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn every failure into the error document and keep the client's deadlines."""
    connection = request.protocol
    if isinstance(connection, Connection):
        connection.asks()
    try:
        return await handler(request)
    except web.HTTPException as refused:
        answer = error(refused.status, refusal(request, refused))
        if isinstance(refused, web.HTTPMethodNotAllowed):
            answer.headers["Allow"] = ", ".join(sorted(refused.allowed_methods))
        return answer
    except UploaderdError as wrong:
        return _wrong(request, wrong)
    except Exception as wrong:  # noqa: BLE001 - a client sees a sentence, the log the rest
        log.error("socket.answer_failed", exc=wrong, path=request.path)  # noqa: TRY400 - ours
        return error(_SERVER_ERROR, INTERNAL)
    finally:
        if isinstance(connection, Connection):
            connection.answered()


def _wrong(request: web.Request, wrong: UploaderdError) -> web.Response:
    match wrong:
        case NotApplicableError():
            return error(_CONFLICT, str(wrong), hint=wrong.hint)
        case ConfigError():
            return error(_CONFLICT, str(wrong), hint=wrong.hint, code="config")
        case UsageError():
            return error(_BAD_REQUEST, str(wrong), hint=wrong.hint)
        case _:
            log.warning("socket.answer_failed", exc=wrong, path=request.path)
            return error(_UNAVAILABLE, str(wrong), hint=wrong.hint)
