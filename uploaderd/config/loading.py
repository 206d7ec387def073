"""The document as a whole: found, read, checked; or a refusal that says what to mend."""

from __future__ import annotations

import difflib
import os
import tomllib
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from uploaderd.config import checks, keys, kinds, paths
from uploaderd.config.keys import Fallback, Place
from uploaderd.config.settings import (
    Config,
    Daemon,
    History,
    Hook,
    Retry,
    Target,
    Transfer,
    Watch,
)
from uploaderd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

T = TypeVar("T")

SECTIONS: dict[str, type] = {
    "daemon": Daemon,
    "targets": Target,
    "watch": Watch,
    "transfer": Transfer,
    "retry": Retry,
    "journal": History,
    "hook": Hook,
}
MOST_HOOKS = 16
_VARIABLES = {
    "base_url": "OPENAI_BASE_URL",
    "organization": "OPENAI_ORG_ID",
    "project": "OPENAI_PROJECT_ID",
}
_WHY_CHARS = 200
_WRITTEN = {
    "daemon": "[daemon]",
    "targets": "[targets.NAME]",
    "watch": "[[watch]]",
    "hook": "[[hook]]",
}
_BELONGS = {
    key: _WRITTEN.get(name, f"[{name}]")
    for name, section in reversed(SECTIONS.items())  # of two that know it the first is named
    for key in keys.keys_of(section)
}


def load(path: Path | None, env: Mapping[str, str]) -> Config:
    """Find, read and check the configuration.

    Args:
        path: the file that the caller insists on, or None for the usual places.
        env: the environment's variables.

    Raises:
        ConfigError: there is no file, it cannot be read, or what it says is refused.
    """
    file, content = paths.find_config(path, env)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise ConfigError(
            f"{file}: line {line} is not UTF-8", hint="save the file as UTF-8"
        ) from exc
    return _build(text, str(file), env, file)


def parse(text: str, *, source: str, env: Mapping[str, str]) -> Config:
    """Check a configuration's text; ``source`` names it in the refusals.

    Raises:
        ConfigError: the text is not TOML, or what it says is refused.
    """
    return _build(text, source, env, None)


def _build(text: str, source: str, env: Mapping[str, str], file: Path | None) -> Config:
    place = Place(source)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ConfigError(
            f"{source}: this is not TOML: {_why(exc)}", hint="strings need quotes, tables brackets"
        ) from exc
    for name in document:
        if name not in SECTIONS:
            raise place.unknown(name, list(SECTIONS), _BELONGS)
    targets = _targets(document, place, env)
    config = Config(
        daemon=_daemon(document, place, env),
        targets=targets,
        transfer=_section(Transfer, "transfer", document, place),
        retry=_section(Retry, "retry", document, place),
        watches=_watches(document, place, targets),
        journal=_section(History, "journal", document, place),
        hooks=_hooks(document, place),
        source=file,
    )
    checks.overlaps(config, place)
    checks.twice(config, place)
    return config


def _why(exc: Exception) -> str:
    """The parser's own words where they are fit for a person; they may quote a whole key."""
    if isinstance(exc, RecursionError):
        return "nested too deeply"
    if not isinstance(exc, tomllib.TOMLDecodeError):
        return "a number or a date is none"
    return keys.shortened(keys.masked(str(exc)), _WHY_CHARS)


def redacted(config: Config) -> dict[str, object]:
    """The effective configuration in the file's own form, JSON-able and without any key."""
    return {
        "source": None if config.source is None else str(config.source),
        "daemon": keys.show_section(config.daemon),
        "targets": {target.name: keys.show_section(target) for target in config.targets},
        "watch": [keys.show_section(watch) for watch in config.watches],
        "transfer": keys.show_section(config.transfer),
        "retry": keys.show_section(config.retry),
        "journal": keys.show_section(config.journal),
        "hook": [keys.show_section(hook) for hook in config.hooks],
    }


def _section(
    section: type[T],
    name: str,
    document: Mapping[str, object],
    place: Place,
    fallback: Mapping[str, Fallback] | None = None,
) -> T:
    here = place / name
    table = here.table(document.get(name, {}))
    return keys.read_section(section, table, here, fallback=fallback, elsewhere=_BELONGS)


