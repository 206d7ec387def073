"""A file that gets another path in its spool while it is worked on: one file, never two."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.support import outcome
from tests.support.daemon import DaemonProcess
from tests.support.waiting import wait_until
from uploaderd.emulator import Emulator

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


async def test_a_file_moved_to_another_folder_while_it_is_sent_goes_on(tmp_path: Path) -> None:
    """The same upload, with the parts that are stored; the receipt lies under the new path."""
    content = os.urandom(6 * MIB)
    config = {"transfer": {"bandwidth": "4MiB/s", "parts_in_flight": 2}}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        await daemon.start()
        path = daemon.drop("a.bin", content)
        await wait_until(lambda: emulator.stats.count("part", 200) >= 2, what="two stored parts")
        (daemon.spool / "deep").mkdir()
        path.rename(daemon.spool / "deep" / "a.bin")
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, {"deep/a.bin": content})
        assert len(outcome.uploads_with_parts(emulator)) == 1
        assert outcome.sent_twice(emulator, len(content)) <= 2 * MIB


async def test_a_file_renamed_while_it_is_sent_arrives_under_its_new_name(tmp_path: Path) -> None:
    """The name is declared when an upload begins, so it begins anew, and the first is cancelled."""
    content = os.urandom(4 * MIB)
    config = {"transfer": {"bandwidth": "4MiB/s", "parts_in_flight": 2}}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        await daemon.start()
        path = daemon.drop("a.filepart", content)
        await wait_until(lambda: emulator.stats.count("part", 200) >= 1, what="a stored part")
        path.rename(daemon.spool / "a.bin")
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, {"a.bin": content})
        await wait_until(lambda: emulator.stats.count("cancel", 200) == 1, what="the cancel")


async def test_a_file_renamed_while_its_completion_is_uncertain_arrives_once(
    tmp_path: Path,
) -> None:
    """It may be at the service already: it is followed, whatever its name is now."""
    content = os.urandom(MIB)
    faults = ["call=complete,action=lose", "call=list,action=refuse,status=503"]
    async with (
        Emulator(store=tmp_path / "store", faults=faults) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        path = daemon.drop("a.bin", content)
        await daemon.until_state("a.bin", "uncertain")
        path.rename(daemon.spool / "b.bin")
        await daemon.until_state("b.bin", "uncertain")
        emulator.faults.clear()
        await daemon.until_drained()
        assert len(emulator.store.files) == 1
        assert (daemon.spool / "done" / "b.bin").read_bytes() == content


async def test_a_second_link_to_a_file_at_work_is_a_file_of_its_own(tmp_path: Path) -> None:
    """Two names that are both there are two drops."""
    content = os.urandom(2 * MIB)
    config = {"transfer": {"bandwidth": "2MiB/s", "parts_in_flight": 1}}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        await daemon.start()
        (daemon.spool / "x").mkdir()
        path = daemon.drop("a.bin", content)
        await daemon.until_state("a.bin", "uploading")
        os.link(path, daemon.spool / "x" / "a.bin")
        await daemon.until_drained()
        assert len(emulator.store.files) == 2
