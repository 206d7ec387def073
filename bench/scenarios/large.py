"""One large file: CPU, time and memory beside md5sum + curl, the SDK and s3transfer.

2 GiB in parts of 64 MiB, four in flight. md5 is serial and the bytes have to be sent, so md5sum
and ``curl -T`` are the floor. Every program sends the same file to the same server, one after the
other, in every run.

- ``large.cpu``: CPU of the daemon from the rename into the spool until it is filed, against
  md5sum's and curl's together; against the SDK's and s3transfer's, which make no md5. s3transfer
  as it comes signs with SHA-256 and adds a CRC32; bare it only reads and sends.
- ``large.wall``: the time for that, against md5sum's; against the SDK's and s3transfer's.
- ``large.memory``: the daemon's resident memory at its highest meanwhile.
- ``large.cpu_tls``, ``large.wall_tls``, ``large.memory_tls``: the same over TLS.
- ``large.server``: what a GiB costs the server; it must be small beside the daemon's.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.figures import RATIO, Figure, missing, of_runs, ratio
from bench.measuring import GIB, MIB, MissingError, Usage, run, run_peer
from bench.rig import filed, warm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.rig import Rig
    from bench.server.process import Server

AT_ONCE = 4
PEERS = {
    "sdk": "upload_file_chunked",
    "s3transfer": "s3transfer as it comes",
    "bare s3transfer": "s3transfer without sums",
}
FLOOR = ("md5sum", "curl")


@dataclass(frozen=True, slots=True)
class Measured:
    """One thing to measure of every program.

    Attributes:
        name: what follows ``large.`` in a figure's name.
        unit: of a peer's own value.
        of: takes it from what a program cost.
        how: the beginning of the sentence that says how.
    """

    name: str
    unit: str
    of: Callable[[Usage], float]
    how: str


CPU = Measured("cpu", "CPU-s", lambda usage: usage.cpu_s, "CPU from the rename until it is filed")
WALL = Measured("wall", "s", lambda usage: usage.wall_s, "Time from the rename until it is filed")
MEMORY = Measured("memory", "MiB", lambda usage: usage.peak_bytes / MIB, "VmHWM meanwhile")


class Tried:
    """What each program cost, run by run; or why one cannot be had here."""

    def __init__(self) -> None:
        self._usages: defaultdict[str, list[Usage]] = defaultdict(list)
        self._missing: dict[str, str] = {}

    def work(self, name: str, program: Callable[[], Usage]) -> None:
        """Run one of them, unless it was found missing."""
        if name not in self._missing:
            try:
                self._usages[name].append(program())
            except MissingError as error:
                self._missing[name] = str(error)

    def own(self, what: Measured, tail: str, at_most: float | None) -> Figure:
        """The daemon's own value."""
        name, how = f"large.{what.name}{tail}", f"{what.how}."
        if why := self._missing.get("daemon"):
            return missing(name, what.unit, why=why, how=how, at_most=at_most)
        return of_runs(name, self._sums(what, "daemon"), what.unit, how=how, at_most=at_most)

    def beside(
        self,
        what: Measured,
        *names: str,
        tail: str = "",
        at: str = "",
        peer: str = "",
        at_most: float | None = None,
    ) -> Figure:
        """The daemon's value ÷ that of these programs together."""
        name, peer = f"large.{what.name}{tail}", peer or " + ".join(names)
        how = f"{what.how} ÷ {peer}'s."
        for one in ("daemon", *names):
            if why := self._missing.get(one):
                return missing(name, RATIO, why=why, how=how, at=at, peer=peer, at_most=at_most)
        ours, theirs = self._sums(what, "daemon"), self._sums(what, *names)
        return ratio(
            name, ours, theirs, peer=peer, peer_unit=what.unit, how=how, at=at, at_most=at_most
        )

    def _sums(self, what: Measured, *names: str) -> list[float]:
        each = [[what.of(usage) for usage in self._usages[name]] for name in names]
        return [sum(one) for one in zip(*each, strict=True)]


def measure(rig: Rig) -> list[Figure]:
    """Send one file with each in turn, as often as there are to be runs."""
    content = rig.content(rig.size(2 * GIB, 8 * MIB))
    plain, secret = Tried(), Tried()
    served: list[float] = []
    for _ in range(rig.runs):
        with rig.server() as server:
            _floor(plain, content, server)
            before_s = server.cpu_s
            _ours(plain, rig, server, content)
            served.append((server.cpu_s - before_s) / (content.stat().st_size / GIB))
            _peers(plain, rig, server, content)
        secret.work("daemon", lambda: _over_tls(secret, rig, content))
    figures = [
        plain.beside(CPU, *FLOOR, at_most=1.05),
        plain.beside(WALL, "md5sum", at_most=1.15),
        plain.own(MEMORY, "", 64),
        secret.beside(CPU, *FLOOR, tail="_tls", at_most=1.05),
        secret.beside(WALL, "md5sum", tail="_tls"),
        secret.own(MEMORY, "_tls", None),
    ]
    for name, peer in PEERS.items():
        at = f"beside {name}"
        figures += [plain.beside(what, name, at=at, peer=peer) for what in (CPU, WALL, MEMORY)]
    how = "CPU of the server while the daemon sends ÷ size of the file."
    return [*figures, of_runs("large.server", served, "CPU-s/GiB", how=how)]


def _floor(tried: Tried, content: Path, server: Server) -> None:
    trusted = [] if server.certificate is None else ["--cacert", str(server.certificate)]
    words = ["curl", "--silent", "--show-error", *trusted, "-T", str(content), f"{server.url}/x"]
    tried.work("md5sum", lambda: run(["md5sum", str(content)]))
    tried.work("curl", lambda: run(words))


def _over_tls(tried: Tried, rig: Rig, content: Path) -> Usage:
    with rig.server(tls=True) as server:
        _floor(tried, content, server)
        return asyncio.run(_sent(rig, server, content))


def _ours(tried: Tried, rig: Rig, server: Server, content: Path) -> None:
    tried.work("daemon", lambda: asyncio.run(_sent(rig, server, content)))


def _peers(tried: Tried, rig: Rig, server: Server, content: Path) -> None:
    home = rig.empty("home")
    words = [server.url, str(content), str(rig.size(64 * MIB, MIB)), str(AT_ONCE)]
    tried.work("sdk", lambda: run_peer("sdk", server.base_url, str(content), home=home))
    tried.work("s3transfer", lambda: run_peer("s3", *words, home=home))
    tried.work("bare s3transfer", lambda: run_peer("s3", *words, "bare", home=home))


async def _sent(rig: Rig, server: Server, content: Path) -> Usage:
    transfer = {"part_size": f"{rig.size(64, 1)}MiB", "parts_in_flight": AT_ONCE}
    async with rig.daemon(server, config={"transfer": transfer}) as daemon:
        await daemon.start()
        await warm(daemon)
        usage = await filed(daemon, [content])
    arrived = sum(seen.received for seen in server.seen() if seen.call == "part")
    assert arrived > content.stat().st_size, "not all of it was sent"
    return usage
