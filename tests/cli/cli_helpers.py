"""A daemon that is only a status socket, and the command line as a real process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import uploaderd
from uploaderd.config.units import parse_rate
from uploaderd.control.server import Control
from uploaderd.core.model import FileState
from uploaderd.core.report import escape_path
from uploaderd.errors import ConfigError, NotApplicableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from uploaderd.core.selection import Selection

Row = dict[str, object]
ROOT = Path(uploaderd.__file__).parent.parent
# What a test has started; what it leaves behind is killed after it.
STARTED: list[asyncio.subprocess.Process] = []


def _why(state: str) -> Row:
    return {"code": f"{state}.why", "text": f"This is why it is {state}.", "until": None}


def row(
    identity: str, path: str | bytes = "/spool/a", stage: str = "queued", /, **facts: object
) -> Row:
    """Make a FILE document."""
    state = str(facts.get("state", stage))
    raw = path if isinstance(path, bytes) else path.encode()
    return {
        "id": identity,
        "path": escape_path(raw),
        "watch": "/spool",
        "target": "openai",
        "purpose": "user_data",
        "bytes": 1000,
        "state": state,
        "reason": _why(state),
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


class FakeStream:
    """A stream of events for one client; what a test says comes at once."""

    def __init__(self, view: FakeView, first: bytes) -> None:
        self._view = view
        self._said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.say(first)

    def say(self, some: bytes) -> None:
        """Send bytes."""
        self._said.put_nowait(some)

    async def next(self, patience_s: float) -> bytes | None:
        """Wait for what is said next."""
        try:
            async with asyncio.timeout(patience_s):
                return await self._said.get()
        except TimeoutError:
            return b""

    def end(self) -> None:
        """Come to an end."""
        self._said.put_nowait(None)

    def close(self) -> None:
        """Nobody reads it any more."""
        if self in self._view.streams:
            self._view.streams.remove(self)


def event(kind: str, document: object, *, place: str = "") -> bytes:
    """Write one server-sent event."""
    head = f"event: {kind}\n" + (f"id: {place}\n" if place else "")
    return f"{head}data: {json.dumps(document)}\n\n".encode()


def change(identity: str, path: str, state: str, /, *, at: int = 0) -> Row:
    """Make the data of ``event: file``."""
    return {
        "at": f"2100-01-01T00:00:{at:02}.000Z",
        "event": "Due",
        "state": state,
        "code": f"{state}.why",
        "text": f"This is why it is {state}.",
        "id": identity,
        "path": path,
        "file": None,
    }


# What each verb makes of a file here, and the states to which it does not apply.
VERBS = {"cancel": "cancelled", "hold": "held", "release": "queued", "retry": "queued"}
ENDED = frozenset({"done", "failed", "cancelled"})


@dataclass(slots=True)
class FakeView:
    """Serves rows, the newest first; ``each`` runs before every question, to let time pass.

    Attributes:
        said: the verbs that were said, of which file.
        lasts: the Last-Event-ID of each who followed the events.
        refusal: why the configuration is refused, if it is.
        careless: whether it gives all files, whatever is asked for.
    """

    rows: list[Row] = field(default_factory=list)
    watches: list[str] = field(default_factory=lambda: ["/spool"])
    each: Callable[[FakeView], None] | None = None
    asked: int = 0
    target_state: str = "ok"
    state: str = "running"
    trouble: str | None = None
    bandwidth: dict[str, object] = field(
        default_factory=lambda: {
            "limit_bps": None,
            "why": "configured",
            "until": None,
            "configured": "unlimited",
        }
    )
    refusal: str = ""
    careless: bool = False
    streams: list[FakeStream] = field(default_factory=list)
    lasts: list[str | None] = field(default_factory=list)
    said: list[tuple[str, str]] = field(default_factory=list)

    def tick(self) -> None:
        """Count the question and let something happen."""
        self.asked += 1
        if self.each is not None:
            self.each(self)

    async def status(self) -> dict[str, object]:
        """Sum the rows up."""
        self.tick()
        return self.document()

    def document(self) -> dict[str, object]:
        """The status document."""
        counts = {state.value: 0 for state in FileState}
        for one in self.rows:
            counts[str(one["state"])] += 1
        resting = {"done", "failed", "cancelled", "held"}
        return {
            "version": "9.9.9",
            "pid": 4711,
            "started_at": "2026-01-01T00:00:00.000Z",
            "state": self.state,
            "drained": all(one["state"] in resting for one in self.rows),
            "counts": counts,
            "bytes": {"queued": 3_145_728, "stored": 1_048_576, "resent": 0},
            "rate_bps": 1_048_576,
            "watches": [{"path": one, "mode": "inotify", "why": ""} for one in self.watches],
            "targets": [{"name": "openai", "state": self.target_state, "until": None}],
            "active": [one for one in self.rows if one["state"] == "uploading"],
            "bandwidth": self.bandwidth,
            "trouble": self.trouble,
        }

    async def files(self, wanted: Selection, *, limit: int, after: str | None) -> dict[str, object]:
        """Give one page of those that are asked for."""
        self.tick()
        found: list[Row] = []
        for place in range(int(after or 0), len(self.rows)):
            if self.careless or _is_wanted(self.rows[place], wanted):
                if len(found) == limit:
                    return {"files": found, "next": str(place)}
                found.append(self.rows[place])
        return {"files": found, "next": None}

    async def file(self, file_id: str) -> dict[str, object] | None:
        """Give one row with its parts and history, which a test may have put there."""
        self.tick()
        for one in self.rows:
            if one["id"] == file_id:
                return {
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
                } | one
        return None

    async def pause(self) -> dict[str, object]:
        """Be paused."""
        self.state = "paused"
        return await self.status()

    async def resume(self) -> dict[str, object]:
        """Go on."""
        self.state = "running"
        return await self.status()

    async def limit(self, said: str) -> dict[str, object]:
        """Take a rate, or give it back."""
        self.bandwidth = {**self.bandwidth, "limit_bps": None, "why": "configured"}
        if said != "config":
            self.bandwidth |= {"limit_bps": parse_rate(said), "why": "operator"}
        return await self.status()

    async def reload(self) -> dict[str, object]:
        """Say how it stands, unless the configuration is refused."""
        if self.refusal:
            raise ConfigError(self.refusal, hint="mend it")
        return await self.status()

    async def cancel(self, file_id: str) -> dict[str, object] | None:
        """Give a file up."""
        return await self._say("cancel", file_id)

    async def hold(self, file_id: str) -> dict[str, object] | None:
        """Hold a file."""
        return await self._say("hold", file_id)

    async def release(self, file_id: str) -> dict[str, object] | None:
        """Let it go on."""
        return await self._say("release", file_id)

    async def retry(self, file_id: str) -> dict[str, object] | None:
        """Try it again."""
        return await self._say("retry", file_id)

    async def _say(self, verb: str, file_id: str) -> dict[str, object] | None:
        for one in self.rows:
            if one["id"] == file_id:
                if one["state"] in ENDED and verb != "retry":
                    raise NotApplicableError(
                        f"{one['path']} is {one['state']}", hint="see: uploaderd show"
                    )
                self.said.append((verb, file_id))
                one |= {"state": VERBS[verb], "reason": _why(VERBS[verb])}
                return one
        return None

    async def events(self, last: str | None) -> FakeStream:
        """Send the status first, then what a test says through ``streams``."""
        self.lasts.append(last)
        stream = FakeStream(self, b"retry: 100\n\n" + event("status", self.document()))
        self.streams.append(stream)
        return stream

    def tell(self, kind: str, document: object, *, place: str = "") -> None:
        """Send an event to all who follow."""
        for stream in self.streams:
            stream.say(event(kind, document, place=place))

    async def metrics(self) -> tuple[bytes, str]:
        """There are no numbers."""
        return b"", "text/plain"

    async def health(self) -> str | None:
        """Be well."""
        return None


def _is_wanted(one: Row, wanted: Selection) -> bool:
    why = one["reason"]
    assert isinstance(why, dict)
    return (
        (not wanted.states or one["state"] in wanted.states)
        and wanted.watch in {None, one["watch"]}
        and wanted.target in {None, one["target"]}
        and wanted.has_code(str(why["code"]))
        and (wanted.path is None or one["path"] == escape_path(wanted.path))
    )


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
