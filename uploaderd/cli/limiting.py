"""``limit``: what the bandwidth is limited to, and another limit from now on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from uploaderd.cli import moments, screen, voice
from uploaderd.cli.common import client, config_option, example, json_option, socket_option
from uploaderd.config.units import parse_rate
from uploaderd.control.documents import Status, read
from uploaderd.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = "config"
WORDS = ("unlimited", CONFIG)


@click.command(epilog=example("uploaderd limit 5MiB/s"))
@click.argument(
    "rate",
    required=False,
    metavar="[RATE|unlimited|config]",
    shell_complete=lambda _ctx, _param, begun: [one for one in WORDS if one.startswith(begun)],
)
@json_option
@config_option
@socket_option
def limit(rate: str | None, as_json: bool, config: Path | None, socket: Path | None) -> None:
    """Show the limit of bandwidth, or set it at once.

    RATE is a size a second, such as 5MiB/s or 512KiB/s, over all files and targets. It holds for
    parts that are on their way too, over restarts and reloads, whatever the configuration and its
    timetable say, until `uploaderd limit config` gives it back to them.
    """
    if rate is not None:
        _must_be_one(rate)
    with client(config, socket) as asked:
        document = asked.get("/v1/status") if rate is None else asked.limit(rate)
    status = read(document, Status)
    if as_json:
        voice.out(msgspec.json.encode(status.bandwidth).decode())
    else:
        voice.out(voice.shown(screen.limit(status.bandwidth, moments.now_s())))


def _must_be_one(rate: str) -> None:
    """Refuse what is no limit before anybody is asked."""
    if rate == CONFIG:
        return
    try:
        parse_rate(rate)
    except ValueError as error:
        raise UsageError(
            f"{rate!r} is no limit: {error}",
            hint="for example: uploaderd limit 5MiB/s; a timetable belongs into the configuration",
        ) from error
