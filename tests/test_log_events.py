"""Every event of the log has a constant name of one form, and a line in the list."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import uploaderd

PACKAGE = Path(uploaderd.__file__).parent
LIST = PACKAGE.parent / "docs" / "events-of-the-log.md"
LEVELS = {"debug", "info", "warning", "error"}
NAME = re.compile(r"[a-z]+\.[a-z]+(_[a-z]+)*")

# The emulator is no part of the daemon and knows nothing of it.
APART = "emulator"
# What the watcher wants told goes through one function there, by the names that the spool chose.
FORWARDER = PACKAGE / "wiring.py"
FORWARDED = PACKAGE / "spool" / "lookout.py"


@cache
def trees() -> dict[Path, ast.Module]:
    """Every module of the package, parsed."""
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def calls_of_the_log(tree: ast.Module) -> list[tuple[str, ast.Call]]:
    """Each call of a method of ``log``, or of one that was taken from it as ``say``."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Attribute(value=ast.Name(id="log"), attr=level):
                found.append(("error" if level == "exception" else level, node))
            case ast.Name(id="say"):
                found.append(("", node))
            case _:
                pass
    return found


def forwarded(tree: ast.Module) -> set[str]:
    """The names in ``self._told.append((NAME, facts))``."""
    return {
        node.args[0].elts[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func) == "self._told.append"
        and isinstance(node.args[0], ast.Tuple)
        and isinstance(node.args[0].elts[0], ast.Constant)
        and isinstance(node.args[0].elts[0].value, str)
    }


def in_the_code() -> dict[str, set[str]]:
    """Each event with the levels that it is written at, as far as the call names them."""
    found: dict[str, set[str]] = {}
    for path, tree in trees().items():
        if path.parent.name == APART:
            continue
        talks = "logs.get(" in ast.unparse(tree)
        for level, call in calls_of_the_log(tree) if talks else ():
            event = call.args[0]
            where = f"{path.relative_to(PACKAGE)}:{call.lineno}"
            if path == FORWARDER and isinstance(event, ast.Name):
                continue
            assert isinstance(event, ast.Constant), f"{where}: the event's name is no constant"
            assert isinstance(event.value, str), where
            found.setdefault(event.value, set()).update({level} - {""})
        if path == FORWARDED:
            for name in forwarded(tree):
                found.setdefault(name, set())
    return found


def in_the_list() -> dict[str, list[str]]:
    """Each row of the list: the event, and its level, meaning and remedy."""
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", LIST.read_text("utf-8"), re.MULTILINE)
    names = [name for name, _ in rows]
    assert len(names) == len(set(names)), "an event has two rows"
    return {name: [cell.strip() for cell in rest.split(" | ")] for name, rest in rows}


def test_the_list_has_every_event_and_no_other() -> None:
    """What the log says can be looked up, and what can be looked up is said."""
    code, told = in_the_code().keys(), in_the_list().keys()
    assert sorted(code - told) == []
    assert sorted(told - code) == []


def test_every_name_has_one_form() -> None:
    """Whom it is about, a dot, what happened: ``socket.stale_removed``."""
    names = in_the_code()
    assert len(names) > 40
    assert [name for name in names if not NAME.fullmatch(name)] == []


def test_every_row_says_level_meaning_and_remedy() -> None:
    """The level is the call's."""
    code = in_the_code()
    for name, (level, meaning, remedy) in in_the_list().items():
        levels = set(level.split(", "))
        assert levels <= LEVELS, name
        assert meaning, name
        assert remedy, name
        assert code[name] <= levels, name


def test_nobody_goes_round_the_log() -> None:
    """The package's own events come from ``logs.get``; no module writes records beside it."""
    for path, tree in trees().items():
        if path.parent.name == APART or path.name == "logs.py":
            continue
        text = ast.unparse(tree)
        assert "logging.getLogger" not in text, path
        assert "traceback.print" not in text or path.parts[-2] == "cli", path


def test_a_name_that_is_made_is_found() -> None:
    """The search sees an f-string, a variable and a method that was taken before."""
    source = 'log.info(f"file.{state}")\nsay = log.info\nsay("file.done")\nlog.exception("a.b")\n'
    found = calls_of_the_log(ast.parse(source))
    assert [level for level, _ in found] == ["info", "", "error"]
    assert isinstance(found[0][1].args[0], ast.JoinedStr)
