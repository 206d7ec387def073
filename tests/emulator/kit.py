"""A small client of the emulator, with just enough hands for its tests."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from uploaderd.emulator import Emulator, Fault, Rules, rules_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
    from pathlib import Path

KEY = "sk-test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply whose JSON body has been read; `document` is None where it holds no JSON."""

    status: int
    headers: Mapping[str, str]
    text: str
    document: Any

    @property
    def id(self) -> str:
        """The id in a reply that went well."""
        assert self.status in {200, 201}, self.text
        return str(self.document["id"])

    @property
    def error(self) -> dict[str, Any]:
        """The error in a reply that did not."""
        assert self.status >= 400, self.text
        error: dict[str, Any] = self.document["error"]
        return error


class Api:
    """The calls of the service, as a client without any cleverness makes them."""

    def __init__(self, emulator: Emulator, session: aiohttp.ClientSession) -> None:
        self.emulator = emulator
        self.session = session

    async def call(self, method: str, path: str, **more: Any) -> Reply:  # noqa: ANN401 - aiohttp's own keywords
        """Send one request; a path that begins with // is taken from the root."""
        root = path.startswith("//")
        url = self.emulator.endpoint + path[1:] if root else self.emulator.base_url + path
        async with self.session.request(method, url, **more) as response:
            text = await response.text(errors="replace")
            is_json = response.content_type == "application/json"
            try:
                document = await response.json() if is_json else None
            except ValueError:
                document = None
            return Reply(
                status=response.status,
                headers=response.headers.copy(),
                text=text,
                document=document,
            )

    async def create(self, size: int = 10, **more: object) -> Reply:
        """Create an upload of `size` bytes."""
        body = {
            "filename": "a.txt",
            "purpose": "user_data",
            "bytes": size,
            "mime_type": "text/plain",
        }
        return await self.call("POST", "/uploads", json=body | more)

    async def part(self, upload_id: str, data: bytes) -> Reply:
        """Add a part, as the official SDK frames it."""
        return await self.call("POST", f"/uploads/{upload_id}/parts", data=form_of(data))

    async def complete(self, upload_id: str, *part_ids: str, **more: object) -> Reply:
        """Complete an upload of these parts."""
        body = {"part_ids": part_ids} | more
        return await self.call("POST", f"/uploads/{upload_id}/complete", json=body)

    async def cancel(self, upload_id: str) -> Reply:
        """Cancel an upload."""
        return await self.call("POST", f"/uploads/{upload_id}/cancel")

    async def whole(self, data: bytes = b"0123456789", **more: object) -> Reply:
        """Upload a file in one part and return the reply to complete."""
        upload_id = (await self.create(len(data), **more)).id
        part_id = (await self.part(upload_id, data)).id
        return await self.complete(upload_id, part_id)

    async def state(self) -> Any:  # noqa: ANN401 - free JSON
        """Return the emulator's own view."""
        return (await self.call("GET", "//_emulator/state")).document


def form_of(data: bytes, *, field: str = "data") -> aiohttp.FormData:
    """Return a form with one file field."""
    form = aiohttp.FormData()
    stream = io.BytesIO(data)
    form.add_field(field, stream, filename="upload", content_type="application/octet-stream")
    return form


@asynccontextmanager
async def service(
    store: Path,
    *settings: str,
    profile: str = "openai",
    rules: Rules | None = None,
    faults: Iterable[str | Fault] = (),
    api_key: str | None = None,
) -> AsyncIterator[Api]:
    """Run an emulator in this process, with `NAME=VALUE` rules, and a client of it."""
    chosen = rules_for(profile, settings) if rules is None else rules
    async with (
        Emulator(store=store, rules=chosen, faults=faults, api_key=api_key) as emulator,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session,
    ):
        yield Api(emulator, session)


_SERVE = """
import asyncio, json, pathlib, sys
from uploaderd.emulator import serve
words = json.loads(sys.argv[1])
asyncio.run(serve(store=pathlib.Path(words.pop("store")), **words))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """An emulator as a program of its own."""

    base_url: str
    popen: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; return the exit code and what else stood on stdout and on stderr."""
        self.popen.send_signal(number)
        out, err = self.popen.communicate(timeout=30)
        return self.popen.returncode, out, err


@contextmanager
def process(store: Path, *, listen: str = "127.0.0.1:0", **words: object) -> Iterator[Process]:
    """Run an emulator as a program of its own; it is killed on leaving if it still runs."""
    defaults: dict[str, object] = {"api_key": None, "profile": "openai", "faults": [], "rules": []}
    arguments = {"listen": listen, "store": str(store)} | defaults | words
    with subprocess.Popen(
        [sys.executable, "-c", _SERVE, json.dumps(arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        try:
            assert popen.stdout is not None
            line = popen.stdout.readline()
            assert line.startswith("listening on "), popen.communicate()[1]
            yield Process(base_url=line.removeprefix("listening on ").rstrip("\n"), popen=popen)
        finally:
            popen.kill()
