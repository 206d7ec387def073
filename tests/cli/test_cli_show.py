"""``status``, ``list`` and ``show``: what people read and what programs read."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
from typing import TYPE_CHECKING

from tests.cli.cli_helpers import (
    STARTED,
    FakeView,
    call,
    daemon,
    ended,
    environment,
    row,
    says,
    start,
)
from uploaderd.core.report import escape_path

if TYPE_CHECKING:
    from pathlib import Path

ALL = [
    row("f1", "/spool/a.bin", "uploading"),
    row("f2", "/spool/b.bin", "done", bytes_stored=1000),
    row("f3", "/spool/c.bin", "held"),
    row("f4", "/spool/d.bin", "failed"),
]


async def test_status_is_one_screen(tmp_path: Path) -> None:
    """State, counts, progress, rate, what waits and why."""
    async with daemon(FakeView(rows=list(ALL)), tmp_path / "s"):
        said = await call("status", "--socket", tmp_path / "s", home=tmp_path)
    assert said.code == 0
    for words in (
        "uploaderd 9.9.9 is running, pid 4711",
        "1 uploading, 1 done, 1 held, 1 failed",
        "1.0 MiB stored, 3.0 MiB to go, 1.0 MiB/s, 3s left",
        "25%  /spool/a.bin",
        "100 B/s, 7.5s left",
        "held: /spool/c.bin: This is why it is held.",
        "failed: /spool/d.bin: This is why it is failed.",
    ):
        assert words in said.out
    assert len(said.out.splitlines()) < 24


async def test_status_json_is_the_daemons_document(tmp_path: Path) -> None:
    """One JSON document, as the socket gives it."""
    async with daemon(FakeView(rows=list(ALL)), tmp_path / "s"):
        said = await call("status", "--json", "--socket", tmp_path / "s", home=tmp_path)
    assert json.loads(said.out)["counts"]["held"] == 1


async def test_wait_empty_blocks_until_drained(tmp_path: Path) -> None:
    """It ends with 0 once all is up, and not before."""

    def each(view: FakeView) -> None:
        if view.asked == 4:
            view.rows[0] = row("f1", state="done")

    view = FakeView(rows=[row("f1", state="uploading")], each=each)
    async with daemon(view, tmp_path / "s"):
        said = await call("status", "--wait-empty", "--socket", tmp_path / "s", home=tmp_path)
    assert (said.code, said.out, said.err) == (0, "", "")
    assert view.asked >= 5


async def test_wait_empty_says_what_failed_meanwhile_and_what_is_held(tmp_path: Path) -> None:
    """Both make it 1; a failure of long ago does not."""

    def each(view: FakeView) -> None:
        if view.asked == 3:
            view.rows[0] = row("f1", state="failed")

    view = FakeView(rows=[row("f1", state="uploading"), *ALL[1:]], each=each)
    async with daemon(view, tmp_path / "s"):
        said = await call("status", "--wait-empty", "--socket", tmp_path / "s", home=tmp_path)
    assert said.code == 1
    assert "1 failed and 1 held" in said.err
    async with daemon(FakeView(rows=[row("f1", state="failed")]), tmp_path / "s"):
        said = await call("status", "--wait-empty", "--socket", tmp_path / "s", home=tmp_path)
    assert said.code == 0


async def test_wait_empty_says_what_a_shut_target_keeps(tmp_path: Path) -> None:
    """A person who waits is told once why it takes so long."""
    view = FakeView(rows=[row("f1", state="queued")])
    view.target_state = "auth"

    def each(view: FakeView) -> None:
        if view.asked == 12:
            view.rows[0] = row("f1", state="done")

    view.each = each
    async with daemon(view, tmp_path / "s"):
        said = await call("status", "--wait-empty", "--socket", tmp_path / "s", home=tmp_path)
    assert said.code == 0
    assert said.err == "uploaderd: queued: /spool/a: This is why it is queued.\n"


async def test_wait_empty_outlives_a_restart(tmp_path: Path) -> None:
    """A daemon that goes away and comes back is waited for."""
    view = FakeView(rows=[row("f1", state="uploading")])
    async with daemon(view, tmp_path / "s"):
        process = await start("status", "--wait-empty", "--socket", tmp_path / "s", home=tmp_path)
        async with asyncio.timeout(20):
            while not view.asked:
                await asyncio.sleep(0.02)
    await says(process, "waiting for the daemon to come back")
    async with daemon(FakeView(), tmp_path / "s"):
        said = await ended(process)
    assert said.code == 0


async def test_watch_through_a_pipe_prints_plain_lines(tmp_path: Path) -> None:
    """No control codes, a line where something changed, and Ctrl-C ends it with 0."""

    def each(view: FakeView) -> None:
        view.rows[0] = row("f1", state="uploading" if view.asked % 4 < 2 else "done")

    view = FakeView(rows=[row("f1")], each=each)
    async with daemon(view, tmp_path / "s"):
        process = await start("status", "--watch", "--socket", tmp_path / "s", home=tmp_path)
        assert process.stdout is not None
        async with asyncio.timeout(20):
            lines = [await process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        said = await ended(process)
    assert said.code == 0
    assert said.err == ""
    assert lines[0] != lines[1]
    assert b"\x1b" not in b"".join(lines)
    assert b"1.0 MiB/s" in lines[0]


async def test_watch_at_a_terminal_draws_bars_and_waits_for_the_daemon(tmp_path: Path) -> None:
    """Bars at a terminal, no colour where NO_COLOR says so, and the daemon's absence is said."""
    ours, theirs = pty.openpty()
    seen = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, lambda: seen.extend(os.read(ours, 65536)))
    try:
        async with daemon(FakeView(rows=list(ALL)), tmp_path / "s"):
            process = await asyncio.create_subprocess_exec(
                *(os.sys.executable, "-m", "uploaderd", "status", "--watch"),  # type: ignore[attr-defined]
                *("--socket", tmp_path / "s"),
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env=environment(tmp_path, NO_COLOR="1", TERM="xterm", COLUMNS="100", LINES="30"),
            )
            STARTED.append(process)
            os.close(theirs)
            await until(seen, b"a.bin")
            await until(seen, "━".encode())
        await until(seen, b"waiting for the daemon")
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        loop.remove_reader(ours)
        os.close(ours)
    assert re.search(rb"\x1b\[(\d+;)*[349]\d(;\d+)*m", seen) is None


