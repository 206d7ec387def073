"""The bandwidth as the service sees it: a relay before it counts what arrives, and when.

Shares of the setting alone are judged. A machine that is busy only makes things slower, so what
may be said for certain is that no second carries more than is allowed.
"""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.arrivals import Arrivals
from tests.support.daemon import DaemonProcess, Table
from tests.support.outcome import assert_arrived
from tests.support.processes import Process, environment
from tests.support.waiting import wait_until
from uploaderd.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KIB, MIB = 1 << 10, 1 << 20
NAME = "a.bin"


@asynccontextmanager
async def limited(
    root: Path, bandwidth: str, size: int, **transfer: object
) -> AsyncIterator[tuple[DaemonProcess, Arrivals, Emulator]]:
    """A daemon with a limit that has begun to send one file."""
    config: dict[str, Table] = {"transfer": {"bandwidth": bandwidth, **transfer}}
    async with (
        Emulator(store=root / "store") as emulator,
        Arrivals(emulator.base_url) as seen,
        DaemonProcess(root, seen.base_url, config=config) as daemon,
    ):
        await daemon.start()
        daemon.drop(NAME, bytes(size))
        await wait_until(lambda: seen.total > 4 * KIB, what="bytes of a part")
        yield daemon, seen, emulator


async def limit(daemon: DaemonProcess, root: Path, *words: str) -> str:
    """Say ``uploaderd limit`` as a person does; return what it said."""
    process = Process(root / "command.log")
    process.log.write_text("")
    words = ("limit", *words, "--socket", str(daemon.socket))
    await process.spawn("uploaderd", words, environment(root / "home", {}))
    assert await process.ended(20) == 0, process.log.read_text()
    return process.log.read_text()


@pytest.mark.parametrize("in_flight", [1, 64])
async def test_no_second_carries_more_than_the_setting(tmp_path: Path, in_flight: int) -> None:
    """Neither the first one nor any other, however many parts are in flight; and it is used."""
    rate = 512 * KIB
    transfer = {"parts_in_flight": in_flight, "part_size": "1MiB"}
    async with limited(tmp_path, "512KiB/s", 4 * MIB, **transfer) as (_, seen, _):
        began_s = time.monotonic()
        await asyncio.sleep(2.0)
        ended_s = time.monotonic()
        assert seen.most_in(1.0) <= 2 * rate  # as a rule 1.05, but who was late catches up
        assert seen.most_in(0.2) <= rate
        assert seen.between(began_s, ended_s) >= 0.25 * rate * (ended_s - began_s)


async def test_a_raise_reaches_the_parts_in_flight(tmp_path: Path) -> None:
    """At 10 KiB/s the file would take an hour; without a limit it is there in a moment.

    Each of its parts gets its turn every three seconds: that is twice the stall timer.
    """
    transfer = {"parts_in_flight": 64, "stall_timeout": "1500ms"}
    async with limited(tmp_path, "10KiB/s", 32 * MIB, **transfer) as (daemon, seen, emulator):
        await asyncio.sleep(4.0)
        assert seen.most_in(1.0) <= 10 * KIB * 2 + 32 * KIB  # the heads of requests are no parts
        assert "not limited" in await limit(daemon, tmp_path, "unlimited")
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {NAME: bytes(32 * MIB)})
        assert emulator.stats.bytes_received == 32 * MIB  # so none was taken for stalled


@pytest.mark.parametrize("by", ["signal", "limit"])
async def test_a_cut_reaches_the_parts_in_flight(tmp_path: Path, by: str) -> None:
    """A second later the new limit is kept, by the parts that fly as by those that follow."""
    async with limited(tmp_path, "8MiB/s", 64 * MIB, part_size="16MiB") as (daemon, seen, _):
        if by == "signal":
            daemon.configure(transfer={"bandwidth": "256KiB/s"})
            daemon.process.signal(signal.SIGHUP)

            async def heard() -> bool:
                return bool((await daemon.status())["bandwidth"]["limit_bps"] == 256 * KIB)

            await wait_until(heard, what="the reload")
        else:
            await limit(daemon, tmp_path, "256KiB/s")
        await asyncio.sleep(1.0)
        cut_s = time.monotonic()
        await asyncio.sleep(2.0)
        assert 0 < seen.most_in(1.0, since_s=cut_s) <= 2 * 256 * KIB


async def test_the_operators_limit_survives_all_but_himself(tmp_path: Path) -> None:
    """A kill, a reload with another bandwidth and the timetable; `config` gives it back."""
    async with limited(tmp_path, "256KiB/s", 16 * MIB) as (daemon, _, emulator):
        said = await limit(daemon, tmp_path, "300KiB/s")
        by_hand = (
            "limited to 300.0 KiB/s by the operator; give it back with: uploaderd limit config\n"
        )
        assert said == by_hand
        await daemon.kill()
        await daemon.start()
        assert await limit(daemon, tmp_path) == by_hand
        daemon.configure(transfer={"bandwidth": "00:00,200KiB/s 12:00,200KiB/s Sun-03:00,201KiB/s"})
        document = (await daemon.ask("/v1/reload", method="POST"))["bandwidth"]
        assert document == {
            "limit_bps": 300 * KIB,
            "why": "operator",
            "until": None,
            "configured": "00:00,200KiB/s 12:00,200KiB/s Sun-03:00,201KiB/s",
        }
        assert "by the timetable, for " in await limit(daemon, tmp_path, "config")
        document = (await daemon.status())["bandwidth"]
        assert document["limit_bps"] in {200 * KIB, 201 * KIB}
        assert document["until"] is not None
        refused = await daemon.ask("/v1/limit", method="POST", json={"limit": "5"})
        assert refused["error"]["code"] == "bad_request"
        assert "is no limit" in refused["error"]["message"]
        answer = await daemon.ask("/v1/limit", method="POST", json={"limit": "unlimited"})
        assert answer["bandwidth"]["limit_bps"] is None
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {NAME: bytes(16 * MIB)})


async def test_what_the_limit_held_goes_on_when_it_is_lifted(tmp_path: Path) -> None:
    """A file that cannot be sent in an hour is held with the sum, and goes on by itself."""
    config: dict[str, Table] = {"transfer": {"bandwidth": "unlimited"}}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        await daemon.start()
        await limit(daemon, tmp_path, "100B/s")
        daemon.drop(NAME, bytes(MIB))
        row = await daemon.until_state(NAME, "held")
        assert row["reason"]["code"] == "held.deadline"
        assert "uploaderd limit" in row["reason"]["text"]
        await limit(daemon, tmp_path, "config")
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {NAME: bytes(MIB)})
