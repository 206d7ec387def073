"""The man page is whole, true and clean."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from docs import manual
from uploaderd.cli.words import cli
from uploaderd.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "uploaderd.1"


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command with the words that lead to it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if command.hidden:
            continue
        yield path + name, command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")


def rendered() -> str:
    """The page as a person reads it; skips where there is no man."""
    man = shutil.which("man")
    if man is None:
        pytest.skip("there is no man(1) here")
    env = os.environ | {"LC_ALL": "C.UTF-8", "MANWIDTH": "200", "MANPAGER": "cat", "TERM": "dumb"}
    told = subprocess.run(
        [man, "--warnings", "-l", str(PAGE)], capture_output=True, check=True, env=env
    )
    assert told.stderr == b""
    return re.sub(r".\x08", "", told.stdout.decode())


def test_it_is_what_the_commands_say_today() -> None:
    """Who changes the help of a command writes the page again: ``make manual``."""
    assert PAGE.read_text("utf-8") == manual.page()


def test_every_command_and_every_option_is_in_it() -> None:
    """Below the command's own heading, with its help."""
    sections = re.split(r"^   (?=uploaderd )", rendered(), flags=re.MULTILINE)
    by_heading = {one.partition("[")[0].strip(): " ".join(one.split()) for one in sections}
    seen = 0
    for path, command in commands(cli):
        section = by_heading[f"uploaderd {path}"]
        for parameter in command.params:
            if not isinstance(parameter, click.Option) or parameter.hidden:
                continue
            for name in parameter.opts:
                assert name in section, f"{path} {name}"
                seen += 1
            assert " ".join((parameter.help or "").split()) in section
    assert seen > 40


def test_every_exit_code_is_in_it() -> None:
    """With what it means."""
    text = rendered().partition("EXIT STATUS")[2].partition("ENVIRONMENT")[0]
    assert re.findall(r"^ {7}(\d+) ", text, re.MULTILINE) == [str(code.value) for code in Exit]


def test_nothing_but_ascii_is_in_its_source() -> None:
    """An old roff reads no more."""
    assert PAGE.read_bytes().isascii()


def test_it_comes_with_the_wheel() -> None:
    """Where man(1) looks for it."""
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    shared = built["targets"]["wheel"]["shared-data"]
    assert shared["docs/uploaderd.1"] == "share/man/man1/uploaderd.1"
    assert "docs" in built["targets"]["sdist"]["include"]
