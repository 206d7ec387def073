"""The daemon's life: answer, work, follow signals, tell the service manager, end well."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from uploaderd import __version__, logs, systemd
from uploaderd.control.server import Control
from uploaderd.core.report import headline
from uploaderd.engine.view import EngineView
from uploaderd.errors import ConfigError, JournalError, UploaderdError
from uploaderd.reloading import Reloader

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextlib import AsyncExitStack

    from uploaderd.config import Config
    from uploaderd.engine.engine import Engine
    from uploaderd.journal.following import Following
    from uploaderd.keeper import Keeper
    from uploaderd.seams import Offload
    from uploaderd.wiring import Wiring

log = logs.get(__name__)

AGAIN_S = 5.0  # between two tries to take over what was left, while the journal cannot be written
HEADLINE_S = 5.0
SPARE_S = 10.0  # what a start or stop may take beside what is known of it


class Serving:
    """One run, from the first answer to the last."""

    def __init__(
        self,
        config: Config,
        wiring: Wiring,
        engine: Engine,
        keep: Keeper,
        *,
        reader: Following,
        look: Offload,
    ) -> None:
        self._wiring = wiring
        self._engine = engine
        self._keep = keep
        self._notifier = systemd.notifier(wiring.env)
        self._reloader = Reloader(config, wiring, engine)
        self._view = EngineView(
            engine, version=__version__, reader=reader, look=look, reload=self.reload
        )
        self._stop = asyncio.Event()
        self._begun = asyncio.Event()
        self._reloads = 0  # under way
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stack: AsyncExitStack) -> None:
        """Serve until a signal, or until the journal is damaged; then drain.

        Raises:
            ConfigError: the status socket cannot be had; nothing was begun.
            DamagedError: the journal was found to be damaged on the way.
        """
        daemon = self._reloader.config.daemon
        listening = systemd.listening(self._wiring.env)
        control = Control(self._view, daemon.socket, daemon.socket_mode, listening=listening)
        await control.start()
        stack.push_async_callback(control.stop)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        work = asyncio.create_task(self._work())
        self._spawn(self._feed_watchdog())
        self._spawn(self._tell_headline())
        try:
            await self._until_over(work)
            await self._end(work)
        finally:
            for task in self._tasks:
                task.cancel()

    async def reload(self) -> None:
        """Take over the changed configuration; as ``Reloader.reload``."""
        self._notifier.reloading(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
        self._reloads += 1
        try:
            await self._reloader.reload()
        finally:
            self._reloads -= 1
            if self._begun.is_set() and not self._reloads:
                self._notifier.ready()

    def _hang_up(self) -> None:
        self._spawn(self._reload_quietly())

    async def _reload_quietly(self) -> None:
        try:
            await self.reload()
        except ConfigError:
            pass  # it was said
        except UploaderdError as error:
            log.error("reload.refused", text=str(error), hint=error.hint)  # noqa: TRY400 - ours

    async def _until_over(self, work: asyncio.Task[None]) -> None:
        """Wait for the end of it: a signal, a damaged journal, or an engine that broke off."""
        hurt = asyncio.create_task(self._keep.damaged.wait())
        over = asyncio.create_task(self._stop.wait())
        ready = asyncio.create_task(self._begun.wait())
        ends = {work, hurt, over}
        while not any(end.done() for end in ends) and not self._begun.is_set():
            self._notifier.extend_timeout(2 * SPARE_S)
            await asyncio.wait({*ends, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=SPARE_S)
        if self._begun.is_set():
            self._notifier.ready()
            socket = self._reloader.config.daemon.socket
            log.info("daemon.ready", pid=os.getpid(), version=__version__, socket=socket)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (hurt, over, ready):
            waiting.cancel()

    async def _end(self, work: asyncio.Task[None]) -> None:
        """Let what is on the wire come to its end, and go."""
        drain_s = self._reloader.config.daemon.drain_timeout_s
        self._notifier.stopping()
        self._notifier.extend_timeout(drain_s + SPARE_S)
        why = self._keep.why
        if why is not None:
            log.error("daemon.stopped", text=str(why))
            await self._engine.drain(0.0)  # nothing could be journalled: nothing more is begun
        elif not work.done():
            log.info("daemon.draining", timeout_s=drain_s)
            whole = await self._engine.drain(drain_s)
            log.info("daemon.stopped", drained=whole)
        work.cancel()
        await asyncio.wait({work})
        if why is not None:
            await self._keep(self._engine.ctx.journal.suspect)
            raise why
        if not work.cancelled() and not self._stop.is_set():
            work.result()

    async def _work(self) -> None:
        """Take over what was left, as soon as the journal can be written, and go on from there."""
        while True:
            try:
                await self._engine.recover()
                break
            except JournalError as error:
                self._engine.ctx.in_trouble("journal", error)
            self._begun.set()
            await asyncio.sleep(AGAIN_S)
        self._begun.set()
        await self._engine.run()

    async def _feed_watchdog(self) -> None:
        """Tell the service manager that it gets on; say nothing where it does not."""
        every_s = systemd.watchdog_s(self._wiring.env)
        stuck = False
        while every_s is not None:
            if self._engine.beats(self._keep.since_s):
                self._notifier.watchdog()
                stuck = False
            elif not stuck:
                stuck = True
                log.error("daemon.stuck", text="Nothing gets on; the watchdog is not fed.")
            await asyncio.sleep(every_s)

    async def _tell_headline(self) -> None:
        """Keep the line that ``systemctl status`` shows true."""
        told = ""
        await self._begun.wait()
        while self._notifier.address is not None:
            with suppress(UploaderdError):
                line = headline(await self._view.status())
                if line != told:
                    self._notifier.status(line)
                    told = line
            await asyncio.sleep(HEADLINE_S)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
