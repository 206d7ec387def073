"""Hooks of a real daemon: what they get, that they run for each file, that they harm nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import DaemonProcess, Table
from tests.support.outcome import ask_journal, assert_arrived, files_below
from tests.support.processes import KEY
from tests.support.waiting import wait_until
from uploaderd.emulator import Emulator

if TYPE_CHECKING:
    from pathlib import Path

# Keeps what it was given, under the name of the file that it ran for, in the folder of its words.
KEEPER = """
import json, os, sys
name = os.path.join(sys.argv[1], os.environ["UPLOADERD_ID"])
with open(name + ".json", "a") as file:
    print(json.dumps({"env": dict(os.environ), "stdin": sys.stdin.read(), "cwd": os.getcwd()}),
          file=file)
"""


def hook(*command: str, on: str = "done", **more: object) -> Table:
    """One hook."""
    return {"on": on, "command": list(command), **more}


def sh(script: str, on: str = "done", **more: object) -> Table:
    """A hook that is a line of shell."""
    return hook("/bin/sh", "-c", script, on=on, **more)


async def until_done(daemon: DaemonProcess, count: int) -> None:
    """Wait until so many runs went well and none is owed any more."""
    query = "SELECT count(*), sum(state = 'done') FROM errands"
    await wait_until(
        lambda: ask_journal(daemon.state_dir, query) == [(count, count)],
        what=f"{count} hooks to be done",
    )


@pytest.mark.parametrize("after_upload", ["move", "delete", "keep"])
async def test_a_hook_gets_the_receipt_and_little_else(tmp_path: Path, after_upload: str) -> None:
    """Each file's own, byte for byte, whatever becomes of the file; and never the key."""
    kept = tmp_path / "kept"
    kept.mkdir()
    command = (sys.executable, "-c", KEEPER, str(kept))
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(
            tmp_path,
            emulator.base_url,
            config={"watch": {"after_upload": after_upload}},
            hooks=[hook(*command), hook(*command, on="failed")],
            env={"CREDENTIALS_DIRECTORY": str(tmp_path), "SECRET": "s3cret"},
        ) as daemon,
    ):
        await daemon.start()
        daemon.drop("sub/a b\n.txt", b"content")
        daemon.drop("empty", b"")
        await daemon.until_drained(files=2)
        await until_done(daemon, 2)
        for name, folder in (("sub/a b\n.txt", "done"), ("empty", "failed")):
            row = await daemon.file(name)
            assert row is not None
            (line,) = (kept / f"{row['id']}.json").read_text().splitlines()
            given = json.loads(line)
            receipt = daemon.spool / folder / f"{name}.receipt.json"
            assert given["stdin"] == receipt.read_text()
            assert given["cwd"] == "/"
            env = given["env"]
            own = {key: value for key, value in env.items() if key.startswith("UPLOADERD_")}
            assert own == {
                "UPLOADERD_EVENT": folder,
                "UPLOADERD_ID": row["id"],
                "UPLOADERD_FILE_ID": row["file_id"] or "",
                "UPLOADERD_PATH": str(daemon.spool / name),
                "UPLOADERD_FILED_AS": str(daemon.spool / folder / name),
                "UPLOADERD_RECEIPT": str(receipt),
            }
            allowed = {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE"}  # Python adds the last one
            assert env.keys() - own.keys() <= allowed
            assert KEY not in line
            assert row["history"][-1]["event"] == "hook.ran"
        assert KEY not in daemon.log_text()


async def test_broken_hooks_harm_nothing(tmp_path: Path) -> None:
    """Missing, forbidden, hanging, printing without end: every file arrives, and all is well."""
    forbidden = tmp_path / "forbidden"
    forbidden.write_text("#!/bin/sh\n")
    hooks = [
        hook("/no/such/program"),
        hook("no-such-program"),
        hook(str(forbidden)),
        sh("exec sleep 3600", timeout="1h"),
        sh("exec yes", timeout="1h"),
        sh("kill -9 0"),
        sh("exit 0; exec cat"),
        sh(f"trap '' TERM; echo x >> {tmp_path}/stubborn; while :; do sleep 1; done", timeout="1s"),
    ]
    contents = {f"{number}.txt": b"content %d" % number for number in range(8)}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(
            tmp_path,
            emulator.base_url,
            hooks=hooks,
            config={"daemon": {"drain_timeout": "100ms", "log_level": "info"}},
        ) as daemon,
    ):
        await daemon.start()
        for name, content in contents.items():
            daemon.drop(name, content)
        status = await daemon.until_drained()
        assert_arrived(emulator, daemon, contents)
        good = json.dumps(hooks[6]["command"])
        query = f"SELECT count(*) FROM errands WHERE state = 'done' AND command = '{good}'"  # noqa: S608
        await wait_until(
            lambda: ask_journal(daemon.state_dir, query) == [(8,)], what="the good one's runs"
        )
        stubborn = tmp_path / "stubborn"
        await wait_until(stubborn.exists, what="the stubborn one to run")
        status = await daemon.status()
        assert status["trouble"] is None
        assert status["drained"]
        row = await daemon.file("0.txt")
        assert row is not None
        texts = [moment["text"] for moment in row["history"] if moment["event"] == "hook.failed"]
        missing = "it cannot be started: No such file or directory; it is tried again in 10s."
        assert f"/no/such/program: {missing}" in texts
        assert await daemon.stop() == 0
        # Of eight files that a hook failed for in the same way one was told of.
        assert daemon.log_text().count(" hook.failed ") <= len(hooks)


