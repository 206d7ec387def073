"""Which queued file gets a place: targets that take files, sessions that can end in time."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.core.deadline import Open, begin_in_s, capacity, lower, may_open
from uploaderd.core.events import Admitted, Due, Held, Recovered, Sighted
from uploaderd.core.fitness import LIFE_S
from uploaderd.core.gate import Gate, GateState
from uploaderd.core.lifecycle import IN_DOUBT, awakened
from uploaderd.core.model import FileState
from uploaderd.core.reasons import TARGET_TROUBLE, reason
from uploaderd.core.schedule import EXPIRY_MARGIN_S, remaining_s
from uploaderd.engine.batches import apply_all
from uploaderd.journal import StaleError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from uploaderd.core.meter import Goodput
    from uploaderd.core.model import File, Reason
    from uploaderd.engine.context import Context, Service
    from uploaderd.engine.transfer import Transfer

log = logs.get(__name__)

TICK_S = 5.0
SHUT_TICK_S = 1.0


class Admission:
    """Gives free places to queued files: those with a session first, then the oldest.

    Attributes:
        postponed: why a file that could have a place is not given one yet, by id.
    """

    def __init__(
        self,
        ctx: Context,
        goodput: Goodput,
        transfers: dict[str, Transfer],
        start: Callable[[Service, File], None],
    ) -> None:
        self.postponed: dict[str, Reason] = {}
        self._ctx = ctx
        self._goodput = goodput
        self._transfers = transfers
        self._start = start

    async def step(self, benched: Collection[str]) -> float:
        """Fill the free places; return in how many seconds to look again."""
        ctx = self._ctx
        for service in list(ctx.services.values()):
            await self._tend_gate(service)
        shut = [s.name for s in ctx.services.values() if not self._takes(s)]
        self.postponed, again = {}, False
        others: list[Open] | None = None
        chosen: list[tuple[Service, File]] = []
        free = ctx.transfer.files_in_flight - len(self._transfers)
        for file in await self._queued(shut, benched) if free > 0 else ():
            if len(chosen) >= free:
                break
            if file.upload is None:
                if self._is_too_slow(file):
                    await self._settle_again(file)  # the rate of the hour changed as it waited
                    again = True
                    continue
                others = await self._open_sessions() if others is None else others
                if not self._in_time(file, others):
                    break  # what is behind it waits too, or it would never find its time
            target = await self._place_for(file, chosen)
            if target is None:
                continue
            chosen.append((target, file))
            if file.upload is None and others is not None:
                others.append(Open(left=file.identity.size, remaining_s=target.life_s))
        all_taken = await self._take_up(chosen)
        # Behind a probe the others of its target wait; those of another need not.
        if again or not all_taken or any(not self._takes(service) for service, _ in chosen):
            return 0.0  # they stood in the way of others, or left their place free
        return SHUT_TICK_S if shut else TICK_S

    async def _queued(self, shut: list[str], benched: Collection[str]) -> list[File]:
        """What may be chosen from, in order; more than there are places."""
        ctx = self._ctx
        passed = {*self._transfers, *benched}
        limit = ctx.transfer.files_in_flight + len(passed)
        queued = await ctx.keep(ctx.journal.queued, limit, shut, sorted(ctx.full))
        return [file for file in queued if file.id not in passed]

    async def _place_for(self, file: File, chosen: list[tuple[Service, File]]) -> Service | None:
        """The target that takes it now, beside those that were chosen before it; or None."""
        ctx = self._ctx
        place = ctx.places.get(file.watch)
        if place is not None and place.leaving:  # since those before it were chosen
            return None
        service = ctx.services.get(file.target)
        if service is None:
            await self._retarget(file)
            return None
        probed = service.gate.state is GateState.PROBING
        if probed and (self._busy(service) or any(other is service for other, _ in chosen)):
            return None
        return service

    async def _take_up(self, chosen: list[tuple[Service, File]]) -> bool:
        """Start them; what went on since it was read is left as it is, and makes it False.

        A target may be probed since they were chosen: the first one is the probe, and the others
        wait for what it tells.
        """
        kept = await apply_all(self._ctx, [(file, Admitted()) for _, file in chosen])
        back = []
        for (service, _), admitted in zip(chosen, kept, strict=True):
            if admitted is None:
                continue
            if service.gate.state is GateState.PROBING and self._busy(service):
                back.append((admitted, Recovered()))
            else:
                self._start(service, admitted)
        await apply_all(self._ctx, back)
        return None not in kept

    async def _retarget(self, file: File) -> None:
        """Its target is not configured any more: it takes the watch's, unless it may have arrived.

        What may have arrived waits for its target: only that one can tell.
        """
        ctx = self._ctx
        upload = None if file.upload is None else await ctx.keep(ctx.journal.upload, file.upload)
        if upload is not None and upload.complete_sent and file.md5 is not None:
            why = reason("held.target", target=file.target)
            with suppress(StaleError):
                await ctx.apply(file, Held(reason=why))
            return
        log.warning("file.retargeted", id=file.id, target=file.target)
        await self._settle_again(file)

    async def _settle_again(self, file: File) -> None:
        """It settles anew, and takes the watch's target and the bandwidth of now."""
        await self._ctx.apply(file, Sighted(identity=file.identity, arrival=file.arrival))

    def _is_too_slow(self, file: File) -> bool:
        """Whether the bandwidth of now would not carry it."""
        ctx, service = self._ctx, self._ctx.services.get(file.target)
        if service is None:
            return False
        life_s = LIFE_S[service.flavour] - EXPIRY_MARGIN_S
        week_s = ctx.week_s(ctx.wall_s)
        return begin_in_s(ctx.limiter.table, week_s, file.identity.size, life_s) != 0

    async def _open_sessions(self) -> list[Open]:
        """What has to be sent within its time already."""
        ctx = self._ctx
        now = ctx.clock.now()
        names = [s.name for s in ctx.services.values() if s.gate.admits(now.wall_s)]
        return [
            Open(left=left, remaining_s=remaining_s(upload, now))
            for upload, left in await ctx.keep(ctx.journal.open_sessions, names)
        ]

    def _in_time(self, file: File, others: list[Open]) -> bool:
        """Whether a session that is opened for it now can be finished (design, decision 9)."""
        service = self._ctx.services.get(file.target)
        if service is None:
            return True
        size = file.identity.size
        life_s = service.life_s - EXPIRY_MARGIN_S
        rate_bps = lower(self._goodput.rate_bps(), self._let_through(life_s) / life_s)
        if may_open(size, life_s, others, rate_bps):
            return True
        self.postponed[file.id] = reason(
            "queued.deadline",
            rate=f"{rate_bps:.0f}",
            left=sum(o.left for o in others),
            size=size,
            life=f"{life_s:.0f}",
        )
        return False

    def _let_through(self, life_s: float) -> float:
        """Bytes that the bandwidth lets through from now on, whatever was measured before it."""
        ctx = self._ctx
        return capacity(ctx.limiter.table, ctx.week_s(ctx.wall_s), life_s)

    def _takes(self, service: Service) -> bool:
        """Whether a file may be taken up for this target now."""
        probed = service.gate.state is GateState.PROBING and self._busy(service)
        return service.gate.admits(self._ctx.wall_s) and not probed

    def _busy(self, service: Service) -> bool:
        under_way = any(t.file.target == service.name for t in self._transfers.values())
        return bool(service.asking) or under_way

    async def _tend_gate(self, service: Service) -> None:
        """Probe a shut target when its time has come; free what an open one held."""
        ctx, gate = self._ctx, service.gate
        if gate.state is GateState.SHUT and (gate.until_s or 0.0) <= ctx.wall_s:
            service.gate = gate = gate.probing()
        if gate.state is GateState.SHUT:
            return
        held = []
        if ctx.journal.counts().get(FileState.HELD):
            held = await ctx.keep(ctx.journal.held_by, service.name, sorted(TARGET_TROUBLE), 100)
        if gate.state is GateState.PROBING:
            others = [name for name in ctx.services if name != service.name]
            queued = await ctx.keep(ctx.journal.queued, 1, others, sorted(ctx.full))
            if queued or self._busy(service):
                return  # that is the probe; what is held may be the very reason for the trouble
            if not held and not await ctx.keep(ctx.journal.waits_for, service.name):
                service.gate = Gate()
            held = held[:1]
        for file in held:
            in_doubt = file.reason.code in IN_DOUBT
            await ctx.apply(file, awakened(file, ctx.wall_s) if in_doubt else Due())
