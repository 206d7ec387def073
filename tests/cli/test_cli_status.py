"""``status``: one screen for a person, plain lines for a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import struct
import termios
from fcntl import ioctl
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from uploaderd.cli import advice, fit, panel, screen
from uploaderd.control.documents import Row, Status
from uploaderd.core.gate import GateState
from uploaderd.core.reasons import SENTENCES, TARGET_TROUBLE

if TYPE_CHECKING:
    from pathlib import Path

ALL = [
    row("f1", "/spool/a.bin", "uploading"),
    row("f2", "/spool/b.bin", "done", bytes_stored=1000),
    row("f3", "/spool/c.bin", "held"),
    row("f4", "/spool/d.bin", "failed"),
]
NOW_S = 1_800_000_000.0
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


async def test_through_a_pipe_each_fact_is_a_line(tmp_path: Path) -> None:
    """State, counts, progress, rate, what waits and why, with whole paths and what to do."""
    view = FakeView(rows=list(ALL), target_state="auth", trouble="The disk is full.")
    async with daemon(view, tmp_path / "s"):
        said = await call("status", "--socket", tmp_path / "s", home=tmp_path, COLUMNS="40")
    assert said.code == 0
    assert "\x1b" not in said.out
    first, *lines = said.out.splitlines()
    assert re.fullmatch(r"uploaderd 9\.9\.9 is running, pid 4711(, up .+)?", first)
    assert lines == [
        "files: 1 uploading, 1 done, 1 held, 1 failed",
        "bytes: 1.0 MiB stored, 3.0 MiB to go, 1.0 MiB/s, 3s left",
        "watch: /spool: inotify",
        "target: openai takes nothing (auth)",
        "  do: correct the key, then: uploaderd reload",
        "trouble: The disk is full.",
        "  do: see the daemon's log, and: uploaderd check",
        "uploading: /spool/a.bin: 25% of 1000 B, 100 B/s, 7s left",
        "held: /spool/c.bin: This is why it is held. [held.why]",
        "  do: see: uploaderd show f3",
        "failed: /spool/d.bin: This is why it is failed. [failed.why]",
        "  do: see: uploaderd show f4",
    ]


async def test_what_waits_for_one_reason_is_one_line_with_the_count(tmp_path: Path) -> None:
    """However many there are; what cannot be counted is said to be more."""
    operator = {"code": "held.operator", "text": "Held.", "until": None}
    rows = [
        *(row(f"q{n}", f"/spool/{n}", "queued") for n in range(120)),
        *(row(f"h{n}", f"/spool/h{n}", "held", reason=operator) for n in range(2)),
        *(row(f"d{n}", f"/spool/d{n}", "deferred") for n in range(40)),
        *(row(f"e{n}", f"/spool/e{n}", "deferred", reason=operator) for n in range(40)),
    ]
    async with daemon(FakeView(rows=rows), tmp_path / "s"):
        said = await call("status", "--socket", tmp_path / "s", home=tmp_path)
    assert "queued: /spool/0 and 119 more: This is why it is queued. [queued.why]\n" in said.out
    assert "held: /spool/h0 and 1 more: Held. [held.operator]\n" in said.out
    assert "  do: uploaderd release --code held.operator\n" in said.out
    assert "deferred: /spool/d0 and 39+ more: " in said.out
    assert "deferred: /spool/e0 and 9+ more: " in said.out
    assert len(said.out.splitlines()) < 24


async def test_failures_of_long_ago_are_counted_and_not_told(tmp_path: Path) -> None:
    """They need nobody's attention for ever."""
    old = row("f1", "/spool/a", "failed", updated_at="2001-01-01T00:00:00.000Z")
    async with daemon(FakeView(rows=[old]), tmp_path / "s"):
        said = await call("status", "--socket", tmp_path / "s", home=tmp_path)
    assert "files: 1 failed" in said.out
    assert "/spool/a" not in said.out


async def test_status_json_is_the_daemons_document(tmp_path: Path) -> None:
    """One JSON document, as the socket gives it."""
    async with daemon(FakeView(rows=list(ALL)), tmp_path / "s"):
        said = await call("status", "--json", "--socket", tmp_path / "s", home=tmp_path)
    assert json.loads(said.out)["counts"]["held"] == 1


# --- at a terminal --------------------------------------------------------------------------------


