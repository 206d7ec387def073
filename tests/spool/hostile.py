"""What a hostile producer is made of: endless writers, deep folders, names of every byte."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REOPENING = """
import sys, time
open(sys.argv[1], "ab").close()
print("ready", flush=True)
while True:
    with open(sys.argv[1], "ab") as file:
        file.write(b"more")
    time.sleep(0.001)
"""
HOLDING = """
import sys, time
with open(sys.argv[1], "ab", buffering=0) as file:
    print("ready", flush=True)
    while True:
        file.write(b"more")
        time.sleep(0.001)
"""


@contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A hostile process that has said "ready"; it ends with the block."""
    running = subprocess.Popen(
        [sys.executable, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running
    finally:
        running.kill()
        running.communicate()


def nested(folder: Path, depth: int) -> int:
    """Make folders in folders; return the deepest one, open."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(b"d", dir_fd=fd)
        below = os.open(b"d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    return fd


def descended(folder: Path, depth: int) -> int:
    """Open the folder that ``nested`` made, or its like."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        below = os.open(b"d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    return fd


def every_name() -> list[bytes]:
    """Names with every byte there is, alone and together, and of the greatest length."""
    single = [bytes([byte]) for byte in range(1, 256) if byte not in b"/."]
    mixed = [b"\xff\xfe.txt", b"a\nb\tc", b"\xe9t\xe9.md", "e\u0301.md".encode(), "é.md".encode()]
    mixed += [b"'\"$(id)`;|&", b"\x1b[31mred", b"-rf", b"...", b"{}[]\\u0041", b" ", b"  "]
    mixed += [bytes(byte for byte in range(1, 256) if byte not in b"/")]
    long = [b"n" * 255, b"n" * 251 + b".txt", b"\xff" * 255, "ü".encode() * 127]
    return [*dict.fromkeys([*single, *mixed, *long])]


def resident(pid: int) -> int:
    """The greatest resident memory of a process so far, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def processor_s(pid: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
