"""``hold``, ``release`` and ``retry``: journalled, stronger than anything automatic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.test_operator import MIB, SLOW, command
from tests.support.daemon import DaemonProcess
from tests.support.outcome import assert_arrived, files_below
from tests.support.waiting import wait_until
from uploaderd.emulator import Call, Emulator

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_held_file_stays_held_over_a_kill_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """Nothing of it leaves meanwhile; after its release only what is missing is sent."""
    content = bytes(4 * MIB)
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(
            tmp_path, emulator.base_url, config=SLOW | {"watch": {"rescan": "200ms"}}
        ) as daemon,
    ):
        await daemon.start()
        path = daemon.drop("a.bin", content)
        await wait_until(lambda: emulator.stats.bytes_received > MIB, what="a part")
        assert (await command(daemon, tmp_path, "hold", str(path)))[0] == 0
        await daemon.kill()
        await daemon.start()
        asked = emulator.stats.count()
        daemon.drop("b.txt", b"goes on")
        await daemon.until_state("b.txt", "done")
        row = await daemon.file("a.bin")
        assert row is not None
        assert (row["state"], row["reason"]["code"]) == ("held", "held.operator")
        assert row["parts"]["stored"] >= 1
        assert emulator.stats.count() == asked + 3
        assert (await command(daemon, tmp_path, "release", str(path)))[0] == 0
        await daemon.until_drained()
        assert emulator.stats.count(Call.CREATE) == 2
        assert emulator.stats.bytes_received < len(content) + 2 * MIB
        assert_arrived(emulator, daemon, {"a.bin": content, "b.txt": b"goes on"})


async def test_a_file_held_before_its_turn_is_not_taken_though_it_changes(tmp_path: Path) -> None:
    """What is seen of it frees it as little as the target's health or a reload does."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(
            tmp_path, emulator.base_url, config={"watch": {"settle": "30s", "rescan": "200ms"}}
        ) as daemon,
    ):
        await daemon.start()
        path = daemon.spool / "a.txt"
        path.write_bytes(b"first")
        await daemon.until_state("a.txt", "settling")
        assert (await command(daemon, tmp_path, "hold", str(path)))[0] == 0
        path.write_bytes(b"second")
        daemon.configure(watch={"settle": "50ms"})
        await daemon.ask("/v1/reload", method="POST")
        await daemon.ask("/v1/resume", method="POST")
        daemon.drop("b.txt", b"goes on")
        await daemon.until_state("b.txt", "done")
        row = await daemon.file("a.txt")
        assert row is not None
        assert row["reason"]["code"] == "held.operator"
        assert (await command(daemon, tmp_path, "release", row["id"]))[0] == 0
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"second", "b.txt": b"goes on"})


async def test_a_failed_file_is_brought_back_and_uploaded_under_its_id(tmp_path: Path) -> None:
    """Once it was mended in failed/; its old receipt is gone, its history tells all."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("in/a.txt", b"")
        row = await daemon.until_state("in/a.txt", "failed")
        await wait_until((daemon.spool / "failed/in/a.txt").exists, what="it to be filed")
        (daemon.spool / "failed/in/a.txt").write_bytes(b"mended")
        await daemon.until_drained()
        assert (await command(daemon, tmp_path, "retry", row["id"]))[0] == 0
        await daemon.until_drained()
        after = await daemon.ask(f"/v1/files/{row['id']}")
        assert after["state"] == "done"
        assert [moment["code"] for moment in after["history"]].count("failed.empty") == 1
        assert files_below(daemon.spool / "failed") == set()
        assert (daemon.spool / "done/in/a.txt").read_bytes() == b"mended"
        assert sorted(f.filename for f in emulator.store.files.values()) == ["a.txt"]


async def test_a_failed_file_comes_back_beside_the_one_that_took_its_name(tmp_path: Path) -> None:
    """Nothing is ever written over."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.txt", b"")
        row = await daemon.until_state("a.txt", "failed")
        await daemon.until_drained()
        (daemon.spool / "failed/a.txt").write_bytes(b"the first")
        await daemon.ask("/v1/pause", method="POST")
        daemon.drop("a.txt", b"the second")
        await daemon.until_state("a.txt", "queued")
        back = await daemon.ask(f"/v1/files/{row['id']}/retry", method="POST")
        assert back["path"] == str(daemon.spool / "a~2.txt")
        await daemon.ask("/v1/resume", method="POST")
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"the second", "a~2.txt": b"the first"})


async def test_a_cancelled_file_is_taken_again_when_it_is_retried(tmp_path: Path) -> None:
    """Under its own id, and once."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        await daemon.ask("/v1/pause", method="POST")
        path = daemon.drop("a.txt", b"after all")
        row = await daemon.until_state("a.txt", "queued")
        assert (await command(daemon, tmp_path, "cancel", str(path)))[0] == 0
        await daemon.ask("/v1/resume", method="POST")
        assert (await command(daemon, tmp_path, "retry", str(path)))[0] == 0
        await daemon.until_drained()
        assert (await daemon.ask(f"/v1/files/{row['id']}"))["state"] == "done"
        assert_arrived(emulator, daemon, {"a.txt": b"after all"})


async def test_a_deferred_file_is_tried_at_once(tmp_path: Path) -> None:
    """Its wait, however long, is over when the operator says so."""
    async with (
        Emulator(
            store=tmp_path / "store", faults=["call=create,action=refuse,status=503,times=1"]
        ) as emulator,
        DaemonProcess(
            tmp_path,
            emulator.base_url,
            config={"retry": {"attempts": 1, "defer_max": "1h", "max_wait": "1s"}},
        ) as daemon,
    ):
        await daemon.start()
        path = daemon.drop("a.txt", b"again")
        await daemon.until_state("a.txt", "deferred")
        assert (await command(daemon, tmp_path, "retry", str(path)))[0] == 0
        await daemon.until_drained(timeout_s=10.0)
        assert_arrived(emulator, daemon, {"a.txt": b"again"})


async def test_a_verb_that_does_not_apply_says_why(tmp_path: Path) -> None:
    """With exit code 1 and 409; the file is left as it is."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.txt", b"done")
        row = await daemon.until_state("a.txt", "done")
        await daemon.until_drained()
        for verb in ("hold", "release", "retry", "cancel"):
            code, said = await command(daemon, tmp_path, verb, row["id"])
            assert code == 1, said
            assert str(daemon.spool / "a.txt") in said
            answer = await daemon.ask(f"/v1/files/{row['id']}/{verb}", method="POST")
            assert answer["error"]["code"] == "not_applicable"
            unknown = await daemon.ask(f"/v1/files/nobody/{verb}", method="POST")
            assert unknown["error"]["code"] == "not_found"
