"""The command line's face: help, voice, exit codes."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.cli.cli_helpers import (
    FakeView,
    call,
    daemon,
    ended,
    environment,
    row,
    start,
    write_config,
)
from uploaderd.cli.words import COMMANDS, cli
from uploaderd.errors import Exit

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_helps_with_an_example(command: str) -> None:
    """Every command's help shows how it is called, in words that the command takes."""
    said = CliRunner().invoke(cli, [command, "--help"])
    assert said.exit_code == 0
    assert f"Example:\n    uploaderd {command}" in said.output
    line = said.output.split("Example:")[1].replace("\\\n", " ").strip().splitlines()[0]
    for option in re.findall(r" (--[a-z-]+)", line):
        assert f"{option} " in said.output.split("Example:")[0], option


async def test_the_emulators_help_is_enough_to_write_a_fault(tmp_path: Path) -> None:
    """Faults, profiles and rules are explained where a person looks for them."""
    said = await call("emulator", "--help", home=tmp_path)
    for words in ("action=lose", "probability=", "strict", "life_s"):
        assert words in said.out


async def test_a_signal_while_modules_load_is_no_traceback(tmp_path: Path) -> None:
    """Ctrl-C right after the start ends in peace, too."""
    async with asyncio.timeout(30):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _BEGIN),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(tmp_path),
        )
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = await ended(process)
    assert said.err == "uploaderd: error: stopped before it began\n"
    assert said.code == 75


_BEGIN = """
import sys
sys.argv = ["uploaderd", "wait", "x", "--socket", "s"]
from uploaderd.cli import main
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            import time
            print("loading", flush=True)
            time.sleep(5)
sys.meta_path.insert(0, Slow())
main()
"""


async def test_help_names_every_command_and_version_is_short(tmp_path: Path) -> None:
    """The first words that a person tries work."""
    said = await call("--help", home=tmp_path)
    assert said.code == 0
    listed = said.out.split("Commands:")[1].split("\n\n")[0].splitlines()[1:]
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert "..." not in said.out.split("Commands:")[1]
    for code in Exit:
        assert f" {code.value} " in said.out.replace("\n", " ").split("Exit codes:")[1]
    assert (await call("--version", home=tmp_path)).out == "uploaderd 0.1.0\n"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("fly",),
        ("put",),
        ("status", "--colour"),
        ("list", "--state", "lost"),
        ("status", "--watch", "--json"),
        ("list", "--code", "held.nonsense"),
        ("list", "--since", "yesterday"),
        ("retry",),
        ("hold", "x", "--state", "queued"),
        ("completion", "tcsh"),
        ("put", "--purpose", "world-peace", "x"),
        ("emulator", "--listen", "nonsense", "--store", "store"),
    ],
)
async def test_wrong_usage_is_2_in_one_voice(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Wrong words end with 2, nothing on standard output, and a way on."""
    said = await call(*words, home=tmp_path)
    assert said.code == 2
    assert said.out == ""
    if words:
        first, second = said.err.splitlines()[:2]
        assert first.startswith("uploaderd: error: ")
        assert second.startswith("uploaderd: hint: ")


@pytest.mark.parametrize(
    "words",
    [
        *[("status",), ("list",), ("show", "x"), ("wait", "x"), ("status", "--watch")],
        *[("retry", "x"), ("hold", "--state", "queued"), ("release", "x"), ("cancel", "x")],
        *[("pause",), ("resume",), ("reload",)],
    ],
)
async def test_no_daemon_is_69(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Where nobody answers the commands say so, with the socket's path."""
    said = await call(*words, "--socket", tmp_path / "s.sock", home=tmp_path)
    assert said.code == 69
    assert f"uploaderd: error: no daemon answers on {tmp_path}/s.sock" in said.err
    assert "uploaderd run" in said.err


async def test_a_socket_path_beyond_the_kernels_limit_is_69(tmp_path: Path) -> None:
    """No traceback where the path cannot even be a socket's."""
    said = await call("status", "--socket", "/" + "x" * 200, home=tmp_path)
    assert said.code == 69
    assert "Traceback" not in said.err


@pytest.mark.parametrize("command", ["run", "check", "status"])
async def test_no_configuration_is_78(tmp_path: Path, command: str) -> None:
    """A configuration that is missing is a sentence and a hint."""
    said = await call(command, "--config", tmp_path / "none.toml", home=tmp_path)
    assert said.code == 78
    assert "uploaderd: error:" in said.err
    assert "uploaderd: hint:" in said.err


async def test_without_a_configuration_the_usual_socket_is_tried(tmp_path: Path) -> None:
    """A daemon in the usual place is found by itself; a configuration is not needed for that."""
    runtime = tmp_path / "run"
    async with daemon(FakeView(), runtime / "status.sock"):
        said = await call("status", home=tmp_path, RUNTIME_DIRECTORY=str(runtime))
    assert said.code == 0
    assert "pid 4711" in said.out


async def test_the_configured_socket_is_used(tmp_path: Path) -> None:
    """The configuration names the socket."""
    config = write_config(tmp_path)
    async with daemon(FakeView(), tmp_path / "s.sock"):
        said = await call("status", "--config", config, home=tmp_path)
        assert said.code == 0
        config.write_text("[daemon]\nsoccet = 1\n")
        said = await call("status", home=tmp_path, UPLOADERD_CONFIG=str(config))
    assert said.code == 78


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_stopped_before_the_end_is_75(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end a waiting command with 75."""
    view = FakeView(rows=[row("f1")])
    async with daemon(view, tmp_path / "s"):
        process = await start("wait", "f1", "--socket", tmp_path / "s", home=tmp_path)
        async with asyncio.timeout(20):
            while view.asked < 3:
                await asyncio.sleep(0.02)
        process.send_signal(number)
        said = await ended(process)
    assert said.code == 75
    assert "uploaderd: error: stopped before the end" in said.err
    assert "Traceback" not in said.err


async def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    """`uploaderd list | head -1` ends in peace."""
    view = FakeView(rows=[row(f"f{n}", f"/spool/{n}" * 50) for n in range(3000)])
    async with daemon(view, tmp_path / "s"):
        process = await start("list", "--socket", tmp_path / "s", home=tmp_path)
        assert process.stdout is not None
        assert process.stderr is not None
        await process.stdout.readline()
        process.stdout._transport.close()  # type: ignore[attr-defined]
        async with asyncio.timeout(30):
            err = await process.stderr.read()
            await process.wait()
    assert err == b""
