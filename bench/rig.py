"""What each scenario is handed: folders, content, the server, the daemon.

with rig.server() as server:
    async with rig.daemon(server, config={"transfer": {"parts_in_flight": 2}}) as daemon:
        await daemon.start()
        await warm(daemon)
        meter = Meter(daemon.pid)
        daemon.drop("a.bin", b"…")
        await until_filed(daemon)
        usage = meter.read()
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.measuring import MIB, Meter
from bench.server.process import Server, certificate
from tests.support.daemon import DaemonProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from bench.measuring import Usage
    from tests.support.daemon import Table

POLL_S = 0.02
WARM_S = 60.0

# The product's defaults, which the tests' own daemon departs from.
PRODUCT: dict[str, Table] = {
    "daemon": {"log_level": "info", "drain_timeout": "20s"},
    "watch": {"settle": "2s", "rescan": "30s"},
    "transfer": {"part_size": "auto"},
    "retry": {"max_wait": "30s", "defer_max": "15m"},
}

QUICK: dict[str, Table] = {"watch": {"settle": "100ms"}}


class Rig:
    """Where a scenario measures.

    Attributes:
        quick: True where the figures do not matter, only that they are made: tiny sizes.
        runs: how often each measurement is to be done.
        folder: an empty folder of this scenario's own; it is removed afterwards.
    """

    def __init__(self, folder: Path, *, quick: bool, runs: int) -> None:
        self.folder = folder
        self.quick = quick
        self.runs = runs
        self._counter = itertools.count(1)

    def size(self, full: int, quick: int) -> int:
        """The first, or where all is to be quick the second."""
        return quick if self.quick else full

    def empty(self, name: str) -> Path:
        """Make a new empty folder; ``name`` is a part of its name."""
        path = self.folder / f"{name}-{next(self._counter)}"
        path.mkdir(parents=True)
        return path

    def content(self, size: int, seed: int = 0) -> Path:
        """Return a file of that many bytes that no compression makes smaller; do not change it."""
        path = self.folder / f"content-{size}-{seed}"
        if not path.exists():
            chance = random.Random(seed)
            with path.open("wb") as file:
                left = size
                while left:
                    file.write(chance.randbytes(step := min(left, 16 * MIB)))
                    left -= step
                file.flush()
                os.fsync(file.fileno())
        return path

    @contextmanager
    def server(self, *, tls: bool = False) -> Iterator[Server]:
        """Run the server that discards what it gets; it ends with the block."""
        made = certificate(self.folder) if tls else None
        server = Server(self.empty("server"), certificate=made)
        with server:
            yield server

    def daemon(
        self,
        server: Server | str,
        *,
        root: Path | None = None,
        config: Mapping[str, Mapping[str, object]] | None = None,
        watches: Sequence[Table] = (),
        hooks: Sequence[Table] = (),
        env: Mapping[str, str] | None = None,
    ) -> DaemonProcess:
        """Make a daemon that has the product's own defaults; the caller starts it.

        Args:
            server: where it sends to, ours or a base URL.
            root: its folder, empty or an earlier daemon's.
            config: tables to lay over the defaults, as in tests/support/daemon.py.
            watches: more watches, as tables.
            hooks: programs to run at a file's end, as tables.
            env: variables of its environment.
        """
        given = config or {}
        quick = QUICK if self.quick else {}
        tables = {
            name: PRODUCT.get(name, {}) | quick.get(name, {}) | dict(given.get(name, {}))
            for name in {*PRODUCT, *given, "target"}
        }
        if isinstance(server, Server) and server.certificate is not None:
            tables["target"] = {"ca_file": str(server.certificate)} | tables["target"]
        url = server.base_url if isinstance(server, Server) else server
        return DaemonProcess(
            root or self.empty("daemon"),
            url,
            config=tables,
            watches=watches,
            hooks=hooks,
            env=env,
        )


def names_left(spool: Path) -> int:
    """How many files lie at the top of a spool, those with a hidden name not counted."""
    with os.scandir(spool) as entries:
        return sum(1 for e in entries if e.name[0] != "." and e.is_file(follow_symlinks=False))


async def warm(daemon: DaemonProcess) -> None:
    """Have a first small file filed, so that the first scan is over and all is loaded."""
    daemon.drop("warm-up.txt", b"warm-up")
    await until_filed(daemon, WARM_S)


async def filed(daemon: DaemonProcess, contents: Sequence[Path]) -> Usage:
    """Rename these files into a warm daemon's spool; return what it cost until all are filed.

    They are linked, not copied, so the caller keeps them and each is named once only.
    """
    stage = daemon.root / "stage"
    stage.mkdir(exist_ok=True)
    names = [f"{number}-{content.name}" for number, content in enumerate(contents)]
    for name, content in zip(names, contents, strict=True):
        (stage / name).hardlink_to(content)
    meter = Meter(daemon.pid)
    for name in names:
        (stage / name).rename(daemon.spool / name)
    await until_filed(daemon)
    return meter.read()


async def until_filed(daemon: DaemonProcess, timeout_s: float = 600.0) -> None:
    """Wait until nothing lies at the top of the spool any more, then until all is drained.

    It looks at the folder rather than asks the daemon, so that waiting costs the daemon nothing.
    """
    async with asyncio.timeout(timeout_s):
        while names_left(daemon.spool):
            assert daemon.running, f"the daemon ended\n{daemon.process.last_words()}"
            await asyncio.sleep(POLL_S)
        while not (await daemon.status())["drained"]:
            await asyncio.sleep(POLL_S)
