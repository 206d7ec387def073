"""The loops: what is due, who gets a place, what is abandoned; level-triggered by the journal.

A file's state and due time say all there is to do about it, so a restart needs no memory but
the journal, and an effect that was interrupted is simply found again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.core.events import Recovered
from uploaderd.core.model import FileState
from uploaderd.core.retry import RETRY_AFTER_CAP_S
from uploaderd.engine.admission import Admission
from uploaderd.engine.context import wait_for
from uploaderd.engine.errands import Errands
from uploaderd.engine.handling import BENCH_S, TICK_S, Handling
from uploaderd.engine.janitor import Janitor
from uploaderd.engine.operator import Operator
from uploaderd.engine.pulse import Pulse
from uploaderd.engine.renewal import (
    Escort,
    reconsider,
    recover_in,
    settle_places,
    settle_services,
)
from uploaderd.engine.retention import Retention
from uploaderd.engine.senders import Senders
from uploaderd.engine.transfer import Transfer
from uploaderd.engine.watching import Watching
from uploaderd.errors import ConfigError, JournalError
from uploaderd.journal import StaleError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from uploaderd.core.model import File
    from uploaderd.engine.context import Context, Place, Service
    from uploaderd.engine.renewal import Renewal

log = logs.get(__name__)

CHECK_S = 60.0  # how often waits that make no sense are looked for
# Its looks at the disk stand in line behind copies of whole files.
IN_NO_HURRY = frozenset({"retention"})
TURN_S = 0.01  # between two looks for what is due, so that one serves all that ended meanwhile
SET_BACK_S = 1.0  # a step of the wall clock; less is its steering
AT_WORK = frozenset({FileState.UPLOADING, FileState.COMPLETING})


class Engine:
    """Interprets the effects of every file; ``run`` ends by being cancelled.

    Attributes:
        operator: what may be said to it.
        handling: sees to the files whose time has come.
    """

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.senders = Senders(ctx)
        self.transfers: dict[str, Transfer] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.draining = False
        self._watching = Watching(ctx, self._touched)
        self._pulse = Pulse(lambda: asyncio.get_running_loop().time())
        self._stranded: set[str] = set()
        self.handling = Handling(ctx, self.transfers, self._spawn, self._watching.see)
        self._janitor = Janitor(ctx)
        self._errands = Errands(ctx, self._spawn)
        self._retention = Retention(ctx)
        self.operator = Operator(ctx, self.senders, self.tasks, self._bench_no_more, self._find)
        self.admission = Admission(ctx, self.senders.goodput, self.transfers, self._begin)
        now = ctx.clock.now()
        self._ahead_s = now.wall_s - now.boot_s
        self._checked_s = now.boot_s
        self._escort = Escort(ctx, self.tasks, self.handling.handle_alone, self._revive)
        self._group: asyncio.TaskGroup | None = None

    async def recover(self) -> None:
        """Take over what a stopped daemon left; doing it twice changes nothing more."""
        ctx = self.ctx
        await ctx.keep(ctx.journal.watch, list(ctx.places))
        await self.operator.recall()
        await ctx.keep(ctx.journal.recover, ctx.wall_s + ctx.retry.defer_max_s)
        await ctx.keep(ctx.journal.errands_recover)
        for file in await ctx.keep(ctx.journal.interrupted):
            with suppress(StaleError):  # the operator was faster
                await ctx.apply(file, Recovered())
        await reconsider(ctx)

    async def run(self) -> None:
        """Work until cancelled; call ``recover`` first."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for place in list(self.ctx.places.values()):
                self._watching.start(group, place)
            group.create_task(self._loop("due", self.ctx.wakes.due, self._due, apart_s=TURN_S))
            group.create_task(self._loop("admission", self.ctx.wakes.admission, self._admit))
            group.create_task(self._loop("cancels", self.ctx.wakes.cancels, self._cancel))
            group.create_task(self._loop("errands", self.ctx.wakes.errands, self._errands.step))
            forget = self._retention.step
            group.create_task(self._loop("retention", self.ctx.wakes.retention, forget))

    @property
    def paused(self) -> bool:
        """Whether the operator paused it."""
        return self.senders.paused

    def _bench_no_more(self, file_id: str | None = None) -> None:
        """Let a file, or none, rest any longer."""
        if file_id is not None:
            self.handling.benched.pop(file_id, None)
            return
        self.handling.benched = {}
        self.ctx.resting.clear()
        self._janitor.rest_no_more()

    async def renew(self, renewal: Renewal, left: Callable[[Place], None]) -> None:
        """Go on with another configuration; nothing in flight is broken off.

        Args:
            renewal: was checked and made before.
            left: is told of each watch that went, once nothing of it is on its way any more.

        Raises:
            ConfigError: it is stopping; nothing was changed.
            JournalError: nothing was changed.
        """
        ctx = self.ctx
        await ctx.keep(ctx.journal.watch, list(renewal.watches))
        if self.draining:
            raise ConfigError("the daemon is stopping", hint="reload it when it runs again")
        config = renewal.config
        ctx.transfer, ctx.retry = config.transfer, config.retry
        ctx.hooks, ctx.keep_s = config.hooks, config.journal.keep_s
        settle_services(ctx, renewal.services)
        begun, gone = settle_places(ctx, renewal)
        self.senders.resize()
        ctx.limiter.changed()
        for place in [*gone, *begun]:
            await self._watching.stop(place)
        if self._group is None:  # nothing is on its way, and ``run`` begins with what is left
            for place in gone:
                del ctx.places[place.name]
                left(place)
        else:
            for place in begun:
                self._watching.start(self._group, place)
            for place in gone:
                self._spawn(self._escort.see_off(place, left))
        try:
            await recover_in(ctx, renewal, self.tasks)
            await reconsider(ctx)
        except JournalError as error:
            ctx.in_trouble("journal", error)
        self.operator.rouse()

    def beats(self, kept_since_s: float | None) -> bool:
        """Whether it gets on with its work, for a watchdog; as ``Pulse.beats``."""
        ctx = self.ctx
        moving = ctx.meter.rate_bps(ctx.clock.now().boot_s) > 0
        asking = not ctx.wire.idle.is_set()
        return self._pulse.beats(moving=moving, asking=asking, kept_since_s=kept_since_s)

    async def drain(self, timeout_s: float) -> bool:
        """Begin nothing new and wait until no reply is outstanding; False if time ran out."""
        self.draining = self._watching.stopped = True
        self.senders.stopped = True
        self._errands.stopped = self._retention.stopped = self.handling.stopped = True
        try:
            async with asyncio.timeout(timeout_s):
                await self.ctx.wire.idle.wait()
                await self._errands.idle()
        except TimeoutError:
            return False
        return True

    # The loops

    async def _loop(
        self,
        name: str,
        wake: asyncio.Event,
        step: Callable[[], Awaitable[float]],
        *,
        apart_s: float = 0.0,
    ) -> None:
        """Do a step, then wait for its event or its time; trouble only delays the next one.

        However often it is woken, its steps begin ``apart_s`` after each other at least.
        """
        while True:
            began_s = asyncio.get_running_loop().time()
            if name not in IN_NO_HURRY:
                self._pulse.working(name)
            try:
                if "journal" in self.ctx.trouble:  # nothing is begun until a write succeeds
                    await self.ctx.keep(self.ctx.journal.prove)
                    self.ctx.is_well("journal")
                pause_s = await step()
            except StaleError:
                pause_s = 0.0
            except JournalError as error:
                self.ctx.in_trouble("journal", error)
                pause_s = BENCH_S
                wake.clear()
            except Exception:  # a loop that ends would take the daemon with it
                log.exception("loop.trouble")
                pause_s = BENCH_S
                wake.clear()
            if name not in IN_NO_HURRY:
                self._pulse.waiting(name, pause_s)
            await wait_for(wake, pause_s)
            left_s = began_s + apart_s - asyncio.get_running_loop().time()
            if left_s > 0:
                await asyncio.sleep(left_s)
                wake.clear()

    async def _cancel(self) -> float:
        """Cancel what was abandoned; return when to look again."""
        if not self.draining and self.ctx.go.is_set():
            await self._janitor.sweep()
        return TICK_S

    async def _touched(self, file: File) -> None:
        transfer = self.transfers.get(file.id)
        if transfer is not None:
            await transfer.check_source()

    async def _find(self, place: Place, path: bytes) -> None:
        await self._watching.see(place, [path])

    async def _due(self) -> float:
        """Start a handler for each file whose time has come; return when to look again."""
        if self.draining:
            return TICK_S
        await self._follow_the_clock()
        await self._revive()
        self.senders.pump()
        return await self.handling.step()

    async def _follow_the_clock(self) -> None:
        """Move what waits for a wall time along when that clock was set back."""
        now = self.ctx.clock.now()
        ahead_s = now.wall_s - now.boot_s
        back_s = self._ahead_s - ahead_s
        if back_s > SET_BACK_S:
            log.warning("clock.set_back", seconds=round(back_s, 1))
            await self.ctx.keep(self.ctx.journal.clock_set_back, back_s)
            self._bench_no_more()
            for service in self.ctx.services.values():
                service.gate = service.gate.sooner(back_s)
        self._ahead_s = ahead_s
        if now.boot_s >= self._checked_s + CHECK_S:  # a wait that was on its way into the journal
            self._checked_s = now.boot_s
            longest_s = max(self.ctx.retry.defer_max_s, RETRY_AFTER_CAP_S)
            await self.ctx.keep(self.ctx.journal.bring_near, now.wall_s + longest_s)
            for service in self.ctx.services.values():
                service.gate = service.gate.no_later(now.wall_s + longest_s)

    async def _revive(self) -> None:
        """Files whose transfer broke off are taken up again as after a restart."""
        for file_id in sorted(self._stranded - self.operator.condemned):
            file = await self.ctx.keep(self.ctx.journal.file, file_id)
            if file is not None and file.state in AT_WORK and file_id not in self.transfers:
                await self.ctx.apply(file, Recovered())
            self._stranded.discard(file_id)

    async def _admit(self) -> float:
        """Give free places to queued files; return when to look again."""
        if self.draining or not self.ctx.go.is_set():
            return TICK_S
        now_s = self.ctx.wall_s
        return await self.admission.step([k for k, t in self.handling.benched.items() if t > now_s])

    def _begin(self, service: Service, file: File) -> None:
        place = self.ctx.places.get(file.watch)
        if place is None:  # it was let go at this very moment
            self._stranded.add(file.id)
            self.ctx.wakes.due.set()
            return
        transfer = Transfer(self.ctx, place, service, self.senders, file)
        self.transfers[file.id] = transfer
        self.tasks[file.id] = task = self._spawn(self._carry(transfer))
        # A task that is cancelled before its first step runs none of its own clauses.
        task.add_done_callback(lambda _: self._carried(transfer))

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        if self._group is None:
            raise AssertionError("the engine does not run")
        return self._group.create_task(work)

    async def _carry(self, transfer: Transfer) -> None:
        try:
            await transfer.run()
        except StaleError:
            pass
        except Exception as error:  # noqa: BLE001 - one bad file must not sink the batch
            self.handling.bench(transfer.file, error)

    def _carried(self, transfer: Transfer) -> None:
        file = transfer.file
        del self.transfers[file.id], self.tasks[file.id]
        if file.state in AT_WORK:  # as far as the transfer knows: it broke off
            self._stranded.add(file.id)
        self.ctx.wakes.due.set()
        self.ctx.wakes.admission.set()
