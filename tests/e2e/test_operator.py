"""What the operator says holds: across restarts, and against everything automatic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.daemon import DaemonProcess, Table
from tests.support.outcome import assert_arrived, unended
from tests.support.processes import Process, environment
from tests.support.waiting import wait_until
from uploaderd.emulator import Call, Emulator

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
SLOW: dict[str, Table] = {"transfer": {"bandwidth": "1MiB/s", "parts_in_flight": 1}}


async def command(daemon: DaemonProcess, root: Path, *words: str) -> tuple[int, str]:
    """Run one command of ours; return its exit code and what it said."""
    process = Process(root / "command.log")
    process.log.write_text("")
    await process.spawn(
        "uploaderd", [*words, "--socket", str(daemon.socket)], environment(root / "home", {})
    )
    return await process.ended(20), process.log.read_text()


async def test_a_pause_holds_over_a_kill_and_resume_ends_it(tmp_path: Path) -> None:
    """No request leaves while it is paused, not even after SIGKILL and a new start."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        assert await command(daemon, tmp_path, "pause") == (
            0,
            "paused; 0 files wait for: uploaderd resume\n",
        )
        await daemon.kill()
        await daemon.start()
        daemon.drop("a.txt", b"waits")
        row = await daemon.until_state("a.txt", "queued")
        assert row["reason"]["code"] == "queued.paused"
        status = await daemon.status()
        assert (status["state"], status["drained"]) == ("paused", False)
        assert emulator.stats.count() == 0
        assert (await command(daemon, tmp_path, "resume"))[0] == 0
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"waits"})


async def test_a_pause_lets_the_parts_under_way_end(tmp_path: Path) -> None:
    """Those are stored; the next one leaves after resume, and nothing is sent twice."""
    content = bytes(4 * MIB)
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=SLOW) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.bin", content)
        await wait_until(lambda: emulator.stats.bytes_received, what="bytes of a part")
        await daemon.ask("/v1/pause", method="POST")

        async def idle() -> bool:
            row = await daemon.file("a.bin")
            return row is not None and row["parts"]["in_flight"] == 0

        await wait_until(idle, what="the parts in flight to end")
        asked = emulator.stats.count(Call.PART)
        assert 1 <= asked < 4
        await daemon.ask("/v1/resume", method="POST")
        await daemon.until_drained()
        assert emulator.stats.bytes_received == len(content)
        assert_arrived(emulator, daemon, {"a.bin": content})


async def test_a_cancelled_file_stays_where_it_is(tmp_path: Path) -> None:
    """Its session is cancelled; neither a restart nor a rescan takes it up, only a change does."""
    content = bytes(8 * MIB)
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(
            tmp_path, emulator.base_url, config=SLOW | {"watch": {"rescan": "200ms"}}
        ) as daemon,
    ):
        await daemon.start()
        path = daemon.drop("a.bin", content)
        await wait_until(lambda: emulator.stats.bytes_received, what="bytes of a part")
        assert await command(daemon, tmp_path, "cancel", str(path)) == (0, f"cancelled {path}\n")
        await daemon.kill()
        await daemon.start()
        daemon.drop("b.txt", b"goes on")
        await daemon.until_state("b.txt", "done")
        await wait_until(lambda: not unended(daemon.state_dir), what="the session's end")
        row = await daemon.file("a.bin")
        assert row is not None
        assert (row["state"], row["reason"]["code"]) == ("cancelled", "cancelled.operator")
        assert path.read_bytes() == content
        assert [u.status for u in emulator.store.uploads.values()] == ["cancelled", "completed"]
        path.write_bytes(b"another content")
        await daemon.until_drained()
        assert sorted(f.filename for f in emulator.store.files.values()) == ["a.bin", "b.txt"]


async def test_what_has_arrived_is_not_cancelled(tmp_path: Path) -> None:
    """The command says why and ends with 1."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        path = daemon.drop("a.txt", b"done")
        await daemon.until_drained()
        row = await daemon.file("a.txt")
        assert row is not None
        code, said = await command(daemon, tmp_path, "cancel", row["id"])
        assert code == 1
        assert f"{path} is done, so it cannot be cancelled" in said
