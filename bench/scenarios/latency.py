"""How soon the first byte leaves once a file is whole.

From the rename into the spool, and from the close after writing in place, until the head of the
file's ``create`` is at the server. Alone each file has the daemon to itself; beside others two
large files are on their way all the time, and two of the four places are free.

- ``latency.rename``, ``latency.close``: half of the files are faster.
- ``latency.rename_p95``, ``latency.close_p95``: all but one in 20 are.

A file that is written in place is held open for longer than the watch's quiet time (200 ms here):
who does so says by closing it that it is done, and the kernel tells that nobody else writes it. One
that was open for less rests for the quiet time first, since scanners and SMB close a file several
times while they write it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from statistics import median, quantiles
from typing import TYPE_CHECKING

from bench.figures import Figure, of_runs
from bench.measuring import MIB
from bench.rig import POLL_S, until_filed, warm

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from bench.rig import Rig
    from bench.server.process import Server
    from tests.support.daemon import DaemonProcess

    Drop = Callable[[DaemonProcess, str], Awaitable[int]]

ALONE, BESIDE = "alone", "beside two large files"
GOALS_MS = {"rename": 50.0, "close": 100.0}
WHOLE = 20
SETTLE_MS = 200
WRITING_S = 0.3
LARGE = 2
WAIT_S = 60.0
Times = dict[tuple[str, str], list[float]]


def measure(rig: Rig) -> list[Figure]:
    """Drop file after file, each once the one before it has left."""
    runs: list[Times] = []
    with rig.server() as server:
        runs += [asyncio.run(_run(rig, server)) for _ in range(rig.runs)]
    return [
        figure
        for at in (ALONE, BESIDE)
        for how, goal_ms in GOALS_MS.items()
        for figure in _figures(how, at, [run[how, at] for run in runs], goal_ms)
    ]


def _figures(how: str, at: str, runs: list[list[float]], goal_ms: float) -> list[Figure]:
    since = {"rename": "From the rename into the spool", "close": "From the close after writing"}
    text = f"{since[how]} until create is at the server"
    tails = [quantiles(times, n=WHOLE)[-1] for times in runs]
    return [
        of_runs(
            f"latency.{how}",
            [median(times) for times in runs],
            "ms",
            how=f"{text}; the median.",
            at=at,
            at_most=goal_ms,
        ),
        of_runs(f"latency.{how}_p95", tails, "ms", how=f"{text}; all but 5 %.", at=at),
    ]


async def _run(rig: Rig, server: Server) -> Times:
    times: Times = {}
    count = rig.size(30, 3)
    async with rig.daemon(server, config={"watch": {"settle": f"{SETTLE_MS}ms"}}) as daemon:
        await daemon.start()
        await warm(daemon)
        times |= await _both(daemon, server, ALONE, count)
        load = asyncio.create_task(_keep_busy(daemon, rig.content(rig.size(512, 2) * MIB)))
        try:
            times |= await _both(daemon, server, BESIDE, count)
        finally:
            load.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await load
        await until_filed(daemon)
    return times


async def _both(daemon: DaemonProcess, server: Server, at: str, count: int) -> Times:
    return {
        ("rename", at): await _latencies(daemon, server, f"r-{at}", count, _renamed),
        ("close", at): await _latencies(daemon, server, f"c-{at}", count, _closed),
    }


async def _latencies(
    daemon: DaemonProcess,
    server: Server,
    prefix: str,
    count: int,
    drop: Drop,
) -> list[float]:
    """Drop so many files, one at a time; return the milliseconds until each one's create."""
    server.forget()
    began_ns: dict[str, int] = {}
    for number in range(count):
        name = f"{prefix}-{number}.txt"
        began_ns[name] = await drop(daemon, name)
        async with asyncio.timeout(WAIT_S):
            while (daemon.spool / name).exists():
                await asyncio.sleep(POLL_S)
    seen = {one.about: one.began_ns for one in server.seen() if one.call == "create"}
    return [(seen[name] - since_ns) / 1e6 for name, since_ns in began_ns.items()]


async def _renamed(daemon: DaemonProcess, name: str) -> int:
    whole = daemon.root / name
    whole.write_bytes(b"whole")
    since_ns = time.monotonic_ns()
    whole.rename(daemon.spool / name)
    return since_ns


async def _closed(daemon: DaemonProcess, name: str) -> int:
    fd = os.open(daemon.spool / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(fd, b"half")
        await asyncio.sleep(WRITING_S)
        os.write(fd, b" and half")
    finally:
        since_ns = time.monotonic_ns()
        os.close(fd)
    return since_ns


async def _keep_busy(daemon: DaemonProcess, content: Path) -> None:
    """Have two large files in the spool at any time."""
    stage = daemon.root / "stage"
    stage.mkdir(exist_ok=True)
    for number in itertools.count():
        while sum(1 for _ in daemon.spool.glob("large-*")) >= LARGE:
            await asyncio.sleep(POLL_S)
        staged = stage / f"large-{number}.bin"
        staged.hardlink_to(content)
        staged.rename(daemon.spool / staged.name)