async def at_terminal(home: Path, *words: str | Path, columns: int, **extra: str) -> str:
    """Run a command at a terminal of that width; give what it wrote there."""
    ours, theirs = pty.openpty()
    ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    seen = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, lambda: seen.extend(os.read(ours, 65536)))
    try:
        process = await asyncio.create_subprocess_exec(
            *(os.sys.executable, "-m", "uploaderd", *words),  # type: ignore[attr-defined]
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(home, TERM="xterm") | extra,
        )
        STARTED.append(process)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        os.set_blocking(ours, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                seen.extend(os.read(ours, 65536))
        return seen.decode()
    finally:
        loop.remove_reader(ours)
        os.close(theirs)
        os.close(ours)


@pytest.mark.parametrize(
    ("extra", "options", "width", "colors"),
    [
        ({}, (), 80, True),
        ({}, (), 40, True),
        ({"COLUMNS": "60"}, (), 60, True),
        ({"NO_COLOR": "1"}, (), 80, False),
        ({"TERM": "dumb"}, (), 80, False),
        ({}, ("--no-color",), 80, False),
    ],
)
async def test_at_a_terminal_it_fits_and_is_coloured_unless_told(
    tmp_path: Path, extra: dict[str, str], options: tuple[str, ...], width: int, colors: bool
) -> None:
    """Neither $NO_COLOR, --no-color nor TERM=dumb let a colour through; $COLUMNS rules."""
    view = FakeView(rows=[*ALL, row("f5", "/spool/" + "long/" * 40, "uploading")])
    async with daemon(view, tmp_path / "s"):
        words: list[str | Path] = ["status", *options, "--socket", tmp_path / "s"]
        seen = await at_terminal(tmp_path, *words, columns=40 if width == 40 else 80, **extra)
    assert ("\x1b" in seen) == colors
    lines = ESCAPE.sub("", seen).replace("\r", "").splitlines()
    assert max(map(len, lines)) <= width
    assert "SENDING" in seen
    assert "NEEDS A PERSON" in seen
    assert "uploaderd show f3" in seen
    assert any(line.startswith("  a.bin ") and "25%" in line for line in lines)


def status(rows: list[dict[str, object]], **facts: object) -> tuple[Status, list[screen.Group]]:
    """A status and the groups that belong to it."""
    view = FakeView(rows=rows)
    for name, value in facts.items():
        setattr(view, name, value)
    read = msgspec.convert([dict(one) for one in rows], list[Row])
    groups = [
        screen.Group(state=one.state, code=one.reason.code, count=1, row=one)
        for one in read
        if one.state in (*screen.ENDED_BADLY, *screen.WAITING)
    ]
    return msgspec.convert(view.document(), Status), groups


def test_an_ordinary_day_fits_on_80_by_24() -> None:
    """Four files in flight, some waiting, one held, one failed, a target that asks for a pause."""
    expiry = "2027-01-15T08:59:00.000Z"
    rows = [
        *(row(f"u{n}", f"/spool/run-{n}/x.bin", "uploading", expires_at=expiry) for n in range(4)),
        row("q", "/spool/q", "queued"),
        row("d", "/spool/d", "deferred"),
        row("h", "/spool/h", "held"),
        row("f", "/spool/f", "failed"),
    ]
    now, groups = status(rows, target_state="rate_limited")
    lines = panel.lines(now, groups, NOW_S, columns=80)
    assert len(lines) <= 24
    assert max(fit.width(line.text) for line in lines) <= 80
    assert any(line.text.endswith(f"{'7s':>8}{'59m':>9}") for line in lines)


@settings(max_examples=60, deadline=None)
@given(
    name=st.text(min_size=1, max_size=60),
    columns=st.integers(20, 140),
    state=st.sampled_from(["uploading", "held", "failed", "queued", "deferred", "settling"]),
    trouble=st.none() | st.text(max_size=200),
)
def test_whatever_the_names_are_no_line_is_wider_than_the_terminal(
    name: str, columns: int, state: str, trouble: str | None
) -> None:
    """Wide letters, marks without width, controls: they fit, and nothing unprintable is left."""
    raw = name.encode("utf-8", "surrogatepass")
    now, groups = status(
        [row("f1", b"/spool/" + raw, state), row("f2", b"/spool/b" + raw, "uploading")],
        trouble=trouble,
    )
    for line in panel.lines(now, groups, NOW_S, columns=columns):
        assert fit.width(line.text) <= columns
        assert not {c for c in line.text if ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0}
        assert not set(line.text) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2028")


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_narrow_terminal_loses_columns_but_not_the_names(columns: int) -> None:
    """The percentage and the time left stay; what to do is never cut."""
    now, groups = status(
        [row("f1", "/spool/a.bin", "uploading"), row("x" * 32, "/spool/h", "held")]
    )
    lines = [line.text for line in panel.lines(now, groups, NOW_S, columns=columns)]
    sent = next(line for line in lines if "a.bin" in line)
    assert "25%" in sent
    assert "7s" in sent
    assert ("100 B/s" in sent) == (columns > 52)
    assert "uploaderd show " + "x" * 32 in " ".join(" ".join(lines).split())


def test_wide_letters_count_twice_and_marks_not_at_all() -> None:
    """As a terminal shows them."""
    assert fit.width("日本") == 4
    assert fit.width("e\u0301") == 1
    assert fit.cut("日本語", 5) == "日本…"
    assert fit.tail("日本語", 4) == "…語"
    assert fit.pad("日", 4) == "日  "
    assert fit.wrap("aa bb cc", 5, lines=2) == ["aa bb", "cc"]
    assert fit.wrap("aa bb cc dd", 5, lines=2, indent=2) == ["aa bb", "  cc…"]
    assert fit.wrap("x" * 7, 3, lines=9) == ["xxx", "xxx", "x"]


def test_each_thing_that_needs_a_person_says_what_to_do() -> None:
    """Every reason that holds or fails a file, and every way in which a target is shut."""
    assert {code for code in SENTENCES if code.startswith(("held.", "failed."))} == advice.KNOWN
    for code in TARGET_TROUBLE:
        assert advice.for_target(code.partition(".")[2])
    assert advice.for_target("outage")
    assert not advice.for_target(GateState.OPEN.value)
    assert advice.for_files("held.operator", count=1, file_id="f1") == "uploaderd release f1"
    many = advice.for_files("failed.rejected", count=2, file_id="f1")
    assert many.endswith("uploaderd retry --code failed.rejected")


# --- until nothing is left ------------------------------------------------------------------------


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
