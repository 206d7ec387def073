"""The promise under the faults that the field has seen most: it arrives whole, once."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import DaemonProcess, Table
from tests.support.figures import report
from tests.support.outcome import assert_arrived, unended
from tests.support.waiting import wait_until
from uploaderd.emulator import Call, Emulator, rules_for

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
WRITES_S = 6.0
WRONG_KEY_S = 5.0


def noise(count: int, seed: int) -> bytes:
    """Make bytes that differ from file to file."""
    return random.Random(seed).randbytes(count)


async def test_many_lost_replies_and_each_file_is_there_once(tmp_path: Path) -> None:
    """However many replies are lost after the service acted, each file is there exactly once.

    Of 40 files of several parts it is 15 % of those to create and part, half of those to complete.
    """
    contents = {f"{n}.bin": noise(2 * MIB + n, n) for n in range(40)}
    faults = [
        "call=create,action=lose,probability=0.15,seed=1",
        "call=part,action=lose,probability=0.15,seed=2",
        "call=complete,action=lose,probability=0.5,seed=3",
    ]
    async with (
        Emulator(store=tmp_path / "store", faults=faults) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        for name, content in contents.items():
            daemon.drop(name, content)
        begun_s = time.monotonic()
        await daemon.start()
        await daemon.until_drained(120)
        assert_arrived(emulator, daemon, contents)
        assert unended(daemon.state_dir) == []
        lost = {one.fault.call.value: one.fired for one in emulator.faults}
        assert all(lost.values())
        report("40 files", seconds=round(time.monotonic() - begun_s, 1), **lost)


async def _asked(emulator: Emulator, times: int) -> None:
    await wait_until(
        lambda: emulator.stats.count(Call.COMPLETE) >= times, what="complete to be asked"
    )


@pytest.mark.parametrize("profile", ["openai", "lenient"])
async def test_every_reply_to_complete_is_lost_and_it_is_there_once(
    tmp_path: Path, profile: str
) -> None:
    """With a list of files that lags 3 s and four SIGKILLs in the middle: exactly once."""
    contents = {f"{n}.bin": noise(MIB + 100 + n, n) for n in range(6)}
    async with (
        Emulator(
            store=tmp_path / "store",
            rules=replace(rules_for(profile), list_lag_s=3.0),
            faults=["call=complete,action=lose"],
        ) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        for name, content in contents.items():
            daemon.drop(name, content)
        for death in range(4):
            await daemon.start()
            asked = emulator.stats.count(Call.COMPLETE)
            await _asked(emulator, asked + 1 + death)
            await daemon.kill()
        await daemon.start()
        await daemon.until_drained(60)
        assert_arrived(emulator, daemon, contents)
        assert emulator.stats.files_created == len(contents)
        assert unended(daemon.state_dir) == []
        report(f"lost completes, {profile}", asked=emulator.stats.count(Call.COMPLETE))


async def test_a_wrong_key_and_twenty_files_make_few_requests(tmp_path: Path) -> None:
    """Under 15 requests in 5 s with the settings that a user has who sets none."""
    usual: dict[str, Table] = {"retry": {"max_wait": "30s", "defer_max": "15m"}}
    async with (
        Emulator(store=tmp_path / "store", api_key="sk-right") as emulator,
        DaemonProcess(
            tmp_path, emulator.base_url, config=usual, env={"OPENAI_API_KEY": "sk-wrong"}
        ) as daemon,
    ):
        for n in range(20):
            daemon.drop(f"{n}.txt", b"waits")
        await daemon.start()
        await asyncio.sleep(WRONG_KEY_S)  # the figure is about this very time
        asked = emulator.stats.count()
        report("a wrong key", requests=asked)
        assert 1 <= asked < 15


async def test_a_long_writer_is_left_alone_and_then_done_at_once(tmp_path: Path) -> None:
    """A file that is written for 6 s is not touched before its close, and is done 2 s after.

    With the settle time that a user has who sets none.
    """
    usual: dict[str, Table] = {"watch": {"settle": "2s", "rescan": "1s"}}
    content = noise(3 * MIB, 1)
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=usual) as daemon,
    ):
        await daemon.start()
        steps = 60
        with (daemon.spool / "slow.bin").open("wb", buffering=0) as file:
            for n in range(steps):
                file.write(content[n * len(content) // steps : (n + 1) * len(content) // steps])
                await asyncio.sleep(WRITES_S / steps)  # a writer takes its time
            assert emulator.stats.count() == 0
            row = await daemon.file("slow.bin")
            assert row is not None
            assert row["reason"]["code"] == "settling.writer_open"
        closed_s = time.monotonic()
        await daemon.until_state("slow.bin", "done")
        took_s = time.monotonic() - closed_s
        report("a writer of 6 s", done_after_s=round(took_s, 2))
        assert took_s < 2.0
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"slow.bin": content})


async def test_an_outage_is_probed_gently_whatever_the_backlog(tmp_path: Path) -> None:
    """A target that answers nothing usable is asked a few times, then only probed.

    When it is well again everything goes on by itself, and no file failed.
    """
    usual: dict[str, Table] = {"retry": {"max_wait": "30s", "defer_max": "15m"}}
    contents = {f"{n}.txt": noise(100, n) for n in range(30)}
    async with (
        Emulator(store=tmp_path / "store", faults=["action=refuse,status=503"]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=usual) as daemon,
    ):
        for name, content in contents.items():
            daemon.drop(name, content)
        await daemon.start()

        async def shut() -> bool:
            return bool((await daemon.status())["targets"][0]["state"] == "outage")

        await wait_until(shut, what="the target to be shut")
        asked = emulator.stats.count()
        # One more attempt of each file in flight may have been on its way.
        assert asked <= 8 + 4
        row = (await daemon.files())[0]
        assert row["reason"]["code"] in {"queued.target", "settling.seen"}
        emulator.faults.clear()
        await daemon.until_drained(60)
        assert_arrived(emulator, daemon, contents)
        codes = {moment["code"] for name in contents for moment in await _history(daemon, name)}
        assert not {code for code in codes if code.startswith(("held", "failed"))}
        report("an outage", requests_until_shut=asked)


async def _history(daemon: DaemonProcess, name: str) -> list[dict[str, str]]:
    row = await daemon.file(name)
    assert row is not None
    history: list[dict[str, str]] = row["history"]
    return history


async def test_a_file_that_cannot_make_the_hour_is_held_with_the_sum(tmp_path: Path) -> None:
    """Before a byte is sent; with more bandwidth it goes through after a restart."""
    content = noise(4 * MIB, 1)
    slow: dict[str, Table] = {"transfer": {"bandwidth": "1KiB/s"}}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=slow) as daemon,
    ):
        await daemon.start()
        daemon.drop("big.bin", content)
        daemon.drop("small.bin", b"small")
        row = await daemon.until_state("big.bin", "held")
        assert row["reason"]["code"] == "held.deadline"
        assert f"{len(content)} bytes" in row["reason"]["text"]
        await daemon.until_state("small.bin", "done")
        assert emulator.stats.uploads_created == 1
        assert await daemon.stop() == 0
        daemon.configure(transfer={"bandwidth": "unlimited"})
        await daemon.start()
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"big.bin": content, "small.bin": b"small"})
