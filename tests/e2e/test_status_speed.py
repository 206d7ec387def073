"""The status is answered at once: while parts are being sent, and whatever has piled up."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tests.support import figures
from tests.support.daemon import DaemonProcess
from tests.support.service import EmulatorProcess
from tests.support.waiting import wait_until
from uploaderd.control.client import Client

if TYPE_CHECKING:
    from pathlib import Path

PARTS = 4
PILE = 25_000
ASKED = 120


def ask(daemon: DaemonProcess, count: int, *, parts: int = 0) -> list[float]:
    """Ask for the status again and again; the times in ms while so many parts were in flight."""
    found: list[float] = []
    with Client(daemon.socket) as client:
        client.status()
        while len(found) < count:
            began = time.perf_counter()
            status = client.status()
            took_ms = (time.perf_counter() - began) * 1e3
            if sum(row.parts.in_flight for row in status.active) >= parts:
                found.append(took_ms)
            time.sleep(0.002)
    return sorted(found)


def at(times: list[float], share: float) -> float:
    """The time that this share of the answers took at most."""
    return times[min(int(len(times) * share), len(times) - 1)]


def pile_up(daemon: DaemonProcess, count: int) -> None:
    """Copy the one file in the journal until there are so many that are done."""
    with closing(sqlite3.connect(daemon.state_dir / "journal.sqlite3")) as db:
        db.row_factory = sqlite3.Row
        row = dict(db.execute("SELECT * FROM files").fetchone())
        columns = list(row)

        def copies() -> Any:  # noqa: ANN401 - rows of whatever columns there are
            for number in range(count):
                one = row | {
                    "id": f"{number:032x}",
                    "path": b"old/%d.txt" % number,
                    "inode": str(10**9 + number),
                    "remote_file": f"file-{number}",
                    "created": row["created"] - count + number,
                    "upload": None,
                }
                yield tuple(one[name] for name in columns)

        marks = ", ".join("?" * len(columns))
        db.executemany(f"INSERT INTO files VALUES ({marks})", copies())  # noqa: S608 - marks alone
        db.commit()


async def test_status_waits_for_no_disk_and_no_pile(tmp_path: Path) -> None:
    """With 25,000 files done and four parts on their way it takes a little more than without."""
    config: dict[str, Any] = {"transfer": {"part_size": "8MiB", "parts_in_flight": PARTS}}
    async with (
        EmulatorProcess(tmp_path) as service,
        DaemonProcess(tmp_path, service.base_url, config=config) as daemon,
    ):
        await daemon.start()
        daemon.drop("first.txt", b"x")
        await daemon.until_drained()
        alone = await asyncio.to_thread(ask, daemon, ASKED)
        await daemon.stop()
        pile_up(daemon, PILE)
        daemon.configure(transfer={"bandwidth": "64MiB/s"})  # four parts for as long as it takes
        await daemon.start()
        for number in range(4):
            daemon.drop(f"big{number}.bin", os.urandom(2**23) * 12)

        async def busy() -> bool:
            status = await daemon.status()
            return bool(sum(row["parts"]["in_flight"] for row in status["active"]) >= PARTS)

        await wait_until(busy, what="four parts in flight", timeout_s=60)
        among = await asyncio.to_thread(ask, daemon, ASKED, parts=PARTS)
        status = await daemon.status()
        assert status["counts"]["done"] >= PILE + 1
        await daemon.kill()
    shown = {"p50_ms": at(among, 0.5), "p99_ms": at(among, 0.99), "alone_p50_ms": at(alone, 0.5)}
    figures.report("status", parts=PARTS, files=PILE, asked=ASKED, **shown)
    assert at(among, 0.5) < 20 * at(alone, 0.5) + 5
