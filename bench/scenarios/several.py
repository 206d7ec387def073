"""Several large files at once: how much faster two and four of them go than one alone.

The files are of 1 GiB each, in parts of 64 MiB, eight in flight. md5 is serial within a file, so
one file keeps one core at most; of two files each has a core, as far as sending leaves them any.

- ``several.rate``: bytes a second of two and of four files at once ÷ of one alone.
- ``several.cores``: CPU of daemon and server together ÷ time; it cannot be more than the machine's.
- ``several.limit``: the machine's cores ÷ ``several.cores`` of one file: more than that
  ``several.rate`` cannot be, since several files need as much CPU a byte as one.
- ``several.md5sum``: two md5sum at once ÷ one alone: what the machine itself allows. Two cores that
  share an arithmetic unit, or others' load, show here.
"""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench.figures import RATIO, Figure, missing, of_runs, ratio
from bench.measuring import GIB, MIB, MissingError, Usage, run
from bench.rig import filed, warm

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.rig import Rig
    from bench.server.process import Server

COUNTS = (1, 2, 4)
GOAL = 1.6


def measure(rig: Rig) -> list[Figure]:
    """Send one, two and four files in each run."""
    counts = COUNTS[: rig.size(3, 2)]
    contents = [rig.content(rig.size(GIB, 4 * MIB), seed) for seed in range(max(counts))]
    rates: dict[int, list[float]] = {count: [] for count in counts}
    cores: dict[int, list[float]] = {count: [] for count in counts}
    alone, twice = [], []
    why = ""
    with rig.server() as server:
        for _ in range(rig.runs):
            for count in counts:
                before_s = server.cpu_s
                usage = asyncio.run(_sent(rig, server, contents[:count]))
                size = sum(content.stat().st_size for content in contents[:count])
                rates[count].append(size / MIB / usage.wall_s)
                cores[count].append((usage.cpu_s + server.cpu_s - before_s) / usage.wall_s)
            try:
                alone.append(1 / _md5sums(contents[:1]))
                twice.append(2 / _md5sums(contents[:2]))
            except MissingError as error:
                why = str(error)
    return [*_rates(rates), *_cores(cores), _machine(alone, twice, why)]


async def _sent(rig: Rig, server: Server, contents: Sequence[Path]) -> Usage:
    transfer = {"part_size": f"{rig.size(64, 1)}MiB", "parts_in_flight": 8}
    async with rig.daemon(server, config={"transfer": transfer}) as daemon:
        await daemon.start()
        await warm(daemon)
        return await filed(daemon, contents)


def _md5sums(contents: Sequence[Path]) -> float:
    """Sum up all these files at once; return the time until the last is done."""
    began_s = time.monotonic()
    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(lambda content: run(["md5sum", str(content)]), contents))
    return time.monotonic() - began_s


def _rates(rates: dict[int, list[float]]) -> list[Figure]:
    return [
        ratio(
            "several.rate",
            rates[count],
            rates[1],
            peer="one file alone",
            peer_unit="MiB/s",
            how=f"Bytes a second of {count} files at once ÷ of one alone, rename until filed.",
            at=f"{count} files",
            at_least=GOAL,
        )
        for count in list(rates)[1:]
    ]


def _cores(cores: dict[int, list[float]]) -> list[Figure]:
    there = len(os.sched_getaffinity(0))
    how = f"CPU of daemon and server together ÷ time, of {there} cores."
    figures = [
        of_runs("several.cores", cores[count], "cores", how=how, at=f"{count} at once")
        for count in cores
    ]
    limits = [there / busy for busy in cores[1]]
    how = f"{there} cores ÷ CPU a second of daemon and server with one file."
    return [*figures, of_runs("several.limit", limits, RATIO, how=how)]


def _machine(alone: list[float], twice: list[float], why: str) -> Figure:
    how = "Bytes a second of two md5sum at once ÷ of one alone."
    if why:
        return missing("several.md5sum", "x", why=why, how=how)
    return ratio("several.md5sum", twice, alone, peer="md5sum alone", peer_unit="files/s", how=how)