async def until(seen: bytearray, words: bytes) -> None:
    """Wait for words on the terminal."""
    async with asyncio.timeout(20):
        while words not in seen:
            await asyncio.sleep(0.02)


async def test_list_pages_through_everything(tmp_path: Path) -> None:
    """More files than a page has all arrive, once each, as lines and as JSON."""
    rows = [row(f"f{n}", f"/spool/{n}") for n in range(1203)]
    async with daemon(FakeView(rows=rows), tmp_path / "s"):
        lines = await call("list", "--socket", tmp_path / "s", home=tmp_path)
        as_json = await call("list", "--json", "--socket", tmp_path / "s", home=tmp_path)
    assert len(lines.out.splitlines()) == 1203
    document = json.loads(as_json.out)
    assert [one["id"] for one in document["files"]] == [one["id"] for one in rows]
    assert document["next"] is None


async def test_list_filters_by_state(tmp_path: Path) -> None:
    """Only the files of one state, with the reason's code."""
    async with daemon(FakeView(rows=list(ALL)), tmp_path / "s"):
        said = await call("list", "--state", "held", "--socket", tmp_path / "s", home=tmp_path)
    assert len(said.out.splitlines()) == 1
    assert "/spool/c.bin  (held.why)" in said.out


async def test_show_tells_reason_history_and_parts(tmp_path: Path) -> None:
    """By id and by path, in words and as JSON."""
    async with daemon(FakeView(rows=list(ALL)), tmp_path / "s"):
        socket = ("--socket", tmp_path / "s")
        by_id = await call("show", "f3", *socket, home=tmp_path)
        by_path = await call("show", "/spool/c.bin", *socket, home=tmp_path)
        as_json = await call("show", "--json", "f3", *socket, home=tmp_path)
        missing = await call("show", "/spool/none", *socket, home=tmp_path)
    assert by_id.out == by_path.out
    assert "reason: This is why it is held." in by_id.out
    assert "2026-01-01T00:00:00.000Z  settling    It was just seen." in by_id.out
    assert "parts:\n      1               0       250 B  stored" in by_id.out
    assert json.loads(as_json.out)["parts_list"][0]["number"] == 1
    assert missing.code == 1
    assert "no file has the id or the path /spool/none" in missing.err


async def test_names_cannot_play_with_the_terminal(tmp_path: Path) -> None:
    """Escape codes and new lines in a name are shown, not obeyed; any bytes can be asked for."""
    nasty = b"/spool/\x1b[2J\n\xff.bin"
    async with daemon(FakeView(rows=[row("f1", nasty)]), tmp_path / "s"):
        listed = await call("list", "--socket", tmp_path / "s", home=tmp_path)
        shown = await call("show", nasty, "--socket", tmp_path / "s", home=tmp_path)
        none = await call("show", nasty + b"x", "--socket", tmp_path / "s", home=tmp_path)
    assert len(listed.out.splitlines()) == 1
    assert "\x1b" not in listed.out + shown.out + none.err
    assert escape_path(nasty).replace("\x1b", "\\x1b").replace("\n", "\\n") in listed.out
    assert shown.code == 0
    assert none.code == 1
