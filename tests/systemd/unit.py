"""The service in the guest: its configuration, its unit's life, its spool, its status socket."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.support.daemon import DEFAULTS, Table, _pairs
from tests.support.outcome import md5
from tests.support.processes import KEY
from tests.support.waiting import wait_for
from uploaderd.emulator.store import md5_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.systemd.guest import Guest
    from uploaderd.emulator import Emulator

Row = dict[str, Any]

_LONG_S = 60.0
_POLL_S = 0.1  # each time a process is started to ask


class Unit:
    """``uploaderd.service`` or, with a name, ``uploaderd@NAME.service``."""

    def __init__(self, guest: Guest, base_url: str, instance: str = "") -> None:
        self.guest = guest
        at, dash = (f"@{instance}", f"-{instance}") if instance else ("", "")
        self.name = f"uploaderd{at}.service"
        self.socket_name = f"uploaderd{at}.socket"
        self.etc = f"/etc/uploaderd/{instance}".rstrip("/")
        self.folder = f"/var/spool/uploaderd{dash}"
        self.state = f"/var/lib/uploaderd{dash}"
        self.address = f"/run/uploaderd{dash}/status.sock"
        self._base_url = base_url

    @property
    def spool(self) -> Path:
        """The watched folder, as the machine reaches it."""
        return self.guest.path(self.folder)

    def clear(self) -> None:
        """Stop it, and forget all that a test left."""
        # A drain is of no use here, and a slow test's would take its time.
        self.guest.call("systemctl", "kill", "--signal=KILL", self.name)
        self.systemctl("stop", self.socket_name, self.name)
        self.guest.call("systemctl", "reset-failed", self.name, self.socket_name)
        for folder in (self.state, self.folder, self.etc):
            for path in list(self.guest.path(folder).glob("*")):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        drop_ins = self.guest.path(f"/run/systemd/system/{self.name}.d")
        if drop_ins.exists():
            shutil.rmtree(drop_ins)
            self.systemctl("daemon-reload")
        self.guest.write(f"{self.etc}/openai-api-key", KEY, 0o600)

    def configure(self, **changes: Table) -> None:
        """Write the configuration, with ``changes`` laid over the tests' usual tables."""
        tables: Mapping[str, Table] = DEFAULTS | {
            name: DEFAULTS.get(name, {}) | table for name, table in changes.items()
        }
        lines = ["[daemon]", *_pairs(tables["daemon"] | {"log_format": "auto"})]
        lines += ["[targets.openai]", *_pairs({"base_url": self._base_url})]
        lines += ["[[watch]]", *_pairs({"path": self.folder} | tables["watch"])]
        for name in ("transfer", "retry"):
            lines += [f"[{name}]", *_pairs(tables[name])]
        self.guest.write(f"{self.etc}/config.toml", "\n".join(lines) + "\n")

    def drop_in(self, *lines: str) -> None:
        """Lay lines over the [Service] section, as an administrator does."""
        text = "\n".join(["[Service]", *lines, ""])
        self.guest.write(f"/run/systemd/system/{self.name}.d/test.conf", text)
        self.systemctl("daemon-reload")

    # Its life

    def systemctl(self, *words: str) -> str:
        """Call systemctl."""
        return self.guest.run("systemctl", *words)

    async def tell(self, verb: str) -> None:
        """Call systemctl for it, while the emulator goes on."""
        await asyncio.to_thread(self.systemctl, verb, self.name)

    def start(self) -> None:
        """Start it and wait until it is ready."""
        code, said = self.guest.call("systemctl", "start", self.name)
        assert code == 0, f"{said}\n{self.log()}"

    def show(self, name: str) -> str:
        """One of the unit's properties."""
        return self.systemctl("show", "--value", "--property", name, self.name).strip()

    @property
    def pid(self) -> str:
        """Its main process, by the id that the guest knows; 0 where there is none."""
        return self.show("MainPID")

    def fact(self, name: str) -> str:
        """A line of its main process's /proc/PID/status."""
        status = self.guest.path(f"/proc/{self.pid}/status").read_text()
        return next(
            line.partition(":")[2].strip() for line in status.splitlines() if line.startswith(name)
        )

    async def until(self, name: str, *values: str) -> None:
        """Wait until a property has one of the values."""
        await self._until(name, lambda found: found in values, f"one of {values}")

    async def until_differs(self, name: str, value: str) -> None:
        """Wait until a property has another value."""
        await self._until(name, lambda found: found != value, f"other than {value!r}")

    async def _until(self, name: str, there: Callable[[str], bool], what: str) -> None:
        deadline_s = time.monotonic() + _LONG_S
        while not there(found := self.show(name)):
            if time.monotonic() > deadline_s:
                raise AssertionError(f"{name} is {found!r}, not {what}\n{self.log()}")
            await asyncio.sleep(_POLL_S)

    async def systemctl_later(self, *words: str) -> asyncio.subprocess.Process:
        """Call systemctl, and wait for nothing."""
        return await asyncio.create_subprocess_exec(
            *self.guest.words("systemctl", *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    def log(self) -> str:
        """What it said, and what systemd said of it."""
        return self.guest.run("journalctl", "--no-pager", "-o", "cat", "-n", "60", "-u", self.name)

    def entries(self) -> list[Row]:
        """The same with the journal's fields."""
        self.guest.run("journalctl", "--sync")
        said = self.guest.run("journalctl", "--no-pager", "-o", "json", "-u", self.name)
        return [json.loads(line) for line in said.splitlines()]

    # Its work

    def drop(self, name: str, content: bytes) -> None:
        """Put a file into the spool, the safe way."""
        hidden = self.spool / f".{name}.tmp"
        hidden.write_bytes(content)
        hidden.rename(self.spool / name)

    async def ask(self, path: str, *, method: str = "GET") -> Any:  # noqa: ANN401 - any JSON
        """Send one request to the status socket; return the document."""
        connector = aiohttp.UnixConnector(os.fspath(self.guest.path(self.address)))
        wait = aiohttp.ClientTimeout(total=_LONG_S)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=wait) as session,
            session.request(method, f"http://localhost{path}") as reply,
        ):
            return await reply.json(content_type=None)

    async def until_done(self, emulator: Emulator, name: str, content: bytes) -> None:
        """Wait until a file is filed, and check that it arrived whole and once."""
        receipt = self.spool / "done" / f"{name}.receipt.json"

        async def filed() -> bool | None:
            return True if receipt.exists() and not (self.spool / name).exists() else None

        try:
            await wait_for(filed, timeout_s=_LONG_S, what=f"{name} in done/")
        except AssertionError as error:
            error.add_note(self.log())
            raise
        (remote,) = (one for one in emulator.store.files.values() if one.filename == name)
        assert md5_of(emulator.store.content_path(remote)) == md5(content)
        assert json.loads(receipt.read_text())["md5"] == md5(content)
