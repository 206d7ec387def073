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
import select
import sys
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from uploaderd.control.claim import BACKLOG, claim, identity
from uploaderd.control.connections import Connection, Crowd, Limits
from uploaderd.control.routes import Stream, View, application

if TYPE_CHECKING:
    import socket
    from pathlib import Path

__all__ = ["Control", "Limits", "Stream", "View"]

_SHUTDOWN_S: Final = 1.0
_FIRST_WORD_S: Final = 0.5
_ROUNDS: Final = 3
_MOST_ROUNDS: Final = 100


class Control:
    """The server on the status socket; ``start`` it before work begins, ``stop`` it last.

    Args:
        view: makes the documents.
        path: where the socket is claimed.
        mode: whom it lets in.
        limits: what clients may take; by default what the limit on open files leaves room for.
        listening: a socket that somebody else made and keeps, such as systemd: it is served in
            place of ``path``, nothing is claimed, and it is left as it is: whoever comes between
            two daemons waits in it.
    """

    def __init__(
        self,
        view: View,
        path: Path,
        mode: int,
        *,
        limits: Limits | None = None,
        listening: socket.socket | None = None,
    ) -> None:
        self._view = view
        self._path = path
        self._mode = mode
        self._listening = listening
        self._socket: socket.socket | None = None
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._born: tuple[int, int] | None = None
        self._crowd = Crowd(limits=limits or Limits.fitting())
        self._streams: set[Stream] = set()

    async def start(self) -> None:
        """Claim the socket's path and answer; ConfigError where it cannot be claimed."""
        runner = web.AppRunner(
            application(self._view, self._crowd, self._streams),
            handle_signals=False,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await runner.setup()
        try:
            sock = self._listening or claim(self._path, self._mode)
        except BaseException:
            await runner.cleanup()
            raise
        sock.settimeout(0)
        self._runner = runner
        self._socket = sock
        self._born = identity(self._path) if self._listening is None else None
        manager = runner.server
        if manager is None:  # pragma: no cover - set up above
            raise AssertionError
        loop = asyncio.get_running_loop()
        # From 3.13 on asyncio would remove the path, also that of a socket which is not ours.
        left: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        self._server = await loop.create_unix_server(
            lambda: Connection(
                manager,
                crowd=self._crowd,
                loop=loop,
            ),
            sock=sock,
            backlog=BACKLOG,
            **left,
        )

    async def stop(self) -> None:
        """Answer those who came, and no more; remove the socket, if the one there is still ours."""
        runner, self._runner = self._runner, None
        server, self._server = self._server, None
        sock, self._socket = self._socket, None
        born, self._born = self._born, None
        if born is not None and identity(self._path) == born:
            self._path.unlink(missing_ok=True)
        if sock is not None:
            await self._let_in(sock)
        self._crowd.closed = True
        if server is not None:
            server.close()
        for stream in self._streams:
            stream.end()
        await self._hear_out()
        if runner is not None:
            await runner.cleanup()
        for connection in list(self._crowd.members):
            connection.give_up()
        # An abort takes effect in the loop's next round.
        await asyncio.sleep(0)

    async def _let_in(self, sock: socket.socket) -> None:
        """Take in whoever came before nobody could: closing would hang up on them.

        A socket that is not ours is left alone at once: who waits in it, is heard by the next
        daemon. asyncio loses a connection that it has accepted but not yet made when the server
        closes, so that needs a few rounds of the loop.
        """
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(sock.fileno())
        else:
            waiting = select.poll()
            waiting.register(sock, select.POLLIN)
            for _ in range(_MOST_ROUNDS):
                if not waiting.poll(0):
                    break
                await asyncio.sleep(0)
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)

    async def _hear_out(self) -> None:
        """Give those who have just come the time to ask, and those who asked their answer."""
        crowd = self._crowd
        try:
            async with asyncio.timeout(_FIRST_WORD_S):
                while crowd.fresh or crowd.streams:
                    crowd.moved.clear()
                    await crowd.moved.wait()
        except TimeoutError:
            pass
