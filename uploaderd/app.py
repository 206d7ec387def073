"""The composition root: the one place that constructs, wires, supervises and drains."""

from __future__ import annotations

import asyncio
import gc
import os
import random  # noqa: TID251 - chance is made here and handed in
import signal
import socket
import sys
import threading
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from uploaderd import __version__, logs
from uploaderd.aside import Aside
from uploaderd.client import open_session
from uploaderd.clock import SystemClock
from uploaderd.engine.context import Context
from uploaderd.engine.engine import Engine
from uploaderd.hooks import Programs
from uploaderd.journal import DamagedError, Journal
from uploaderd.journal.following import Reader
from uploaderd.keeper import Keeper, Onlooker
from uploaderd.lock import StateLock
from uploaderd.metrics import Lag, Metrics
from uploaderd.serving import Serving
from uploaderd.wiring import Seams, Wiring, keys_of, seconds_of_week, speak

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from uploaderd.config import Config
    from uploaderd.config.secrets import Secret
    from uploaderd.seams import Offload

__all__ = ["Seams", "run", "start"]

log = logs.get(__name__)

DISK_THREADS = 8
JOURNAL = "journal.sqlite3"
OF_MEMORY = 8  # such a part of it is counted on to stay in the page cache
# How long another thread may keep the interpreter once the loop wants it, which it does after each
# call of the kernel; Python's own 5 ms add up to a lag of tens, and less costs more of switching.
SWITCH_S = 0.002
# The most parts that may be in flight, and create, complete, cancel and list beside them.
CONNECTIONS = 64 + 8


def start(config: Config, env: Mapping[str, str]) -> None:
    """Do what ``run`` does on a loop of its own, of which it is known how late it is."""
    lag = Lag()
    sys.setswitchinterval(SWITCH_S)
    # What was imported stays: to look through it again and again would hold up the loop.
    gc.freeze()
    with asyncio.Runner(loop_factory=lag.new_loop) as runner:
        runner.run(run(config, env, lag=lag))


async def run(
    config: Config,
    env: Mapping[str, str],
    seams: Seams | None = None,
    *,
    lag: Lag | None = None,
) -> None:
    """Run the daemon until SIGTERM or SIGINT, then drain.

    Raises:
        ConfigError: the configuration's surroundings are wrong; nothing was begun.
        JournalError: the journal cannot be used, or was found to be damaged on the way.
    """
    # Before there is anything to reload, the signal's default would end the process.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: None)
    keys = keys_of(config, env)
    speak(config, env, keys)
    seams = seams or Seams()
    async with AsyncExitStack() as stack:
        stack.enter_context(StateLock(config.daemon.state_dir))
        thread = stack.enter_context(seams.threads("journal", 1))
        keep = Keeper(thread, asyncio.get_running_loop().time, Aside())
        wiring = await _begin(stack, env, seams, lag)
        engine = await _wire(stack, config, keys, wiring, keep)
        look = Onlooker(stack.enter_context(seams.threads("reader", 1)), keep)
        reader = Reader(engine.ctx.journal.path)
        stack.push_async_callback(look, reader.close)
        await look(reader.open)
        await Serving(config, wiring, engine, keep, reader=reader, look=look).run(stack)


async def _begin(
    stack: AsyncExitStack, env: Mapping[str, str], seams: Seams, lag: Lag | None
) -> Wiring:
    """Make what all adapters share; the stack undoes it in reverse."""
    metrics = Metrics(version=__version__, lag=lag)
    disk = stack.enter_context(seams.threads("disk", DISK_THREADS))
    session = open_session(connections=CONNECTIONS)
    stack.push_async_callback(session.close)
    wiring = Wiring(env=env, seams=seams, disk=disk, session=session, metrics=metrics, trouble={})
    return stack.enter_context(wiring)


async def _wire(
    stack: AsyncExitStack,
    config: Config,
    keys: Mapping[str, Secret],
    wiring: Wiring,
    keep: Keeper,
) -> Engine:
    """Make everything, in the order in which it is needed."""
    journal = Journal(config.daemon.state_dir / JOURNAL)

    def committing() -> AbstractContextManager[object]:
        keep.over()
        return wiring.metrics.commit()

    journal.measure = committing
    keep.together = journal.together
    stack.push_async_callback(keep, journal.close)
    await _open(journal, keep.thread, wiring.trouble)
    places = [wiring.place(watch) for watch in config.watches]
    services = await wiring.services(config, keys)
    chance = random.Random()  # noqa: S311 - jitter, not secrets
    return Engine(
        Context(
            journal=journal,
            keep=keep,
            disk=wiring.disk,
            clock=SystemClock(),
            chance=chance.random,
            new_id=_new_id,
            week_s=seconds_of_week,
            owner=socket.gethostname(),
            places={place.name: place for place in places},
            services=services,
            transfer=config.transfer,
            retry=config.retry,
            hooks=config.hooks,
            cached_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // OF_MEMORY,
            keep_s=config.journal.keep_s,
            run_hook=Programs(wiring.env),
            tally=wiring.metrics,
            trouble=wiring.trouble,
        )
    )


class _Random:
    """Random bytes of the kernel's, a page at a time: each question to it lets others run first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = b""

    def __call__(self, count: int) -> bytes:
        with self._lock:
            if len(self._left) < count:
                self._left = os.urandom(1024)
            taken, self._left = self._left[:count], self._left[count:]
        return taken


_random = _Random()


def _new_id() -> str:
    """An id that no other machine makes either: a UUID of version 7 (RFC 9562, section 5.7).

    It begins with the time, so that the journal's indexes of ids grow at their end. No meaning
    lies in that.
    """
    millis, chance = time.time_ns() // 1_000_000, int.from_bytes(_random(10))
    low = chance & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62
    return f"{millis & 2**48 - 1:012x}{low & 2**80 - 1:020x}"


async def _open(journal: Journal, keep: Offload, trouble: dict[str, str]) -> None:
    """Open the journal; one that is damaged is set aside, loudly, and a new one is begun."""
    try:
        await keep(journal.open)
    except DamagedError as error:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        kept = await keep(journal.set_aside, stamp)
        trouble["journal damaged"] = (
            f"{error}; it was set aside as {kept} and a new one was begun: files that were on "
            "their way are uploaded from the start, and one whose upload had just been completed "
            "may arrive twice"
        )
        log.error(  # noqa: TRY400 - a sentence, not a traceback
            "journal.damaged", kept=kept, text=trouble["journal damaged"]
        )
        await keep(journal.open)
