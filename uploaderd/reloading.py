"""``reload`` and SIGHUP: the configuration is read again, and taken over whole or not at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.config import load
from uploaderd.engine.renewal import Renewal
from uploaderd.errors import ConfigError
from uploaderd.wiring import keys_of, speak, used

if TYPE_CHECKING:
    from uploaderd.config import Config, Watch
    from uploaderd.config.secrets import Secret
    from uploaderd.engine.context import Place
    from uploaderd.engine.engine import Engine
    from uploaderd.spool.watcher import Watcher
    from uploaderd.wiring import Wiring

log = logs.get(__name__)

# What a daemon is known by: its state and its socket are where they were when it started.
FIXED = ("state_dir", "socket", "socket_mode")
ADDRESS = ("base_url", "flavour", "api_version", "organization", "project")
LISTENING = ("recursive", "ignore", "rescan_s")


class Reloader:
    """Takes over a changed configuration; one at a time.

    Attributes:
        config: the one that holds now.
    """

    def __init__(self, config: Config, wiring: Wiring, engine: Engine) -> None:
        self.config = config
        self._wiring = wiring
        self._engine = engine
        self._turn = asyncio.Lock()

    async def reload(self) -> None:
        """Read the configuration again and take it over.

        Raises:
            ConfigError: it is refused; all goes on as before.
            JournalError: the journal cannot be asked now; all goes on as before.
        """
        async with self._turn:
            self._engine.ctx.renewing = True
            try:
                await self._reload()
            except ConfigError as error:
                log.error(  # noqa: TRY400 - a sentence, not a traceback
                    "reload.refused", text=str(error), hint=error.hint
                )
                raise
            finally:
                self._engine.ctx.renewing = False

    async def _reload(self) -> None:
        if self._engine.draining:
            raise ConfigError("the daemon is stopping", hint="reload it when it runs again")
        source, env = self.config.source, self._wiring.env
        if source is None:
            raise ConfigError(
                "the daemon was started without a configuration file",
                hint="write one and start it anew",
            )
        config = await self._wiring.disk(load, source, env)
        await self._refuse_what_needs_a_restart(config)
        self._refuse_what_overlaps(config)
        keys = await self._wiring.disk(keys_of, config, env)
        renewal = await self._make(config, keys)
        try:
            await self._engine.renew(renewal, lambda place: self._wiring.let_go(place.name))
        except BaseException:
            self._let_go(renewal)
            raise
        self.config = config
        speak(config, env, keys)
        log.info(
            "daemon.reloaded",
            file=source,
            watches=len(config.watches),
            new=len(renewal.places),
        )

    async def _refuse_what_needs_a_restart(self, config: Config) -> None:
        for name in FIXED:
            before, after = getattr(self.config.daemon, name), getattr(config.daemon, name)
            if before != after:
                raise ConfigError(
                    f"daemon.{name} cannot change while the daemon runs",
                    hint="restart it, or put the old value back",
                )
        before = {target.name: target for target in self.config.targets}
        ctx = self._engine.ctx
        for target in used(config):
            old = before.get(target.name)
            moved = old is not None and any(
                getattr(old, key) != getattr(target, key) for key in ADDRESS
            )
            if not moved:
                continue
            count = await ctx.keep(ctx.journal.sessions_at, target.name, ctx.wall_s)
            if count or target.flavour != (old and old.flavour):
                raise ConfigError(
                    f"target {target.name} gets another address, and {count} uploads are open at "
                    "the old one",
                    hint="wait until they have ended, or give the new address a target of its own",
                )

    def _refuse_what_overlaps(self, config: Config) -> None:
        """A file that is on its way out of one watch must not be seen by another."""
        names = {str(watch.path) for watch in config.watches}
        known = self._engine.ctx.places
        going = [place.tree.root for name, place in known.items() if name not in names]
        for watch in config.watches:
            for old in going if str(watch.path) not in known else ():
                if old in watch.path.parents or watch.path in old.parents:
                    raise ConfigError(
                        f"the watch {watch.path} overlaps with {old}, which is being left",
                        hint="reload without both, and with the new one once the old one's files "
                        "have ended",
                    )

    async def _make(self, config: Config, keys: dict[str, Secret]) -> Renewal:
        """Make what is new; undone where one of it cannot be."""
        known = self._engine.ctx.places
        places: dict[str, Place] = {}
        watchers: dict[str, Watcher] = {}
        try:
            services = await self._wiring.services(config, keys)
            for watch in config.watches:
                name = str(watch.path)
                place = known.get(name)
                if place is None:
                    places[name] = await self._wiring.disk(self._wiring.place, watch)
                elif place.leaving or _listens_otherwise(place.settings, watch):
                    watchers[name] = self._wiring.watcher(place.tree, watch)
        except BaseException:
            for name in places:
                self._wiring.let_go(name)
            raise
        return Renewal(config=config, places=places, watchers=watchers, services=services)

    def _let_go(self, renewal: Renewal) -> None:
        for name, place in renewal.places.items():
            if self._engine.ctx.places.get(name) is not place:
                self._wiring.let_go(name)


def _listens_otherwise(before: Watch, after: Watch) -> bool:
    return any(getattr(before, key) != getattr(after, key) for key in LISTENING)
