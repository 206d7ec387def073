"""What a backlog costs: READY, memory, each name, status meanwhile, and rest.

So many names of a few bytes lie in the spool before the daemon starts; nothing listens at its
target, so all of them come to wait. ``backlog.ready`` is the time from exec to READY, ``known``
until all are journalled, looked at and queued, and ``name`` the CPU for each. ``memory`` is the
highest until then, ``status`` the slowest but one in 100 answers of /v1/status meanwhile,
``journal`` its size on disk. ``idle`` is the share of a core while nothing happens between two
rescans, ``rescan`` the CPU of one rescan of what is unchanged, ``rest`` the share of a core with
the rescans as often as they come by the default. ``again`` is READY after a restart with all of it
in the journal, and ``flow`` the status then, while the files go up to a server that takes them.

``UPLOADERD_BENCH_MILLION=1`` adds a million names (an hour, and 4 GiB of disk).
"""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.figures import Figure, of_runs
from bench.measuring import MIB, cpu_s, peak_bytes
from tests.support.exposition import scrape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from bench.rig import Rig
    from bench.server.process import Server
    from tests.support.daemon import DaemonProcess, Table

NOBODY = "http://127.0.0.1:9/v1"
SIZES = (1_000, 10_000, 100_000)
MILLION = 1_000_000
GOAL_AT = 100_000
ASK_S = 0.05
IDLE_S = 20.0
LOOK_S = 5.0
FLOW_S = 15.0
SETTLED_S = 2.2  # by then nothing is too young to be taken


@dataclass(slots=True)
class Run:
    """What was measured with one number of names."""

    ready_s: float = 0.0
    known_s: float = 0.0
    name_us: float = 0.0
    memory_mib: float = 0.0
    status_ms: float = 0.0
    journal_mib: float = 0.0
    idle_percent: float = 0.0
    rescan_s: float = 0.0
    rest_percent: float = 0.0
    again_s: float = 0.0
    flow_ms: float = 0.0


# Field, figure, unit, goal at 100,000 names, how.
FIGURES = (
    ("ready_s", "ready", "s", 2.0, "From exec to READY, with the names there."),
    ("memory_mib", "memory", "MiB", 96.0, "VmHWM once all of them wait."),
    ("known_s", "known", "s", None, "From READY until all of them wait."),
    ("name_us", "name", "us", None, "CPU until then for each name."),
    ("status_ms", "status", "ms", 50.0, "p99 of /v1/status until then."),
    ("journal_mib", "journal", "MiB", None, "The database and its log."),
    ("idle_percent", "idle", "%", 1.0, "Of a core between two rescans."),
    ("rescan_s", "rescan", "s", 1.0, "CPU of one rescan of what is unchanged."),
    ("rest_percent", "rest", "%", None, "Of a core, rescans by their default included."),
    ("again_s", "again", "s", 2.0, "From exec to READY, with all in the journal."),
    ("flow_ms", "flow", "ms", 50.0, "p99 of /v1/status while they go up."),
)


def measure(rig: Rig) -> list[Figure]:
    """Measure each number of names once: the big ones take long."""
    sizes: Sequence[int] = (200,) if rig.quick else SIZES
    if os.environ.get("UPLOADERD_BENCH_MILLION") and not rig.quick:
        sizes = (*sizes, MILLION)
    figures = []
    with rig.server() as server:
        for names in sizes:
            run = asyncio.run(_one(rig, server, names))
            figures += [
                of_runs(
                    f"backlog.{name}",
                    [getattr(run, field)],
                    unit,
                    how=how,
                    at=f"{names:,} names",
                    at_most=goal if names == GOAL_AT else None,
                )
                for field, name, unit, goal, how in FIGURES
            ]
    return figures


async def _one(rig: Rig, server: Server, names: int) -> Run:
    run, root = Run(), rig.empty("backlog")
    rescan_s = 1.0 if rig.quick else 30.0
    config: dict[str, Table] = {
        "watch": {"rescan": f"{rescan_s:g}s"},
        "daemon": {"log_level": "warning"},
    }
    async with rig.daemon(NOBODY, root=root, config=config) as daemon:
        for number in range(names):
            (daemon.spool / f"{number:07}.bin").write_bytes(b"%d" % number)
        await asyncio.sleep(0.2 if rig.quick else SETTLED_S)
        run.ready_s = await _start(daemon)
        began_s, began_cpu_s = time.monotonic(), cpu_s(daemon.pid)
        took_s = await _ask_until(daemon, lambda: _all_wait(daemon, names))
        run.known_s = time.monotonic() - began_s
        run.name_us = (cpu_s(daemon.pid) - began_cpu_s) / names * 1e6
        run.status_ms = _p99(took_s) * 1000
        run.memory_mib = peak_bytes(daemon.pid) / MIB
        run.journal_mib = _size(daemon.state_dir) / MIB
        await _rest(daemon, run, *((1.0, 0.5) if rig.quick else (IDLE_S, LOOK_S)))
        await daemon.stop()
        run.again_s = await _start(daemon)
        await daemon.stop()
    async with rig.daemon(server, root=root, config=config) as daemon:
        await _start(daemon)
        until_s = time.monotonic() + (0.5 if rig.quick else FLOW_S)

        async def over() -> bool:
            return time.monotonic() > until_s

        run.flow_ms = _p99(await _ask_until(daemon, over)) * 1000
        await daemon.kill()
    return run


async def _start(daemon: DaemonProcess) -> float:
    began_s = time.monotonic()
    await daemon.start()
    return time.monotonic() - began_s


async def _rest(daemon: DaemonProcess, run: Run, window_s: float, look_s: float) -> None:
    """Let it rest from the end of one rescan to the end of the next."""
    await _scanned(daemon, look_s)
    began_s, began_cpu_s = time.monotonic(), cpu_s(daemon.pid)
    await asyncio.sleep(window_s)
    idle = (cpu_s(daemon.pid) - began_cpu_s) / (time.monotonic() - began_s)
    await _scanned(daemon, look_s)
    all_s, all_cpu_s = time.monotonic() - began_s, cpu_s(daemon.pid) - began_cpu_s
    run.idle_percent = idle * 100
    run.rest_percent = all_cpu_s / all_s * 100
    run.rescan_s = max(all_cpu_s - idle * all_s, 0.0)


async def _scanned(daemon: DaemonProcess, look_s: float) -> None:
    """Wait for the end of a rescan, with few looks: each costs the daemon some milliseconds."""
    first = await _scans(daemon)
    while await _scans(daemon) == first:
        await asyncio.sleep(look_s)


async def _scans(daemon: DaemonProcess) -> float:
    return (await scrape(daemon)).value("uploaderd_watch_scans_total")


async def _all_wait(daemon: DaemonProcess, names: int) -> bool:
    counts = (await daemon.status())["counts"]
    return int(counts.get("queued", 0)) + int(counts.get("deferred", 0)) >= names


async def _ask_until(daemon: DaemonProcess, over: Callable[[], Awaitable[bool]]) -> list[float]:
    """Ask for the status over and over; return how long each answer took, in seconds."""
    took_s = []
    while True:
        took_s.append(await asyncio.to_thread(_ask, daemon.socket))
        if await over():
            return took_s
        await asyncio.sleep(ASK_S)


def _ask(path: Path) -> float:
    """One question by a client that costs nothing itself."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    began_s = time.perf_counter()
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(os.fspath(path))
    connection.request("GET", "/v1/status")
    connection.getresponse().read()
    connection.close()
    return time.perf_counter() - began_s


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def _size(state_dir: Path) -> int:
    return sum(file.stat().st_size for file in state_dir.iterdir())
