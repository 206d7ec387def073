"""A command starts fast: `status` is asked in loops, and by people who wait for it."""

from __future__ import annotations

import asyncio
import resource
import sys
from typing import TYPE_CHECKING

import click
import pytest

from tests.cli.cli_helpers import FakeView, daemon, ended, environment, row, write_config
from tests.support.daemon import DaemonProcess
from tests.support.waiting import wait_for
from uploaderd.cli.words import COMMANDS, cli

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.cli_helpers import Said

# What costs much, and is of no use for a short question.
HEAVY = {"rich", "asyncio", "aiohttp", "sqlite3", "http", "ssl", "email", "tenacity", "aiofiles"}
HEAVY |= {"prometheus_client", "uploaderd.app", "uploaderd.engine", "uploaderd.emulator"}
# What costs less, and is of no use before it is known what is asked.
ASKING = {"msgspec", "tomllib", "platformdirs", "socket", "json", "dataclasses", "tempfile"}
ASKING |= {"uploaderd.config", "uploaderd.control", "uploaderd.core", "uploaderd.clock"}
# What a daemon has no use for while nothing is shown to a person.
SHOWN = {"rich", "uploaderd.emulator", "uploaderd.demo", "uploaderd.put"}
SHOWN |= {f"uploaderd.cli.{name}" for name in ("status", "live", "files", "verbs", "put")}
SHOWN |= {"uploaderd.control.client", "uploaderd.cli.service"}
ROWS = [
    row("f1", "/spool/a.bin", "uploading"),
    row("f2", "/spool/b", "held"),
    row("f3", state="queued"),
]


async def loaded_by(home: Path, *words: str | Path) -> tuple[Said, set[str]]:
    """Run a command to its end; say what it said, and which modules it loaded."""
    modules = home / "loaded"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.loaded", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(home, UPLOADERD_LOADED=str(modules)),
    )
    return await ended(process), set(modules.read_text().split())


@pytest.mark.parametrize(
    "words", [("status",), ("list",), ("show", "f1"), ("hold", "f3"), ("put", "dropped")]
)
async def test_a_short_question_loads_nothing_heavy(tmp_path: Path, words: tuple[str, ...]) -> None:
    """No event loop, no HTTP library, no terminal library, no database."""
    config = write_config(tmp_path)
    (tmp_path / "dropped").write_text("something")
    if words[0] == "put":
        words = ("put", str(tmp_path / "dropped"))
    async with daemon(FakeView(rows=list(ROWS)), tmp_path / "s.sock"):
        said, loaded = await loaded_by(tmp_path, *words, "--config", config)
    assert said.code == 0, said.err
    assert "uploaderd.errors" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("nonsense",), ("pause", "--help")])
async def test_help_loads_click_and_little_more(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Neither the configuration, nor what asks a daemon, nor any command that was not named."""
    _, loaded = await loaded_by(tmp_path, *words)
    commands = {f"uploaderd.cli.{place.partition(':')[0]}" for place, _ in COMMANDS.values()}
    if words[0] in COMMANDS:
        assert f"uploaderd.cli.{COMMANDS[words[0]][0].partition(':')[0]}" in loaded
    else:
        assert not loaded & (commands | ASKING)
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    """What stands in the table, so that no command must be loaded, is its help's first sentence."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert COMMANDS[name][1] == command.get_short_help_str(limit=200)


async def test_the_daemon_loads_nothing_that_only_a_person_sees(tmp_path: Path) -> None:
    """No terminal library, no emulator, no other command: memory that nobody would use."""
    modules = tmp_path / "loaded"
    async with DaemonProcess(
        tmp_path, "http://127.0.0.1:9/v1", env={"UPLOADERD_LOADED": str(modules)}
    ) as started:
        await started.launch("tests.support.loaded")

        async def answer() -> object:
            try:
                return await started.status()
            except OSError:
                return None

        await wait_for(answer, what="the daemon's first answer")
        assert await started.stop() == 0
    loaded = set(modules.read_text().split())
    assert "uploaderd.engine.engine" in loaded
    assert not loaded & SHOWN


async def test_status_takes_a_few_times_what_click_alone_takes(tmp_path: Path) -> None:
    """All the work of a processor from the interpreter's start to its end, configuration read."""
    config = write_config(tmp_path)
    commands: dict[str, tuple[str, ...]] = {
        "status": ("-m", "uploaderd", "status", "--config", str(config)),
        "--help": ("-m", "uploaderd", "--help"),
        "click": ("-c", "import click"),
    }
    least = dict.fromkeys(commands, 60.0)
    async with daemon(FakeView(rows=list(ROWS)), tmp_path / "s.sock"):
        for _ in range(6):  # in turns, so that what else goes on slows all of them down
            for name, words in commands.items():
                before_s = children_s()
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, *words),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=environment(tmp_path),
                )
                assert (await ended(process)).code == 0
                least[name] = min(least[name], children_s() - before_s)
    assert least["status"] < 6 * least["click"], least
    assert least["--help"] < 2.5 * least["click"], least


def children_s() -> float:
    """What those who ended have used of a processor, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
