"""``status --watch``: the screen, live; plain lines where nobody sits at a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from uploaderd.cli import screen, voice
from uploaderd.control.client import AnswerError
from uploaderd.errors import NoDaemonError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from uploaderd.control.client import Client, Row, Status

POLL_S: Final = 0.5
PLAIN_POLL_S: Final = 1.0
NARROW: Final = 60
_ROOM_AROUND: Final = 12

View = tuple["Status", "list[screen.Waiting]"]


def watch(client: Client, *, color: bool) -> None:
    """Show it until Ctrl-C; a daemon that goes away is waited for."""
    client.status()
    try:
        if sys.stdout.isatty():
            _live(client, color=color)
        else:
            _plain(client)
    except KeyboardInterrupt:
        return


def _views(client: Client) -> Iterator[View | str]:
    """Ask without end; a string says why there is no answer."""
    while True:
        try:
            status = client.status()
            yield status, screen.waiting(client, status)
        except (NoDaemonError, AnswerError) as error:
            yield f"{error}; waiting for the daemon to come back"


def _plain(client: Client) -> None:
    last = ""
    for view in _views(client):
        line = view if isinstance(view, str) else screen.summary(view[0])
        if line != last:
            voice.out(voice.shown(line))
            last = line
        time.sleep(PLAIN_POLL_S)


def _live(client: Client, *, color: bool) -> None:
    console = Console(no_color=True if not color else None, highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        shown: RenderableType = ""
        for view in _views(client):
            if isinstance(view, str):
                live.update(Group(shown, Text(voice.shown(view), style="yellow")), refresh=True)
            else:
                height = max(console.height - _ROOM_AROUND, 1)
                shown = render(view[0], view[1], width=console.width, height=height)
                live.update(shown, refresh=True)
            time.sleep(POLL_S)


def render(
    status: Status, groups: Sequence[screen.Waiting], *, width: int, height: int
) -> RenderableType:
    """Draw one moment; a narrow terminal loses the bars first."""
    parts: list[RenderableType] = [
        Text(screen.headline(status), style="bold"),
        Text(screen.counts(status)),
        Text(screen.volume(status)),
        *(
            Text(line, style="dim", no_wrap=True, overflow="ellipsis")
            for line in screen.troubles(status)
        ),
    ]
    if status.active:
        parts += ["", bars(status.active[:height], width=width)]
        if len(status.active) > height:
            parts.append(Text(f"and {len(status.active) - height} more", style="dim"))
    if groups:
        parts.append("")
        parts += [
            Text(line, style="yellow", no_wrap=True, overflow="ellipsis")
            for line in screen.reasons(groups)
        ]
    return Group(*parts)


def bars(rows: Sequence[Row], *, width: int) -> Table:
    """Draw one bar a file."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    if width >= NARROW:
        table.add_column(width=width // 4)
    table.add_column(justify="right", no_wrap=True, width=4)
    if width >= NARROW:
        table.add_column(no_wrap=True, justify="right", width=26)
    for row in rows:
        name = Text(_tail(row), no_wrap=True, overflow="ellipsis")
        done = Text(f"{screen.percent(row)}%")
        if width >= NARROW:
            bar = ProgressBar(total=max(row.bytes, 1), completed=row.bytes_stored)
            table.add_row(name, bar, done, Text(screen.pace(row)))
        else:
            table.add_row(name, done)
    return table


def _tail(row: Row) -> str:
    """Show a path below its watch: the end of a path says more than its beginning."""
    return voice.shown(row.path.removeprefix(row.watch.rstrip("/") + "/"))
