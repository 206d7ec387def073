"""Targets and purposes that a changed configuration moves under files at work."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support import outcome
from tests.support.daemon import DaemonProcess
from uploaderd.emulator import Emulator

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_file_whose_target_was_taken_away_goes_to_the_watchs_new_one(
    tmp_path: Path,
) -> None:
    """It was held by the old one's trouble; after the restart it settles and is uploaded."""
    async with (
        Emulator(store=tmp_path / "store", api_key="sk-right") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, env={"OPENAI_API_KEY": "sk-wrong"}) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.txt", b"held at first")
        await daemon.until_state("a.txt", "held")
        assert await daemon.stop() == 0
        text = daemon.config_file.read_text()
        (tmp_path / "key").write_text("sk-right\n")
        renamed = f'[targets.other]\napi_key_file = "{tmp_path / "key"}"'
        daemon.config_file.write_text(text.replace("[targets.openai]", renamed))
        await daemon.start()
        await daemon.until_drained()
        assert len(emulator.store.files) == 1
        assert outcome.read_receipt(daemon.spool / "done" / "a.txt")["target"] == "other"


@pytest.mark.parametrize("hours", [0, 2])
async def test_a_file_that_may_have_arrived_at_a_target_that_is_gone_says_so(
    tmp_path: Path, hours: int
) -> None:
    """It is not sent to another one; when its target is back, what became of it is found out.

    Also when its session's hour has passed meanwhile: that alone does not mean that it failed.
    """
    faults = ["call=complete,action=lose", "call=list,action=refuse,status=503"]
    async with (
        Emulator(store=tmp_path / "store", faults=faults) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.txt", b"there already")
        await daemon.until_state("a.txt", "uncertain")
        assert await daemon.stop() == 0
        text = daemon.config_file.read_text()
        daemon.config_file.write_text(text.replace("[targets.openai]", "[targets.other]"))
        await daemon.start()
        row = await daemon.until_state("a.txt", "held")
        assert row["reason"]["code"] == "held.target"
        assert await daemon.stop() == 0
        emulator.faults.clear()
        with closing(sqlite3.connect(daemon.state_dir / "journal.sqlite3")) as db, db:
            past_s = hours * 3_600
            db.execute(
                "UPDATE uploads SET created = created - ?, created_boot = created_boot - ?,"
                " server_created = server_created - ?",
                (past_s, past_s, past_s),
            )
        daemon.config_file.write_text(text)
        await daemon.start()
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, {"a.txt": b"there already"})


async def test_a_ca_file_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path) -> None:
    """With the file's name and exit code 78, before anything is taken."""
    async with DaemonProcess(
        tmp_path, "https://127.0.0.1:1/v1", config={"target": {"ca_file": "/nowhere/ca.pem"}}
    ) as daemon:
        await daemon.launch()
        assert await daemon.process.ended(20) == 78
        assert "/nowhere/ca.pem" in daemon.log_text()
