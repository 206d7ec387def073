"""Whose time has come: looked at and awakened in batches, filed and asked about a few at a time.

Neither kinds nor watches stand in each other's way. Of what is looked at in one watch, or awakened,
a whole batch shares a transaction, and a watch whose disk does not answer keeps only its own batch
waiting; of the others each kind gets its share of the handlers, so that a million refused files
which are to be filed hold up neither a look nor the filing of one that arrived.
"""

from __future__ import annotations

from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.core.events import Held
from uploaderd.core.gate import GateState
from uploaderd.core.model import FileState
from uploaderd.core.reasons import reason
from uploaderd.core.transitions import Effect, effects_of
from uploaderd.engine.aftercare import file_away
from uploaderd.engine.assembling import reconcile
from uploaderd.engine.batches import awaken_all, look_at_all
from uploaderd.errors import JournalError
from uploaderd.journal import StaleError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping

    from uploaderd.core.model import File
    from uploaderd.engine.context import Context, Place, Service
    from uploaderd.engine.transfer import Transfer

log = logs.get(__name__)

HANDLERS = 16  # files filed or reconciled at the same time
LOOKS = 250  # files looked at in one batch
TICK_S = 5.0  # the longest sleep of a loop: what no event tells is noticed by then
BENCH_S = 5.0  # how long a file rests whose handling met the unexpected
LATEST_EVERY = 4  # so often the newcomers come first, lest a backlog hide them
AWAKENED = (FileState.DEFERRED, FileState.HELD)
ONE_BY_ONE = (FileState.UNCERTAIN, FileState.DONE, FileState.FAILED)


