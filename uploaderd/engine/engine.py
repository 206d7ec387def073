"""The loops: what is due, who gets a place, what is abandoned; level-triggered by the journal.

A file's state and due time say all there is to do about it, so a restart needs no memory but
the journal, and an effect that was interrupted is simply found again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.core.events import Held, Recovered
from uploaderd.core.gate import GateState
from uploaderd.core.lifecycle import awakened
from uploaderd.core.model import FileState
from uploaderd.core.reasons import reason
from uploaderd.core.retry import RETRY_AFTER_CAP_S
from uploaderd.core.transitions import Effect, effects_of
from uploaderd.engine.admission import Admission
from uploaderd.engine.aftercare import file_away
from uploaderd.engine.assembling import reconcile
from uploaderd.engine.context import wait_for
from uploaderd.engine.errands import Errands
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
from uploaderd.engine.settling import look
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

HANDLERS = 16  # files looked at, filed or reconciled at the same time
TICK_S = 5.0  # the longest sleep of a loop: what no event tells is noticed by then
BENCH_S = 5.0  # how long a file rests whose handling met the unexpected
LATEST_EVERY = 4  # so often the newcomers come first, lest a backlog hide them
CHECK_S = 60.0  # how often waits that make no sense are looked for
# Its looks at the disk stand in line behind copies of whole files.
IN_NO_HURRY = frozenset({"retention"})
SET_BACK_S = 1.0  # a step of the wall clock; less is its steering


class Engine:
    """Interprets the effects of every file; ``run`` ends by being cancelled.

    Attributes:
        operator: what may be said to it.
    """

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.senders = Senders(ctx.clock, ctx.transfer.parts_in_flight)
        self.transfers: dict[str, Transfer] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.draining = False
        self._watching = Watching(ctx, self._touched)
        self._pulse = Pulse(lambda: asyncio.get_running_loop().time())
        self._handled: set[str] = set()
        self._turns = 0
        self._benched: dict[str, float] = {}
        self._stranded: set[str] = set()
        self._janitor = Janitor(ctx)
        self._errands = Errands(ctx, self._spawn)
        self._retention = Retention(ctx)
        self.operator = Operator(ctx, self.senders, self.tasks, self._bench_no_more, self._find)
        self.admission = Admission(ctx, self.senders.goodput, self.transfers, self._begin)
        now = ctx.clock.now()
        self._ahead_s = now.wall_s - now.boot_s
        self._checked_s = now.boot_s
        self._escort = Escort(ctx, self.tasks, self._handle_alone, self._revive)
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
            group.create_task(self._loop("due", self.ctx.wakes.due, self._due))
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
            self._benched.pop(file_id, None)
            return
        self._benched = {}
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
        self.senders.resize(ctx.transfer.parts_in_flight)
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
        self._errands.stopped = self._retention.stopped = True
        try:
            async with asyncio.timeout(timeout_s):
                await self.ctx.wire.idle.wait()
                await self._errands.idle()
        except TimeoutError:
            return False
        return True

    # The loops

    async def _loop(
        self, name: str, wake: asyncio.Event, step: Callable[[], Awaitable[float]]
    ) -> None:
        """Do a step, then wait for its event or its time; trouble only delays the next one."""
        while True:
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
        ctx = self.ctx
        if self.draining:
            return TICK_S
        await self._follow_the_clock()
        await self._revive()
        self.senders.pump()
        now_s = ctx.wall_s
        self._benched = {k: until for k, until in self._benched.items() if until > now_s}
        passed = self._handled | self._benched.keys()
        self._turns += 1
        latest = self._turns % LATEST_EVERY == 0
        most = HANDLERS + len(passed)
        found = await ctx.keep(
            ctx.journal.due,
            now_s,
            most,
            latest=latest,
            unfiled_in=[name for name, until in ctx.resting.items() if until > now_s],
            unasked=[s.name for s in ctx.services.values() if not self._may_ask(s)],
        )
        for file in found:
            if len(self._handled) >= HANDLERS:
                return TICK_S  # a handler that ends wakes this loop
            if file.id not in passed:
                self._handled.add(file.id)
                self._spawn(self._handle(file))
        next_s = await ctx.keep(ctx.journal.next_due_s, now_s)
        benched_s = min(self._benched.values(), default=None)
        rested_s = min((t for t in ctx.resting.values() if t > now_s), default=None)
        times = [t for t in (next_s, benched_s, rested_s) if t is not None]
        return min(max(min(times, default=now_s + TICK_S) - ctx.wall_s, 0.0), TICK_S)

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

    async def _handle_alone(self, file: File) -> None:
        free = len(self._handled) < HANDLERS and not self.draining
        if free and file.id not in self._handled:
            self._handled.add(file.id)
            await self._handle(file)

    async def _handle(self, file: File) -> None:
        place = self.ctx.places.get(file.watch)  # which may have left meanwhile
        try:
            if place is not None:
                for effect in effects_of(file):
                    await self._perform(effect, place, file)
        except StaleError:
            pass
        except Exception as error:  # noqa: BLE001 - one bad file must not sink the batch
            self._bench(file, error)
        finally:
            self._handled.discard(file.id)
            self.ctx.wakes.due.set()

    async def _perform(self, effect: Effect, place: Place, file: File) -> None:
        match effect:
            case Effect.LOOK:
                if not await look(self.ctx, place, file):
                    await self._find(place, file.path)
            case Effect.WAKE:
                await self.ctx.apply(file, awakened(file, self.ctx.wall_s))
            case Effect.RECONCILE:
                await self._reconcile(file)
            case Effect.FILE_AWAY:
                await file_away(self.ctx, place, file)
                if not place.leaving:
                    await self._find(place, file.path)
            case _:
                pass

    async def _reconcile(self, file: File) -> None:
        service = self.ctx.services.get(file.target)
        if service is None:
            why = reason("held.target", target=file.target)
            await self.ctx.apply(file, Held(reason=why))
            return
        if not self._may_ask(service):
            self._benched[file.id] = self.ctx.wall_s + TICK_S
            return
        service.asking += 1
        try:
            with self.ctx.wire:
                await reconcile(self.ctx, service, file)
        finally:
            service.asking -= 1

    def _takes_questions(self, service: Service) -> bool:
        return self.ctx.go.is_set() and service.gate.admits(self.ctx.wall_s)

    def _may_ask(self, service: Service) -> bool:
        """Whether the target takes a question now; one that is probed takes one at a time."""
        if service.gate.state is GateState.PROBING:
            busy = any(t.file.target == service.name for t in self.transfers.values())
            return self.ctx.go.is_set() and not busy and not service.asking
        return self._takes_questions(service)

    async def _revive(self) -> None:
        """Files whose transfer broke off are taken up again as after a restart."""
        for file_id in sorted(self._stranded - self.operator.condemned):
            file = await self.ctx.keep(self.ctx.journal.file, file_id)
            at_work = {FileState.UPLOADING, FileState.COMPLETING}
            if file is not None and file.state in at_work and file_id not in self.transfers:
                await self.ctx.apply(file, Recovered())
            self._stranded.discard(file_id)

    async def _admit(self) -> float:
        """Give free places to queued files; return when to look again."""
        if self.draining or not self.ctx.go.is_set():
            return TICK_S
        now_s = self.ctx.wall_s
        return await self.admission.step([k for k, t in self._benched.items() if t > now_s])

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
        task.add_done_callback(lambda _: self._carried(file.id))

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
            self._bench(transfer.file, error)

    def _carried(self, file_id: str) -> None:
        del self.transfers[file_id], self.tasks[file_id]
        self._stranded.add(file_id)
        self.ctx.wakes.due.set()
        self.ctx.wakes.admission.set()

    # Trouble

    def _bench(self, file: File, error: Exception) -> None:
        self._benched[file.id] = self.ctx.wall_s + BENCH_S
        if isinstance(error, JournalError):
            self.ctx.in_trouble("journal", error)
        else:
            log.error("file.trouble", id=file.id, path=file.path, exc=error)
