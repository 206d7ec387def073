"""What a kill costs: bytes that are sent twice, and the time until the upload goes on.

Files go up at a bounded rate, and the daemon is killed with SIGKILL at random moments and started
again. The server counts each byte that reaches it, also those of parts that were cut off.

``waste.sent_twice`` is the share of a file that was sent twice over all its lives, with the worst
file at the end of its spread. ``waste.of_bound`` is the worst file's share of what it may be at
most: the parts in flight, times their size, times the kills. ``waste.said`` is what the receipt
says was sent twice against what the server counted: of a part that was on its way when it was
killed nobody knows how much had left, so all of it is taken to have.

``waste.first_part`` is the time from the start of the process to the first byte of the first part
that was not stored yet, and ``waste.after_ready`` what of it comes after READY. In
``waste.beside_reread`` most of the file is stored, and the peer is the time that md5sum takes to
read that: the proof of what is stored does not have to be waited for.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.figures import Figure, of_runs, ratio
from bench.measuring import GIB, MIB, run
from bench.rig import until_filed
from tests.support.outcome import read_receipt
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from bench.rig import Rig
    from bench.server.process import Seen, Server
    from tests.support.daemon import DaemonProcess

KILLS = 100
KILLS_A_FILE = 5
PART = 4 * MIB
IN_FLIGHT = 4
RATE_BPS = 64 * MIB
NAME = "large.bin"
TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(slots=True)
class Found:
    """What one file met."""

    twice: float = 0.0
    of_bound: float = 0.0
    said: float = 0.0
    first_s: list[float] = field(default_factory=list)
    after_ready_s: list[float] = field(default_factory=list)


def measure(rig: Rig) -> list[Figure]:
    """Kill it a hundred times, and now and then when most is stored."""
    files = rig.size(KILLS // KILLS_A_FILE, 1)
    size = rig.size(192 * MIB, 24 * MIB)
    chance = random.Random(7)
    with rig.server() as server:
        found = [asyncio.run(_killed(rig, server, size, chance)) for _ in range(files)]
        stored = [asyncio.run(_mostly_stored(rig, server)) for _ in range(rig.runs)]
    first = [seconds for one in found for seconds in one.first_s]
    after = [seconds for one in found for seconds in one.after_ready_s]
    where = f"{files * KILLS_A_FILE} kills at random moments, {IN_FLIGHT} parts of 4 MiB in flight"
    return [
        of_runs(
            "waste.sent_twice",
            [100 * one.twice for one in found],
            "% of the file",
            how=f"{where}, {KILLS_A_FILE} kills a file; as the server counted.",
            at_most=100 * KILLS_A_FILE * IN_FLIGHT * PART / size,
        ),
        of_runs(
            "waste.of_bound",
            [max(one.of_bound for one in found)],
            TIMES,
            how="The worst file's bytes sent twice, of parts in flight, size, kills multiplied.",
            at_most=1.0,
        ),
        of_runs(
            "waste.said",
            [one.said for one in found],
            TIMES,
            how="What the receipt says was sent twice, against what the server counted.",
        ),
        of_runs(
            "waste.first_part",
            [1000 * seconds for seconds in first],
            "ms",
            how="From the start of the process to the first byte of the first new part.",
        ),
        of_runs(
            "waste.after_ready",
            [1000 * seconds for seconds in after],
            "ms",
            how="From READY to the first byte of the first new part.",
        ),
        ratio(
            "waste.beside_reread",
            [one for one, _ in stored],
            [other for _, other in stored],
            peer="md5sum of what is stored",
            peer_unit="s",
            how="From the start to the first new part, most of 1 GiB being stored.",
        ),
    ]


async def _killed(rig: Rig, server: Server, size: int, chance: random.Random) -> Found:
    """Send one file through several lives."""
    found = Found()
    server.forget()
    config = {"part_size": "4MiB", "parts_in_flight": IN_FLIGHT, "bandwidth": "64MiB/s"}
    async with rig.daemon(server, config={"transfer": config}) as daemon:
        drop(rig, daemon, size)
        for life in range(KILLS_A_FILE + 1):
            first_s, after_ready_s = await first_part(daemon, server)
            if life:
                found.first_s.append(first_s)
                found.after_ready_s.append(after_ready_s)
            if life < KILLS_A_FILE:
                await asyncio.sleep(chance.uniform(0, size / RATE_BPS / (KILLS_A_FILE + 1)))
                await daemon.kill()
        await until_filed(daemon)
        twice = sum(one.received for one in parts(server)) - size
        said = read_receipt(daemon.spool / "done" / NAME)["bytes_resent"]
    found.twice = twice / size
    found.of_bound = twice / (KILLS_A_FILE * IN_FLIGHT * PART)
    found.said = said / max(twice, 1)
    return found


async def _mostly_stored(rig: Rig, server: Server) -> tuple[float, float]:
    """Kill it late; how long the next start takes to the first new part, and md5sum to read."""
    size = rig.size(GIB, 24 * MIB)
    server.forget()
    config = {"part_size": "4MiB", "parts_in_flight": IN_FLIGHT}
    async with rig.daemon(server, config={"transfer": config}) as daemon:
        drop(rig, daemon, size)
        await daemon.start()
        enough = size * 6 // 10 // PART
        await wait_until(lambda: len(parts(server)) >= enough, what="most of it", timeout_s=120)
        await daemon.kill()
        stored = sum(one.ended_ns > 0 for one in parts(server)) * PART
        prefix = rig.content(min(stored, size), seed=1)
        peer_s = run(["md5sum", str(prefix)]).wall_s
        first_s, _ = await first_part(daemon, server)
        return first_s, peer_s


async def first_part(daemon: DaemonProcess, server: Server) -> tuple[float, float]:
    """Start it; how long its first part took, from its start and from READY."""
    began_ns = time.monotonic_ns()
    await daemon.start()
    ready_ns = time.monotonic_ns()
    await wait_until(lambda: later(server, began_ns), what="the first part", timeout_s=60)
    first_ns = later(server, began_ns)[0].began_ns
    return (first_ns - began_ns) / 1e9, (first_ns - ready_ns) / 1e9


def drop(rig: Rig, daemon: DaemonProcess, size: int) -> None:
    """Put a file of that size into the spool."""
    os.link(rig.content(size), daemon.spool / ".large.bin")
    (daemon.spool / ".large.bin").rename(daemon.spool / NAME)


def parts(server: Server) -> list[Seen]:
    """The parts that reached the server."""
    return [one for one in server.seen() if one.call == "part"]


def later(server: Server, began_ns: int) -> list[Seen]:
    """Those that came after a moment, the first of them first."""
    return sorted(
        (one for one in parts(server) if one.began_ns > began_ns), key=lambda one: one.began_ns
    )
