"""The operator's verbs by command: how many files, why not, and what the exit code says."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.cli.cli_helpers import FakeView, call, daemon, row

if TYPE_CHECKING:
    from pathlib import Path


def some() -> FakeView:
    """Files in several states."""
    return FakeView(
        rows=[
            row("f1", "/spool/a", "queued"),
            row("f2", "/spool/b", "uploading"),
            row("f3", "/spool/c", "done"),
            row("f4", "/spool/d", "failed"),
        ]
    )


@pytest.mark.parametrize(
    ("verb", "past"),
    [("retry", "retried"), ("hold", "held"), ("release", "released"), ("cancel", "cancelled")],
)
async def test_a_verb_says_what_it_did_to_how_many(tmp_path: Path, verb: str, past: str) -> None:
    """One file is named, several are counted, by path and by id."""
    view = some()
    socket = ("--socket", tmp_path / "s")
    async with daemon(view, tmp_path / "s"):
        one = await call(verb, "/spool/a", *socket, home=tmp_path)
        two = await call(verb, "f1", "/spool/b", "f1", *socket, home=tmp_path, COLUMNS="20")
    assert (one.code, one.out, one.err) == (0, f"{past} /spool/a\n", "")
    if verb == "cancel":  # the first of them is cancelled by now
        assert (two.code, two.out) == (1, "cancelled /spool/b\n")
    else:
        assert (two.code, two.out, two.err) == (0, f"{past} 2 files\n", "")
    assert {said for said, _ in view.said} == {verb}


async def test_each_refusal_is_one_line_with_its_hint_and_the_others_go_on(tmp_path: Path) -> None:
    """A file that has ended, a path that is no file's, one that is held: the exit code is 1."""
    view = some()
    async with daemon(view, tmp_path / "s"):
        words = ("hold", "f3", "/spool/none", "f2", "--socket", tmp_path / "s")
        said = await call(*words, home=tmp_path)
        as_json = await call(*words, "--json", home=tmp_path)
    assert said.code == as_json.code == 1
    assert said.out == "held /spool/b\n"
    assert said.err.splitlines() == [
        "uploaderd: error: /spool/c is done; see: uploaderd show",
        "uploaderd: error: no file has the id or the path /spool/none; see: uploaderd list",
    ]
    document = json.loads(as_json.out)
    assert [one["id"] for one in document["files"]] == ["f2"]
    assert [(one["file"], one["code"]) for one in document["refused"]] == [
        ("f3", "not_applicable"),
        ("/spool/none", ""),
    ]
    assert as_json.err == ""


async def test_a_verb_applies_to_all_files_in_a_state(tmp_path: Path) -> None:
    """Also over many pages, whose files leave the state while they are gone through."""
    slot = {"code": "queued.slot", "text": "It waits.", "until": None}
    rows = [row(f"f{n}", f"/spool/{n}", "failed") for n in range(1201)]
    view = FakeView(rows=[row("q", "/spool/q", reason=slot), *rows, row("r", "/spool/r")])
    socket = ("--socket", tmp_path / "s")
    async with daemon(view, tmp_path / "s"):
        none = await call("release", "--state", "held", *socket, home=tmp_path)
        code = await call(
            "hold", "--state", "queued,held", "--code", "held", *socket, home=tmp_path
        )
        one = await call("hold", "--code", "queued.slot", *socket, home=tmp_path)
        assert view.said == [("hold", "q")]
        many = await call("retry", "--state", "failed", *socket, home=tmp_path)
    assert (none.code, none.out, none.err) == (0, "nothing to release\n", "")
    assert (code.code, code.out) == (0, "nothing to hold\n")
    assert (one.code, one.out) == (0, "held /spool/q\n")
    assert (many.code, many.out, many.err) == (0, "retried 1201 files\n", "")
    assert len(view.said) == 1202


async def test_a_daemon_that_gives_too_many_files_has_the_verb_said_to_those_asked_for(
    tmp_path: Path,
) -> None:
    """What cannot be undone is not left to one side's filter."""
    slot = {"code": "queued.slot", "text": "It waits.", "until": None}
    view = FakeView(
        rows=[row("f1"), row("f2", reason=slot), row("f3", state="held", reason=slot)],
        careless=True,
    )
    async with daemon(view, tmp_path / "s"):
        words = ("cancel", "--state", "queued", "--code", "queued.slot")
        said = await call(*words, "--socket", tmp_path / "s", home=tmp_path)
    assert said.out == "cancelled /spool/a\n"
    assert view.said == [("cancel", "f2")]