async def test_a_hook_that_kills_the_daemon_is_run_again_and_never_after_it_went_well(
    tmp_path: Path,
) -> None:
    """Exactly what was owed: the one that nobody saw end, and not the one that had."""
    script = (
        f"echo $UPLOADERD_ID >> {tmp_path}/runs;"
        f" [ -e {tmp_path}/killed ] || [ $UPLOADERD_PATH = {tmp_path}/spool/first ]"
        f" || {{ touch {tmp_path}/killed; kill -9 $PPID; exit 0; }}"
    )
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, hooks=[sh(script)]) as daemon,
    ):
        await daemon.start()
        daemon.drop("first", b"first")
        await daemon.until_drained()
        await until_done(daemon, 1)
        daemon.drop("second", b"second")
        assert await daemon.process.ended() == -9
        for _ in range(2):
            await daemon.start()
            await daemon.until_drained()
            await until_done(daemon, 2)
            await daemon.kill()
        first, second = (
            file_id
            for (file_id,) in ask_journal(daemon.state_dir, "SELECT id FROM files ORDER BY created")
        )
        runs = (tmp_path / "runs").read_text().split()
        assert runs == [first, second, second]
        assert emulator.stats.uploads_created == 2


async def test_a_daemon_that_is_killed_leaves_its_hook_and_runs_it_again(tmp_path: Path) -> None:
    """Also where it is paused then; what ran on by itself is not waited for."""
    script = f"echo $$ >> {tmp_path}/runs; [ -e {tmp_path}/go ] || exec sleep 5"
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, hooks=[sh(script)]) as daemon,
    ):
        await daemon.start()
        daemon.drop("a", b"content")
        await wait_until((tmp_path / "runs").exists, what="the hook to run")
        await daemon.ask("/v1/pause", method="POST")
        await daemon.kill()
        (tmp_path / "go").touch()
        await daemon.start()
        await until_done(daemon, 1)
        assert (await daemon.status())["state"] == "paused"
        assert len((tmp_path / "runs").read_text().split()) == 2
        assert files_below(daemon.spool / "done") == {"a", "a.receipt.json"}


async def test_a_reload_takes_hooks_over_and_lets_what_is_owed_wait(tmp_path: Path) -> None:
    """One that is taken out rests with what it owes, and goes on when it is there again."""
    broken = sh(f"echo run >> {tmp_path}/runs; [ -e {tmp_path}/mended ]")
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()

        async def renew(*hooks: Table) -> None:
            daemon.hooks = list(hooks)
            daemon.configure()
            await daemon.ask("/v1/reload", method="POST")

        daemon.drop("before", b"before")
        await daemon.until_drained(files=1)
        await renew(broken)
        daemon.drop("a", b"content")
        await daemon.until_drained(files=2)
        outcome = "SELECT count(*) FROM errands WHERE outcome <> ''"
        await wait_until(
            lambda: ask_journal(daemon.state_dir, outcome) == [(1,)], what="the hook to fail"
        )
        await renew(sh("exit 0", "failed"))
        (tmp_path / "mended").touch()
        with closing(sqlite3.connect(daemon.state_dir / "journal.sqlite3")) as journal:
            journal.execute("UPDATE errands SET due = 0")
            journal.commit()
        daemon.drop("empty", b"")
        await daemon.until_drained(files=3)
        done = "SELECT occasion, state FROM errands ORDER BY occasion"
        await wait_until(
            lambda: ask_journal(daemon.state_dir, done) == [("done", "owed"), ("failed", "done")],
            what="the other hook to run, and that one to rest",
        )
        await renew(broken)
        await until_done(daemon, 2)
        assert (tmp_path / "runs").read_text() == "run\nrun\n"


async def test_names_that_are_no_text_reach_a_hook_as_they_are(tmp_path: Path) -> None:
    """Its variables hold the file system's own bytes."""
    script = f'cp "$UPLOADERD_FILED_AS" {tmp_path}/copy && cp "$UPLOADERD_RECEIPT" {tmp_path}/json'
    name = os.fsdecode(b"caf\xe9 $(id) \xff")
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, hooks=[sh(script)]) as daemon,
    ):
        await daemon.start()
        daemon.drop(name, b"content")
        await daemon.until_drained()
        await until_done(daemon, 1)
        assert (tmp_path / "copy").read_bytes() == b"content"
        assert json.loads((tmp_path / "json").read_text())["outcome"] == "uploaded"
