"""Files that were kept, under a configuration that keeps no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import DaemonProcess, Table
from tests.support.outcome import files_below
from uploaderd.emulator import Call, Emulator

if TYPE_CHECKING:
    from pathlib import Path

KEEP: dict[str, Table] = {"watch": {"after_upload": "keep", "rescan": "1h"}}


@pytest.mark.parametrize(("by", "after"), [("reload", "move"), ("restart", "delete")])
async def test_what_was_kept_is_left_alone_by_another_configuration(
    tmp_path: Path, by: str, after: str
) -> None:
    """It is neither sent again nor moved nor removed; what comes later is."""
    kept = {"a.txt": b"a", "sub/b.txt": b"b"}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=KEEP) as daemon,
    ):
        await daemon.start()
        for name, content in kept.items():
            daemon.drop(name, content)
        await daemon.until_drained(files=2)
        other: Table = {"after_upload": after, "rescan": "30m"}  # which brings a full scan
        daemon.configure(watch=other)
        if by == "reload":
            assert (await daemon.ask("/v1/reload", method="POST"))["state"] == "running"
        else:
            await daemon.stop()
            await daemon.start()
        daemon.drop("later.txt", b"later")
        await daemon.until_drained(files=3)
        assert emulator.stats.count(Call.COMPLETE) == 3
        assert daemon.left() == sorted(kept)
        assert len(await daemon.files()) == 3
        filed = files_below(daemon.spool / "done")
        assert ("later.txt" in filed) is (after == "move")
        assert kept.keys().isdisjoint(filed)
