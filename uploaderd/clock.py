"""The one place that asks what time it is; everything else takes ``now`` as an argument."""

from __future__ import annotations

import time
from pathlib import Path

from uploaderd.core.model import Now

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SystemClock:
    """The machine's own clocks; the boot's id is read once, since it cannot change."""

    def __init__(self, boot_id_file: Path = BOOT_ID) -> None:
        try:
            self._boot_id = boot_id_file.read_text("ascii").strip() or "unknown"
        except (OSError, UnicodeDecodeError):
            self._boot_id = "unknown"

    def now(self) -> Now:
        """Both clocks, read one right after the other."""
        return Now(
            wall_s=time.time(),  # noqa: TID251 - the one place that asks
            boot_s=time.clock_gettime(time.CLOCK_BOOTTIME),
            boot_id=self._boot_id,
        )
