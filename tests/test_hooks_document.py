"""What docs/hooks.md shows is true: its configuration, its variables, its example."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from uploaderd import config, hooks
from uploaderd.core.errands import wait_s
from uploaderd.engine import errands

DOCUMENT = (Path(__file__).parents[1] / "docs" / "hooks.md").read_text("utf-8")
ENV = {"STATE_DIRECTORY": "/s", "RUNTIME_DIRECTORY": "/r"}


def block(kind: str) -> str:
    """The one block of this kind."""
    (found,) = re.findall(rf"```{kind}\n(.*?)```", DOCUMENT, re.DOTALL)
    return str(found)


def test_its_configuration_is_read() -> None:
    """With the defaults that it shows."""
    text = "[[watch]]\npath = '/w'\n" + block("toml")
    first, second = config.parse(text, source="hooks.md", env=ENV).hooks
    assert (first.timeout_s, first.attempts) == (second.timeout_s, second.attempts)
    assert (first.on, second.on) == ("done", "failed")


def test_its_variables_are_those_that_a_hook_gets() -> None:
    """No other name is told, and none is left out."""
    told = set(re.findall(r"^\| `(UPLOADERD_\w+)`", DOCUMENT, re.MULTILINE))
    assert told == set(re.findall(r'"(UPLOADERD_\w+)"', Path(errands.__file__).read_text("utf-8")))
    passed = DOCUMENT.split("of the daemon's own ")[1].split(", nothing else")[0]
    assert re.findall(r"`(\w+)`", passed) == list(hooks.PASSED)


def test_its_figures_are_true() -> None:
    """Of waits, places and bytes."""
    assert [wait_s(n) for n in (1, 2, 3)] == [10.0, 30.0, 90.0]
    assert round(sum(wait_s(n) for n in range(1, 10)) / 3600) == 15
    assert errands.AT_ONCE == 4
    assert hooks.KEPT_BYTES == 2_000
    assert hooks.GRACE_S == 2.0


def test_its_example_works(tmp_path: Path) -> None:
    """Run twice for one file and once for another it makes two lines."""
    program, told = tmp_path / "example", tmp_path / "list"
    program.write_text(block("sh"))
    program.chmod(0o755)
    for name in ("a", "a", "b"):
        env = {"PATH": "/usr/bin:/bin", "UPLOADERD_ID": name, "UPLOADERD_FILE_ID": f"file-{name}"}
        subprocess.run([program, told], env=env, check=True, input=b"{}")
    assert told.read_text() == "a file-a\nb file-b\n"
