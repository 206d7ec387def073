"""A hostile producer: swaps two names without end, some thousand times a second.

    python -m tests.spool.flipping NAME OTHER TARGET KIND

``OTHER`` is a symlink to ``TARGET``, ``NAME`` a file or a folder with a file in it (``KIND``).
Whatever is taken away is made anew. It says "ready", ends when its standard input does, and says
how often it has swapped.
"""

from __future__ import annotations

import ctypes
import os
import select
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent

EXCHANGE = 2  # RENAME_EXCHANGE
HERE = -100  # AT_FDCWD
PAUSE_S = 0.0001  # or it would take the processor from the daemon
FILE, FOLDER = "file", "folder"
MINE = b"mine "


def main(name: Path, other: Path, target: str, kind: str) -> None:
    """Swap until told to stop; in the end the real one has its name."""
    libc = ctypes.CDLL(None, use_errno=True)
    made = swaps = 0
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], PAUSE_S)[0] or swaps % 2:
        if libc.renameat2(HERE, bytes(name), HERE, bytes(other), EXCHANGE) == 0:
            swaps += 1
            continue
        made += 1
        for path in (name, other):  # whichever is missing
            try:
                if path is (name if swaps % 2 == 0 else other):
                    _make(path, kind, made)
                else:
                    path.symlink_to(target)
            except OSError:
                continue
    sys.stdout.write(f"{swaps}\n")


@dataclass(slots=True)
class Flips:
    """How often the names were swapped; known at the end."""

    count: int = 0


@contextmanager
def flipper(name: Path, other: Path, target: Path | str, kind: str) -> Iterator[Flips]:
    """Swap in a process of its own for as long as the block lasts."""
    flips = Flips()
    words = [str(name), str(other), str(target), kind]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.spool.flipping", *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield flips
        flips.count = int(process.communicate("", timeout=20)[0])
    finally:
        process.kill()
        process.communicate()


def _make(path: Path, kind: str, number: int) -> None:
    if kind == FOLDER:
        path.mkdir()
        (path / "inner.txt").write_bytes(MINE + b"%d" % number)
        return
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, MINE + b"%d" % number)
    os.close(fd)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
