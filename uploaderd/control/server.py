"""The status socket: HTTP/1.1 and JSON over a Unix socket.

Serves the documents of a ``View`` and knows nothing of how they are made. A document is made
anew for each request; an error is ``{"error": {"code", "message", "hint"}}``, never a traceback.

``GET /v1/files?path=`` finds files by their path. The value, percent-decoded, is handed to the
view as bytes; a file matches if these bytes are its absolute path in the file system's own bytes,
or the UTF-8 text that FILE's ``path`` shows for it. Where a real backslash makes the two readings
differ, both files are in the answer. Rows come newest first.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from aiohttp import web

from uploaderd import __version__, logs
from uploaderd.control import query
from uploaderd.control.claim import BACKLOG, claim, identity
from uploaderd.core.model import FileState
from uploaderd.errors import NotApplicableError, UploaderdError, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

log = logs.get(__name__)

HEADER_BYTES: Final = 8190

_SHUTDOWN_S: Final = 1.0
_ROUNDS: Final = 3
_BAD_REQUEST: Final = 400
_CONFLICT: Final = 409
_SERVER_ERROR: Final = 500
_MESSAGE_CHARS: Final = 500
_CODES: Final = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    409: "not_applicable",
    413: "too_large",
    500: "internal",
    503: "unavailable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a client may take of the daemon.

    Attributes:
        connections: how many at a time.
        request_s: the time to send a request's head.
        idle_s: the time to fetch an answer and to ask again.
    """

    connections: int = 64
    request_s: float = 10.0
    idle_s: float = 30.0


class View(Protocol):
    """What the status socket shows; the engine's face."""

    async def status(self) -> dict[str, object]:
        """Give the status document."""
        ...

    async def files(
        self, *, state: str | None, path: bytes | None, limit: int, after: str | None
    ) -> dict[str, object]:
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

    async def cancel(self, file_id: str) -> dict[str, object] | None:
        """Give a file up; its FILE, None where no file has this id; NotApplicableError."""
        ...

    async def health(self) -> str | None:
        """Give None while all is well, else a sentence that says what is not."""
        ...


class Control:
    """The server on the status socket; ``start`` it before work begins, ``stop`` it last."""

    def __init__(
        self, view: View, socket: Path, mode: int, *, limits: Limits | None = None
    ) -> None:
        self._view = view
        self._path = socket
        self._mode = mode
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._born: tuple[int, int] | None = None
        self._crowd = _Crowd(limits=limits or Limits())

    async def start(self) -> None:
        """Claim the socket's path and answer; ConfigError where it cannot be claimed."""
        runner = web.AppRunner(
            _application(self._view), handle_signals=False, shutdown_timeout=_SHUTDOWN_S
        )
        await runner.setup()
        try:
            sock = claim(self._path, self._mode)
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self._born = identity(self._path)
        manager = runner.server
        if manager is None:  # pragma: no cover - set up above
            raise AssertionError
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: _Connection(
                manager,
                crowd=self._crowd,
                loop=loop,
            ),
            sock=sock,
            backlog=BACKLOG,
        )

    async def stop(self) -> None:
        """Stop answering and remove the socket, if the one at the path is still ours."""
        runner, self._runner = self._runner, None
        server, self._server = self._server, None
        born, self._born = self._born, None
        if born is not None and identity(self._path) == born:
            self._path.unlink(missing_ok=True)
        self._crowd.closed = True
        # Whoever came before the socket was gone is let in first: asyncio loses a connection that
        # it has accepted but not yet made when the server closes.
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
        if server is not None:
            server.close()
        if runner is not None:
            await runner.cleanup()
        for connection in list(self._crowd.members):
            connection.give_up()
        # An abort takes effect in the loop's next round.
        await asyncio.sleep(0)


# --- the connections --------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True, eq=False)
class _Crowd:
    """Everyone who is connected; nobody gets in once it is closed."""

    limits: Limits
    members: set[_Connection] = field(default_factory=set)
    closed: bool = False


class _Connection(web.RequestHandler):
    """One client: it must ask in time and read its answer in time, and there are not too many.

    aiohttp's own keep-alive timer does not see a client that never reads.
    """

    __slots__ = ("_crowd", "_deadline", "_pipe")

    def __init__(
        self,
        manager: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        crowd: _Crowd,
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            tcp_keepalive=False,
            keepalive_timeout=crowd.limits.idle_s,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            auto_decompress=False,  # no body is used; one that is no gzip would be logged as ours
        )
        self._crowd = crowd
        self._deadline: asyncio.TimerHandle | None = None
        self._pipe: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._pipe = transport
        full = len(self._crowd.members) >= self._crowd.limits.connections
        self._crowd.members.add(self)
        if full or self._crowd.closed:
            self.give_up()
        else:
            self.give(self._crowd.limits.request_s)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.give(None)
        self._crowd.members.discard(self)
        super().connection_lost(exc)

    def give(self, seconds: float | None) -> None:
        """Set the time in which the client must do the next thing; None while it is our turn."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None
        if seconds is not None:
            self._deadline = self._loop.call_later(seconds, self.give_up)

    def answered(self) -> None:
        """Let the client fetch its answer and ask again."""
        self.give(self._crowd.limits.idle_s)

    def give_up(self) -> None:
        """Hang up at once."""
        # close() would wait for a client that does not read.
        if isinstance(self._pipe, asyncio.WriteTransport):
            self._pipe.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = _SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the parser's words quote the client's bytes
    ) -> web.StreamResponse:
        """Answer what the parser refuses in the same shape as every other error."""
        if status >= _SERVER_ERROR and not isinstance(exc, ConnectionError):
            log.error("status_request_failed", exc=exc)
        else:
            log.debug("status_request_refused", exc=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        said = "this is not an HTTP/1.1 request" if status < _SERVER_ERROR else _INTERNAL
        answer = _error(status, said)
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Answer in the same shape what is refused before the application is asked."""
        if isinstance(resp, web.HTTPException):  # such as an Expect that nobody can meet
            resp = _error(resp.status, _refusal(request, resp))
        return await super().finish_response(request, resp, start_time)


