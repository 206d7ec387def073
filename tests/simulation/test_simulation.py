"""A thousand histories of a daemon in trouble, and what must hold after each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.run import many, told
from tests.simulation.scenario import with_aftercare, with_auto, with_limits

ROOT = Path(__file__).parents[2]
SEEDS = 1000
AFTERCARE_SEEDS = 150
AUTO_SEEDS = 50
LIMIT_SEEDS = 40
REPLAY = "from tests.simulation.run import one\nfor seed in range(40, 60): print(one(seed).digest)"


def test_a_thousand_seeds_keep_every_promise() -> None:
    """Whatever the seed does to spool, service, network, disk and process: I1 to I6 hold."""
    tally = many(range(SEEDS))
    failures = [told(seed, "; ".join(broken)) for seed, broken in sorted(tally.failed.items())]
    assert not failures, "\n".join(failures)
    assert tally.seeds == SEEDS
    assert tally.lives > SEEDS
    assert tally.uploaded > SEEDS
    assert tally.stored > SEEDS  # or no check would know which part must not be sent again


def test_hooks_and_forgetting_break_no_promise() -> None:
    """The same with hooks that fail, and a journal that forgets within seconds of each end.

    So what a row is still needed for is what decides, and not its age; and I7 holds: each end has
    its hook, run again until the journal knows that it went well, and never after that.
    """
    tally = many(range(AFTERCARE_SEEDS), make=with_aftercare)
    failures = [told(seed, "; ".join(broken)) for seed, broken in sorted(tally.failed.items())]
    assert not failures, "\n".join(failures)
    assert tally.lives > AFTERCARE_SEEDS
    assert tally.uploaded > AFTERCARE_SEEDS


def test_parts_in_flight_that_find_their_own_number_break_no_promise() -> None:
    """However many fly, more or fewer from one moment to the next."""
    tally = many(range(AUTO_SEEDS), make=with_auto)
    failures = [told(seed, "; ".join(broken)) for seed, broken in sorted(tally.failed.items())]
    assert not failures, "\n".join(failures)
    assert tally.uploaded > AUTO_SEEDS


def test_limits_that_come_and_go_break_no_promise() -> None:
    """Bandwidth that is cut and raised while parts are on their way, over deaths too."""
    tally = many(range(LIMIT_SEEDS), make=with_limits)
    failures = [told(seed, "; ".join(broken)) for seed, broken in sorted(tally.failed.items())]
    assert not failures, "\n".join(failures)
    assert tally.uploaded > LIMIT_SEEDS


def test_a_seed_is_the_same_history_in_every_process() -> None:
    """Neither string hashes nor addresses decide anything: the traces agree to the last step."""
    traces = [
        subprocess.run(
            [sys.executable, "-c", REPLAY],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": chosen, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for chosen in ("1", "2")
    ]
    assert traces[0].count("\n") == 20
    assert traces[0] == traces[1]
