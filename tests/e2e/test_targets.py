"""Targets and purposes that a changed configuration moves under files at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
