"""Dependencies point one way, and the core is pure; each ban with its reason."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import uploaderd

ROOT = Path(uploaderd.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

# What the core may not know, and why.
IMPURE = {
    "asyncio": "the core decides, it does not wait",
    "aiohttp": "the core does not speak to anybody",
    "aiofiles": "the core does not touch files",
    "sqlite3": "the journal alone knows SQLite",
    "os": "the core does not touch the machine",
    "io": "the core does not touch files",
    "pathlib": "paths in the core are bytes",
    "socket": "the core does not speak to anybody",
    "threading": "the core does not run beside itself",
    "time": "time is an argument",
    "logging": "the core returns what is to be said",
    "random": "chance is an argument",
    "secrets": "chance is an argument",
    "uuid": "ids are made by app and handed in",
    "subprocess": "the core does not touch the machine",
}

# Each part of the tree and the parts that it may import besides core, errors and itself.
SHARED = {"core", "errors", "seams", ""}
ALLOWED: dict[str, set[str]] = {
    "core": {"core"},
    "errors": set(),
    "seams": {"core"},
    "journal": SHARED,
    "spool": SHARED,
    "source": SHARED,
    "client": SHARED,
    "control": SHARED | {"logs"},
    "config": SHARED,
    "logs": SHARED | {"config", "repeats"},
    "repeats": set(),
    "aside": set(),
    "systemd": SHARED | {"logs"},
    "clock": SHARED,
    "offload": SHARED,
    "lock": SHARED,
    "put": SHARED,
    "hooks": SHARED,
    "metrics": SHARED,
    "emulator": {"errors", ""},
    "engine": SHARED | {"journal", "spool", "source", "client", "config", "logs", "hooks"},
}


def part_of(module: Path) -> str:
    """The part of the tree that a module belongs to."""
    first = module.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports(module: Path) -> set[str]:
    """The full names of all that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}: imports are absolute"
            found.add(node.module)
            if node.module == "uploaderd":
                found |= {f"uploaderd.{alias.name}" for alias in node.names}
    return found


def imported_names(module: Path) -> set[str]:
    """The full name of each thing that a module imports from another."""
    return {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def parts_imported(module: Path) -> set[str]:
    """The parts of the tree that a module imports from."""
    names = [n.split(".") for n in imports(module) if n.split(".")[0] == "uploaderd"]
    known = {part_of(m) for m in MODULES}
    return {name[1] if len(name) > 1 and name[1] in known else "" for name in names}


@pytest.mark.parametrize("module", [m for m in MODULES if part_of(m) == "core"], ids=str)
def test_the_core_is_pure(module: Path) -> None:
    """It imports nothing that knows time, chance, files, sockets, threads or logs."""
    for name in imports(module):
        top = name.split(".")[0]
        assert top not in IMPURE, f"{module.name} imports {name}: {IMPURE[top]}"


@pytest.mark.parametrize("module", [m for m in MODULES if part_of(m) in ALLOWED], ids=str)
def test_dependencies_point_one_way(module: Path) -> None:
    """cli, app, engine, adapters, core: never upwards, and adapters do not know each other."""
    part = part_of(module)
    surplus = parts_imported(module) - ALLOWED[part] - {part}
    assert not surplus, f"{module.relative_to(ROOT)} may not import {sorted(surplus)}"


def test_every_module_has_its_place() -> None:
    """A new part of the tree has to be given its rule here."""
    above = {"", "app", "keeper", "wiring", "serving", "reloading", "cli", "demo", "__main__"}
    assert {part_of(module) for module in MODULES} == ALLOWED.keys() | above


def test_only_the_journal_knows_sqlite() -> None:
    """It is a seam: another journal may take its place."""
    users = {part_of(m) for m in MODULES if "sqlite3" in imports(m)}
    assert users == {"journal"}


def test_only_the_clients_part_and_the_servers_know_aiohttp() -> None:
    """The engine speaks to the service through the client alone."""
    users = {part_of(m) for m in MODULES if any(n.split(".")[0] == "aiohttp" for n in imports(m))}
    assert users <= {"client", "control", "emulator", "app", "wiring", "demo"}


def test_only_the_metrics_know_prometheus() -> None:
    """Whoever counts knows a tally; how the numbers are named and written is one part's idea."""
    users = {part_of(m) for m in MODULES if any("prometheus" in n for n in imports(m))}
    assert users == {"metrics"}


def test_no_module_is_longer_than_400_lines() -> None:
    """One idea a module."""
    long = {
        str(m.relative_to(ROOT)): n for m in MODULES if (n := len(m.read_text().splitlines())) > 400
    }
    assert not long


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_whoever_knows_the_core_copies_its_values_by_the_core(module: Path) -> None:
    """The dataclasses' own ``replace`` knows no struct, and the type checker does not say so."""
    names = imported_names(module)
    if module.name != "values.py" and any(n.startswith("uploaderd.core.") for n in names):
        assert "dataclasses.replace" not in names, f"{module}: use uploaderd.core.values"
