"""The composition root: the one place that constructs, wires, supervises and drains."""

from __future__ import annotations

import asyncio
import os
import random  # noqa: TID251 - chance is made here and handed in
import signal
import socket
import time
import uuid
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from uploaderd import __version__, logs, systemd
from uploaderd.client import Client, TargetAddress, open_session
from uploaderd.clock import SystemClock
from uploaderd.config.secrets import Secret, find_key, key_warnings
from uploaderd.control.server import Control
from uploaderd.engine.context import Context, Place, Service
from uploaderd.engine.engine import Engine
from uploaderd.engine.view import EngineView
from uploaderd.errors import ConfigError, JournalError, SpoolError
from uploaderd.journal import DamagedError, Journal
from uploaderd.lock import StateLock, WatchLock
from uploaderd.offload import Threads
from uploaderd.spool.filing import Filing
from uploaderd.spool.tree import Tree
from uploaderd.spool.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import aiohttp

    from uploaderd.config import Config, Target, Watch
    from uploaderd.seams import Offload

P = ParamSpec("P")
T = TypeVar("T")

log = logs.get(__name__)

DISK_THREADS = 8
JOURNAL = "journal.sqlite3"
AGAIN_S = 5.0  # between two tries to take over what was left, while the journal cannot be written
SPARE_CONNECTIONS = 8  # for create, complete, cancel and list beside the parts


class Keeper:
    """The journal's thread, which tells when the journal turns out to be damaged."""

    def __init__(self, thread: Offload) -> None:
        self.thread = thread
        self.damaged = asyncio.Event()
        self.why: DamagedError | None = None

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of the journal."""
        try:
            return await self.thread(function, *args, **kwargs)
        except DamagedError as error:
            self.why = self.why or error
            self.damaged.set()
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """What can be put in place of threads and of the service's client."""

    threads: Callable[[str, int], AbstractContextManager[Offload]] = Threads
    client: Callable[..., Client] = Client


async def run(config: Config, env: Mapping[str, str], seams: Seams | None = None) -> None:
    """Run the daemon until SIGTERM or SIGINT, then drain.

    Raises:
        ConfigError: the configuration's surroundings are wrong; nothing was begun.
        JournalError: the journal cannot be used, or was found to be damaged on the way.
    """
    used = {watch.target for watch in config.watches}
    keys = {t.name: find_key(t, env) for t in config.targets if t.name in used}
    logs.configure(
        config.daemon.log_level, config.daemon.log_format, env=env, secrets=keys.values()
    )
    for target in config.targets:
        for warning in key_warnings(target, env) if target.name in used else ():
            log.warning("key.exposed", target=target.name, text=warning)
    seams = seams or Seams()
    async with AsyncExitStack() as stack:
        stack.enter_context(StateLock(config.daemon.state_dir))
        keep = Keeper(stack.enter_context(seams.threads("journal", 1)))
        engine = await _wire(stack, config, keys, seams, keep)
        await _serve(stack, config, engine, keep, systemd.notifier(env))


async def _serve(
    stack: AsyncExitStack,
    config: Config,
    engine: Engine,
    keep: Keeper,
    notifier: systemd.Notifier,
) -> None:
    """Answer, work, and end well: by a signal, or because the journal is damaged."""
    view = EngineView(engine, version=__version__)
    control = Control(view, config.daemon.socket, config.daemon.socket_mode)
    await control.start()
    stack.push_async_callback(control.stop)
    stop, begun = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    work = asyncio.create_task(_work(engine, begun))
    hurt = asyncio.create_task(keep.damaged.wait())
    over = asyncio.create_task(stop.wait())
    ready = asyncio.create_task(begun.wait())
    ends = {work, hurt, over}
    await asyncio.wait({*ends, ready}, return_when=asyncio.FIRST_COMPLETED)
    if begun.is_set():
        notifier.ready()
        log.info("daemon.ready", pid=os.getpid(), version=__version__, socket=config.daemon.socket)
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for waiting in (hurt, over, ready):
        waiting.cancel()
    notifier.stopping()
    if keep.why is not None:
        log.error("daemon.stopped", text=str(keep.why))
        await engine.drain(0.0)  # nothing could be journalled: nothing more is begun
    elif not work.done():
        log.info("daemon.draining", timeout_s=config.daemon.drain_timeout_s)
        whole = await engine.drain(config.daemon.drain_timeout_s)
        log.info("daemon.stopped", drained=whole)
    work.cancel()
    await asyncio.wait({work})
    if keep.why is not None:
        await keep(engine.ctx.journal.suspect)
        raise keep.why
    if not work.cancelled() and not stop.is_set():
        work.result()


