"""``check``: the configuration as it takes effect, and whether the surroundings fit it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from uploaderd.cli import voice
from uploaderd.cli.common import config_option, example, json_option, load, socket_option
from uploaderd.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog=example("uploaderd check --config ./config.toml"))
@json_option
@config_option
@socket_option
def check(as_json: bool, config: Path | None, socket: Path | None) -> None:
    """Check the configuration and its surroundings.

    Looks at folders, permissions, key, socket and limits; prints what it found and the
    effective configuration, secrets redacted; changes nothing.
    """
    from uploaderd.cli import surroundings  # noqa: PLC0415 - only here
    from uploaderd.config import redacted  # noqa: PLC0415 - only here

    settings = load(config)
    findings = surroundings.look(settings, socket or settings.daemon.socket, os.environ)
    effective = redacted(settings)
    bad = [finding for finding in findings if finding.level == "error"]
    if as_json:
        found = [
            {"level": one.level, "topic": one.topic, "text": one.text, "hint": one.hint}
            for one in findings
        ]
        document = {"ok": not bad, "findings": found, "config": effective}
        voice.out(json.dumps(document, indent=2))
    else:
        for one in findings:
            voice.out(f"{one.level:<8} {one.topic:<8} {voice.shown(one.text)}")
        voice.out("")
        for line in toml(effective):
            voice.out(line)
    if len(bad) == 1:
        raise ConfigError(bad[0].text, hint=bad[0].hint)
    if bad:
        for one in bad:
            voice.error(one.text, hint=one.hint)
        raise ConfigError(f"{len(bad)} things must be mended before the daemon can work")


def toml(effective: dict[str, object]) -> list[str]:
    """Write the effective configuration in its own form."""
    lines = [f"# the effective configuration, from {effective.get('source')}"]
    for name, section in effective.items():
        if isinstance(section, list):
            for table in section:
                lines += ["", f"[[{name}]]", *_pairs(table)]
        elif isinstance(section, dict) and name == "targets":
            for target, table in section.items():
                bare = target.replace("-", "").replace("_", "")
                key = target if bare.isascii() and bare.isalnum() else _value(target)
                lines += ["", f"[targets.{key}]", *_pairs(table)]
        elif isinstance(section, dict):
            lines += ["", f"[{name}]", *_pairs(section)]
    return lines


def _pairs(table: dict[str, object]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items()]


def _value(value: object) -> str:
    """JSON writes these kinds of values the way TOML does."""
    # TOML takes JSON's strings but for surrogate pairs and a raw DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
