"""The machine's clocks."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from uploaderd.clock import BOOT_ID, SystemClock

if TYPE_CHECKING:
    from pathlib import Path


def test_now_lies_between_two_readings() -> None:
    """Both clocks are the machine's own, CLOCK_BOOTTIME for the one that counts deadlines."""
    before = datetime.now(UTC).timestamp(), time.clock_gettime(time.CLOCK_BOOTTIME)
    now = SystemClock().now()
    after = datetime.now(UTC).timestamp(), time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before[0] - 1e-3 <= now.wall_s <= after[0] + 1e-3
    assert before[1] <= now.boot_s <= after[1]


@pytest.mark.skipif(not BOOT_ID.exists(), reason="no procfs here")
def test_boot_id_is_the_kernels() -> None:
    """The boot's id is the kernel's, the same for every clock of this boot."""
    assert SystemClock().now().boot_id == BOOT_ID.read_text().strip()
    assert SystemClock().now().boot_id == SystemClock().now().boot_id


def test_boot_id_is_read_once(tmp_path: Path) -> None:
    """The id is asked for when the clock is made, not with each reading."""
    file = tmp_path / "boot_id"
    file.write_text("one\n")
    clock = SystemClock(file)
    file.write_text("two\n")
    assert clock.now().boot_id == "one"


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_boot_id_unknown(tmp_path: Path, content: bytes | None) -> None:
    """Where the kernel does not say which boot this is, the clock says so and still runs."""
    file = tmp_path / "boot_id"
    if content is not None:
        file.write_bytes(content)
    assert SystemClock(file).now().boot_id == "unknown"
