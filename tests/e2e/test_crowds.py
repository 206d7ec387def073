"""A real daemon and a thousand real clients: rude or idle ones harm nobody."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from tests.support import figures
from tests.support.daemon import DaemonProcess
from tests.support.service import EmulatorProcess
from tests.support.under import Under
from tests.support.waiting import wait_until
from uploaderd.control.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CROWD = 1000
AT_ONCE = 100
DESCRIPTORS = 1024  # what a shell or systemd gives as a rule
FOLLOW = b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = b"GET /v1/status HTTP/1.1\r\nHost: x\r\nX: "

Wires = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


@asynccontextmanager
async def a_daemon(root: Path, **config: dict[str, object]) -> AsyncIterator[DaemonProcess]:
    """One that may open no more than processes may as a rule."""
    async with (
        EmulatorProcess(root) as service,
        DaemonProcess(root, service.base_url, config=config) as daemon,
    ):
        daemon.process = Under(root / "daemon.log", ["prlimit", f"--nofile={DESCRIPTORS}"])
        await daemon.start()
        yield daemon


@asynccontextmanager
async def crowd(daemon: DaemonProcess, said: bytes, count: int = CROWD) -> AsyncIterator[Wires]:
    """Connect so many clients that say this and nothing more."""
    wires: Wires = []

    async def one(places: asyncio.Semaphore) -> None:
        async with places, asyncio.timeout(30):
            wire = await asyncio.open_unix_connection(daemon.socket, limit=2**16)
            wires.append(wire)
            with suppress(ConnectionError):
                wire[1].write(said)
                await wire[1].drain()

    places = asyncio.Semaphore(AT_ONCE)  # the queue of those who wait has an end
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(one(places))
        yield wires
    finally:
        for _, writer in wires:
            writer.close()


def descriptors(daemon: DaemonProcess) -> int:
    """How many descriptors the daemon has open."""
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


async def quickest(daemon: DaemonProcess, tries: int = 5) -> float:
    """Ask for the status a few times, on a connection each; the shortest time in seconds."""
    found = []
    for _ in range(tries):
        began = time.perf_counter()
        with Client(daemon.socket) as client:
            status = await asyncio.to_thread(client.status)
        found.append(time.perf_counter() - began)
        assert status.state == "running"
    return min(found)


async def test_a_thousand_idle_clients_keep_nobody_out(tmp_path: Path) -> None:
    """Status answers, a file is uploaded, and the descriptors suffice, while they all stay."""
    async with a_daemon(tmp_path) as daemon:
        alone_s = await quickest(daemon)
        async with crowd(daemon, b"") as wires:
            assert len(wires) == CROWD
            crowded_s = await quickest(daemon)
            open_now = descriptors(daemon)
            assert open_now < DESCRIPTORS / 2
            daemon.drop("among-them.bin", os.urandom(5_000_000))
            await daemon.until_drained()
            row = await daemon.file("among-them.bin")
            assert row is not None
            assert row["state"] == "done"
    figures.report(
        "idle clients", count=CROWD, alone_ms=alone_s * 1e3, crowded_ms=crowded_s * 1e3,
        descriptors=open_now,
    )  # fmt: skip
    assert crowded_s < 20 * alone_s + 0.2
    assert "Traceback" not in daemon.log_text()


async def test_a_thousand_half_requests_keep_nobody_out(tmp_path: Path) -> None:
    """Who begins a request and never ends it makes room for who asks."""
    async with a_daemon(tmp_path) as daemon:
        async with crowd(daemon, SLOW):
            assert await quickest(daemon) < 5
            assert descriptors(daemon) < DESCRIPTORS / 2
        async with crowd(daemon, SLOW + b"x" * 1_000_000, 20):
            assert await quickest(daemon) < 5


async def test_a_thousand_followers_harm_nobody(tmp_path: Path) -> None:
    """As many as there may be are told of a file, though most of them never read; others are told.

    A file goes its way meanwhile, and a command is answered.
    """
    async with a_daemon(tmp_path) as daemon, crowd(daemon, FOLLOW) as wires:
        assert await quickest(daemon) < 5
        daemon.drop("seen.bin", os.urandom(1_000_000))
        await daemon.until_drained()
        told, refused = 0, 0

        async def count(reader: asyncio.StreamReader) -> None:
            nonlocal told, refused
            found = b""
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(60):
                    while some := await reader.read(2**16):
                        found += some
                        if b"503 Service" in found or b'"event":"filed"' in found:
                            break
            told += b'"event":"filed"' in found
            refused += b"503 Service" in found

        await asyncio.gather(*(count(reader) for reader, _ in wires))
        figures.report("followers", count=CROWD, told=told, refused=refused)
        assert told == DESCRIPTORS // 4 // 4
        assert refused > 0
        assert await daemon.stop() == 0


async def test_followers_that_never_read_are_no_burden(tmp_path: Path) -> None:
    """The daemon's memory does not grow with what they leave unread."""
    async with a_daemon(tmp_path) as daemon, crowd(daemon, FOLLOW, 60):
        await wait_until(lambda: descriptors(daemon) > 60, what="all to be in")
        before = resident(daemon)
        for number in range(150):
            daemon.drop(f"{number}.txt", b"x")
        await daemon.until_drained(timeout_s=60)
        grown = resident(daemon) - before
        figures.report("unread streams", streams=60, grown_mib=grown / 2**20)
        assert grown < 32 * 2**20


def resident(daemon: DaemonProcess) -> int:
    """The daemon's resident memory in bytes."""
    with open(f"/proc/{daemon.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
