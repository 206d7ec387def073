"""Starting and ending an emulator, inside another program or as one of its own."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from socket import SOCK_STREAM
from typing import TYPE_CHECKING, Self

from aiohttp import web

from uploaderd.emulator.app import Face
from uploaderd.emulator.clock import Clock
from uploaderd.emulator.control import Control
from uploaderd.emulator.faults import Fault, FaultPlan
from uploaderd.emulator.rules import Rules, rules_for
from uploaderd.emulator.service import Service
from uploaderd.emulator.stats import Stats
from uploaderd.emulator.store import STEP_BYTES, Store
from uploaderd.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

GRACE_S = 2.0
PORT_MAX = 65535


class Emulator:
    """A local Uploads service: `async with Emulator(store=folder) as emulator:`.

    Without an api_key any key is accepted, but not none. A store that was used before goes on
    where it was. The counts in `stats` begin at zero with each object, and so does the clock.

    Attributes:
        base_url: where clients are pointed, `http://HOST:PORT/v1`.
        endpoint: `http://HOST:PORT`, for clients that build Azure's paths themselves.
        clock: moves the service's time.
        faults: what goes wrong.
        stats: what was asked.
        store: what is held.
    """

    def __init__(
        self,
        *,
        store: Path,
        api_key: str | None = None,
        rules: Rules | None = None,
        faults: Iterable[str | Fault] = (),
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.rules = Rules() if rules is None else rules
        self.clock = Clock()
        self.faults = FaultPlan(faults)
        self.stats = Stats()
        self.store_path = store
        self.endpoint = ""
        self._api_key = api_key
        self._host = host
        self._port = port

    @property
    def base_url(self) -> str:
        """Where clients are pointed; empty before the start."""
        return self.endpoint and f"{self.endpoint}/v1"

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()

    async def start(self) -> None:
        """Open the store and listen; ConfigError if either can't be done."""
        self.store = Store(self.store_path)
        try:
            await self._listen()
        except OSError as error:
            self.store.close()
            raise ConfigError(
                f"cannot listen on {self._host}:{self._port}: {error.strerror or error}",
                hint="choose another address, or port 0 for a free one",
            ) from error

    async def stop(self) -> None:
        """Stop listening, break what is under way after a grace of two seconds, let go."""
        self._face.closing.set()
        await self._runner.cleanup()
        self.store.close()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=SOCK_STREAM)
        # One address only: with port 0, a name of two would get two ports.
        address = found[0][4][0]
        self._face = Face(
            Service(self.store, self.rules, self.clock, self.stats),
            faults=self.faults,
            stats=self.stats,
            api_key=self._api_key,
        )
        app = web.Application()
        app.add_routes(self._face.routes())
        app.add_routes(Control(self._face).routes())
        app.router.add_route("*", "/{path:.*}", self._face.nowhere)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_quiet_log(),
            shutdown_timeout=GRACE_S,
            read_bufsize=STEP_BYTES,
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, str(address), self._port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        host, port = self._runner.addresses[0][:2]
        self.endpoint = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(
    *,
    listen: str,
    store: Path,
    api_key: str | None,
    profile: str,
    faults: Sequence[str],
    rules: Sequence[str] = (),
) -> None:
    """Run an emulator until SIGINT or SIGTERM.

    The first line on standard output is `listening on http://HOST:PORT/v1`. A wrong word raises
    UsageError; a store or an address that can't be used raises ConfigError.
    """
    host, port = parse_listen(listen)
    emulator = Emulator(
        store=store,
        api_key=api_key,
        rules=rules_for(profile, rules),
        faults=faults,
        host=host,
        port=port,
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    try:
        async with emulator:
            sys.stdout.write(f"listening on {emulator.base_url}\n")
            sys.stdout.flush()
            await ended.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def parse_listen(listen: str) -> tuple[str, int]:
    """Return the host and port of HOST:PORT or [IPV6]:PORT; UsageError for anything else."""
    host, colon, port = listen.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    plain = host.strip("[]") if bracketed else host
    wrong_host = not plain or (":" in plain and not bracketed)
    if not colon or wrong_host or not (port.isascii() and port.isdigit() and int(port) <= PORT_MAX):
        raise UsageError(
            f"{listen!r} is no address to listen on",
            hint="write HOST:PORT, such as 127.0.0.1:0 or [::1]:8080",
        )
    return plain, int(port)


def _quiet_log() -> logging.Logger:
    """Return a log for aiohttp that swallows the tracebacks of clients' misbehaviour.

    What fails in the emulator itself is logged by `app`, under its own name.
    """
    quiet = logging.getLogger("uploaderd.emulator.http")
    quiet.setLevel(logging.CRITICAL + 1)
    return quiet
