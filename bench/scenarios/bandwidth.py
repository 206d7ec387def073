"""How exactly and how evenly a limit of bandwidth is kept, as the server sees it.

A relay before the server counts what arrives, heads of requests included, in slices of 10 ms. One
file goes up under each limit, by four parts in flight and by sixty-four.

- ``bandwidth.rate``: bytes that arrived in ten seconds ÷ the setting's.
- ``bandwidth.second``: the most bytes of any one second ÷ a second's worth, from the first byte on:
  after a rest as in the middle of it.
- ``bandwidth.tenth``: the same of a tenth of a second, to see how even it is.
- ``bandwidth.raised``, ``bandwidth.cut``: another limit is said with `uploaderd limit` while parts
  are on their way: bytes of the second second after the command has ended ÷ the new setting's.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.figures import Figure, of_runs
from bench.measuring import MIB
from bench.rig import warm
from tests.support.arrivals import Arrivals
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.rig import Rig
    from bench.server.process import Server
    from tests.support.daemon import DaemonProcess

KIB = 1 << 10
WITHIN = 0.03
MOST_RUNS = 3  # each takes a minute, and the clock is the same in all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One limit, and how many parts share it."""

    setting: str
    rate_bps: int
    parts: int

    @property
    def at(self) -> str:
        """As the table says it."""
        return f"{self.setting}, {self.parts} in flight"


SLOW = Case(setting="512KiB/s", rate_bps=512 * KIB, parts=4)
CASES = (
    SLOW,
    Case(setting="5MiB/s", rate_bps=5 * MIB, parts=4),
    Case(setting="5MiB/s", rate_bps=5 * MIB, parts=64),
    Case(setting="50MiB/s", rate_bps=50 * MIB, parts=4),
)
CHANGES = (("bandwidth.raised", "512KiB/s", "5MiB/s"), ("bandwidth.cut", "50MiB/s", "5MiB/s"))


def measure(rig: Rig) -> list[Figure]:
    """Each limit by itself, then those that change."""
    runs = range(min(rig.runs, MOST_RUNS))
    figures: list[Figure] = []
    with rig.server() as server:
        for case in CASES[1:2] if rig.quick else CASES:
            figures += _kept(case, [asyncio.run(_keep(rig, server, case)) for _ in runs])
        for name, before, after in CHANGES[:1] if rig.quick else CHANGES:
            found = [asyncio.run(_change(rig, server, before, after)) for _ in runs]
            figures.append(
                of_runs(
                    name,
                    found,
                    "x",
                    how="Bytes of the second second after the change ÷ the new setting's.",
                    at=f"{before} to {after}",
                    at_least=1 - WITHIN,
                    at_most=1 + WITHIN,
                )
            )
    return figures


def _kept(case: Case, found: list[tuple[float, float, float]]) -> list[Figure]:
    rates, seconds, tenths = ([one[place] for one in found] for place in range(3))
    return [
        of_runs(
            "bandwidth.rate",
            rates,
            "x",
            how="Bytes that arrived in ten seconds ÷ the setting's.",
            at=case.at,
            at_least=1 - WITHIN,
            at_most=1 + WITHIN,
        ),
        of_runs(
            "bandwidth.second",
            seconds,
            "x",
            how="The most bytes of any second ÷ a second's worth.",
            at=case.at,
            at_most=2.0,
        ),
        of_runs(
            "bandwidth.tenth",
            tenths,
            "x",
            how="The most bytes of any tenth of a second ÷ a tenth of a second's worth.",
            at=case.at,
        ),
    ]


async def _keep(rig: Rig, server: Server, case: Case) -> tuple[float, float, float]:
    """Send under one limit; return shares of the setting: in all, of a second, of a tenth."""
    seconds = rig.size(10, 1)
    async with _sending(rig, server, case.setting, case.rate_bps, case.parts) as (_, seen):
        began_s = time.monotonic()
        await asyncio.sleep(seconds)
        ended_s = time.monotonic()
        return (
            seen.between(began_s, ended_s) / case.rate_bps / (ended_s - began_s),
            seen.most_in(1.0) / case.rate_bps,
            seen.most_in(0.1) / case.rate_bps * 10,
        )


async def _change(rig: Rig, server: Server, before: str, after: str) -> float:
    """Say another limit half-way; return the share of it that the second second after it has."""
    fastest = 50 * MIB
    async with _sending(rig, server, before, fastest, parts=4) as (daemon, seen):
        await asyncio.sleep(rig.size(3, 1))
        answer = await daemon.ask("/v1/limit", method="POST", json={"limit": after})
        said_s = time.monotonic()
        await asyncio.sleep(2.1)
        return seen.between(said_s + 1, said_s + 2) / int(answer["bandwidth"]["limit_bps"])


@asynccontextmanager
async def _sending(
    rig: Rig, server: Server, setting: str, rate_bps: int, parts: int
) -> AsyncIterator[tuple[DaemonProcess, Arrivals]]:
    """A daemon that was warmed up and has had nothing to do, and now sends under a limit."""
    transfer = {"bandwidth": setting, "parts_in_flight": parts, "part_size": "1MiB"}
    if parts == SLOW.parts:
        transfer["part_size"] = "8MiB"
    async with (
        Arrivals(server.base_url) as seen,
        rig.daemon(seen.base_url, config={"transfer": transfer}) as daemon,
    ):
        await daemon.start()
        await warm(daemon)
        seen.forget()
        content = rig.folder / f"sparse-{rate_bps}-{parts}"
        with content.open("wb") as file:  # without its bytes: only their number counts here
            os.truncate(file.fileno(), max(13 * rate_bps, 65 * MIB))
        content.rename(daemon.spool / content.name)
        await wait_until(lambda: seen.total > 8 * KIB, what="the first bytes")
        yield daemon, seen
        await daemon.process.kill()
