"""``status``: what is going on now, once, live, or until nothing is left to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from uploaderd.cli import moments, screen, terminal, voice
from uploaderd.cli.common import client, config_option, example, json_option, socket_option
from uploaderd.cli.waiting import patiently
from uploaderd.control.documents import text
from uploaderd.errors import Exit, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from uploaderd.control.client import Client
    from uploaderd.control.documents import Status

POLL_S: Final = 0.3
_TOLD: Final = frozenset({"held", "deferred", "uncertain"})


@click.command(epilog=example("uploaderd status --watch"))
@json_option
@click.option("--watch", is_flag=True, help="Show it live, until Ctrl-C.")
@click.option("--wait-empty", is_flag=True, help="Block until nothing is left to do.")
@click.option("--no-color", is_flag=True, help="No colours; so does $NO_COLOR.")
@config_option
@socket_option
def status(
    as_json: bool,
    watch: bool,
    wait_empty: bool,
    no_color: bool,
    config: Path | None,
    socket: Path | None,
) -> Exit:
    """Show what the daemon does now, and what waits for what.

    At a terminal it is one screen, in a pipe one fact a line; with --watch a pipe gets one line for
    each change of a file, and each change once, over restarts of the daemon too.

    With --wait-empty the exit code is 1 if a file is held, or failed meanwhile.
    """
    if watch and (as_json or wait_empty):
        raise UsageError(
            "--watch goes with neither --json nor --wait-empty", hint="choose one of them"
        )
    with client(config, socket) as asked:
        if watch:
            return _watch(asked, color=not no_color)
        verdict = _until_empty(asked) if wait_empty else Exit.DONE
        if as_json:
            voice.out(text(asked.get("/v1/status")))
        elif not wait_empty:
            _show(asked, color=not no_color)
        return verdict


def _watch(asked: Client, *, color: bool) -> Exit:
    """Follow what happens; Ctrl-C is how it ends well."""
    asked.status()  # a daemon that was never there is not waited for
    try:
        if terminal.moves():
            from uploaderd.cli import live  # noqa: PLC0415 - rich is heavy

            live.watch(asked, color=terminal.colored(asked=color))
        else:
            from uploaderd.cli import following  # noqa: PLC0415 - only here

            following.watch(asked)
    except KeyboardInterrupt:
        pass
    return Exit.DONE


def _show(asked: Client, *, color: bool) -> None:
    status, now = asked.status(), moments.now_s()
    groups = screen.gather(asked, status, now)
    if not terminal.is_terminal():
        for line in screen.plain(status, groups, now):
            voice.out(line)
        return
    from uploaderd.cli import panel  # noqa: PLC0415 - only for a person

    drawn = panel.lines(status, groups, now, columns=terminal.columns())
    terminal.write(drawn, color=terminal.colored(asked=color))


def _until_empty(asked: Client) -> Exit:
    """Wait until the daemon has said twice in a row that nothing is left to do.

    Once could be the moment before it hears of what was dropped just now. Failures of long ago
    are not this command's: it looks at those that came while it waited.
    """
    said = 0
    told: set[str] = set()
    first = asked.status()
    found = [first]
    while True:
        said = said + 1 if found[-1].drained else 0
        if said > 1:
            return _verdict(first, found[-1])
        patiently(lambda: _tell(asked, found[-1], told))
        time.sleep(POLL_S)
        patiently(lambda: found.append(asked.status()))
        del found[:-1]


def _tell(asked: Client, now: Status, told: set[str]) -> None:
    """Say once what may keep a person waiting for long: a target that is shut, a full disk."""
    shut = {one.name for one in now.targets if one.state not in screen.OPEN}
    lines = [f"trouble: {now.trouble}"] if now.trouble else []
    needed = shut or now.counts.get("deferred")
    for group in screen.gather(asked, now, moments.now_s()) if needed else ():
        row = group.row
        if group.state in _TOLD or (group.state == "queued" and row.target in shut):
            lines.append(f"{group.state}: {row.path}: {row.reason.text}")
    for line in lines:
        if line not in told:
            told.add(line)
            voice.note(line)


def _verdict(first: Status, last: Status) -> Exit:
    failed = last.counts.get("failed", 0) - first.counts.get("failed", 0)
    held = last.counts.get("held", 0)
    if not failed and not held:
        return Exit.DONE
    voice.error(
        f"nothing is left to do, but {failed} failed and {held} held",
        hint="see: uploaderd list --state failed; uploaderd list --state held",
    )
    return Exit.FAILED
