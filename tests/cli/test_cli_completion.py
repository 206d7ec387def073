"""Shell completion, in the shells themselves where they are installed."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import shutil
import sys
import termios
from contextlib import asynccontextmanager
from fcntl import ioctl
from typing import TYPE_CHECKING

import pytest

from tests.cli.cli_helpers import STARTED, FakeView, call, daemon, environment, row
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

SHELLS = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "-i"),
}
BEGIN = {
    "bash": "PS1='READY> '; bind 'set enable-bracketed-paste off'; source ./script",
    "zsh": "PS1='READY> '; autoload -U compinit; compinit -D; source ./script",
    "fish": "function fish_prompt; echo 'READY> '; end; source ./script",
}
CASES = [
    ("uploaderd stat", "uploaderd status "),
    ("uploaderd list --st", "uploaderd list --state "),
    ("uploaderd list --state fai", "uploaderd list --state failed "),
    ("uploaderd list --state held,fai", "uploaderd list --state held,failed "),
    ("uploaderd retry --code held.au", "uploaderd retry --code held.auth "),
    ("uploaderd show --socket ./s abc1", "uploaderd show --socket ./s abc123 "),
    ("uploaderd put wor", "uploaderd put work.jsonl "),
    ("uploaderd show ./wor", "uploaderd show ./work.jsonl "),
]


def installed(home: Path) -> dict[str, str]:
    """An environment whose PATH has an `uploaderd`."""
    (home / "bin").mkdir()
    command = home / "bin" / "uploaderd"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m uploaderd "$@"\n')
    command.chmod(0o755)
    env = environment(home, TERM="dumb", SHELL="/bin/sh", HISTFILE="/dev/null")
    return env | {"PATH": f"{home / 'bin'}:{env['PATH']}"}


def _take_the_terminal() -> None:
    """Let standard input be what /dev/tty is; a shell that has none does not edit lines."""
    ioctl(0, termios.TIOCSCTTY, 0)


@asynccontextmanager
async def typing(
    shell: str, home: Path, env: dict[str, str]
) -> AsyncIterator[Callable[[str, str], Awaitable[None]]]:
    """Sit at the shell: type a line, press Tab, and wait for what is on the line then."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *SHELLS[shell],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
        cwd=home,
        start_new_session=True,
        preexec_fn=_take_the_terminal,
    )
    STARTED.append(process)
    os.close(theirs)
    seen = bytearray()
    loop = asyncio.get_running_loop()

    def heard() -> None:
        try:
            seen.extend(os.read(ours, 65536))
        except OSError:  # nobody has the terminal open any more
            loop.remove_reader(ours)

    loop.add_reader(ours, heard)

    def text() -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode("utf-8", "replace"))

    async def tab(line: str, whole: str) -> None:
        seen.clear()
        os.write(ours, line.encode())
        await wait_until(lambda: line in text(), timeout_s=30, what=f"the echo of {line!r}")
        os.write(ours, b"\t")
        await wait_until(lambda: whole in text(), timeout_s=30, what=f"{whole!r}; {text()!r}")
        os.write(ours, b"\x15")  # Ctrl-U empties the line

    try:
        os.write(ours, f"{BEGIN[shell]}; echo source''d\n".encode())
        await wait_until(lambda: "sourced" in text(), timeout_s=30, what=f"{shell} to be ready")
        yield tab
    finally:
        loop.remove_reader(ours)
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(ours)


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_real_shell_completes(tmp_path: Path, shell: str) -> None:
    """Commands, options, states, codes, paths, and ids that the daemon knows."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    env = installed(tmp_path)
    (tmp_path / "work.jsonl").write_text("{}")
    script = await call("completion", shell, home=tmp_path)
    assert (script.code, script.err) == (0, "")
    (tmp_path / "script").write_text(script.out)
    async with (
        daemon(FakeView(rows=[row("abc123"), row("xyz")]), tmp_path / "s"),
        typing(shell, tmp_path, env) as tab,
    ):
        for line, whole in CASES:
            # Commas part the fields of click's answers to fish, so they cannot be in a value.
            if shell != "fish" or "," not in line:
                await tab(line, whole)


@pytest.mark.parametrize("shell", SHELLS)
async def test_each_shell_has_a_script(tmp_path: Path, shell: str) -> None:
    """It calls back the command that printed it."""
    said = await call("completion", shell, home=tmp_path)
    assert said.code == 0
    assert f"_UPLOADERD_COMPLETE={shell}_complete" in said.out


async def test_without_a_daemon_only_paths_are_completed(tmp_path: Path) -> None:
    """In silence, and at once."""
    words = {"COMP_WORDS": "uploaderd show --socket ./s abc", "COMP_CWORD": "4"}
    said = await call(home=tmp_path, _UPLOADERD_COMPLETE="bash_complete", **words)
    assert (said.out, said.err) == ("file,abc\n", "")
    async with daemon(FakeView(rows=[row("abc123"), row("xyz")]), tmp_path / "s"):
        said = await call(home=tmp_path, _UPLOADERD_COMPLETE="bash_complete", **words)
    assert said.out == "file,abc\nplain,abc123\n"