class Handling:
    """Sees to the files that are due.

    Args:
        ctx: the engine's context.
        transfers: what is on the wire, by file.
        spawn: starts a task of the engine's.
        find: has paths of a watch taken in.

    Attributes:
        benched: until when (wall time) a file rests, by id.
        stopped: nothing new is begun.
    """

    def __init__(
        self,
        ctx: Context,
        transfers: Mapping[str, Transfer],
        spawn: Callable[[Coroutine[None, None, None]], asyncio.Task[None]],
        find: Callable[[Place, list[bytes]], Awaitable[None]],
    ) -> None:
        self.benched: dict[str, float] = {}
        self.stopped = False
        self._ctx = ctx
        self._transfers = transfers
        self._spawn = spawn
        self._find = find
        self._handled: set[str] = set()
        self._looks: dict[str, frozenset[str]] = {}  # the batch of each watch
        self._awakening: frozenset[str] = frozenset()
        self._turns = 0

    @property
    def busy(self) -> frozenset[str]:
        """The files that are seen to now."""
        return self._awakening.union(self._handled, *self._looks.values())

    async def step(self) -> float:
        """See to what is due; return when to look again."""
        ctx, now_s = self._ctx, self._ctx.wall_s
        self.benched = {k: until for k, until in self.benched.items() if until > now_s}
        passed = self.busy | self.benched.keys()
        self._turns += 1
        each = HANDLERS + len(passed)
        found, next_s = await ctx.keep(
            ctx.journal.turn,
            now_s,
            {state.value: LOOKS + len(passed) for state in self._batched()}
            | {state.value: each for state in ONE_BY_ONE if len(self._handled) < HANDLERS},
            latest=self._turns % LATEST_EVERY == 0,
            unfiled_in=[name for name, until in ctx.resting.items() if until > now_s],
            unasked=[s.name for s in ctx.services.values() if not self.may_ask(s)],
            looked_at=list(self._looks),
        )
        free = {
            state: [file for file in files if file.id not in passed]
            for state, files in found.items()
        }
        self._begin_batches(free)
        for file in _in_turn(free, ONE_BY_ONE):
            if len(self._handled) >= HANDLERS:
                return TICK_S  # a handler that ends wakes this loop
            self._handled.add(file.id)
            self._spawn(self._handle(file))
        benched_s = min(self.benched.values(), default=None)
        rested_s = min((t for t in ctx.resting.values() if t > now_s), default=None)
        times = [t for t in (next_s, benched_s, rested_s) if t is not None]
        return min(max(min(times, default=now_s + TICK_S) - ctx.wall_s, 0.0), TICK_S)

    async def handle_alone(self, file: File) -> None:
        """See to a file of a watch that goes, if there is a place."""
        if self.stopped:
            return
        if len(self._handled) < HANDLERS and file.id not in self._handled:
            self._handled.add(file.id)
            await self._handle(file)

    def bench(self, file: File, error: Exception) -> None:
        """Let a file rest whose handling met the unexpected."""
        self.benched[file.id] = self._ctx.wall_s + BENCH_S
        if isinstance(error, JournalError):
            self._ctx.in_trouble("journal", error)
        else:
            log.error("file.trouble", id=file.id, path=file.path, exc=error)

    def _batched(self) -> Iterator[FileState]:
        """The states of which another batch may begin."""
        if not self._looks.keys() >= self._ctx.places.keys():
            yield FileState.SETTLING
        if not self._awakening:
            yield from AWAKENED

    def _begin_batches(self, free: Mapping[str, list[File]]) -> None:
        for place in self._ctx.places.values():
            if place.name in self._looks:
                continue
            settling = (f for f in free.get(FileState.SETTLING, ()) if f.watch == place.name)
            if files := list(islice(settling, LOOKS)):
                self._looks[place.name] = frozenset(file.id for file in files)
                self._spawn(self._see_to(place, files))
        waiting = list(islice(_in_turn(free, AWAKENED), LOOKS))
        if waiting and not self._awakening:
            self._awakening = frozenset(file.id for file in waiting)
            self._spawn(self._awaken(waiting))

    async def _see_to(self, place: Place, files: list[File]) -> None:
        """Look at what settles in a watch; trouble with one benches the batch."""
        try:
            await self._guarded(files, self._look_at(place, files))
        finally:
            del self._looks[place.name]
            self._ctx.wakes.due.set()

    async def _awaken(self, files: list[File]) -> None:
        """Awaken what waited."""
        try:
            await self._guarded(files, awaken_all(self._ctx, files))
        finally:
            self._awakening = frozenset()
            self._ctx.wakes.due.set()

    async def _look_at(self, place: Place, files: list[File]) -> None:
        others = await look_at_all(self._ctx, place, files)
        if others:
            await self._find(place, others)

    async def _guarded(self, files: Iterable[File], work: Awaitable[None]) -> None:
        try:
            await work
        except StaleError:
            pass
        except Exception as error:  # noqa: BLE001 - one bad file must not sink the loop
            for file in files:
                self.bench(file, error)

    async def _handle(self, file: File) -> None:
        place = self._ctx.places.get(file.watch)  # which may have left meanwhile
        try:
            if place is not None:
                for effect in effects_of(file):
                    await self._perform(effect, place, file)
        except StaleError:
            pass
        except Exception as error:  # noqa: BLE001 - one bad file must not sink the batch
            self.bench(file, error)
        finally:
            self._handled.discard(file.id)
            self._ctx.wakes.due.set()

    async def _perform(self, effect: Effect, place: Place, file: File) -> None:
        match effect:
            case Effect.RECONCILE:
                await self._reconcile(file)
            case Effect.FILE_AWAY:
                await file_away(self._ctx, place, file)
                if file.id in self._ctx.passed and not place.leaving:
                    self._ctx.passed.discard(file.id)
                    await self._find(place, [file.path])
            case _:
                pass

    async def _reconcile(self, file: File) -> None:
        service = self._ctx.services.get(file.target)
        if service is None:
            why = reason("held.target", target=file.target)
            await self._ctx.apply(file, Held(reason=why))
            return
        if not self.may_ask(service):
            self.benched[file.id] = self._ctx.wall_s + TICK_S
            return
        service.asking += 1
        try:
            with self._ctx.wire:
                await reconcile(self._ctx, service, file)
        finally:
            service.asking -= 1

    def may_ask(self, service: Service) -> bool:
        """Whether the target takes a question now; one that is probed takes one at a time."""
        if service.gate.state is GateState.PROBING:
            busy = any(t.file.target == service.name for t in self._transfers.values())
            return self._ctx.go.is_set() and not busy and not service.asking
        return self._ctx.go.is_set() and service.gate.admits(self._ctx.wall_s)


def _in_turn(found: Mapping[str, list[File]], states: Iterable[FileState]) -> Iterator[File]:
    """The files of these states, one of each in turn."""
    rows = zip_longest(*(found.get(state.value, ()) for state in states))
    return (file for file in chain.from_iterable(rows) if file is not None)
