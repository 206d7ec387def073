"""What a process costs: time on the clock, time on a processor, memory (proc(5), wait4(2))."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.processes import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What some work cost.

    Attributes:
        wall_s: from its beginning to its end.
        cpu_s: utime + stime of all its threads.
        peak_bytes: resident memory at its highest.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int


class MissingError(Exception):
    """A peer is not installed here; the message says which and what would bring it."""


def cpu_s(pid: int) -> float:
    """CPU time of a running process so far, its ended children not counted, to 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_bytes(pid: int | str = "self") -> int:
    """Resident memory of a running process at its highest since ``forget_peak`` or its start."""
    return _memory(pid, "VmHWM")


def resident_bytes(pid: int | str = "self") -> int:
    """Resident memory of a running process now."""
    return _memory(pid, "VmRSS")


def forget_peak(pid: int) -> None:
    """Let the highest memory of a running process count from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")


def _memory(pid: int | str, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise LookupError(f"/proc/{pid}/status has no {field}")


class Meter:
    """What a running process costs from now on: ``meter = Meter(pid)``, work, ``meter.read()``."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        forget_peak(pid)
        self._cpu_s = cpu_s(pid)
        self._began_s = time.monotonic()

    def read(self) -> Usage:
        """All that it cost until now."""
        wall_s = time.monotonic() - self._began_s
        return Usage(
            wall_s=wall_s,
            cpu_s=cpu_s(self._pid) - self._cpu_s,
            peak_bytes=peak_bytes(self._pid),
        )


def run(
    words: Sequence[str], *, env: Mapping[str, str] | None = None, timeout_s: float = 600.0
) -> Usage:
    """Run a program to its end and return what it cost from its start on, its children included.

    Its ``peak_bytes`` is never less than this process's own, which it was forked from (wait4(2)
    counts that too); a Python peer tells of itself instead, see ``run_peer``.

    Raises:
        MissingError: there is no such program.
        AssertionError: it failed.
    """
    began_s = time.monotonic()
    try:
        process = subprocess.Popen(
            list(words),
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError:
        raise MissingError(f"{words[0]} is not installed") from None
    assert process.stderr is not None
    with process.stderr as stderr:
        said = stderr.read()  # until its end
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.monotonic() - began_s
    if process.returncode != 0 or wall_s > timeout_s:
        raise AssertionError(f"{words[0]} failed: {said.decode(errors='replace')[-800:]}")
    return Usage(
        wall_s=wall_s, cpu_s=used.ru_utime + used.ru_stime, peak_bytes=used.ru_maxrss * 1024
    )


def run_peer(module: str, *words: str, home: Path, env: Mapping[str, str] | None = None) -> Usage:
    """Run ``python -m bench.peers.MODULE`` and return what it says that its work alone cost.

    Starting the interpreter and importing the library are not counted.

    Raises:
        MissingError: the library is not installed.
        AssertionError: it failed.
    """
    ended = subprocess.run(
        [sys.executable, "-m", f"bench.peers.{module}", *words],
        env=environment(home, env),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode == os.EX_UNAVAILABLE:
        raise MissingError(ended.stderr.strip())
    if ended.returncode != 0:
        raise AssertionError(f"{module} failed: {ended.stderr[-800:]}")
    return Usage(**json.loads(ended.stdout.splitlines()[-1]))
