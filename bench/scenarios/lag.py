"""How late the event loop is while everything happens at once.

A large file and thousands of small ones go up while the status is asked for, all files are listed,
the numbers are scraped, somebody follows the events, the spool is looked through again every second
and the configuration is read anew. The daemon itself counts, at moments 10 ms apart, how late
somebody who is due then would be served (``uploaderd_event_loop_lag_seconds``).

``lag.p999`` and ``lag.p99`` are the lag that all but one in 1,000, or in 100, of these moments
stayed below. ``lag.answer`` is what a program sees of it: the slowest but one in 100 answers to
/healthz, which asks nobody else. ``lag.idle`` is what a daemon costs that has nothing to do.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import aiohttp

from bench.figures import Figure, of_runs
from bench.measuring import MIB, cpu_s
from bench.rig import until_filed, warm
from tests.support.exposition import Page

if TYPE_CHECKING:
    from bench.rig import Rig
    from bench.server.process import Server
    from tests.support.daemon import DaemonProcess

LAG = "uploaderd_event_loop_lag_seconds"
LISTED = 1000
N_SMALL = 1000
Found = dict[str, float]


def measure(rig: Rig) -> list[Figure]:
    """Do all of it, as often as there are to be runs."""
    found: list[Found] = []
    with rig.server() as server:
        found += [asyncio.run(_run(rig, server)) for _ in range(rig.runs)]
    busy = "Everything at once: a large file, small ones, status, list, events, scrapes, reloads."
    return [
        of_runs(
            "lag.p999",
            [one["p999"] for one in found],
            "ms",
            how=f"{busy} All but one in 1,000 moments.",
            at_most=20.0,
        ),
        of_runs(
            "lag.p99",
            [one["p99"] for one in found],
            "ms",
            how=f"{busy} All but one in 100 moments.",
        ),
        of_runs(
            "lag.answer",
            [one["answer"] for one in found],
            "ms",
            how="The same; all but one in 100 answers to /healthz, asked every 10 ms.",
        ),
        of_runs(
            "lag.idle",
            [one["idle"] for one in found],
            "% of a core",
            how="CPU of the daemon once all is filed and nobody asks.",
            at_most=1.0,
        ),
    ]


async def _run(rig: Rig, server: Server) -> Found:
    config: dict[str, dict[str, object]] = {
        "watch": {"rescan": "1s"},
        "transfer": {"part_size": "8MiB"},
    }
    async with rig.daemon(server, config=config) as daemon:
        await daemon.start()
        await warm(daemon)
        for number in range(rig.size(N_SMALL, 60)):
            (daemon.spool / f".small-{number}").write_bytes(os.urandom(4096))
        os.link(rig.content(rig.size(512 * MIB, 16 * MIB)), daemon.spool / ".large.bin")
        connector = aiohttp.UnixConnector(os.fspath(daemon.socket))
        async with aiohttp.ClientSession(connector=connector) as session:
            ask = Asking(session)
            before = await ask.lags()
            others = [
                asyncio.create_task(work)
                for work in (
                    ask.again("/v1/status", 0.05),
                    ask.again(f"/v1/files?limit={LISTED}", 0.2),
                    ask.again("/metrics", 0.5),
                    ask.again("/v1/reload", 0.7, method="POST"),
                    ask.follow(),
                    ask.time("/healthz"),
                )
            ]
            await asyncio.to_thread(_drop, daemon)
            await until_filed(daemon)
            for other in others:
                other.cancel()
            await asyncio.wait(others)
            for other in others:
                if not other.cancelled():
                    other.result()
            after = await ask.lags()
        moments = {le: after[le] - before[le] for le in after}
        return {
            "p999": 1e3 * quantile(moments, 0.999),
            "p99": 1e3 * quantile(moments, 0.99),
            "answer": 1e3 * sorted(ask.took_s)[int(len(ask.took_s) * 0.99)],
            "idle": await _idle(daemon, 10.0 if not rig.quick else 0.5),
        }


def _drop(daemon: DaemonProcess) -> None:
    """Rename everything into place, the large one first, the small ones as fast as it goes."""
    hidden = sorted(daemon.spool.glob(".[ls]*"))
    for path in hidden:
        path.rename(path.with_name(path.name[1:]))


async def _idle(daemon: DaemonProcess, seconds: float) -> float:
    await asyncio.sleep(1.0)
    began_s = cpu_s(daemon.pid)
    await asyncio.sleep(seconds)
    return 100 * (cpu_s(daemon.pid) - began_s) / seconds


def quantile(moments: dict[float, float], share: float) -> float:
    """What so many moments stayed below: between two bounds it is taken to rise evenly."""
    every = moments[max(moments)]
    below, low_s = 0.0, 0.0
    for bound_s, count in sorted(moments.items()):
        if count >= share * every:
            if bound_s == float("inf"):
                return low_s
            inside = count - below
            return low_s + (bound_s - low_s) * ((share * every - below) / inside if inside else 1.0)
        below, low_s = count, bound_s
    return low_s


class Asking:
    """Somebody who asks the status socket again and again.

    Attributes:
        took_s: how long the answers of ``time`` took.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.took_s: list[float] = []

    async def get(self, path: str, method: str = "GET") -> bytes:
        """Ask once."""
        async with self._session.request(method, f"http://localhost{path}") as reply:
            reply.raise_for_status()
            return await reply.read()

    async def again(self, path: str, every_s: float, method: str = "GET") -> None:
        """Ask until cancelled."""
        while True:
            await self.get(path, method)
            await asyncio.sleep(every_s)

    async def time(self, path: str) -> None:
        """Ask until cancelled, and look at the clock."""
        while True:
            began_s = time.perf_counter()
            await self.get(path)
            self.took_s.append(time.perf_counter() - began_s)
            await asyncio.sleep(0.01)

    async def follow(self) -> None:
        """Follow the events until cancelled."""
        wait = aiohttp.ClientTimeout(total=None)
        async with self._session.get("http://localhost/v1/events", timeout=wait) as reply:
            async for _ in reply.content.iter_any():
                pass

    async def lags(self) -> dict[float, float]:
        """How many moments had a lag up to each bound, since the daemon's start."""
        family = Page((await self.get("/metrics")).decode()).families[LAG]
        rows = [row for row in family.samples if row.name.endswith("_bucket")]
        return {float(row.labels["le"]): row.value for row in rows}
