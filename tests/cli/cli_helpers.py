"""A daemon that is only a status socket, and the command line as a real process."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import uploaderd
from uploaderd.control.server import Control
from uploaderd.core.model import FileState
from uploaderd.core.report import escape_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

Row = dict[str, object]
ROOT = Path(uploaderd.__file__).parent.parent
# What a test has started; what it leaves behind is killed after it.
STARTED: list[asyncio.subprocess.Process] = []


def row(
    identity: str, path: str | bytes = "/spool/a", stage: str = "queued", /, **facts: object
) -> Row:
    """Make a FILE document."""
    state = str(facts.get("state", stage))
    raw = path if isinstance(path, bytes) else path.encode()
    code, text = f"{state}.why", f"This is why it is {state}."
    return {
        "id": identity,
        "path": escape_path(raw),
        "watch": "/spool",
        "target": "openai",
        "purpose": "user_data",
        "bytes": 1000,
        "state": state,
        "reason": {"code": code, "text": text, "until": None},
        "parts": {"total": 4, "stored": 1, "in_flight": 1},
        "bytes_stored": 250,
        "bytes_resent": 0,
        "rate_bps": 100,
        "eta_s": 7.5,
        "upload_id": "upload_1",
        "expires_at": None,
        "file_id": f"file-{identity}" if state == "done" else None,
        "md5": None,
        "attempts": 1,
        "created_at": "2100-01-01T00:00:00.000Z",
        "updated_at": "2100-01-01T00:00:00.000Z",
        "filed": True,
        "filed_as": None,
        "dev": 0,
        "inode": 0,
    } | facts


@dataclass(slots=True)
class FakeView:
    """Serves rows, the newest first; ``each`` runs before every question, to let time pass."""

    rows: list[Row] = field(default_factory=list)
    watches: list[str] = field(default_factory=lambda: ["/spool"])
    each: Callable[[FakeView], None] | None = None
    asked: int = 0
    target_state: str = "ok"

    def tick(self) -> None:
        """Count the question and let something happen."""
        self.asked += 1
        if self.each is not None:
            self.each(self)

    async def status(self) -> dict[str, object]:
        """Sum the rows up."""
        self.tick()
        counts = {state.value: 0 for state in FileState}
        for one in self.rows:
            counts[str(one["state"])] += 1
        resting = {"done", "failed", "cancelled", "held"}
        return {
            "version": "9.9.9",
            "pid": 4711,
            "started_at": "2026-01-01T00:00:00.000Z",
            "state": "running",
            "drained": all(one["state"] in resting for one in self.rows),
            "counts": counts,
            "bytes": {"queued": 3_145_728, "stored": 1_048_576, "resent": 0},
            "rate_bps": 1_048_576,
            "watches": [{"path": one, "mode": "inotify", "why": ""} for one in self.watches],
            "targets": [{"name": "openai", "state": self.target_state, "until": None}],
            "active": [one for one in self.rows if one["state"] == "uploading"],
        }

    async def files(
        self, *, state: str | None, path: bytes | None, limit: int, after: str | None
    ) -> dict[str, object]:
        """Give one page."""
        self.tick()
        found = [one for one in self.rows if state in {None, one["state"]}]
        if path is not None:
            found = [one for one in found if str(one["path"]) == escape_path(path)]
        start = int(after or 0)
        more = start + limit < len(found)
        return {
            "files": found[start : start + limit],
            "next": str(start + limit) if more else None,
        }

    async def file(self, file_id: str) -> dict[str, object] | None:
        """Give one row with its parts and history."""
        self.tick()
        for one in self.rows:
            if one["id"] == file_id:
                return one | {
                    "parts_list": [
                        {"number": 1, "offset": 0, "bytes": 250, "state": "stored", "sends": 1}
                    ],
                    "history": [
                        {
                            "at": "2026-01-01T00:00:00.000Z",
                            "event": "Seen",
                            "state": "settling",
                            "code": "settling.seen",
                            "text": "It was just seen.",
                        }
                    ],
                }
        return None

    async def pause(self) -> dict[str, object]:
        """Say how it stands; nothing is paused here."""
        return await self.status()

    async def resume(self) -> dict[str, object]:
        """The same."""
        return await self.status()

    async def cancel(self, file_id: str) -> dict[str, object] | None:
        """Give the row; nothing is cancelled here."""
        return await self.file(file_id)

    async def health(self) -> str | None:
        """Be well."""
        return None


@asynccontextmanager
async def daemon(view: FakeView, path: Path) -> AsyncIterator[Path]:
    """Serve a view on a status socket at ``path``."""
    server = Control(view, path, 0o600)
    await server.start()
    try:
        yield path
    finally:
        await server.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def environment(home: Path, **extra: str) -> dict[str, str]:
    """An environment in which nothing of the machine's own is found."""
    inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return inherited | {"HOME": str(home), "PYTHONPATH": str(ROOT)} | extra


async def start(*words: str | bytes | Path, home: Path, **extra: str) -> asyncio.subprocess.Process:
    """Start a command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "uploaderd",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(home, **extra),
        cwd=home,
    )
    STARTED.append(process)
    return process


async def ended(process: asyncio.subprocess.Process) -> Said:
    """Wait for a command's end."""
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return Said(code=process.returncode or 0, out=out.decode(), err=err.decode())


async def says(process: asyncio.subprocess.Process, words: str) -> None:
    """Wait until a command says these words on standard error; what it said is gone then."""
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while words not in (line := (await process.stderr.readline()).decode()):
            assert line, f"it ended without saying {words!r}"


async def call(*words: str | bytes | Path, home: Path, **extra: str) -> Said:
    """Run a command to its end."""
    return await ended(await start(*words, home=home, **extra))


def write_config(home: Path, *, watches: str = "", more: str = "") -> Path:
    """Write a configuration with the folder ``spool`` watched, unless told otherwise."""
    spool = home / "spool"
    spool.mkdir(exist_ok=True)
    path = home / "config.toml"
    path.write_text(
        f'[daemon]\nstate_dir = "{home}/state"\nsocket = "{home}/s.sock"\n{more}\n'
        + (watches or f'[[watch]]\npath = "{spool}"\n')
    )
    return path
