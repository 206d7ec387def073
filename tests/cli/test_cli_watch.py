"""``status --watch``: live, from the daemon's events, over its restarts."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import re
import signal
import struct
import termios
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fcntl import ioctl
from typing import TYPE_CHECKING

import msgspec
import pytest
from rich.console import Console

from tests.cli.cli_helpers import (
    STARTED,
    FakeView,
    change,
    daemon,
    ended,
    environment,
    row,
    start,
)
from tests.support.waiting import wait_until
from uploaderd.cli import live, screen
from uploaderd.control.documents import Change, Row, read
from uploaderd.control.wire import Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOW_S = 1_800_000_000.0


async def line(process: asyncio.subprocess.Process) -> str:
    """The next line of standard output."""
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode()


async def note(process: asyncio.subprocess.Process) -> str:
    """The next line of standard error."""
    assert process.stderr is not None
    async with asyncio.timeout(30):
        return (await process.stderr.readline()).decode()


async def test_through_a_pipe_each_change_is_one_line(tmp_path: Path) -> None:
    """First how it stands, then what happens; no bars, no control codes, and Ctrl-C is 0."""
    view = FakeView(rows=[row("f1")])
    async with daemon(view, tmp_path / "s"):
        process = await start("status", "--watch", "--socket", tmp_path / "s", home=tmp_path)
        assert await line(process) == (
            "running: 1 queued; 1.0 MiB stored, 3.0 MiB to go, 1.0 MiB/s, 3s left\n"
        )
        view.tell("progress", view.document())
        view.tell("file", change("f1", "/spool/\x1b[2Ja", "uploading"), place="e-1")
        view.tell("from-the-future", {"what": "ever"})
        view.tell("file", change("f1", "/spool/a", "done", at=1), place="e-2")
        assert await line(process) == (
            "2100-01-01T00:00:00.000Z uploading  /spool/\\x1b[2Ja: "
            "This is why it is uploading. [uploading.why]\n"
        )
        assert "done       /spool/a: " in await line(process)
        process.send_signal(signal.SIGINT)
        said = await ended(process)
    assert (said.code, said.out, said.err) == (0, "", "")


async def test_through_a_pipe_a_restart_loses_and_doubles_no_line(tmp_path: Path) -> None:
    """It says that the daemon is away and that it is back, and goes on after the last id."""
    view = FakeView(rows=[row("f1")])
    async with daemon(view, tmp_path / "s"):
        process = await start("status", "--watch", "--socket", tmp_path / "s", home=tmp_path)
        await line(process)
        view.tell("file", change("f1", "/spool/a", "uploading"), place="e-7")
        await line(process)
    assert "waiting for the daemon to come back" in await note(process)
    view = FakeView(rows=[row("f1", state="done")])
    async with daemon(view, tmp_path / "s"):
        assert await note(process) == "uploaderd: the daemon is back\n"
        view.tell("reset", {"why": "Not kept."}, place="e-9")
        assert "some changes were missed" in await note(process)
        view.tell("file", change("f1", "/spool/a", "done"), place="e-10")
        assert "done       /spool/a" in await line(process)
        process.send_signal(signal.SIGINT)
        said = await ended(process)
    assert view.lasts == ["e-7"]
    assert (said.code, said.out) == (0, "")


@dataclass(slots=True)
class Terminal:
    """A command at a terminal, and all that it has written there."""

    process: asyncio.subprocess.Process
    modes: list[object]
    device: int
    seen: bytearray = field(default_factory=bytearray)

    async def shows(self, words: str, *, after: int = 0) -> None:
        """Wait until it has written these words."""
        await wait_until(
            lambda: words in self.seen[after:].decode("utf-8", "replace"),
            timeout_s=30,
            what=f"{words!r} at the terminal",
        )


@asynccontextmanager
async def terminal(home: Path, socket: Path, **extra: str) -> AsyncIterator[Terminal]:
    """Run ``status --watch`` at a terminal of 80 by 24."""
    ours, theirs = pty.openpty()
    ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    modes = termios.tcgetattr(theirs)
    loop = asyncio.get_running_loop()
    process = await asyncio.create_subprocess_exec(
        *(os.sys.executable, "-m", "uploaderd", "status", "--watch", "--socket", socket),  # type: ignore[attr-defined]
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(home, TERM="xterm") | extra,
    )
    STARTED.append(process)
    at = Terminal(process=process, modes=modes, device=theirs)
    loop.add_reader(ours, lambda: at.seen.extend(os.read(ours, 65536)))
    try:
        yield at
    finally:
        loop.remove_reader(ours)
        os.close(theirs)
        os.close(ours)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_at_a_terminal_it_draws_bars_and_leaves_the_terminal_sane(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Bars, what happened last, the daemon's absence; at the end cursor and screen are back."""
    view = FakeView(rows=[row("f1", "/spool/a.bin", "uploading"), row("f2", "/spool/b", "held")])
    async with daemon(view, tmp_path / "s"), terminal(tmp_path, tmp_path / "s") as at:
        await at.shows("a.bin")
        await at.shows("━")
        await at.shows("uploaderd show f2")
        view.tell("file", change("f3", "/spool/new.bin", "done"), place="e-1")
        await at.shows("new.bin: This is why it is done.")
        for stream in view.streams:
            stream.end()
        await at.shows("no daemon answers: the daemon has hung up; waiting")
        await wait_until(lambda: len(view.lasts) > 1, what="the next question")
        again = len(at.seen)
        view.tell("file", change("f3", "/spool/later.bin", "done"), place="e-2")
        await at.shows("later.bin", after=again)
        at.process.send_signal(number)
        assert await asyncio.wait_for(at.process.wait(), 30) == 0
        await at.shows("\x1b[?1049l")
        assert termios.tcgetattr(at.device) == at.modes
        assert at.seen.rfind(b"\x1b[?25h") > at.seen.rfind(b"\x1b[?25l")
        assert b"\x1b[31m" in at.seen
    assert view.lasts == [None, "e-1"]


