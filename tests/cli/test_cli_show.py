"""``list`` and ``show``: what people read and what programs read."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.cli_helpers import FakeView, call, daemon, ended, environment, row
from uploaderd.cli.moments import now_s
from uploaderd.core.report import escape_path, rfc3339

if TYPE_CHECKING:
    from pathlib import Path

ALL = [
    row("f1", "/spool/a.bin", "uploading"),
    row("f2", "/spool/b.bin", "done", bytes_stored=1000),
    row("f3", "/spool/c.bin", "held"),
    row("f4", "/spool/d.bin", "failed"),
]


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
    assert by_id.out.split("history:")[0] == by_path.out.split("history:")[0]
    assert "reason: This is why it is held." in by_id.out
    assert re.search(
        r"\n  2026-01-01T00:00:00.000Z  settling  +\w+( \w+)?  It was just seen.\n", by_id.out
    )
    assert "parts: 1: 1 stored\n      1  at            0       250 B  stored" in by_id.out
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


FILTERED = [
    row("f1", "/spool/a.jsonl", "queued", target="azure"),
    row("f2", "/other/sub/b.jsonl", "held", watch="/other"),
    row("f3", "/spool/c.bin", "failed", updated_at="2099-12-31T23:00:00.000Z"),
    row("f4", "/spool/d.bin", "queued", updated_at="2000-01-01T00:00:00.000Z"),
]


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (("--state", "held,failed"), ["f2", "f3"]),
        (("--state", "held", "--state", "queued"), ["f1", "f2", "f4"]),
        (("--code", "failed"), ["f3"]),
        (("--target", "azure"), ["f1"]),
        (("--watch-path", "/other/"), ["f2"]),
        (("--name", "*.jsonl"), ["f1", "f2"]),
        (("--name", "sub/*"), ["f2"]),
        (("--since", "2099-12-31T23:00:00Z"), ["f1", "f2", "f3"]),
        (("--until", "2099-12-31T23:00:00Z"), ["f4"]),
        (("--since", "1d", "--limit", "2"), ["f1", "f2"]),
        (("--limit", "1", "--name", "*.bin"), ["f3"]),
    ],
)
async def test_the_filters_of_list(tmp_path: Path, words: tuple[str, ...], ids: list[str]) -> None:
    """Each leaves the files that it says, in words and as JSON."""
    view = FakeView(rows=list(FILTERED), watches=["/spool", "/other"])
    async with daemon(view, tmp_path / "s"):
        listed = await call("list", *words, "--socket", tmp_path / "s", home=tmp_path)
        as_json = await call("list", "--json", *words, "--socket", tmp_path / "s", home=tmp_path)
    assert [one["id"] for one in json.loads(as_json.out)["files"]] == ids
    paths = {str(one["id"]): str(one["path"]) for one in FILTERED}
    assert [line.split()[4] for line in listed.out.splitlines()] == [paths[one] for one in ids]


async def test_a_span_lies_behind_now(tmp_path: Path) -> None:
    """Changed an hour ago is since two hours, and not since half an hour."""
    changed = rfc3339(now_s() - 3600)
    async with daemon(FakeView(rows=[row("f1", updated_at=changed)]), tmp_path / "s"):
        socket = ("--socket", tmp_path / "s")
        said = [
            (await call("list", *words, *socket, home=tmp_path)).out
            for words in (("--since", "2h"), ("--since", "30m"), ("--until", "30m"))
        ]
    assert [bool(one) for one in said] == [True, False, True]


async def test_a_folder_that_is_not_watched_is_wrong_usage(tmp_path: Path) -> None:
    """The hint names those that are."""
    async with daemon(FakeView(watches=["/spool"]), tmp_path / "s"):
        words = ("list", "--watch-path", "/nowhere", "--socket", tmp_path / "s")
        said = await call(*words, home=tmp_path)
    assert said.code == 2
    assert "watched are: /spool" in said.err


async def test_a_list_of_any_length_takes_no_more_memory(tmp_path: Path) -> None:
    """Ten times the files, as text or as JSON, and the command is hardly larger."""
    few, many = 2000, 20_000
    for words in (("list",), ("list", "--json")):
        peaks = []
        for count in (few, many):
            rows = [row(f"f{n}", f"/spool/{n}") for n in range(count)]
            async with daemon(FakeView(rows=rows), tmp_path / "s"):
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-c", _PEAK, *words, "--socket", tmp_path / "s"),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=environment(tmp_path),
                )
                said = await ended(process)
            assert said.code == 0
            assert said.out.count("/spool/") == count
            peaks.append(int(said.err))
        # In whole it would be some 15 MiB more.
        assert peaks[1] - peaks[0] < 5 * 1024, peaks


_PEAK = """
import atexit, sys
def peak():
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")), file=sys.stderr)
atexit.register(peak)
from uploaderd.cli import main
main()
"""


async def test_show_of_a_thousand_parts_is_bounded(tmp_path: Path) -> None:
    """A summary and those that are not stored; how long it was in each state."""
    parts = [
        {"number": n, "offset": (n - 1) * 10, "bytes": 10, "state": "stored", "sends": 1}
        for n in range(1, 1001)
    ]
    for number in (7, 500):
        parts[number - 1] |= {"state": "in_flight", "sends": 2}
    for number in range(900, 960):
        parts[number - 1]["state"] = "planned"
    history = [
        {"at": f"2026-01-01T00:0{n}:00.000Z", "state": state, "text": "So it is.", "code": "x.y"}
        for n, state in enumerate(("settling", "queued", "uploading"))
    ]
    shown = row("f1", "/spool/a", "uploading", parts_list=parts, history=history)
    async with daemon(FakeView(rows=[shown]), tmp_path / "s"):
        said = await call("show", "f1", "--socket", tmp_path / "s", home=tmp_path)
    lines = said.out.splitlines()
    assert "parts: 1000: 938 stored, 2 in_flight, 60 planned" in lines
    assert "      7  at           60        10 B  in_flight  (tried 2 times)" in lines
    assert "  … and 42 more; all are in: uploaderd show --json f1" in lines
    assert "  2026-01-01T00:01:00.000Z  queued           1m  So it is." in lines
    assert len(lines) < 60


async def test_show_verbose_lists_the_requests(tmp_path: Path) -> None:
    """Each with the id that the service knows it by, and how it ended; else not a word of them."""
    requests = [
        {"id": "r-1", "call": "create", "part": None, "at": 1e9, "outcome": "ok"},
        {"id": "r-2", "call": "part", "part": 3, "at": 1e9, "outcome": None},
    ]
    async with daemon(FakeView(rows=[row("f1", requests=requests)]), tmp_path / "s"):
        brief = await call("show", "f1", "--socket", tmp_path / "s", home=tmp_path)
        said = await call("show", "-v", "f1", "--socket", tmp_path / "s", home=tmp_path)
    assert "r-1" not in brief.out
    assert "  2001-09-09T01:46:40.000Z  create      r-1  ok\n" in said.out
    assert "  2001-09-09T01:46:40.000Z  part 3      r-2  under way\n" in said.out
