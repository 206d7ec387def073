"""A client, a proxy and the service behind it, for each of the five calls."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.client.wire import SECRET, Steps, hides, talking
from tests.support.proxy import Proxy, Seen
from tests.support.waiting import wait_until
from uploaderd.client import CreateSpec
from uploaderd.emulator import Emulator, rules_for
from uploaderd.emulator.stats import Outcome
from uploaderd.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from uploaderd.client import Client

DATA = bytes(range(100))
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
SPEC = CreateSpec(
    filename="a.txt",
    purpose="user_data",
    size=len(DATA),
    mime_type="text/plain",
    expires_after_s=None,
)
CALLS = ["create", "part", "complete", "cancel", "list"]
TWICE = ["complete_twice=200", "cancel_twice=200", "cancel_completed=200"]  # the same reply again


class Stage:
    """A client, a proxy and the service behind it, with one upload that has its part."""

    def __init__(self, emulator: Emulator, proxy: Proxy, client: Client) -> None:
        self.emulator = emulator
        self.proxy = proxy
        self.client = client
        self.upload_id = ""
        self.part_id = ""

    async def call(self, name: str) -> object:
        """Ask for one of the five."""
        client, upload_id = self.client, self.upload_id
        match name:
            case "create":
                return (await client.create(SPEC, request_id="r")).id
            case "part":
                return await client.add_part(upload_id, Steps([DATA]), request_id="r")
            case "complete":
                return (await client.complete(upload_id, [self.part_id], MD5, request_id="r")).id
            case "cancel":
                await client.cancel(upload_id, request_id="r")
                return None
            case _:
                return await client.list_files("user_data", created_after=None, request_id="r")

    async def fails(self, name: str) -> ServiceError:
        """Ask, and be let down by the line."""
        with pytest.raises(ServiceError) as caught:
            await self.call(name)
        hides(caught.value)
        return caught.value

    async def whole(self, name: str) -> Seen:
        """Ask without trouble; what went over the line."""
        await self.call(name)
        return self.proxy.seen[-1]

    def held(self) -> tuple[object, ...]:
        """All that the service holds."""
        store = self.emulator.store
        states = sorted((one.id, one.status) for one in store.uploads.values())
        return states, sorted(store.parts), sorted(store.files)

    async def idle(self) -> None:
        """Wait until the service has no request open."""
        await wait_until(
            lambda: all(one.outcome is not Outcome.OPEN for one in self.emulator.stats.requests),
            what="the service to end its requests",
        )


@asynccontextmanager
async def staged(
    tmp_path: Path, *, stall_s: float = 20.0, receive_bytes: int | None = None
) -> AsyncIterator[Stage]:
    """Everything up, one upload with its part behind it."""
    rules = rules_for("openai", TWICE)
    async with (
        Emulator(store=tmp_path, api_key=SECRET, rules=rules) as emulator,
        Proxy(emulator.base_url, receive_bytes=receive_bytes) as proxy,
        talking(proxy.base_url) as patient,
        talking(proxy.base_url, stall_s=stall_s) as client,
    ):
        stage = Stage(emulator, proxy, patient)
        stage.upload_id = str(await stage.call("create"))
        stage.part_id = str(await stage.call("part"))
        stage.client = client
        yield stage
