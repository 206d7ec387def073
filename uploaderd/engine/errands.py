"""The runs of hooks: journalled before and after, tried again, and in nobody's way.

A run that nobody saw end is done again after a restart: each hook runs at least once for a file.
Hooks are local, so they also run while the operator has the daemon paused.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.config.keys import masked, shortened
from uploaderd.config.units import human_duration
from uploaderd.core.errands import LONGEST_S, Errand, ErrandState, wait_s
from uploaderd.core.values import replace
from uploaderd.engine.aftercare import receipt_of
from uploaderd.errors import JournalError
from uploaderd.hooks import Ended, Order
from uploaderd.journal import StaleError
from uploaderd.spool.naming import RECEIPT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from uploaderd.config import Hook
    from uploaderd.core.model import File
    from uploaderd.engine.context import Context

log = logs.get(__name__)

AT_ONCE = 4  # runs of one hook: one that hangs keeps no other waiting
TICK_S = 5.0
BENCH_S = 5.0  # after the unexpected
AGAIN_S = 1.0  # until the journal takes how a run ended
SHOWN = 300  # characters of what it printed, in the file's history


class Errands:
    """Starts what is due of each configured hook.

    Args:
        ctx: the engine's context; its hooks are looked up at each use.
        spawn: starts a task that the engine waits for at its end.
    """

    def __init__(
        self,
        ctx: Context,
        spawn: Callable[[Coroutine[None, None, None]], asyncio.Task[None]],
    ) -> None:
        self.stopped = False
        self._ctx = ctx
        self._spawn = spawn
        self._running: dict[tuple[str, tuple[str, ...]], asyncio.Task[None]] = {}
        self._resting: dict[tuple[str, tuple[str, ...]], float] = {}
        self._failing: dict[tuple[str, ...], str] = {}

    async def step(self) -> float:
        """Start what is due as far as there are places; return when to look again."""
        ctx = self._ctx
        if self.stopped:
            return TICK_S
        now_s = ctx.wall_s
        self._resting = {key: t for key, t in self._resting.items() if now_s < t <= now_s + BENCH_S}
        next_s = now_s + TICK_S
        for hook in ctx.hooks:
            busy = [key for key in self._running if key[1] == hook.command]
            places = AT_ONCE - len(busy)
            if places <= 0:
                continue
            found = await ctx.keep(
                ctx.journal.errands_due,
                hook.on.value,
                hook.command,
                now_s,
                AT_ONCE + len(self._resting),
                longest_s=LONGEST_S,
            )
            ready = [e for e in found if e.key not in self._running and e.key not in self._resting]
            for errand in ready[:places]:
                self._running[errand.key] = task = self._spawn(self._run(hook, errand))
                # A task that is cancelled before its first step runs none of its own clauses.
                task.add_done_callback(partial(self._ended, errand.key))
            due_s = await ctx.keep(ctx.journal.next_errand_s, hook.on.value, hook.command, now_s)
            next_s = min(next_s, due_s or next_s)
        return max(min([next_s, *self._resting.values()]) - now_s, 0.0)

    async def idle(self) -> None:
        """Start no more, and wait until all that runs has ended by itself."""
        self.stopped = True
        while self._running:
            await asyncio.wait(self._running.values())
            await asyncio.sleep(0)

    def _ended(self, key: tuple[str, tuple[str, ...]], _: asyncio.Task[None]) -> None:
        del self._running[key]
        self._ctx.wakes.errands.set()

    async def _run(self, hook: Hook, errand: Errand) -> None:
        ctx = self._ctx
        self._resting[errand.key] = ctx.wall_s + BENCH_S  # unless this goes well
        try:
            file = await ctx.keep(ctx.journal.file, errand.file)
            if file is None or file.state.value != errand.occasion:
                return  # it is being tried again, and ends once more
            order = await self._order(hook, file)
            begun = await ctx.keep(ctx.journal.errand_begins, errand, ctx.wall_s)
        except StaleError:
            return
        except JournalError as error:
            ctx.in_trouble("journal", error)
            return
        except Exception:  # one bad receipt must not sink the others
            log.exception("hook.trouble", id=errand.file)
            return
        try:
            ended = await ctx.run_hook(order)
        except asyncio.CancelledError:
            log.info("hook.interrupted", path=file.path, id=file.id, command=hook.command[0])
            with suppress(JournalError, StaleError):  # then the next start finds that it began
                await ctx.keep(ctx.journal.errand_interrupted, begun, ctx.wall_s)
            raise
        except Exception as error:  # what a program cannot be started for is no end of the daemon
            log.exception("hook.trouble", id=errand.file)
            ended = Ended(outcome="missing", text=f"it could not be started: {error}")
        await self._keep(hook, begun, file, ended)
        self._resting.pop(errand.key, None)

    async def _order(self, hook: Hook, file: File) -> Order:
        place = os.path.join(file.watch, os.fsdecode(file.filed_as or b""))  # noqa: PTH118 - text
        return Order(
            command=hook.command,
            stdin=await receipt_of(self._ctx, file),
            env={
                "UPLOADERD_EVENT": file.state.value,
                "UPLOADERD_ID": file.id,
                "UPLOADERD_FILE_ID": file.remote_file or "",
                "UPLOADERD_PATH": os.path.join(file.watch, os.fsdecode(file.path)),  # noqa: PTH118
                "UPLOADERD_FILED_AS": place,
                "UPLOADERD_RECEIPT": place + RECEIPT.decode(),
            },
            timeout_s=hook.timeout_s,
        )

    async def _keep(self, hook: Hook, begun: Errand, file: File, ended: Ended) -> None:
        """Journal how a run ended, however long the journal's disk takes nothing."""
        ctx = self._ctx
        after, event, text = _after(hook, begun, ended, ctx.wall_s)
        self._tell(hook, after, file, ended, text)
        ctx.tally.hook(hook.on.value, ended.outcome)
        while True:
            try:
                await ctx.keep(ctx.journal.errand_ends, after, ctx.wall_s, event, text)
            except StaleError:
                return
            except JournalError as error:
                ctx.in_trouble("journal", error)
                await asyncio.sleep(AGAIN_S)
            else:
                ctx.wakes.news.set()
                return

    def _tell(self, hook: Hook, after: Errand, file: File, ended: Ended, text: str) -> None:
        """Log it; of a hook that fails again and again in the same way only the first time."""
        facts: dict[str, object] = {
            "path": file.path,
            "id": file.id,
            "command": hook.command[0],
            "text": text,
            "output": ended.output,
        }
        if after.state is ErrandState.DONE:
            self._failing.pop(hook.command, None)
            log.info("hook.ran", exc=None, **facts)
        elif after.state is ErrandState.GIVEN_UP:
            log.error("hook.given_up", exc=None, **facts)
        else:
            known = self._failing.get(hook.command) == ended.text
            self._failing[hook.command] = ended.text
            say = log.debug if known else log.warning
            say("hook.failed", exc=None, **facts)


def _after(hook: Hook, begun: Errand, ended: Ended, now_s: float) -> tuple[Errand, str, str]:
    """What becomes of an errand whose run ended, and how the history tells it."""
    said = shortened(masked(ended.output), SHOWN)
    text = f"{hook.command[0]}: {ended.text}" + (f" ({said})" if said and not ended.ok else "")
    if ended.ok:
        done = replace(begun, state=ErrandState.DONE, outcome=ended.text)
        return done, "hook.ran", f"{text}."
    if begun.attempts >= hook.attempts:
        given_up = replace(begun, state=ErrandState.GIVEN_UP, outcome=ended.text)
        return given_up, "hook.given_up", f"{text}; given up after {begun.attempts} attempts."
    pause_s = wait_s(begun.attempts)
    owed = replace(begun, state=ErrandState.OWED, due_s=now_s + pause_s, outcome=ended.text)
    again = f"{text}; it is tried again in {human_duration(pause_s)}."
    return owed, "hook.failed", again
