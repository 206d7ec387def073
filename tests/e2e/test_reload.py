"""Another configuration while it runs: taken over whole, or refused whole, and nothing is lost."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import DaemonProcess, Row, Table
from tests.support.outcome import assert_arrived, files_below
from tests.support.processes import Process, environment
from tests.support.waiting import wait_until
from uploaderd.emulator import Call, Emulator

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
SLOW: dict[str, Table] = {"transfer": {"bandwidth": "1MiB/s", "parts_in_flight": 2}}
QUICK: Table = {"bandwidth": "unlimited", "parts_in_flight": 4}


async def reload(daemon: DaemonProcess) -> Row:
    """Ask for it on the socket."""
    answer: Row = await daemon.ask("/v1/reload", method="POST")
    return answer


async def test_other_limits_hold_at_once_and_no_part_is_sent_twice(tmp_path: Path) -> None:
    """What flies comes to its end, what follows keeps the new limits."""
    content = bytes(6 * MIB)
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=SLOW) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.bin", content)
        await wait_until(lambda: emulator.stats.bytes_received, what="bytes of a part")
        daemon.configure(transfer=QUICK)
        assert (await reload(daemon))["state"] == "running"

        async def four() -> bool:
            row = await daemon.file("a.bin")
            return row is not None and (row["parts"]["in_flight"] > 2 or row["state"] == "done")

        await wait_until(four, what="more parts in flight than before")
        await daemon.until_drained(timeout_s=10.0)
        assert emulator.stats.bytes_received == len(content)
        assert emulator.stats.count(Call.CREATE) == 1
        assert_arrived(emulator, daemon, {"a.bin": content})


@pytest.mark.parametrize("by", ["socket", "signal"])
async def test_a_wrong_configuration_is_refused_whole(tmp_path: Path, by: str) -> None:
    """Nothing of it holds, the log says what is wrong, and the old one goes on."""
    other = tmp_path / "other"
    other.mkdir()
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.watch_also({"path": str(other)})
        daemon.configure(transfer={"parts_in_flight": 400})
        if by == "socket":
            refused = (await reload(daemon))["error"]
            assert "transfer.parts_in_flight" in refused["message"]
        else:
            daemon.process.signal(signal.SIGHUP)
        await wait_until(lambda: "reload.refused" in daemon.log_text(), what="the refusal")
        assert "transfer.parts_in_flight" in daemon.log_text()
        (other / "b.txt").write_bytes(b"not watched")
        daemon.drop("a.txt", b"goes on")
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"goes on"})
        assert [w["path"] for w in (await daemon.status())["watches"]] == [str(daemon.spool)]
        assert files_below(other) == {"b.txt"}


async def test_the_command_says_why_a_configuration_is_refused(tmp_path: Path) -> None:
    """With the exit code of a wrong configuration; once it is right, with 0."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.configure(transfer={"part_size": "1GiB"})
        process = Process(tmp_path / "command.log")
        words = ["reload", "--socket", str(daemon.socket)]
        await process.spawn("uploaderd", words, environment(tmp_path / "home", {}))
        assert await process.ended(20) == 78
        assert "transfer.part_size" in process.log.read_text()
        daemon.configure(transfer={"part_size": "2MiB"})
        await process.spawn("uploaderd", words, environment(tmp_path / "home", {}))
        assert await process.ended(20) == 0


