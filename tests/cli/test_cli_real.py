"""The commands against the real daemon and the emulator, each a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.cli.cli_helpers import Said, call, ended, says, start, write_config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = "sk-test-key"


@dataclass(slots=True)
class World:
    """A home with an emulator; the daemon comes and goes."""

    home: Path
    config: Path
    daemons: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def run(self) -> asyncio.subprocess.Process:
        """Start the daemon and wait until it answers."""
        words = ("run", "--config", self.config)
        process = await start(*words, home=self.home, OPENAI_API_KEY=KEY)
        self.daemons.append(process)
        async with asyncio.timeout(60):
            while (await self("status")).code == 69:
                assert process.returncode is None
        return process

    async def __call__(self, *words: str | bytes | Path) -> Said:
        """Run a command with this world's configuration."""
        return await call(*words, "--config", self.config, home=self.home)


@asynccontextmanager
async def world(home: Path) -> AsyncIterator[World]:
    """Start the emulator; end every process at the end."""
    words = ("emulator", "--listen", "127.0.0.1:0", "--store", home / "store", "--api-key", KEY)
    emulator = await start(*words, home=home)
    assert emulator.stdout is not None
    line = (await asyncio.wait_for(emulator.stdout.readline(), 20)).decode().strip()
    assert line.startswith("listening on http://127.0.0.1:")
    url = line.removeprefix("listening on ")
    here = World(home=home, config=write_config(home, more=f'[targets.t]\nbase_url = "{url}"'))
    try:
        yield here
    finally:
        for process in (*here.daemons, emulator):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            said = await ended(process)
            assert said.code in {0, -signal.SIGKILL}
            assert "Traceback" not in said.err


async def test_what_is_put_arrives_and_is_told(tmp_path: Path) -> None:
    """Put --wait, list, show, wait and status agree on what happened."""
    (tmp_path / "a.bin").write_bytes(os.urandom(3_000_000))
    (tmp_path / "b.jsonl").write_text('{"custom_id":"1"}\n')
    (tmp_path / "none.bin").write_bytes(b"")
    spool = tmp_path / "spool"
    async with world(tmp_path) as here:
        process = await here.run()
        put = await here("put", "--wait", "a.bin", "b.jsonl", "a.bin")
        assert (put.code, put.err) == (0, "")
        ids = put.out.split()
        assert len(ids) == len(set(ids)) == 3
        batch = await here("put", "--wait", "--json", "--purpose", "batch", "b.jsonl")
        assert json.loads(batch.out)["files"][0]["state"] == "done"
        empty = await here("put", "--wait", "none.bin")
        assert (empty.code, empty.out) == (1, "")
        assert "none.bin failed: It has no bytes" in empty.err
        assert (await here("wait", spool / "a.bin", spool / "batch/b.jsonl")).code == 0
        listed = json.loads((await here("list", "--json")).out)["files"]
        assert {one["file_id"] for one in listed} >= set(ids)
        second = await here("show", "--json", spool / "done/a~2.bin")
        assert json.loads(second.out)["file_id"] == ids[2]
        assert (await here("show", spool / "done/a.bin")).out.count(ids[0]) == 1
        assert (await here("status", "--wait-empty")).code == 0
        again = await here("run")
        assert again.code == 78
        process.send_signal(signal.SIGTERM)
        assert (await ended(process)).code == 0
        assert (await here("status")).code == 69


@pytest.mark.parametrize("name", [b"a \xff b.bin", b"new\nline\x1b.bin", b"back\\xff&%20+.bin"])
async def test_any_name_arrives(tmp_path: Path, name: bytes) -> None:
    """Names that are no UTF-8, hold control characters or look escaped go all the way."""
    (tmp_path / os.fsdecode(name)).write_text("x")
    async with world(tmp_path) as here:
        await here.run()
        put = await here("put", "--wait", name)
        assert (put.code, put.err) == (0, "")
        shown = await here("show", "--json", os.fsencode(tmp_path) + b"/spool/" + name)
        path = json.loads(shown.out)["path"]
        by_text = await here("show", "--json", path)
        assert by_text.out == shown.out


async def test_wait_goes_on_over_a_kill(tmp_path: Path) -> None:
    """A daemon that is killed and started again still ends the wait with the file's id."""
    (tmp_path / "a.bin").write_bytes(os.urandom(6_000_000))
    async with world(tmp_path) as here:
        with here.config.open("a") as config:
            config.write('[transfer]\nbandwidth = "4MiB/s"\n')
        process = await here.run()
        words = ("put", "--wait", "a.bin", "--config", here.config)
        waiting = await start(*words, home=tmp_path)
        async with asyncio.timeout(20):
            while "1 uploading" not in (await here("status")).out:
                assert waiting.returncode is None
        process.kill()
        await says(waiting, "waiting for the daemon to come back")
        await here.run()
        said = await ended(waiting)
    assert said.code == 0
    assert said.out.startswith("file-")


async def test_watch_tells_each_change_once_over_a_kill(tmp_path: Path) -> None:
    """What is followed goes on after SIGKILL where it was: the history, line by line."""
    (tmp_path / "a.bin").write_bytes(os.urandom(3_000_000))
    async with world(tmp_path) as here:
        process = await here.run()
        assert (await here("put", "--wait", "a.bin")).code == 0
        words = ("status", "--watch", "--config", here.config)
        watching = await start(*words, home=tmp_path)
        assert watching.stdout is not None
        async with asyncio.timeout(60):
            assert (await watching.stdout.readline()).startswith(b"running: 1 done")
        (tmp_path / "b.bin").write_bytes(os.urandom(2_000_000))
        second = await here("put", "--wait", "--json", "b.bin")
        process.kill()
        await says(watching, "waiting for the daemon to come back")
        await here.run()
        third = await here("put", "--wait", "--json", "b.bin")
        shown = [
            json.loads((await here("show", "--json", one["id"])).out)
            for said in (second, third)
            for one in json.loads(said.out)["files"]
        ]
        told = [f"{one['at']} {one['state']}" for row in shown for one in row["history"]]
        async with asyncio.timeout(60):
            lines = [(await watching.stdout.readline()).decode() for _ in told]
        watching.send_signal(signal.SIGINT)
        said = await ended(watching)
    assert [" ".join(line.split()[:2]) for line in lines] == told
    assert (said.code, said.out) == (0, "")


async def test_the_demo_proves_itself_and_leaves_nothing(tmp_path: Path) -> None:
    """The demo ends with 0 in time, every fact holds, and its folder and processes are gone."""
    (tmp_path / "tmp").mkdir()
    async with asyncio.timeout(60):
        process = await start("demo", home=tmp_path, TMPDIR=str(tmp_path / "tmp"))
        said = await ended(process)
    assert said.code == 0, said.out + said.err
    assert "SIGKILL" in said.out
    assert "DOES NOT HOLD" not in said.out
    assert "all of it holds" in said.out
    assert said.out.count("│ same │") == 14
    assert "\x1b" not in said.out
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C ends the demo's processes and removes its folder."""
    (tmp_path / "tmp").mkdir()
    process = await start("demo", home=tmp_path, TMPDIR=str(tmp_path / "tmp"))
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while b"the daemon has pid" not in (line := await process.stdout.readline()):
            assert line
    pid = int(line.split()[-1])
    process.send_signal(signal.SIGINT)
    said = await ended(process)
    assert said.code == 75
    assert sorted((tmp_path / "tmp").rglob("*")) == [], said.err
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