async def test_without_colour_the_bars_have_none(tmp_path: Path) -> None:
    """$NO_COLOR leaves the bars and takes the colours."""
    view = FakeView(rows=[row("f1", "/spool/a.bin", "uploading"), row("f2", "/spool/b", "held")])
    async with (
        daemon(view, tmp_path / "s"),
        terminal(tmp_path, tmp_path / "s", NO_COLOR="1") as at,
    ):
        await at.shows("━")
        await at.shows("uploaderd show f2")
        at.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(at.process.wait(), 30) == 0
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]m", bytes(at.seen))


async def test_a_dumb_terminal_gets_lines(tmp_path: Path) -> None:
    """What cannot be written over is written one after the other."""
    view = FakeView(rows=[row("f1", "/spool/a.bin", "uploading")])
    async with daemon(view, tmp_path / "s"), terminal(tmp_path, tmp_path / "s", TERM="dumb") as at:
        await at.shows("running: 1 uploading")
        view.tell("file", change("f1", "/spool/a.bin", "done"), place="e-1")
        await at.shows("done       /spool/a.bin")
        at.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(at.process.wait(), 30) == 0
    assert b"\x1b" not in at.seen


def drawn(scene: live.Scene, *, width: int, height: int) -> list[str]:
    """The lines of one frame."""
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=False)
    console.print(live.render(scene, NOW_S, width=width, height=height))
    return out.getvalue().splitlines()


def scene_of(rows: list[dict[str, object]]) -> live.Scene:
    """A scene as it is after the first event."""
    scene = live.Scene()
    document = msgspec.json.encode(FakeView(rows=rows).document()).decode()
    scene.take(Event(kind="status", data=document, id=""))
    for one in msgspec.convert([dict(one) for one in rows], list[Row]):
        if one.state == "queued":
            scene.groups.append(
                screen.Group(state=one.state, code=one.reason.code, count=1, row=one)
            )
    return scene


@pytest.mark.parametrize("width", [20, 40, 59, 60, 71, 72, 80, 200])
def test_no_frame_is_wider_than_the_terminal(width: int) -> None:
    """The bars go first, then what is said of each file; the percentage stays."""
    scene = scene_of([row("f1", "/spool/日本語" + "x" * 80 + ".bin", "uploading"), row("f2")])
    scene.changes.append(
        read(msgspec.json.encode(change("f1", "/spool/" + "y" * 99, "done")), Change)
    )
    scene.away = "the daemon has hung up and this sentence is rather long"
    lines = drawn(scene, width=width, height=24)
    assert all(len(one) <= width for one in lines)
    file = next(one for one in lines if ".bin" in one)
    assert "25%" in file
    assert ("━" in file) == (width >= 60)


def test_many_files_leave_room_for_what_needs_a_person() -> None:
    """The bars are cut, and it is said how many are not shown."""
    rows = [row(f"f{n}", f"/spool/{n:03}.bin", "uploading") for n in range(100)]
    lines = drawn(scene_of([*rows, row("q")]), width=80, height=24)
    assert len(lines) <= 24
    assert any(re.fullmatch(r"and \d+ more *", one) for one in lines)
    assert any("WAITING" in one for one in lines)


def test_the_whole_counts_from_the_beginning_of_the_watch() -> None:
    """What was stored years ago fills no bar; a journal that forgets makes it begin anew."""
    scene = scene_of([])

    def told(stored: int, queued: int) -> tuple[int, int]:
        document = FakeView().document()
        document["bytes"] = {"queued": queued, "stored": stored, "resent": 0}
        scene.take(Event(kind="progress", data=msgspec.json.encode(document).decode(), id=""))
        return scene.whole

    assert scene.whole == (0, 3 * 2**20)
    assert told(2**20 + 100, 900) == (100, 1000)
    assert told(5, 900) == (0, 900)