async def test_a_new_watch_is_taken_in_and_one_that_goes_ends_what_it_began(
    tmp_path: Path,
) -> None:
    """What is on its way arrives and is filed; what comes later is left; the folder is free."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "early.txt").write_bytes(b"was there before")
    content = bytes(3 * MIB)
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=SLOW) as daemon,
    ):
        await daemon.start()
        daemon.watch_also({"path": str(other)})
        assert len((await reload(daemon))["watches"]) == 2
        await wait_until((other / "done" / "early.txt").exists, what="the early file")
        (other / "big.bin").write_bytes(content)
        before = emulator.stats.bytes_received
        await wait_until(lambda: emulator.stats.bytes_received > before, what="bytes of it")
        daemon.watch_also()
        assert [w["path"] for w in (await reload(daemon))["watches"]] == [str(daemon.spool)]
        (other / "late.txt").write_bytes(b"nobody watches any more")
        await wait_until(lambda: "watch.left" in daemon.log_text(), what="the watch's end")
        assert (other / "done" / "big.bin").read_bytes() == content
        assert (other / "done" / "big.bin.receipt.json").exists()
        assert (other / "late.txt").exists()
        assert emulator.stats.count(Call.CREATE) == 2
        (tmp_path / "second").mkdir()
        async with DaemonProcess(
            tmp_path / "second", emulator.base_url, watches=[{"path": str(other)}]
        ) as second:
            await second.start()
            await wait_until((other / "done" / "late.txt").exists, what="the late file")
        daemon.watch_also({"path": str(other)})
        assert len((await reload(daemon))["watches"]) == 2


async def test_a_watch_that_comes_back_goes_on_with_what_waited(tmp_path: Path) -> None:
    """A file that only waited when its watch went is uploaded, once, when that is back."""
    other = tmp_path / "other"
    other.mkdir()
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, watches=[{"path": str(other)}]) as daemon,
    ):
        await daemon.start()
        await daemon.ask("/v1/pause", method="POST")
        (other / "waits.txt").write_bytes(b"waits")

        async def queued() -> bool:
            return bool((await daemon.status())["counts"]["queued"] == 1)

        await wait_until(queued, what="the file to wait")
        daemon.watch_also()
        await reload(daemon)
        await daemon.ask("/v1/resume", method="POST")
        daemon.drop("a.txt", b"another")
        await daemon.until_state("a.txt", "done")
        assert emulator.stats.count(Call.CREATE) == 1
        codes = {row["path"]: row["reason"]["code"] for row in await daemon.files()}
        assert codes[str(other / "waits.txt")] == "queued.unwatched"
        daemon.watch_also({"path": str(other), "ignore": ["*.tmp"]})
        await reload(daemon)
        await wait_until((other / "done" / "waits.txt").exists, what="the file")
        assert emulator.stats.count(Call.CREATE) == 2


async def test_what_was_ignored_is_taken_once_it_is_not(tmp_path: Path) -> None:
    """A watch that is listened to in another way is scanned anew."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(
            tmp_path, emulator.base_url, config={"watch": {"ignore": ["*.log"], "rescan": "1h"}}
        ) as daemon,
    ):
        await daemon.start()
        (daemon.spool / "a.log").write_bytes(b"a log")
        daemon.drop("b.txt", b"b")
        await daemon.until_state("b.txt", "done")
        assert (daemon.spool / "a.log").exists()
        daemon.configure(watch={"ignore": ["*.tmp"]})
        await reload(daemon)
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.log": b"a log", "b.txt": b"b"})


async def test_a_mended_key_frees_what_it_held(tmp_path: Path) -> None:
    """The target is probed at once, not when its time has come."""
    key = tmp_path / "key"
    key.write_text("sk-wrong")
    key.chmod(0o600)
    async with (
        Emulator(store=tmp_path / "store", api_key="sk-right") as emulator,
        DaemonProcess(
            tmp_path, emulator.base_url, config={"target": {"api_key_file": str(key)}}
        ) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.txt", b"waits for the key")
        row = await daemon.until_state("a.txt", "held")
        assert row["reason"]["code"] == "held.auth"
        key.write_text("sk-right")
        await reload(daemon)
        await daemon.until_drained(timeout_s=10.0)
        assert_arrived(emulator, daemon, {"a.txt": b"waits for the key"})
        assert "sk-" not in daemon.log_text()


async def test_what_needs_a_restart_is_refused(tmp_path: Path) -> None:
    """State and socket stay where they are, and so does a target with open sessions."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=SLOW) as daemon,
    ):
        await daemon.start()
        daemon.configure(daemon={"state_dir": str(tmp_path / "elsewhere")})
        assert "daemon.state_dir" in (await reload(daemon))["error"]["message"]
        daemon.configure(daemon={"state_dir": str(daemon.state_dir)})
        daemon.drop("a.bin", bytes(3 * MIB))
        await wait_until(lambda: emulator.stats.bytes_received, what="bytes of a part")
        daemon.configure(target={"base_url": "http://127.0.0.1:9/v1"})
        assert "another address" in (await reload(daemon))["error"]["message"]
        daemon.configure(target={"base_url": emulator.base_url})
        assert (await reload(daemon))["state"] == "running"
        await daemon.until_drained()
        assert emulator.stats.bytes_received == 3 * MIB


async def test_a_watch_within_one_that_goes_is_refused(tmp_path: Path) -> None:
    """A file that is on its way from the old one would be seen, and sent, by the new one too."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        inner = daemon.spool / "inner"
        inner.mkdir()
        config = daemon.config_file.read_text()
        daemon.config_file.write_text(config.replace(f'"{daemon.spool}"', f'"{inner}"'))
        assert "overlaps" in (await reload(daemon))["error"]["message"]
        daemon.config_file.write_text(config)
        assert (await reload(daemon))["state"] == "running"


async def test_a_storm_of_signals_harms_nothing(tmp_path: Path) -> None:
    """Fifty SIGHUPs while parts fly: each byte is sent once."""
    content = bytes(4 * MIB)
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=SLOW) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.bin", content)
        await wait_until(lambda: emulator.stats.bytes_received, what="bytes of a part")
        for number in range(50):
            daemon.configure(transfer={"files_in_flight": 1 + number % 4})
            daemon.process.signal(signal.SIGHUP)
            await daemon.status()
        await daemon.until_drained()
        assert emulator.stats.bytes_received == len(content)
        assert_arrived(emulator, daemon, {"a.bin": content})
