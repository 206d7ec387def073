"""Resident memory while large files and many files go through."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

from tests.support.daemon import DaemonProcess, Table
from tests.support.outcome import read_receipt
from tests.support.service import EmulatorProcess
from tests.support.waiting import wait_until

MIB = 1 << 20
GIB = 1 << 30
LIMIT_BYTES = 64 * MIB
FOUR_LARGE_PARTS: dict[str, Table] = {
    "daemon": {"log_level": "info"},
    "transfer": {"part_size": "64MiB", "parts_in_flight": 4},
    "retry": {"max_wait": "5s"},
}


def memory(pid: int) -> tuple[int, int]:
    """A process's resident memory in bytes, now and at its highest so far (proc(5))."""
    fields = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
        if line.startswith("Vm")
    )
    now, highest = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, highest


def note(what: str, **figures: float) -> None:
    """Print figures, and append them to the file that $UPLOADERD_FIGURES names."""
    line = json.dumps({"what": what} | {name: round(value, 2) for name, value in figures.items()})
    print(line)  # noqa: T201 - figures are what this test is for
    if file := os.environ.get("UPLOADERD_FIGURES"):
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write(line + "\n")


async def test_memory_with_a_backlog(tmp_path: Path) -> None:
    """Resident memory stays under 64 MiB with 3,000 files waiting behind a target that is shut."""
    count = 3_000
    async with (
        EmulatorProcess(tmp_path, faults=["call=create,action=refuse,status=401"]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=FOUR_LARGE_PARTS) as daemon,
    ):
        for number in range(count):
            (daemon.spool / f"{number}.txt").write_bytes(b"%d" % number)
        began_s = time.monotonic()
        await daemon.start()
        ready_s = time.monotonic() - began_s

        async def known() -> bool:
            counts = (await daemon.status())["counts"]
            return bool(counts["queued"] + counts["held"] == count)

        await wait_until(known, timeout_s=60, what="all files to wait for the target")
        known_s = time.monotonic() - began_s
        _, highest = memory(daemon.pid)
        note(
            "3,000 files found at the start, target shut",
            ready_s=ready_s,
            all_waiting_s=known_s,
            highest_mib=highest / MIB,
        )
        assert highest < LIMIT_BYTES


async def test_memory_while_2_gib_go_through(tmp_path: Path) -> None:
    """Resident memory stays under 64 MiB while 2 GiB go through in four parts of 64 MiB at once."""
    size = 2 * GIB
    async with (
        EmulatorProcess(tmp_path) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=FOUR_LARGE_PARTS) as daemon,
    ):
        await daemon.start()
        idle, _ = memory(daemon.pid)
        hidden = daemon.spool / ".big"
        hidden.touch()
        os.truncate(hidden, size)
        began_s = time.monotonic()
        hidden.rename(daemon.spool / "big.bin")
        samples: list[int] = []
        in_flight = 0
        while daemon.left():
            assert daemon.running, daemon.process.last_words()
            assert time.monotonic() - began_s < 120, daemon.process.last_words()
            samples.append(memory(daemon.pid)[0])
            for row in (await daemon.status())["active"]:
                in_flight = max(in_flight, row["parts"]["in_flight"])
            await asyncio.sleep(0.05)
        took_s = time.monotonic() - began_s
        _, highest = memory(daemon.pid)
        note(
            "resident memory while 2 GiB go through, 64MiB parts, 4 in flight",
            idle_mib=idle / MIB,
            mean_mib=sum(samples) / len(samples) / MIB,
            highest_mib=highest / MIB,
            seconds=took_s,
            mib_per_s=size / MIB / took_s,
        )
        (file,) = (await emulator.state())["files"]
        assert file["bytes"] == size
        assert file["md5"] == read_receipt(daemon.spool / "done/big.bin")["md5"]
        assert in_flight == 4
        assert highest < LIMIT_BYTES