def _daemon(document: Mapping[str, object], place: Place, env: Mapping[str, str]) -> Daemon:
    daemon = _section(
        Daemon,
        "daemon",
        document,
        place,
        {
            "state_dir": lambda: paths.default_state_dir(env),
            "socket": lambda: paths.default_socket(env),
        },
    )
    size = len(os.fsencode(daemon.socket))
    if size > paths.SUN_PATH_BYTES:
        raise (place / "daemon" / "socket").refuse(
            f"a path of {size} bytes, {keys.shown(str(daemon.socket))}",
            f"at most {paths.SUN_PATH_BYTES} bytes, a limit of the kernel",
            "set a shorter daemon.socket, such as /run/uploaderd/status.sock",
        )
    return daemon


def _targets(
    document: Mapping[str, object], place: Place, env: Mapping[str, str]
) -> tuple[Target, ...]:
    here = place / "targets"
    tables = here.table(document.get("targets", {})) or {"openai": {}}
    return tuple(_target(name, table, here / name, env) for name, table in tables.items())


def _target(name: str, value: object, place: Place, env: Mapping[str, str]) -> Target:
    table = place.table(value)
    try:
        kinds.NAME.read(name)
    except ValueError as exc:
        raise place.refuse("this name of a target", kinds.NAME.allowed) from exc
    fallback: dict[str, Fallback] = {
        key: partial(_variable, env, variable)
        for key, variable in _VARIABLES.items()
        if env.get(variable)
    }
    target = keys.read_section(
        Target, table, place, given={"name": name}, fallback=fallback, elsewhere=_BELONGS
    )
    checks.address(target, place)
    return target


def _variable(env: Mapping[str, str], variable: str) -> tuple[object, str]:
    return env[variable], f"${variable}"


def _watches(
    document: Mapping[str, object], place: Place, targets: tuple[Target, ...]
) -> tuple[Watch, ...]:
    here = place / "watch"
    tables = _array("watch", document, place)
    if not tables:
        raise here.refuse(
            "no watch",
            "at least one [[watch]] with a path",
            'add the lines [[watch]] and path = "/var/spool/uploaderd"',
        )
    return tuple(_watch(table, here / index, targets) for index, table in enumerate(tables))


def _array(name: str, document: Mapping[str, object], place: Place) -> list[object]:
    tables = document.get(name, [])
    if not isinstance(tables, list):
        hint = f"write [[{name}]], in double brackets" if isinstance(tables, dict) else ""
        raise (place / name).refuse(keys.described(tables), "an array of tables", hint)
    return tables


def _hooks(document: Mapping[str, object], place: Place) -> tuple[Hook, ...]:
    here = place / "hook"
    tables = _array("hook", document, place)
    if len(tables) > MOST_HOOKS:
        raise here.refuse(f"{len(tables)} hooks", f"at most {MOST_HOOKS}", "let one call the rest")
    return tuple(_hook(table, here / index) for index, table in enumerate(tables))


def _hook(value: object, place: Place) -> Hook:
    table = place.table(value)
    known = keys.keys_of(Hook)
    for name in ("on", "command"):
        if name not in table and table.keys() <= known.keys():  # else that is the nearer fault
            _, kind = known[name]
            raise (place / name).refuse("nothing", kind.allowed, "every hook needs one")
    return keys.read_section(Hook, table, place, elsewhere=_BELONGS)


def _watch(value: object, place: Place, targets: tuple[Target, ...]) -> Watch:
    table = place.table(value)
    names = [target.name for target in targets]
    allowed = keys.listed(names)
    if "path" not in table:
        raise (place / "path").refuse("nothing", kinds.PATH.allowed, "every watch needs a path")
    if "target" not in table and len(names) > 1:
        hint = "there are several targets, so each watch names one"
        raise (place / "target").refuse("nothing", allowed, hint)
    only: dict[str, Fallback] = {"target": lambda: (names[0], "the only target")}
    watch = keys.read_section(Watch, table, place, fallback=only, elsewhere=_BELONGS)
    if watch.target not in names:
        near = difflib.get_close_matches(watch.target, names, n=1)
        hint = f"did you mean {keys.shown(near[0])}?" if near else "add it as [targets.NAME]"
        raise (place / "target").refuse(keys.described(watch.target), allowed, hint)
    return watch
