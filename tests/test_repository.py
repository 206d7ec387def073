"""Documents and metadata are true: what they name is there."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from uploaderd import __version__
from uploaderd.cli.words import COMMANDS, cli

ROOT = Path(__file__).parent.parent


def text_of(name: str) -> str:
    """The text of a file at the top."""
    return (ROOT / name).read_text("utf-8")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example_and_a_row_in_the_readme(name: str) -> None:
    """A command that is not told of is not there for its user."""
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert "Example:" in result.output
    assert re.search(rf"^\| `uploaderd {name}\b", text_of("README.md"), re.MULTILINE)


def test_every_option_in_the_readmes_table_exists() -> None:
    """Nothing is promised that the command line does not take."""
    rows = re.findall(r"^\| `uploaderd (\w+)([^`]*)`", text_of("README.md"), re.MULTILINE)
    assert rows
    for name, words in rows:
        output = CliRunner().invoke(cli, [name, "--help"]).output
        for option in re.findall(r"--[\w-]+", words):
            assert option in output, f"{name} {option}"


def test_the_files_that_the_documents_name_exist() -> None:
    """In backquotes, with a folder before them."""
    for document in ("README.md", "ARCHITECTURE.md"):
        for name in re.findall(
            r"`((?:[\w.]+/)+[\w.]+\.(?:py|sql|service|toml))`", text_of(document)
        ):
            places = (ROOT / name, ROOT / "uploaderd" / name)
            assert any(place.exists() for place in places), f"{document}: {name}"


def test_the_constraints_pin_what_the_project_needs_and_name_no_host() -> None:
    """Names and exact versions only; every dependency is among them."""
    lines = [line for line in text_of("constraints.txt").splitlines() if line[:1] != "#"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", line) for line in lines)
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["dev"], *extras["bench"]]
    assert {re.split(r"[>=<]", one)[0].lower() for one in needed} <= pinned


def test_every_ignored_lint_rule_has_its_reason() -> None:
    """A comment on the same line."""
    block = (
        text_of("pyproject.toml").partition("[tool.ruff.lint]")[2].partition("[tool.ruff.lint.f")[0]
    )
    rules = [line for line in block.splitlines() if re.match(r'\s+"[A-Z]+\d*",', line)]
    assert rules
    assert all("#" in line for line in rules)


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    """Keep a Changelog: Unreleased on top."""
    headings = re.findall(r"^## \[(.+?)\]", text_of("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_no_tracked_file_speaks_of_a_machine_or_a_package_index() -> None:
    """Neither a home folder nor a registry's host."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout, so there is no list of tracked files")
    places = [str(ROOT), *(str(home) for home in [Path.home()] if len(home.parts) > 1)]
    hosts = ["python" + "hosted", "/simp" + "le/", "registry.npm" + "js"]
    forbidden = re.compile("|".join(map(re.escape, [*(f"{place}/" for place in places), *hosts])))
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if not name or not path.is_file() or name == ".gitignore":
            continue
        found = forbidden.search(path.read_text("utf-8", "replace"))
        assert found is None, f"{name}: {found}"
