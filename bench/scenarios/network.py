"""What it makes of a fast, a slow, a long and a rate-limited link by itself.

network.auto      what arrives with ``parts_in_flight = "auto"`` and ``part_size = "auto"``, ÷ what
                  arrives with the best fixed setting, over the same link, run by run in turns.
network.goodput   what arrives with each setting, in megabytes a second.

A link is a process between the daemon and the server (``bench/link.py``). The backlog is longer
than the time, and what arrived in that time counts, from the first part on: so the beginning, in
which nothing is known yet, is in it, and the ending, which hangs on the sizes of the last files,
is not. The fixed settings are 1 to 16 parts of 8 MiB, and the best of these with parts of 1 and
32 MiB.
"""

from __future__ import annotations

import asyncio
import os
import time
from statistics import median
from typing import TYPE_CHECKING

from bench.figures import Figure, of_runs, ratio
from bench.link import Line, Link
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from bench.rig import Rig
    from tests.support.daemon import Table

MIB = 1 << 20
KNOWN_S = 0.3  # the server learns of connections that are cut a little later
LINKS = {
    "fast": Line(delay_s=0.001, total_bps=30e6),
    "slow": Line(delay_s=0.02, total_bps=2e6),
    "long": Line(delay_s=0.04, window_bytes=128 * 1024, total_bps=20e6),
    "rate-limited": Line(delay_s=0.01, each_bps=3e6, total_bps=8e6),
}
PARTS = (1, 2, 4, 8, 16)
SIZES = ("1MiB", "32MiB")
FILES = 8
Setting = tuple[int | str, str]
AUTO: Setting = ("auto", "auto")


def measure(rig: Rig) -> list[Figure]:
    """Each link with each setting once, then the best of them and auto in turns."""
    figures: list[Figure] = []
    for name in ("rate-limited",) if rig.quick else LINKS:
        figures += _of_link(rig, name)
    return figures


def _of_link(rig: Rig, name: str) -> list[Figure]:
    found: dict[Setting, float] = {}
    for parts in (4,) if rig.quick else PARTS:
        found[parts, "8MiB"] = _goodput(rig, name, (parts, "8MiB"))
    best = max(found, key=lambda setting: found[setting])
    for size in () if rig.quick else SIZES:
        found[best[0], size] = _goodput(rig, name, (best[0], size))
    best = max(found, key=lambda setting: found[setting])
    ours, theirs = [], []
    for _ in range(rig.runs):
        theirs.append(_goodput(rig, name, best))
        ours.append(_goodput(rig, name, AUTO))
    found[best], found[AUTO] = median(theirs), median(ours)
    at = f"{name} link"
    how = f"What arrived within {_time_s(rig):g} s of an endless backlog over that link."
    return [
        ratio(
            "network.auto",
            ours,
            theirs,
            peer=f"{best[0]} parts of {best[1]}",
            peer_unit="MB/s",
            how=how,
            at=at,
            at_least=0.9,
        ),
        *(
            of_runs("network.goodput", [value], "MB/s", how=how, at=f"{at}, {_shown(setting)}")
            for setting, value in found.items()
        ),
    ]


def _shown(setting: Setting) -> str:
    return "auto" if setting == AUTO else f"{setting[0]} of {setting[1]}"


def _time_s(rig: Rig) -> float:
    return 0.5 if rig.quick else 10.0


def _goodput(rig: Rig, name: str, setting: Setting) -> float:
    """Megabytes a second that arrive over a link with a setting."""
    return asyncio.run(_arrives(rig, LINKS[name], setting)) / 1e6


async def _arrives(rig: Rig, line: Line, setting: Setting) -> float:
    parts, size = setting
    config: dict[str, Table] = {
        "watch": {"settle": "100ms"},
        "transfer": {"parts_in_flight": parts, "part_size": size},
    }
    with (
        rig.server() as server,
        Link(server.url.removeprefix("http://"), line, rig.empty("link")) as link,
    ):
        async with rig.daemon(f"http://{link.address}/v1", config=config) as daemon:
            await daemon.start()
            for number in range(FILES):
                hidden = daemon.spool / f".{number}.bin"
                hidden.touch()
                os.truncate(hidden, 48 * MIB)  # a hole is read as fast as it is sent
                hidden.rename(daemon.spool / f"{number}.bin")
            await wait_until(
                lambda: any(seen.call == "part" for seen in server.seen()), what="a part"
            )
            began_s = time.monotonic()
            await asyncio.sleep(_time_s(rig))
            link.cut()
            took_s = time.monotonic() - began_s
            await daemon.kill()
            await asyncio.sleep(KNOWN_S)
            return sum(s.received for s in server.seen() if s.call == "part") / took_s
