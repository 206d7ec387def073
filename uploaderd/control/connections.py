"""Who is connected to the status socket, and for how long: a rude client harms nobody.

There are never more connections than ``Limits.connections``. Where another one comes, whoever has
been silent for the longest makes room, so that a thousand idle clients keep nobody out.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiohttp import web

from uploaderd import logs
from uploaderd.control.answers import INTERNAL, error, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

log = logs.get(__name__)

HEADER_BYTES: Final = 8190
CONNECTIONS: Final = 512
SHARE: Final = 4  # of the process's descriptors: the others are for uploads

_SERVER_ERROR: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a client may take of the daemon.

    Attributes:
        connections: how many at a time.
        streams: how many of them may follow the events.
        request_s: the time to send a request's head.
        idle_s: the time to fetch an answer and to ask again.
        silence_s: how often a stream without events gets a comment.
    """

    connections: int = CONNECTIONS
    streams: int = CONNECTIONS // 4
    request_s: float = 10.0
    idle_s: float = 30.0
    silence_s: float = 15.0

    @classmethod
    def fitting(cls) -> Limits:
        """As many connections as the process's limit on open files leaves room for."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = CONNECTIONS if soft == resource.RLIM_INFINITY else min(CONNECTIONS, soft // SHARE)
        return cls(connections=max(most, 8), streams=max(most // 4, 2))


@dataclass(slots=True, kw_only=True, eq=False)
class Crowd:
    """Everyone who is connected; nobody gets in once it is closed.

    Attributes:
        idle: who owes the next word, the one that has been silent for the longest first.
        fresh: who has not asked anything yet.
        busy: who waits for an answer.
        moved: set when one of them asked or went.
    """

    limits: Limits
    members: set[Connection] = field(default_factory=set)
    idle: dict[Connection, None] = field(default_factory=dict)
    fresh: set[Connection] = field(default_factory=set)
    busy: set[Connection] = field(default_factory=set)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    streams: int = 0
    closed: bool = False

    def admit(self, newcomer: Connection) -> bool:
        """Take in a newcomer, if there is room or somebody idle makes some."""
        if self.closed:
            return False
        if len(self.members) >= self.limits.connections:
            longest = next(iter(self.idle), None)
            if longest is None:
                return False
            longest.give_up()
        self.members.add(newcomer)
        self.fresh.add(newcomer)
        self.heard(newcomer)
        return True

    def heard(self, member: Connection) -> None:
        """It is not the one that has been silent for the longest."""
        if member in self.members and member not in self.busy:
            self.idle.pop(member, None)
            self.idle[member] = None

    def asks(self, member: Connection) -> None:
        """It is our turn."""
        self.moved.set()
        self.fresh.discard(member)
        self.idle.pop(member, None)
        self.busy.add(member)

    def answered(self, member: Connection) -> None:
        """It is the client's turn."""
        self.moved.set()
        self.busy.discard(member)
        self.heard(member)

    def leaves(self, member: Connection) -> None:
        """It is gone, or as good as gone."""
        self.moved.set()
        self.members.discard(member)
        self.idle.pop(member, None)
        self.fresh.discard(member)
        self.busy.discard(member)


class Connection(web.RequestHandler):
    """One client: it must ask in time and read its answer in time.

    aiohttp's own keep-alive timer does not see a client that never reads.
    """

    __slots__ = ("_crowd", "_deadline", "_pipe", "on_lost")

    def __init__(
        self,
        manager: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        crowd: Crowd,
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
        self.on_lost: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, if there is room."""
        super().connection_made(transport)
        self._pipe = transport
        if self._crowd.admit(self):
            self.give(self._crowd.limits.request_s)
        else:
            self.give_up()

    def data_received(self, data: bytes) -> None:
        """Take what it says."""
        self._crowd.heard(self)
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone, or was sent away."""
        self.give(None)
        self._crowd.leaves(self)
        if self.on_lost is not None:
            self.on_lost()
        super().connection_lost(exc)

    def give(self, seconds: float | None) -> None:
        """Set the time in which the client must do the next thing; None while it is our turn."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None
        if seconds is not None:
            self._deadline = self._loop.call_later(seconds, self.give_up)

    def asks(self) -> None:
        """A request is here: now it is our turn."""
        self.give(None)
        self._crowd.asks(self)

    def answered(self) -> None:
        """Let the client fetch its answer and ask again."""
        if self in self._crowd.members:
            self.give(self._crowd.limits.idle_s)
            self._crowd.answered(self)

    def give_up(self) -> None:
        """Hang up at once."""
        self._crowd.leaves(self)
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
            log.error("socket.request_failed", exc=exc)
        else:
            log.debug("socket.request_refused", exc=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        said = "this is not an HTTP/1.1 request" if status < _SERVER_ERROR else INTERNAL
        answer = error(status, said)
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Answer in the same shape what is refused before the application is asked."""
        if isinstance(resp, web.HTTPException):  # such as an Expect that nobody can meet
            resp = error(resp.status, refusal(request, resp))
        if self._crowd.closed and not resp.prepared:
            resp.force_close()
        return await super().finish_response(request, resp, start_time)