async def test_pause_resume_and_reload_say_how_it_stands(tmp_path: Path) -> None:
    """In a sentence, and as the daemon's own document."""
    view = some()
    socket = ("--socket", tmp_path / "s")
    async with daemon(view, tmp_path / "s"):
        paused = await call("pause", *socket, home=tmp_path)
        as_json = await call("pause", "--json", *socket, home=tmp_path)
        resumed = await call("resume", *socket, home=tmp_path)
        reloaded = await call("reload", *socket, home=tmp_path)
    assert paused.out == "paused; 2 files wait for: uploaderd resume\n"
    assert json.loads(as_json.out)["state"] == "paused"
    assert resumed.out == "running; 2 files go on\n"
    assert reloaded.out == "reloaded; running with 1 folder and 1 target\n"
    assert paused.code == resumed.code == reloaded.code == 0


async def test_limit_shows_sets_and_gives_back(tmp_path: Path) -> None:
    """Alone it shows; with a rate it sets; `config` gives it back to what is configured."""
    view = some()
    socket = ("--socket", tmp_path / "s")
    async with daemon(view, tmp_path / "s"):
        shown = await call("limit", *socket, home=tmp_path)
        given = await call("limit", "5MiB/s", *socket, home=tmp_path)
        status = await call("status", *socket, home=tmp_path)
        reloaded = await call("reload", *socket, home=tmp_path)
        as_json = await call("limit", "--json", *socket, home=tmp_path)
        free = await call("limit", "unlimited", *socket, home=tmp_path)
        back = await call("limit", "config", *socket, home=tmp_path)
    by_hand = "by the operator; give it back with: uploaderd limit config\n"
    assert shown.out == "not limited\n"
    assert given.out == f"limited to 5.0 MiB/s {by_hand}"
    assert f"bandwidth: limited to 5.0 MiB/s {by_hand}" in status.out
    assert f"the bandwidth is still limited to 5.0 MiB/s {by_hand}" in reloaded.err
    assert json.loads(as_json.out) == {
        "limit_bps": 5 << 20, "why": "operator", "until": None, "configured": "unlimited"
    }  # fmt: skip
    assert free.out == f"not limited {by_hand}"
    assert back.out == "not limited\n"
    assert {one.code for one in (shown, given, reloaded, as_json, free, back)} == {0}


async def test_the_timetable_says_until_when(tmp_path: Path) -> None:
    """For how long still, which the daemon knows."""
    view = some()
    view.bandwidth = {"limit_bps": 1 << 20, "why": "timetable", "until": "2100-01-01T00:00:00Z"}
    async with daemon(view, tmp_path / "s"):
        shown = await call("limit", "--socket", tmp_path / "s", home=tmp_path)
    assert re.fullmatch(r"limited to 1.0 MiB/s by the timetable, for \d+d \d+h\n", shown.out)


@pytest.mark.parametrize("rate", ["5", "5MiB", "0", "off", "08:00,5MiB/s", "-1", "fast"])
async def test_what_is_no_limit_is_wrong_usage(tmp_path: Path, rate: str) -> None:
    """It is refused before anybody is asked, with an example."""
    said = await call("limit", "--socket", tmp_path / "s", "--", rate, home=tmp_path)
    assert said.code == 2
    assert "is no limit" in said.err
    assert "uploaderd limit 5MiB/s" in said.err


async def test_a_configuration_that_is_refused_is_78(tmp_path: Path) -> None:
    """With the daemon's own words, and its own hint."""
    view = FakeView(refusal="config.toml: transfer.part_size is 3, which is too little")
    async with daemon(view, tmp_path / "s"):
        said = await call("reload", "--socket", tmp_path / "s", home=tmp_path)
    assert said.code == 78
    assert said.out == ""
    assert said.err.splitlines() == [
        "uploaderd: error: config.toml: transfer.part_size is 3, which is too little",
        "uploaderd: hint: mend it",
    ]
