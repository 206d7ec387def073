"""A command starts fast: `status` is asked in loops, and by people who wait for it."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.cli_helpers import FakeView, daemon, ended, environment, row, write_config

if TYPE_CHECKING:
    from pathlib import Path

# What costs much, and is of no use for a short question.
HEAVY = {"rich", "asyncio", "aiohttp", "sqlite3", "http", "ssl", "email", "tenacity", "aiofiles"}
HEAVY |= {"prometheus_client", "uploaderd.app", "uploaderd.engine", "uploaderd.emulator"}
LOADED = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from uploaderd.cli import main
main()
"""
ROWS = [
    row("f1", "/spool/a.bin", "uploading"),
    row("f2", "/spool/b", "held"),
    row("f3", state="queued"),
]


@pytest.mark.parametrize("words", [("status",), ("list",), ("show", "f1"), ("hold", "f3")])
async def test_a_short_question_loads_nothing_heavy(tmp_path: Path, words: tuple[str, ...]) -> None:
    """No event loop, no HTTP library, no terminal library, no database."""
    config = write_config(tmp_path)
    async with daemon(FakeView(rows=list(ROWS)), tmp_path / "s.sock"):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", LOADED, *words, "--config", str(config)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(tmp_path),
        )
        said = await ended(process)
    assert said.code == 0
    loaded = set(said.err.split())
    assert "uploaderd.control.client" in loaded
    assert not loaded & HEAVY


async def test_status_takes_a_few_times_what_click_alone_takes(tmp_path: Path) -> None:
    """From the start of the interpreter to the last line, the configuration read on the way."""
    config = write_config(tmp_path)
    commands: dict[str, tuple[str, ...]] = {
        "status": ("-m", "uploaderd", "status", "--config", str(config)),
        "click": ("-c", "import click"),
    }
    best = dict.fromkeys(commands, 60.0)
    async with daemon(FakeView(rows=list(ROWS)), tmp_path / "s.sock"):
        for _ in range(8):  # in turns, so that what else goes on slows both down
            for name, words in commands.items():
                began_s = time.perf_counter()
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, *words),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=environment(tmp_path),
                )
                assert (await ended(process)).code == 0
                best[name] = min(best[name], time.perf_counter() - began_s)
    assert best["status"] < 6 * best["click"], best
