"""``status --watch`` at a terminal: the panel, live, with a bar for each file and for the whole.

What happens comes from the daemon's events; only what waits and why is asked for, at most every
other second and only after a change. A daemon that goes away is waited for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from uploaderd.cli import fit, moments, panel, screen, voice
from uploaderd.cli.common import boot_s
from uploaderd.config.units import human_bytes
from uploaderd.control.documents import AnswerError, Change, Status, read
from uploaderd.control.listener import Listener
from uploaderd.errors import NoDaemonError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from uploaderd.control.client import Client
    from uploaderd.control.documents import Row
    from uploaderd.control.wire import Event

TICK_S: Final = 1.0
FRAME_S: Final = 0.1
ASK_S: Final = 2.0
CHANGES_SHOWN: Final = 4
NARROW: Final = 60
_DONE: Final = 4
_PACE: Final = 26
_SESSION: Final = 7
_STYLES: Final = {
    "title": "bold",
    "head": "bold",
    "text": "",
    "dim": "dim",
    "good": "green",
    "warn": "yellow",
    "bad": "red",
    "act": "cyan",
}


@dataclass(slots=True)
class Scene:
    """What is known at the moment.

    Attributes:
        status: the newest status; None before the first.
        groups: what waits and why, as it was when it was last asked.
        changes: the newest changes of files.
        away: why nobody answers, or empty.
        stale: whether ``groups`` should be asked for again.
        start_bytes: what was stored when it began; the whole counts from there.
    """

    status: Status | None = None
    groups: list[screen.Group] = field(default_factory=list)
    changes: deque[Change] = field(default_factory=lambda: deque(maxlen=CHANGES_SHOWN))
    away: str = ""
    stale: bool = True
    start_bytes: int = 0

    def take(self, event: Event) -> None:
        """Take one event in; a kind that is not known is passed over."""
        match event.kind:
            case "status" | "progress":
                now = read(event.data.encode(), Status)
                if self.status is None or now.bytes.stored < self.start_bytes:
                    self.start_bytes = now.bytes.stored
                self.stale = self.stale or self.status is None or now.counts != self.status.counts
                self.status = now
            case "file":
                self.changes.append(read(event.data.encode(), Change))
                self.stale = True
            case "reset":
                self.changes.clear()
                self.stale = True
            case _:
                pass

    @property
    def whole(self) -> tuple[int, int]:
        """How many bytes left since it began, and how many have to in all."""
        if self.status is None:
            return 0, 0
        stored = self.status.bytes.stored - self.start_bytes
        gone = min(screen.moving(self.status), self.status.bytes.queued)
        return stored + gone, stored + self.status.bytes.queued


def watch(client: Client, *, color: bool) -> None:
    """Show it until Ctrl-C, on a screen of its own that is gone afterwards."""
    console = Console(no_color=True if not color else None, highlight=False)
    scene = Scene()
    asked_s = boot_s() - ASK_S
    with (
        Listener(client.socket, clock=boot_s) as listener,
        Live(console=console, auto_refresh=False, screen=True, redirect_stderr=False) as live,
    ):
        drawn_s, dirty = boot_s() - FRAME_S, True
        while True:
            # A burst of events makes no burst of frames, and the last of it is not left undrawn.
            wait_s = drawn_s + FRAME_S - boot_s() if dirty else TICK_S
            found = listener.poll(max(wait_s, 0.0))
            for event in found:
                scene.take(event)
            scene.away = listener.away or ""
            dirty = dirty or bool(found)
            if found and boot_s() - drawn_s < FRAME_S:
                continue
            if scene.stale and scene.status and boot_s() - asked_s >= ASK_S:
                asked_s = boot_s()
                _ask(client, scene)
            live.update(
                render(scene, moments.now_s(), width=console.width, height=console.height),
                refresh=True,
            )
            drawn_s, dirty = boot_s(), False


def _ask(client: Client, scene: Scene) -> None:
    if scene.status is None:
        return
    try:
        scene.groups = screen.gather(client, scene.status, moments.now_s())
        scene.stale = False
    except (NoDaemonError, AnswerError):
        pass  # the listener says so


def render(scene: Scene, now: float, *, width: int, height: int) -> RenderableType:
    """Draw one moment; a small terminal loses the end first, a narrow one the bars."""
    top: list[RenderableType] = []
    if scene.away:
        said = f"{scene.away}; waiting"
        if not said.startswith("no daemon answers"):
            said = f"no daemon answers: {said}"
        top += _texts(
            panel.Line("warn", line) for line in fit.wrap(voice.shown(said), width, lines=2)
        )
    status = scene.status
    if status is None:
        return Group(*(top or [Text("waiting for the daemon")]))
    top += _texts(panel.head(status, now, columns=width))
    stored, total = scene.whole
    if total > stored:
        top.append(_whole(stored, total, width=width))
    below = _texts(panel.below(status, scene.groups, now, columns=width))
    if scene.changes:
        below += ["", Text("LATEST", style="bold")]
        below += _texts(
            panel.Line("dim", fit.cut("  " + said_of(change), width)) for change in scene.changes
        )
    if status.active:
        room = max(height - len(top) - len(below) - 2, 2)
        rows = status.active[:room]
        top += ["", bars(rows, width=width, now=now)]
        if len(status.active) > len(rows):
            top.append(Text(f"and {len(status.active) - len(rows)} more", style="dim"))
    return Group(*top, *below)


def said_of(change: Change) -> str:
    """One change of a file, in one line."""
    clock = change.at.partition("T")[2][:8]
    name = (change.path or change.id).rpartition("/")[2]
    return voice.shown(f"{clock} {change.state:<10} {name}: {change.text}")


def bars(rows: Sequence[Row], *, width: int, now: float | None = None) -> Table:
    """Draw one bar a file; with ``now``, say how long its session still lives."""
    wide = width >= NARROW
    told = wide and now is not None and width >= panel.WIDE
    bar = width // 4
    others = [bar, _DONE, _PACE] if wide else [_DONE]
    others += [_SESSION] if told else []
    # Rich would cut a name at its end, but the end of a path says more than its beginning.
    room = max(width - sum(others) - len(others), 1)
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="crop", ratio=1)
    if wide:
        table.add_column(width=bar)
    table.add_column(justify="right", no_wrap=True, width=_DONE)
    if wide:
        table.add_column(no_wrap=True, justify="right", width=_PACE)
    if told:
        table.add_column(no_wrap=True, justify="right", width=_SESSION)
    for row in rows:
        cells: list[RenderableType] = [Text(fit.tail(screen.below(row), room), no_wrap=True)]
        if wide:
            cells.append(ProgressBar(total=max(row.bytes, 1), completed=row.bytes_sent))
        cells.append(Text(f"{100 * row.bytes_sent // max(row.bytes, 1)}%"))
        if wide:
            cells.append(Text(screen.pace(row)))
        if told and now is not None:
            cells.append(Text(screen.session(row, now), style="dim"))
        table.add_row(*cells)
    return table


def _whole(stored: int, total: int, *, width: int) -> Table:
    """The bar of all that is to be stored since the command began."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    said = f"{100 * stored // total}%"
    if width >= NARROW:
        said += f" of {human_bytes(total)}"
    table.add_row(ProgressBar(total=total, completed=stored), Text(said, style="bold"))
    return table


def _texts(lines: Iterable[panel.Line]) -> list[RenderableType]:
    return [
        Text(line.text, style=_STYLES[line.style], no_wrap=True, overflow="crop") for line in lines
    ]
