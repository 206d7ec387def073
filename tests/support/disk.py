"""A small disk of its own for a test, that can be filled and emptied again."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STEP_BYTES = 4096  # a tmpfs gives out whole pages


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[Disk]:
    """Mount a tmpfs of ``size`` at a folder, or skip the test and say why that is not possible."""
    at.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(at)]
    try:
        mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a disk of its own cannot be mounted: there is no mount(8)")
    if mounted.returncode != 0:
        pytest.skip(f"a disk of its own cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield Disk(at)
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=False)


class Disk:
    """A mounted disk; its ballast is one hidden file."""

    def __init__(self, at: Path) -> None:
        self._at = at
        self._ballast = at / ".ballast"

    def fill(self) -> None:
        """Leave not one page of room."""
        fd = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while True:
                os.write(fd, bytes(STEP_BYTES))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(fd)

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink()

    def writable(self, yes: bool) -> None:
        """Mount it anew, read-only or not, under whoever uses it."""
        how = "rw" if yes else "ro"
        subprocess.run(["mount", "-o", f"remount,{how}", str(self._at)], check=True)
