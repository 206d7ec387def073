"""What ``app`` makes its adapters of, at the start and again at a reload."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Self

from uploaderd import logs
from uploaderd.client import Client, TargetAddress
from uploaderd.config.secrets import Secret, find_key, key_warnings
from uploaderd.engine.context import Place, Service
from uploaderd.errors import ConfigError, SpoolError
from uploaderd.lock import WatchLock
from uploaderd.offload import Threads
from uploaderd.spool.filing import Filing
from uploaderd.spool.tree import Tree
from uploaderd.spool.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import aiohttp

    from uploaderd.config import Config, Target, Watch
    from uploaderd.metrics import Metrics
    from uploaderd.seams import Offload

log = logs.get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """What can be put in place of threads and of the service's client."""

    threads: Callable[[str, int], AbstractContextManager[Offload]] = Threads
    client: Callable[..., Client] = Client


@dataclass(slots=True, kw_only=True)
class Wiring:
    """Makes watches and targets of a configuration; as a context manager it lets the watches go.

    Attributes:
        trouble: what is wrong with the surroundings, by subject; watches tell it.
    """

    env: Mapping[str, str]
    seams: Seams
    disk: Offload
    session: aiohttp.ClientSession
    metrics: Metrics
    trouble: dict[str, str]
    _held: dict[str, ExitStack] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Nothing is held yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let all watches go."""
        for name in list(self._held):
            self.let_go(name)

    def let_go(self, name: str) -> None:
        """Close a watch's folder and give up its lock."""
        held = self._held.pop(name, None)
        if held is not None:
            held.close()

    def place(self, watch: Watch) -> Place:
        """Open a watched folder, for this daemon alone.

        Raises:
            ConfigError: it cannot be used, or another daemon watches it.
        """
        tree = Tree(watch.path)
        try:
            tree.open()
        except SpoolError as error:
            hint = "create it, mount it, or correct the watch's path"
            raise ConfigError(str(error), hint=hint) from error
        with ExitStack() as stack:
            stack.callback(tree.end)
            stack.enter_context(WatchLock(watch.path))
            name = str(watch.path)
            watcher = self.watcher(tree, watch)
            self._held[name] = stack.pop_all()
        return Place(name=name, settings=watch, tree=tree, watcher=watcher, filing=Filing(tree))

    def watcher(self, tree: Tree, watch: Watch) -> Watcher:
        """What listens to a watch, by its settings."""
        trouble, name = self.trouble, str(watch.path)

        def report(event: str, facts: dict[str, object]) -> None:
            if event == "spool.lost":
                trouble[name] = f"the watched folder {name} cannot be used: {facts.get('why', '')}"
            elif event == "spool.back":
                trouble.pop(name, None)
            say = log.info if event in {"spool.inotify", "spool.back"} else log.warning
            say(event, exc=None, watch=watch.path, **facts)

        return Watcher(
            tree,
            ignore=watch.ignore,
            recursive=watch.recursive,
            rescan_s=watch.rescan_s,
            offload=self.disk,
            report=report,
        )

    async def services(self, config: Config, keys: Mapping[str, Secret]) -> dict[str, Service]:
        """Every target that a watch names, with a client that can be used.

        Raises:
            ConfigError: a target's address or its CA file cannot be used.
        """
        made = {t.name: self._service(t, keys[t.name], config) for t in used(config)}
        for service in made.values():
            await self.disk(service.client.prepare)
        return made

    def _service(self, target: Target, key: Secret, config: Config) -> Service:
        address = TargetAddress(
            name=target.name,
            base_url=target.base_url,
            flavour=target.flavour,
            api_version=target.api_version,
            organization=target.organization,
            project=target.project,
            ca_file=target.ca_file,
        )
        client = self.seams.client(
            address,
            key,
            stall_s=config.transfer.stall_timeout_s,
            session=self.session,
            observe=partial(self.metrics.request, target.name),
        )
        return Service(name=target.name, flavour=target.flavour.value, client=client)


def used(config: Config) -> list[Target]:
    """The targets that a watch names."""
    names = {watch.target for watch in config.watches}
    return [target for target in config.targets if target.name in names]


def keys_of(config: Config, env: Mapping[str, str]) -> dict[str, Secret]:
    """The key of each target that a watch names.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    return {target.name: find_key(target, env) for target in used(config)}


def speak(config: Config, env: Mapping[str, str], keys: Mapping[str, Secret]) -> None:
    """Let the log be as configured, and warn of keys that others can read."""
    daemon = config.daemon
    logs.configure(daemon.log_level, daemon.log_format, env=env, secrets=keys.values())
    for target in used(config):
        for warning in key_warnings(target, env):
            log.warning("key.exposed", target=target.name, text=warning)


def seconds_of_week(wall_s: float) -> float:
    """Seconds since Monday, 00:00 by the local clock, for the bandwidth's timetable."""
    local = time.localtime(wall_s)
    return local.tm_wday * 86_400.0 + local.tm_hour * 3600.0 + local.tm_min * 60.0 + local.tm_sec
