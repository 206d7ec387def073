"""The daemon as a real process, with its folders, its configuration and its status socket.

    async with Emulator(store=tmp_path / "store") as emulator:
        async with DaemonProcess(tmp_path, emulator.base_url) as daemon:
            await daemon.start()
            daemon.drop("a.txt", b"hello")
            await daemon.until_drained()

The same object starts again and again on the same folders: ``kill`` (SIGKILL), ``stop``
(SIGTERM), ``start``. Leaving the block kills what still runs and, on a failure, shows the log.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from tests.support.processes import Process, environment
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

Row = dict[str, Any]
Table = dict[str, object]

READY_S = 20.0

DEFAULTS: dict[str, Table] = {
    "daemon": {"log_level": "debug", "log_format": "text", "drain_timeout": "10s"},
    "watch": {"settle": "100ms", "rescan": "5s"},
    "transfer": {"part_size": "1MiB"},
    "retry": {"max_wait": "100ms", "defer_max": "500ms"},
}


class DaemonProcess:
    """A daemon in ``root``: spool, state, home and log lie there.

    The socket lies in a short folder of its own, since the kernel takes 107 bytes at most.

    Args:
        root: an empty folder, as a rule ``tmp_path``.
        base_url: the service's.
        config: tables to lay over ``DEFAULTS``: daemon, watch, transfer, retry, target, journal.
        watches: more watches, as tables.
        hooks: programs to run at a file's end, as tables.
        env: variables of its environment.
    """

    def __init__(
        self,
        root: Path,
        base_url: str,
        *,
        config: Mapping[str, Table] | None = None,
        watches: Sequence[Table] = (),
        hooks: Sequence[Table] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.spool = root / "spool"
        self.state_dir = root / "state"
        self.config_file = root / "config.toml"
        self.process = Process(root / "daemon.log")
        self.starts = 0
        self._run = Path(tempfile.mkdtemp(prefix="up-"))
        self.socket = self._run / "s"
        self._notify = self._run / "n"
        self._base_url = base_url
        self._tables = {
            name: DEFAULTS.get(name, {}) | (config or {}).get(name, {})
            for name in (*DEFAULTS, "target", "journal")
        }
        self._watches = list(watches)
        self.hooks = list(hooks)
        self._env = dict(env or {})
        self.spool.mkdir(exist_ok=True)
        (root / "home").mkdir(exist_ok=True)
        self.configure()

    async def __aenter__(self) -> Self:
        """Nothing runs yet: the caller starts it when its spool is as it should be."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill what runs, tidy up, and show the log if something went wrong."""
        await self.process.kill()
        shutil.rmtree(self._run, ignore_errors=True)
        if error is not None:
            error.add_note(f"--- the daemon's last words ---\n{self.process.last_words()}")

    def configure(self, **changes: Table) -> None:
        """Write the configuration file, with ``changes`` laid over the tables that it had."""
        for name, table in changes.items():
            self._tables[name] = self._tables[name] | table
        tables = self._tables
        own: Table = {"state_dir": str(self.state_dir), "socket": str(self.socket)}
        lines = ["[daemon]", *_pairs(own | tables["daemon"])]
        lines += ["[targets.openai]", *_pairs({"base_url": self._base_url} | tables["target"])]
        first: Table = {"path": str(self.spool)}
        for watch in (first, *self._watches):
            lines += ["[[watch]]", *_pairs(tables["watch"] | watch)]
        for name in ("transfer", "retry", "journal"):
            lines += [f"[{name}]", *_pairs(tables[name])]
        for hook in self.hooks:
            lines += ["[[hook]]", *_pairs(hook)]
        self.config_file.write_text("\n".join(lines) + "\n", "utf-8")

    def watch_also(self, *watches: Table) -> None:
        """Write the configuration with these watches beside its own, in place of earlier ones."""
        self._watches = list(watches)
        self.configure()

    # Its life

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process.running

    async def start(self) -> None:
        """Start it and wait until it says that it is ready, as systemd would."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.setblocking(False)
            self._notify.unlink(missing_ok=True)
            notices.bind(os.fspath(self._notify))
            await self.launch()
            await self._until_ready(notices)

    async def launch(
        self, module: str = "uploaderd", words: Sequence[str] = ("run",), *, notify: bool = True
    ) -> None:
        """Start it, or another module on the same configuration, and wait for nothing."""
        assert not self.running, "it runs already"
        env = {"NOTIFY_SOCKET": os.fspath(self._notify)} if notify else {}
        self.starts += 1
        await self.process.spawn(
            module,
            [*words, "--config", str(self.config_file)],
            environment(self.root / "home", env | self._env),
        )

    async def _until_ready(self, notices: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.create_task(self.process.ended(READY_S))
        try:
            async with asyncio.timeout(READY_S):
                while True:
                    told = asyncio.ensure_future(loop.sock_recv(notices, 4096))
                    await asyncio.wait({told, ended}, return_when=asyncio.FIRST_COMPLETED)
                    if not told.done():
                        told.cancel()
                        raise AssertionError(f"the daemon ended with exit code {ended.result()}")
                    if b"READY=1" in told.result():
                        return
        finally:
            ended.cancel()

    async def kill(self) -> None:
        """SIGKILL it and wait until it is gone."""
        await self.process.kill()

    async def stop(self, timeout_s: float = 40.0) -> int:
        """SIGTERM it and wait; return its exit code."""
        return await self.process.stop(timeout_s)

    def log_text(self) -> str:
        """All that it and its predecessors said on standard error."""
        return self.process.log.read_text(errors="backslashreplace")

    # Its spool

    def drop(self, name: str, content: bytes) -> Path:
        """Put a file into the spool the safe way: a hidden name, then a rename."""
        path = self.spool / name
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = path.with_name(f".{path.name}.tmp")
        hidden.write_bytes(content)
        hidden.rename(path)
        return path

    def left(self) -> list[str]:
        """Every file below the spool that is neither in ``done/`` nor in ``failed/``."""
        return sorted(
            str(path.relative_to(self.spool))
            for path in self.spool.rglob("*")
            if not path.is_dir() and path.relative_to(self.spool).parts[0] not in {"done", "failed"}
        )

    # Its status socket

    async def ask(self, path: str, *, method: str = "GET", json: object = None) -> Any:  # noqa: ANN401 - any JSON
        """Send one request to the status socket; return the document, whatever the status."""
        connector = aiohttp.UnixConnector(os.fspath(self.socket))
        wait = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=wait) as session,
            session.request(method, f"http://localhost{path}", json=json) as reply,
        ):
            return await reply.json(content_type=None)

    async def status(self) -> Row:
        """``GET /v1/status``."""
        document: Row = await self.ask("/v1/status")
        return document

    async def files(self) -> list[Row]:
        """Every file, the newest first."""
        rows: list[Row] = []
        query = "/v1/files?limit=500"
        while True:
            page = await self.ask(query)
            rows += page["files"]
            if page["next"] is None:
                return rows
            query = f"/v1/files?limit=500&after={page['next']}"

    async def file(self, name: str) -> Row | None:
        """The newest file of that name in the spool, with its parts and its history."""
        path = str(self.spool / name)
        found = next((row for row in await self.files() if row["path"] == path), None)
        if found is None:
            return None
        document: Row = await self.ask(f"/v1/files/{found['id']}")
        return document

    async def until_state(self, name: str, *states: str, timeout_s: float = 15.0) -> Row:
        """Wait until the newest file of that name is in one of the states; return it."""

        async def there() -> Row | None:
            row = await self.file(name)
            return row if row is not None and row["state"] in states else None

        what = f"{name} to be {' or '.join(states)}"
        return await wait_for(there, timeout_s=timeout_s, what=what)

    async def until_drained(self, timeout_s: float = 30.0, *, files: int | None = None) -> Row:
        """Wait until the spool is empty and the daemon says that all is done; return its status.

        Args:
            timeout_s: how long at most.
            files: how many files must have ended; needed where they stay in the spool.
        """

        async def drained() -> Row | None:
            assert self.running, f"the daemon ended\n{self.process.last_words()}"
            if files is None and self.left():
                return None
            status = await self.status()
            ended = sum(status["counts"][state] for state in ("done", "failed", "cancelled"))
            enough = files is None or ended >= files
            return status if status["drained"] and enough else None

        return await wait_for(drained, timeout_s=timeout_s, what="an empty spool")


def _pairs(table: Table) -> list[str]:
    """Write a table's keys; JSON's strings, numbers, booleans and lists of them are TOML's too."""
    return [f"{name} = {json.dumps(value)}" for name, value in table.items()]
