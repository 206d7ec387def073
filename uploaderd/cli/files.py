"""``list``: all files, or those that are asked for, the newest first, however many they are."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import click

from uploaderd.cli import moments, voice
from uploaderd.cli.common import (
    PATH,
    client,
    config_option,
    example,
    json_option,
    socket_option,
)
from uploaderd.cli.picking import code_option, joined, state_option
from uploaderd.config.units import human_bytes
from uploaderd.control.client import PAGE, Client
from uploaderd.control.documents import RawPage, Row, read
from uploaderd.core.selection import Selection
from uploaderd.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEAD: Final = f"{'STATE':<10}  {'SIZE':>10}  {'STORED':>6}  PATH"
_IN_MEMORY: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked of the daemon, and what is sorted out here.

    Attributes:
        which: what the daemon filters by.
        since: only files that changed at this time or later; empty for all.
        until: only files that changed before.
        name: a pattern that the path below the watch, or its last name, must match.
        limit: how many at most.
    """

    which: Selection
    since: str = ""
    until: str = ""
    name: str = ""
    limit: int | None = None

    @property
    def page(self) -> int:
        """How many rows to ask for at a time."""
        plain = not (self.since or self.until or self.name)
        return min(self.limit, PAGE) if plain and self.limit else PAGE

    def wants(self, row: Row) -> bool:
        """Whether a row is one of them; the daemon's own filters are looked at again."""
        which = self.which
        if (
            (which.states and row.state not in which.states)
            or not which.has_code(row.reason.code)
            or (which.target and row.target != which.target)
            or (self.since and row.updated_at < self.since)
            or (self.until and row.updated_at >= self.until)
        ):
            return False
        below = row.path.removeprefix(row.watch.rstrip("/") + "/")
        names = (below, below.rpartition("/")[2])
        return not self.name or any(fnmatchcase(one, self.name) for one in names)


@click.command("list", epilog=example("uploaderd list --state failed,held --since 2h"))
@state_option
@click.option("--watch-path", type=PATH, metavar="DIR", help="Those of this watched folder.")
@click.option("--target", metavar="T", help="Those for this target.")
@code_option
@click.option("--name", default="", metavar="PATTERN", help="Those named so, such as '*.jsonl'.")
@click.option("--since", default="", metavar="TIME", help="Changed since then: 2h, 3d or a time.")
@click.option("--until", default="", metavar="TIME", help="Changed before then.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="So many at most.")
@json_option
@config_option
@socket_option
def list_files(
    states: tuple[tuple[str, ...], ...],
    watch_path: Path | None,
    target: str | None,
    code: str | None,
    name: str,
    since: str,
    until: str,
    limit: int | None,
    as_json: bool,
    config: Path | None,
    socket: Path | None,
) -> None:
    """List all files, the newest first.

    A line has the state, the size, how much is stored, the path, and the reason's code.
    """
    now_s = moments.now_s()
    since = moments.stamp(since, now_s, option="--since") if since else ""
    until = moments.stamp(until, now_s, option="--until") if until else ""
    with client(config, socket) as asked:
        wish = Wish(
            which=Selection(
                states=joined(states),
                watch=None if watch_path is None else _watch(asked, watch_path),
                target=target,
                code=code,
            ),
            since=since,
            until=until,
            name=name,
            limit=limit,
        )
        if as_json:
            _print_all(asked, wish)
            return
        head = sys.stdout.isatty()
        for row, _ in _found(asked, wish):
            if head:
                voice.out(_HEAD)
                head = False
            voice.out(_line(row))


def _watch(asked: Client, folder: Path) -> str:
    """Find the watch's own name for a folder."""
    watches = [row.path for row in asked.status().watches]
    real = os.path.realpath(folder)
    for one in watches:
        if os.path.realpath(one) == real:
            return one
    raise UsageError(
        f"{folder} is not a watched folder", hint=f"watched are: {', '.join(watches) or 'none'}"
    )


def _found(asked: Client, wish: Wish) -> Iterator[tuple[Row, bytes]]:
    """Go through the rows that are wanted, each with what the daemon wrote."""
    count = 0
    for page in asked.pages(RawPage, wish.which, limit=wish.page):
        for raw in page.files:
            row = read(bytes(raw), Row)
            if not wish.wants(row):
                continue
            yield row, bytes(raw)
            count += 1
            if count == wish.limit:
                return


def _print_all(asked: Client, wish: Wish) -> None:
    """Join the pages into one document, whole or not at all; what is large lies on disk."""
    from tempfile import SpooledTemporaryFile  # noqa: PLC0415 - only here

    with SpooledTemporaryFile(max_size=_IN_MEMORY) as kept:
        between = b'{"files":['
        for _, raw in _found(asked, wish):
            kept.write(between + raw)
            between = b","
        kept.write((between if between != b"," else b"") + b'],"next":null}\n')
        kept.seek(0)
        sys.stdout.flush()
        shutil.copyfileobj(kept, sys.stdout.buffer)


def _line(row: Row) -> str:
    stored = f"{row.percent}%"
    line = f"{row.state:<10}  {human_bytes(row.bytes):>10}  {stored:>6}  {row.path}"
    if row.state not in {"done", "uploading"}:
        line = f"{line}  ({row.reason.code})"
    return voice.shown(line)