# --- the answers ------------------------------------------------------------------------------

_INTERNAL: Final = "the daemon could not make this document; its log says why"


def _application(view: View) -> web.Application:
    application = web.Application(middlewares=[_guard], client_max_size=64 * 1024)
    routes = _Routes(view)
    application.router.add_get("/v1/status", routes.status)
    application.router.add_get("/v1/files", routes.files)
    application.router.add_get("/v1/files/{id}", routes.file)
    application.router.add_post("/v1/files/{id}/cancel", routes.cancel)
    application.router.add_post("/v1/pause", routes.pause)
    application.router.add_post("/v1/resume", routes.resume)
    application.router.add_get("/healthz", routes.healthz)
    return application


class _Routes:
    """One coroutine a call of the contract."""

    def __init__(self, view: View) -> None:
        self._view = view

    async def status(self, _request: web.Request) -> web.Response:
        return _json(await self._view.status())

    async def files(self, request: web.Request) -> web.Response:
        asked = query.split(request.rel_url.raw_query_string)
        state = query.text(asked, "state")
        if state is not None and state not in set(FileState):
            raise UsageError(
                f"there is no state {state!r}", hint="one of: " + ", ".join(sorted(FileState))
            )
        return _json(
            await self._view.files(
                state=state,
                path=asked.get("path"),
                limit=query.limit(query.text(asked, "limit")),
                after=query.text(asked, "after"),
            )
        )

    async def file(self, request: web.Request) -> web.Response:
        found = await self._view.file(request.match_info["id"])
        if found is None:
            return _error(404, "no file has this id", hint="see: uploaderd list")
        return _json(found)

    async def cancel(self, request: web.Request) -> web.Response:
        found = await self._view.cancel(request.match_info["id"])
        if found is None:
            return _error(404, "no file has this id", hint="see: uploaderd list")
        return _json(found)

    async def pause(self, _request: web.Request) -> web.Response:
        return _json(await self._view.pause())

    async def resume(self, _request: web.Request) -> web.Response:
        return _json(await self._view.resume())

    async def healthz(self, _request: web.Request) -> web.Response:
        why = await self._view.health()
        if why is None:
            return _json({"status": "ok"})
        return _error(503, why, hint="see: uploaderd status")


@web.middleware
async def _guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn every failure into the error document and keep the client's deadlines."""
    connection = request.protocol
    if isinstance(connection, _Connection):
        connection.give(None)  # now it is our turn
    try:
        return await handler(request)
    except web.HTTPException as refused:
        answer = _error(refused.status, _refusal(request, refused))
        if isinstance(refused, web.HTTPMethodNotAllowed):
            answer.headers["Allow"] = ", ".join(sorted(refused.allowed_methods))
        return answer
    except NotApplicableError as error:
        return _error(_CONFLICT, str(error), hint=error.hint)
    except UsageError as error:
        return _error(_BAD_REQUEST, str(error), hint=error.hint)
    except UploaderdError as error:
        log.warning("status_document_failed", exc=error, path=request.path)
        return _error(503, str(error), hint=error.hint)
    except Exception as error:  # noqa: BLE001 - a client sees a sentence, the log the rest
        log.error("status_document_failed", exc=error, path=request.path)  # noqa: TRY400 - ours
        return _error(_SERVER_ERROR, _INTERNAL)
    finally:
        if isinstance(connection, _Connection):
            connection.answered()


def _refusal(request: web.BaseRequest, refused: web.HTTPException) -> str:
    if isinstance(refused, web.HTTPNotFound):
        return f"there is nothing at {request.path}"
    if isinstance(refused, web.HTTPMethodNotAllowed):
        return f"{refused.method} does not apply to {request.path}"
    return refused.reason


def _json(document: dict[str, object], *, status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(document) + b"\n",
        content_type="application/json",
        headers={"Server": f"uploaderd/{__version__}", "Cache-Control": "no-store"},
    )


def _error(status: int, message: str, *, hint: str = "") -> web.Response:
    """Make the error document; a message that quotes the client is cut, and is text in any case."""
    code = _CODES.get(status, "refused")
    if len(message) > _MESSAGE_CHARS:
        message = message[:_MESSAGE_CHARS] + "…"
    message = message.encode("utf-8", "backslashreplace").decode()
    return _json({"error": {"code": code, "message": message, "hint": hint}}, status=status)
