"""``python -m bench --quick``: every scenario works, and the page explains all that it shows."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench import scenarios
from bench.figures import Bound

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(scenarios.__file__).parents[2]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
FIELDS = {
    "name", "at", "value", "unit", "bound", "met", "peer", "peer_value", "peer_unit", "spread",
    "how", "note",
}  # fmt: skip
Document = dict[str, Any]


def bench(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the benchmark."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (env or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def quick(file: Path, names: Sequence[str], **env: str) -> tuple[str, Document]:
    """Measure these scenarios quickly; return the table and the document."""
    made = bench(*names, "--quick", "--json", str(file), "--folder", str(file.parent), env=env)
    assert made.returncode == 0, made.stderr
    document: Document = json.loads(file.read_text("utf-8"))
    return made.stdout, document


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Document]:
    """All scenarios, in three processes: some of the time they only wait."""
    folder = tmp_path_factory.mktemp("quick")
    thirds = [scenarios.names()[start::3] for start in range(3)]
    files = [folder / f"{start}.json" for start in range(3)]
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(quick, files, thirds))
    assert set(folder.iterdir()) == set(files), "something was left behind"
    figures = [figure for _, document in made for figure in document["figures"]]
    return "".join(table for table, _ in made), made[0][1] | {"figures": figures}


def test_every_scenario_gives_figures_as_a_table_and_as_json(
    measured: tuple[str, Document],
) -> None:
    """None is left out, each value is a number, and quick ones are not judged."""
    table, document = measured
    assert document["quick"] is True
    assert document["runs"] == 1
    figures = document["figures"]
    assert {figure["name"].partition(".")[0] for figure in figures} == set(scenarios.names())
    for figure in figures:
        assert figure.keys() == FIELDS
        assert re.fullmatch(r"[a-z]+\.[a-z0-9_]+", figure["name"])
        assert figure["how"].endswith(".")
        assert figure["met"] is None
        at = f" ({figure['at']})" if figure["at"] else ""
        assert re.search(rf"^{re.escape(figure['name'] + at)}  ", table, re.MULTILINE)
        if figure["value"] is None:
            assert "is not installed" in figure["note"], figure
        if figure["bound"] is not None:
            assert str(Bound(**figure["bound"])) in table
    shown = [(figure["name"], figure["at"]) for figure in figures]
    assert len(shown) == len(set(shown)), "each figure has a name and a condition of its own"


def test_the_page_explains_each_scenario_and_each_figure(measured: tuple[str, Document]) -> None:
    """A section for each scenario, and within it each figure's name."""
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    for figure in measured[1]["figures"]:
        scenario = figure["name"].partition(".")[0]
        assert f"`{figure['name']}`" in sections.get(scenario, ""), figure["name"]


def test_the_page_names_no_figure_that_is_not_measured(measured: tuple[str, Document]) -> None:
    """What it promises is there; a quick run may leave one out that its module names."""
    there = {figure["name"] for figure in measured[1]["figures"]}
    for scenario in scenarios.names():
        source = (ROOT / "bench" / "scenarios" / f"{scenario}.py").read_text("utf-8")
        promised = set(re.findall(rf"`({scenario}\.[a-z0-9_]+)`", PAGE))
        assert all(f'"{name}"' in source for name in promised - there)


def test_a_peer_that_is_not_installed_is_named_and_its_figures_stay(tmp_path: Path) -> None:
    """Without md5sum, curl and openssl the daemon's own figures are measured all the same."""
    table, document = quick(tmp_path / "figures.json", ["large"], PATH=str(tmp_path))
    figures = {(figure["name"], figure["at"]): figure for figure in document["figures"]}
    for name, program in (
        ("large.cpu", "md5sum"),
        ("large.wall", "md5sum"),
        ("large.cpu_tls", "openssl"),
        ("large.memory_tls", "openssl"),
    ):
        figure = figures[name, ""]
        assert figure["value"] is None
        assert f"{program} is not installed" in figure["note"]
    assert f"{figures['large.cpu', '']['note']}\n" in table
    assert figures["large.memory", ""]["value"] > 0


def test_an_unknown_scenario_is_refused_and_the_list_names_all() -> None:
    """A slip of the hand is not half an hour of measuring something else."""
    refused = bench("larg")
    assert refused.returncode == 2
    assert "no such scenario: larg" in refused.stderr
    listed = bench("--list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == scenarios.names()
    assert all(line.endswith(".") for line in listed)


def test_a_scenario_that_fails_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    """It says that it could not be measured, the next is tried, and the exit code tells."""
    words = ["large", "small", "--quick", "--folder", str(tmp_path / "gone")]
    made = bench(*words, "--json", str(tmp_path / "figures.json"))
    assert made.returncode == 1
    assert "FileNotFoundError" in made.stderr
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))["figures"]
    assert [figure["name"] for figure in figures] == ["large", "small"]
    for figure in figures:
        assert figure["note"].startswith("could not be measured: FileNotFoundError")
        assert figure["note"] in made.stdout


def test_ended_half_way_it_leaves_neither_processes_nor_files(tmp_path: Path) -> None:
    """SIGTERM while a daemon is being measured ends daemon and server and removes their folder."""
    words = [sys.executable, "-m", "bench", "large", "--quick", "--folder", str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, cwd=ROOT, env=env, stderr=subprocess.DEVNULL) as process:
        deadline_s = time.monotonic() + 60
        while not (started := children_in(tmp_path)) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert started
    assert children_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def children_in(folder: Path) -> list[int]:
    """The processes that were started on something below that folder, the benchmark excepted."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if os.fsencode(folder) + b"/" in line:
                found.append(int(entry.name))
    return found
