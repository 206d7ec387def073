"""Many seeds over all cores, or one of them step by step."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.scenario import Scenario, scenario_of
from tests.simulation.world import Outcome, play

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BATCH = 8
LINES_S = 5.0


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a number of seeds came to; ``failed`` says which broke what."""

    seeds: int = 0
    steps: int = 0
    lives: int = 0
    uploaded: int = 0
    stored: int = 0
    virtual_s: float = 0.0
    took_s: float = 0.0
    failed: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count one seed in."""
        self.seeds += 1
        self.steps += outcome.steps
        self.lives += outcome.lives
        self.uploaded += outcome.uploaded
        self.stored += outcome.stored
        self.virtual_s += outcome.virtual_s
        if outcome.broken:
            self.failed[outcome.seed] = outcome.broken


def one(seed: int, make: Callable[[int], Scenario] = scenario_of) -> Outcome:
    """Play a seed; a fault of the simulator itself breaks it too."""
    try:
        return play(make(seed))
    except Exception:  # noqa: BLE001 - the other seeds are still to be played
        broken = f"simulator: {traceback.format_exc()}"
        return Outcome(
            seed=seed, broken=(broken,), digest="", steps=0, virtual_s=0.0, lives=0, uploaded=0
        )


def many(
    seeds: Iterable[int],
    say: Callable[[str], None] = lambda _: None,
    *,
    stop_after: int = 25,
    make: Callable[[int], Scenario] = scenario_of,
) -> Tally:
    """Play seeds over all cores; end early once ``stop_after`` have failed."""
    tally = Tally()
    began_s = said_s = time.monotonic()
    context = multiprocessing.get_context("forkserver")
    with context.Pool(os.cpu_count() or 1) as pool:
        for outcome in pool.imap_unordered(partial(one, make=make), seeds, chunksize=BATCH):
            tally.add(outcome)
            for text in outcome.broken:
                say(told(outcome.seed, text))
            now_s = time.monotonic()
            tally.took_s = now_s - began_s
            if now_s - said_s > LINES_S:
                said_s = now_s
                say(line(tally))
            if len(tally.failed) >= stop_after:
                break
    return tally


def told(seed: int, text: str) -> str:
    """A broken invariant, and how to see it happen."""
    return f"seed {seed}: {text}\n    make simulate SEED={seed}"


def line(tally: Tally) -> str:
    """How far it is."""
    rate = tally.seeds / max(tally.took_s, 0.001)
    virtual_h = tally.virtual_s / 3600
    return (
        f"{tally.seeds} seeds, {len(tally.failed)} failed, {rate:.0f}/s; {tally.lives} lives,"
        f" {tally.uploaded} uploads, {tally.steps} steps, {virtual_h:.0f} virtual hours"
    )


def replay(seed: int) -> int:
    """Print each step of a seed; return the exit code."""
    scenario = scenario_of(seed)
    sys.stdout.write(f"{scenario}\n")
    outcome = play(scenario, loud=True)
    sys.stdout.write(f"seed {seed}: {outcome.steps} steps, trace {outcome.digest}\n")
    for text in outcome.broken:
        sys.stdout.write(f"seed {seed} broke {text}\n")
    if not outcome.broken:
        sys.stdout.write(f"seed {seed}: all invariants hold\n")
    return 1 if outcome.broken else 0


def campaign(seeds: range) -> int:
    """Play many seeds with a line of progress now and then; return the exit code."""

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    tally = many(seeds, say)
    say(line(tally))
    if tally.failed:
        say(f"failed: {' '.join(map(str, sorted(tally.failed)))}")
    return 1 if tally.failed else 0
