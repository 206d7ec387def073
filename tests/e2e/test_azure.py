"""The same daemon against the other dialect, in both forms of its paths."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import DaemonProcess, Table
from tests.support.outcome import assert_arrived
from tests.support.waiting import wait_until
from uploaderd.emulator import Call, Emulator, rules_for
from uploaderd.emulator.objects import UploadStatus

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
VERSION = "2025-04-01-preview"


@pytest.mark.parametrize("fault", [None, "call=complete,action=lose,times=1"])
@pytest.mark.parametrize(
    ("base", "version"),
    [("", ""), ("/openai/v1", ""), ("", VERSION), ("/openai", VERSION)],
    ids=["endpoint", "v1 base", "endpoint with version", "base with version"],
)
async def test_azure_in_both_forms_of_its_paths(
    tmp_path: Path, base: str, version: str, fault: str | None
) -> None:
    """A file arrives whole and once, with its receipt, under either form of the paths."""
    async with Emulator(
        store=tmp_path / "store",
        api_key="azure-key",
        rules=rules_for("azure"),
        faults=[] if fault is None else [fault],
    ) as emulator:
        target: Table = {
            "flavour": "azure",
            "base_url": emulator.endpoint + base,
            "api_version": version,
        }
        async with DaemonProcess(
            tmp_path,
            emulator.endpoint,
            config={"target": target},
            env={"OPENAI_API_KEY": "azure-key"},
        ) as daemon:
            content = random.Random(1).randbytes(2 * MIB + 1)
            await daemon.start()
            daemon.drop("batch/a.jsonl", content)
            await daemon.until_drained()
            assert_arrived(emulator, daemon, {"batch/a.jsonl": content})
            assert emulator.stats.count(Call.LIST) == (0 if fault is None else 1)


async def test_an_abandoned_upload_is_cancelled_at_azure_too(tmp_path: Path) -> None:
    """A file that vanishes under way leaves no pending upload behind."""
    async with Emulator(
        store=tmp_path / "store",
        rules=rules_for("azure"),
        faults=["call=part,action=slow,rate=128KiB"],
    ) as emulator:
        target: Table = {
            "flavour": "azure",
            "base_url": emulator.endpoint,
            "api_version": VERSION,
        }
        async with DaemonProcess(tmp_path, emulator.endpoint, config={"target": target}) as daemon:
            await daemon.start()
            path = daemon.drop("a.bin", bytes(2 * MIB))
            await emulator.stats.until(lambda stats: stats.bytes_received > MIB / 8)
            path.unlink()
            await daemon.until_state("a.bin", "cancelled")
            await wait_until(
                lambda: (
                    [upload.status for upload in emulator.store.uploads.values()]
                    == [UploadStatus.CANCELLED]
                ),
                what="the upload to be cancelled",
            )