async def _work(engine: Engine, begun: asyncio.Event) -> None:
    """Take over what was left, as soon as the journal can be written, and go on from there."""
    while True:
        try:
            await engine.recover()
            break
        except JournalError as error:
            trouble = engine.ctx.trouble
            if trouble.get("journal") != str(error):
                log.error(  # noqa: TRY400 - a sentence, not a traceback
                    "daemon.trouble", subject="journal", text=str(error)
                )
            trouble["journal"] = str(error)
        begun.set()
        await asyncio.sleep(AGAIN_S)
    begun.set()
    await engine.run()


async def _wire(
    stack: AsyncExitStack,
    config: Config,
    keys: Mapping[str, Secret],
    seams: Seams,
    keep: Keeper,
) -> Engine:
    """Make everything, in the order in which it is needed; the stack undoes it in reverse."""
    disk = stack.enter_context(seams.threads("disk", DISK_THREADS))
    trouble: dict[str, str] = {}
    journal = Journal(config.daemon.state_dir / JOURNAL)
    stack.push_async_callback(keep, journal.close)
    await _open(journal, keep.thread, trouble)
    session = open_session(connections=config.transfer.parts_in_flight + SPARE_CONNECTIONS)
    stack.push_async_callback(session.close)
    places = {}
    for watch in config.watches:
        place = _place(watch, disk, trouble)
        stack.callback(place.tree.close)
        stack.enter_context(WatchLock(watch.path))
        places[place.name] = place
    services = {
        target.name: _service(target, keys[target.name], config, session, seams)
        for target in config.targets
        if target.name in keys
    }
    for service in services.values():
        await disk(service.client.prepare)
    chance = random.Random()  # noqa: S311 - jitter, not secrets
    return Engine(
        Context(
            journal=journal,
            keep=keep,
            disk=disk,
            clock=SystemClock(),
            chance=chance.random,
            new_id=lambda: uuid.uuid4().hex,
            day_s=_seconds_of_day,
            owner=socket.gethostname(),
            places=places,
            services=services,
            transfer=config.transfer,
            retry=config.retry,
            trouble=trouble,
        )
    )


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


def _place(watch: Watch, disk: Offload, trouble: dict[str, str]) -> Place:
    tree = Tree(watch.path)
    try:
        tree.open()
    except SpoolError as error:
        hint = "create it, mount it, or correct the watch's path"
        raise ConfigError(str(error), hint=hint) from error

    name = str(watch.path)

    def report(event: str, facts: dict[str, object]) -> None:
        if event == "spool.lost":
            trouble[name] = f"the watched folder {name} cannot be used: {facts.get('why', '')}"
        elif event == "spool.back":
            trouble.pop(name, None)
        say = log.info if event in {"spool.inotify", "spool.back"} else log.warning
        say(event, exc=None, watch=watch.path, **facts)

    return Place(
        name=name,
        settings=watch,
        tree=tree,
        watcher=Watcher(
            tree,
            ignore=watch.ignore,
            recursive=watch.recursive,
            rescan_s=watch.rescan_s,
            offload=disk,
            report=report,
        ),
        filing=Filing(tree),
    )


def _service(
    target: Target,
    key: Secret,
    config: Config,
    session: aiohttp.ClientSession,
    seams: Seams,
) -> Service:
    address = TargetAddress(
        name=target.name,
        base_url=target.base_url,
        flavour=target.flavour,
        api_version=target.api_version,
        organization=target.organization,
        project=target.project,
        ca_file=target.ca_file,
    )
    stall_s = config.transfer.stall_timeout_s
    client = seams.client(address, key, stall_s=stall_s, session=session)
    return Service(name=target.name, flavour=target.flavour.value, client=client)


def _seconds_of_day(wall_s: float) -> float:
    local = time.localtime(wall_s)
    return local.tm_hour * 3600.0 + local.tm_min * 60.0 + local.tm_sec
