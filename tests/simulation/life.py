"""One run of the daemon's process: its threads, and its end at any step."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast

from uploaderd.journal.together import Together
from uploaderd.keeper import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.checks import Checks
    from tests.simulation.loop import SimLoop
    from tests.simulation.trace import Trace
    from uploaderd.journal.together import Outcome

P = ParamSpec("P")
T = TypeVar("T")

HAND_OVER_S = 0.00001
MANY = frozenset({Keeper._make.__name__, Together.together.__name__})


class Dead(BaseException):
    """The process is no more; nothing that it still does reaches the world."""


class Life:
    """Alive until a step, or somebody, ends it.

    Attributes:
        disk: what ``Context.disk`` is.
        keep: what ``Context.keep`` is.
        ended: set once it is dead.
        steps_left: it dies at that step, before or after what the step does; None: it does not.
    """

    def __init__(
        self,
        loop: SimLoop,
        rng: Random,
        trace: Trace,
        checks: Checks,
        *,
        steps: int | None,
        slow_disk: float,
        meddle: Callable[[bytes], None],
    ) -> None:
        self.alive = True
        trace.deaf = False
        self.ended = asyncio.Event()
        self.steps_left = steps
        self.trace = trace
        self.checks = checks
        self.meddle = meddle
        self.disk = SimThreads(self, loop, rng, slow=slow_disk, in_turn=False)
        self.keep = SimThreads(self, loop, rng, slow=slow_disk, in_turn=True)

    def step(self, actor: str, what: str) -> None:
        """A moment at which the process may die.

        Raises:
            Dead: it did, now or before.
        """
        if not self.alive:
            raise Dead
        self.trace.say(actor, what)
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left <= 0:
                self.die()
                raise Dead

    def die(self) -> None:
        """End at this very moment."""
        if self.alive:
            self.trace.say("process", "dies")
            self.alive = False
            self.trace.deaf = True
            self.ended.set()


class SimThreads:
    """An offload in virtual time: the function runs at one moment, whoever waits for it or not."""

    def __init__(
        self, life: Life, loop: SimLoop, rng: Random, *, slow: float, in_turn: bool
    ) -> None:
        self._life = life
        self._loop = loop
        self._rng = rng
        self._slow = slow
        self._in_turn = in_turn
        self._busy_s = 0.0
        self._handed_s = 0.0

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``Offload``."""
        if not self._life.alive:
            raise Dead
        future: asyncio.Future[T] = self._loop.create_future()
        at_s = self._loop.time() + self._rng.random() * 0.002
        if self._slow and self._rng.random() < self._slow:
            at_s += self._rng.random() * 3.0
        if self._in_turn:
            at_s = self._busy_s = max(at_s, self._busy_s + 2 * HAND_OVER_S)
        self._loop.call_at(
            at_s, self._run, future, partial(function, *args, **kwargs), _name(function, args)
        )
        return await future

    def _note(self, call: partial[Any], result: object) -> None:
        """Tell the checks what was kept: one thing, or many that shared a sync."""
        if call.func.__name__ not in MANY:
            self._life.checks.kept(_name(call.func, call.args), result)
            return
        for one, outcome in zip(call.args[0], cast("list[Outcome]", result), strict=True):
            if outcome.error is None:
                self._note(one, outcome.value)

    def _run(self, future: asyncio.Future[T], call: partial[T], name: str) -> None:
        life = self._life
        if not life.alive:
            _end(future)
            return
        kind: Literal["journal", "disk"] = "journal" if self._in_turn else "disk"
        error: Exception | None = None
        result: T | None = None
        try:
            life.step(kind, name)
            try:
                result = call()
            except Exception as found:  # noqa: BLE001 - it belongs to whoever waits
                error = found
                life.step(kind, f"{name} failed: {found}")
            else:
                self._note(call, result)
                life.step(kind, f"{name} done")
        except Dead:
            _end(future)
            return
        self._handed_s = max(self._loop.time(), self._handed_s) + HAND_OVER_S
        self._loop.call_at(self._handed_s, self._hand_over, future, result, error)

    def _hand_over(
        self, future: asyncio.Future[Any], result: object, error: Exception | None
    ) -> None:
        if not self._life.alive:
            _end(future)
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


def _end(future: asyncio.Future[Any]) -> None:
    """Nobody hears of it any more, and nobody waits for it either."""
    if not future.done():
        future.set_exception(Dead())


def _name(function: Callable[..., object], args: tuple[Any, ...]) -> str:
    name = getattr(function, "__qualname__", str(function)).rpartition(".")[2]
    if name in MANY:
        return ", ".join(_name(call.func, call.args) for call in args[0]) if args else name
    if name == "record":
        after = args[1].file
        return f"record {after.path.decode()}: {args[2]} -> {after.state} {after.reason.code}"
    if name == "request":
        return f"request {args[2]} ({args[0]})"
    return name
