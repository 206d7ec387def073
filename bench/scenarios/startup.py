"""How long a command takes to begin, and the daemon until READY.

``startup.help`` and ``startup.status`` are the time from exec to exit, ``startup.ready`` that from
exec to READY=1. Each run is in turn with an interpreter that does nothing (``python -c pass``) and
with one that imports click; ``startup.help_of_pass`` and ``startup.help_of_click`` are the CPU of
``--help`` against theirs. ``startup.ready_cpu`` is what the daemon used until READY, and
``startup.resident`` its memory then.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

from bench.figures import Figure, of_runs, ratio
from bench.measuring import MIB, Usage, cpu_s, resident_bytes, run
from tests.support.processes import environment

if TYPE_CHECKING:
    from pathlib import Path

    from bench.rig import Rig
    from bench.server.process import Server

TIMES_EACH = 5


def measure(rig: Rig) -> list[Figure]:
    """Run all of them in turns, the daemon that is asked running beside."""
    runs = rig.size(TIMES_EACH, 1) * rig.runs
    with rig.server() as server:
        ran, ready_s, ready_cpu_s, resident = asyncio.run(_measured(rig, server, runs))
    took = {name: [one.wall_s for one in each] for name, each in ran.items()}
    used = {name: [one.cpu_s for one in each] for name, each in ran.items()}
    return [
        of_runs(
            "startup.help",
            [1000 * value for value in took["--help"]],
            "ms",
            how="uploaderd --help, from exec to exit.",
            at_most=150,
        ),
        of_runs(
            "startup.status",
            [1000 * value for value in took["status"]],
            "ms",
            how="uploaderd status with a daemon that answers, from exec to exit.",
            at_most=250,
        ),
        ratio(
            "startup.help_of_pass",
            used["--help"],
            used["pass"],
            peer="python -c pass",
            peer_unit="CPU-s",
            how="CPU of uploaderd --help against an interpreter that does nothing.",
        ),
        ratio(
            "startup.help_of_click",
            used["--help"],
            used["click"],
            peer="python -c 'import click'",
            peer_unit="CPU-s",
            how="CPU of uploaderd --help against one that imports click alone.",
        ),
        of_runs(
            "startup.ready",
            ready_s,
            "s",
            how="The daemon, from exec to READY=1.",
            at_most=1.0,
        ),
        of_runs(
            "startup.ready_cpu",
            ready_cpu_s,
            "CPU-s",
            how="CPU of the daemon from exec to READY=1.",
        ),
        of_runs(
            "startup.resident",
            [value / MIB for value in resident],
            "MiB",
            how="Resident memory at READY.",
        ),
    ]


async def _measured(
    rig: Rig, server: Server, runs: int
) -> tuple[dict[str, list[Usage]], list[float], list[float], list[int]]:
    ready_s, ready_cpu_s, resident = [], [], []
    home = rig.empty("home")
    async with rig.daemon(server) as daemon:
        for _ in range(runs):
            began_s = time.perf_counter()
            await daemon.start()
            ready_s.append(time.perf_counter() - began_s)
            ready_cpu_s.append(cpu_s(daemon.pid))
            resident.append(resident_bytes(daemon.pid))
            await daemon.stop()
        await daemon.start()
        ran = await asyncio.to_thread(_commands, home, daemon.config_file, runs)
    return ran, ready_s, ready_cpu_s, resident


def _commands(home: Path, config: Path, runs: int) -> dict[str, list[Usage]]:
    commands = {
        "pass": ("-c", "pass"),
        "click": ("-c", "import click"),
        "--help": ("-c", "from uploaderd.cli import main; main()", "--help"),
        "status": (
            "-c",
            "from uploaderd.cli import main; main()",
            "status",
            "--config",
            str(config),
        ),
    }
    ran: dict[str, list[Usage]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, words in commands.items():
            ran[name].append(run([sys.executable, *words], env=environment(home)))
    return ran
