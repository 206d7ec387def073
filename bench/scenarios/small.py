"""Many small files: how many a second beside the SDK's bare calls.

2,000 files of 4 KiB, 16 in flight; for the daemon from the first rename into the spool until the
last is filed, with its journal, receipt and move; for the SDK its three calls alone.

- ``small.rate``: files a second ÷ the SDK's.
- ``small.cpu``: CPU a file ÷ the SDK's.
- ``small.memory``: the daemon's resident memory at its highest meanwhile.
- ``small.server``: what a request costs the server; it must be small beside the daemon's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bench.figures import Figure, missing, of_runs, ratio
from bench.measuring import MIB, MissingError, Usage, run_peer
from bench.rig import filed, warm

if TYPE_CHECKING:
    from pathlib import Path

    from bench.rig import Rig
    from bench.server.process import Server

AT_ONCE = 16
GOAL = 4.0
PEER = "async SDK"
RATE = "Files a second, journal, receipts and moves included ÷ the async SDK's bare calls."
CPU = "CPU of the daemon for all files ÷ the async SDK's."


def measure(rig: Rig) -> list[Figure]:
    """Send all files with the daemon, then with the SDK, in each run."""
    folder = _many(rig, rig.size(2000, 20))
    count = len(list(folder.iterdir()))
    ours: list[Usage] = []
    theirs: list[Usage] = []
    served = []
    why = ""
    with rig.server() as server:
        for _ in range(rig.runs):
            server.forget()
            before_s = server.cpu_s
            ours.append(asyncio.run(_sent(rig, server, folder)))
            served.append((server.cpu_s - before_s) / len(server.seen()) * 1000)
            try:
                words = [server.base_url, str(folder), str(AT_ONCE)]
                theirs.append(run_peer("sdk_many", *words, home=rig.empty("home")))
            except MissingError as error:
                why = str(error)
    memory = [usage.peak_bytes / MIB for usage in ours]
    how = "The daemon's VmHWM from the first rename until all is filed."
    return [
        *_beside(ours, theirs, count, why),
        of_runs("small.memory", memory, "MiB", how=how),
        of_runs("small.server", served, "ms/request", how="CPU of the server ÷ requests."),
    ]


def _many(rig: Rig, count: int) -> Path:
    folder = rig.empty("small")
    content = rig.content(4096 * count).read_bytes()
    for number in range(count):
        start = number * 4096
        (folder / f"{number:06}.bin").write_bytes(content[start : start + 4096])
    return folder


async def _sent(rig: Rig, server: Server, folder: Path) -> Usage:
    transfer = {"parts_in_flight": AT_ONCE, "files_in_flight": AT_ONCE}
    async with rig.daemon(server, config={"transfer": transfer}) as daemon:
        await daemon.start()
        await warm(daemon)
        return await filed(daemon, sorted(folder.iterdir()))


def _beside(ours: list[Usage], theirs: list[Usage], count: int, why: str) -> list[Figure]:
    if why:
        return [
            missing("small.rate", "x", why=why, how=RATE, peer=PEER, at_least=GOAL),
            missing("small.cpu", "x", why=why, how=CPU, peer=PEER),
        ]
    return [
        ratio(
            "small.rate",
            [count / usage.wall_s for usage in ours],
            [count / usage.wall_s for usage in theirs],
            peer=PEER,
            peer_unit="files/s",
            how=RATE,
            at_least=GOAL,
        ),
        ratio(
            "small.cpu",
            [usage.cpu_s / count * 1000 for usage in ours],
            [usage.cpu_s / count * 1000 for usage in theirs],
            peer=PEER,
            peer_unit="ms a file",
            how=CPU,
        ),
    ]
