"""``docs/openapi.yaml`` is true: each answer of a real daemon is what it says, and no more."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self, cast

import aiohttp
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.daemon import DaemonProcess, Table
from tests.support.described import Description, load
from tests.support.waiting import wait_for, wait_until
from uploaderd.control.connections import Crowd, Limits
from uploaderd.control.routes import application
from uploaderd.core.model import FileState, PartState
from uploaderd.core.reasons import SENTENCES
from uploaderd.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path
    from types import TracebackType

    from uploaderd.control.routes import View

Event = tuple[str, str, Any]
MIB = 1 << 20
VERBS = ("retry", "hold", "release", "cancel")
CONFIG: dict[str, Table] = {
    "retry": {"attempts": 1, "defer_max": "1h"},
    "watch": {"rescan": "200ms"},
    "daemon": {"log_level": "info"},
}


class Asker:
    """Asks the socket, and holds each answer against the description."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.described = Description()
        self.seen: set[tuple[str, str, int]] = set()
        self.states: set[str] = set()
        self._socket = daemon.socket
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        """Be ready to ask."""
        connector = aiohttp.UnixConnector(str(self._socket))
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up."""
        await self._session.close()

    async def ask(
        self, method: str, path: str, *, query: str = "", said: object = None, **names: str
    ) -> tuple[int, Any]:
        """Send a described call; return the status and the document."""
        url = f"http://localhost{path.format(**names)}{query}"
        async with self._session.request(method, url, json=said) as reply:
            text = await reply.text()
            found = json.loads(text) if reply.content_type == "application/json" else text
            self.described.check_answer(method, path, reply.status, reply.content_type, found)
            self.seen.add((method, path, reply.status))
            return reply.status, found

    async def refused(self, method: str, path: str) -> int:
        """Send what nobody described; the answer is the error document all the same."""
        async with self._session.request(method, f"http://localhost{path}") as reply:
            self.described.check(json.loads(await reply.text()), "Error")
            if reply.status == 405:
                assert method not in reply.headers["Allow"]
            return reply.status

    async def look(self) -> dict[str, dict[str, Any]]:
        """Ask for all that only shows; return the files by name."""
        await self.ask("GET", "/v1/status")
        await self.ask("GET", "/metrics")
        _, page = await self.ask("GET", "/v1/files", query="?limit=1000")
        for row in page["files"]:
            _, detail = await self.ask("GET", "/v1/files/{id}", id=row["id"])
            self.states.add(detail["state"])
        return {row["path"].rpartition("/")[2]: row for row in page["files"]}

    async def until(self, name: str, state: str) -> str:
        """Wait until a file is in a state, looking at everything meanwhile; return its id."""

        async def there() -> str | None:
            row = (await self.look()).get(name)
            return str(row["id"]) if row is not None and row["state"] == state else None

        return await wait_for(there, timeout_s=30, what=f"{name} to be {state}")

    async def events(self, last: str | None = None) -> AsyncGenerator[Event, None]:
        """Follow the stream: each event's name, id and data, held against its schema."""
        headers = {} if last is None else {"Last-Event-ID": last}
        schemas = self.described.events()
        async with self._session.get("http://localhost/v1/events", headers=headers) as reply:
            self.described.check_answer("GET", "/v1/events", reply.status, reply.content_type, "")
            self.seen.add(("GET", "/v1/events", reply.status))
            fields: dict[str, str] = {}
            async for raw in reply.content:
                line = raw.decode().rstrip("\n")
                if line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    data = json.loads(fields["data"])
                    self.described.check(data, schemas[fields["event"]])
                    yield fields["event"], fields.get("id", ""), data
                    fields = {}


def test_the_description_is_valid() -> None:
    """OpenAPI 3.1, by the specification's own schema; every schema is used or is the receipt's."""
    OpenAPIV31SpecValidator(load()).validate()
    text = json.dumps(load())
    unused = {
        name
        for name in load()["components"]["schemas"]
        if f'"#/components/schemas/{name}"' not in text
    }
    assert unused == {"Receipt"}


def test_its_lists_are_those_of_the_code() -> None:
    """States and parts' states are all there, and every reason's code has the form."""
    schemas = load()["components"]["schemas"]
    assert schemas["State"]["enum"] == [state.value for state in FileState]
    assert set(schemas["Status"]["properties"]["counts"]["required"]) == set(FileState)
    assert schemas["Part"]["properties"]["state"]["enum"] == [state.value for state in PartState]
    described = Description()
    for code in SENTENCES:
        described.check(code, "Code")


class Nobody:
    """Stands where a view is; it is never asked."""

    def __getattr__(self, name: str) -> Nobody:
        """Whatever the routes want to hold."""
        return self


def test_every_route_is_described_and_every_description_has_a_route() -> None:
    """The router's own list; what a GET answers it answers to a HEAD as well."""
    crowd = Crowd(limits=Limits())
    made = application(cast("View", Nobody()), crowd, set())
    routes = {
        (route.method, route.resource.canonical)
        for route in made.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert routes == Description().calls()


async def files_in_all_states(
    asker: Asker, daemon: DaemonProcess, emulator: Emulator, happened: list[Event]
) -> str:
    """Bring files into all states, by the verbs where they can; return the id of a done one."""
    daemon.drop("arrives", b"x" * (MIB + 1))
    done = await asker.until("arrives", "done")
    daemon.drop("empty", b"")
    await asker.until("empty", "failed")

    assert (await asker.ask("POST", "/v1/pause"))[1]["state"] == "paused"
    daemon.drop("kept", b"kept")
    daemon.drop("gone", b"gone")
    kept, gone = await asker.until("kept", "queued"), await asker.until("gone", "queued")
    for verb, name in (("hold", kept), ("release", kept), ("hold", kept), ("cancel", gone)):
        assert (await asker.ask("POST", "/v1/files/{id}/" + verb, id=name))[0] == 200
    await asker.until("kept", "held")
    await asker.until("gone", "cancelled")
    assert (await asker.ask("POST", "/v1/resume"))[1]["state"] == "running"

    emulator.faults.add("call=create,action=refuse,status=503,times=1")
    daemon.drop("later", b"later")
    later = await asker.until("later", "deferred")
    assert (await asker.ask("POST", "/v1/files/{id}/retry", id=later))[0] == 200
    await asker.until("later", "done")

    emulator.faults.add("call=complete,action=lose,times=1")
    emulator.faults.add("call=complete,action=refuse,status=503")
    daemon.drop("doubt", b"doubt")
    doubt = await asker.until("doubt", "uncertain")
    emulator.faults.clear()
    assert (await asker.ask("POST", "/v1/files/{id}/retry", id=doubt))[0] == 200
    await asker.until("doubt", "done")

    emulator.faults.add("call=part,action=stall")
    daemon.drop("big", b"y" * (3 * MIB))
    await asker.until("big", "uploading")
    await wait_until(lambda: "progress" in {name for name, _, _ in happened}, what="progress")
    return done


async def refusals(asker: Asker, daemon: DaemonProcess, done: str) -> None:
    """Ask for what is wrong, unknown, or does not apply."""
    for verb in VERBS:
        path = "/v1/files/{id}/" + verb
        assert (await asker.ask("POST", path, id="nope"))[0] == 404
        assert (await asker.ask("POST", path, id=done))[0] == 409
    assert (await asker.ask("GET", "/v1/files/{id}", id="nope"))[0] == 404
    for query in ("state=x", "limit=0", "after=x", "code=x", "what=x", "limit=1&limit=2"):
        assert (await asker.ask("GET", "/v1/files", query=f"?{query}"))[0] == 400
    assert (await asker.ask("GET", "/v1/events", query="?what=x"))[0] == 400
    good = f"?state=done,held&code=done&watch={daemon.spool}&target=openai&limit=1"
    _, page = await asker.ask("GET", "/v1/files", query=good)
    _, second = await asker.ask("GET", "/v1/files", query=f"{good}&after={page['next']}")
    assert len(second["files"]) == 1
    assert await asker.refused("GET", "/v1/nothing") == 404
    assert await asker.refused("DELETE", "/v1/status") == 405
    assert await asker.refused("GET", "/v1/pause") == 405


async def limits(asker: Asker) -> None:
    """Set a limit, show it, refuse what is none, and give it back."""
    for said, whose in (
        ("5MiB/s", "operator"),
        ("unlimited", "operator"),
        ("config", "configured"),
    ):
        status, found = await asker.ask("POST", "/v1/limit", said={"limit": said})
        assert (status, found["bandwidth"]["why"]) == (200, whose)
    assert (await asker.ask("POST", "/v1/limit", said={"limit": "5"}))[0] == 400
    assert (await asker.ask("POST", "/v1/limit"))[0] == 400


async def a_reload_and_a_lost_folder(asker: Asker, daemon: DaemonProcess, away: Path) -> None:
    """A good configuration, a wrong one, and trouble that /healthz and the status show."""
    assert (await asker.ask("POST", "/v1/reload"))[0] == 200
    daemon.config_file.write_text(daemon.config_file.read_text() + "nonsense = 1\n")
    status, wrong = await asker.ask("POST", "/v1/reload")
    assert (status, wrong["error"]["code"]) == (409, "config")

    assert (await asker.ask("GET", "/healthz"))[0] == 200
    daemon.spool.rename(away)

    async def ill() -> bool:
        return (await asker.ask("GET", "/healthz"))[0] == 503

    await wait_until(ill, timeout_s=30, what="a word about the lost folder")
    assert (await asker.ask("GET", "/v1/status"))[1]["trouble"]
    away.rename(daemon.spool)


async def resumptions(asker: Asker, last: str) -> None:
    """Come back with the id of an event that was seen, and with one of another journal."""
    for name, events in ((last, ["status"]), ("other-1", ["status", "reset"])):
        async with aclosing(asker.events(name)) as stream:
            assert [(await anext(stream))[0] for _ in events] == events


@pytest.mark.timeout(120)
async def test_every_answer_is_as_described(tmp_path: Path) -> None:
    """Files in all states, each call, each event, each kind of error, the receipts."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=CONFIG) as daemon,
    ):
        await daemon.start()
        async with Asker(daemon) as asker, asyncio.TaskGroup() as group:
            happened: list[Event] = []

            async def follow() -> None:
                async for event in asker.events():
                    happened.append(event)  # noqa: PERF401 - seen as it comes

            following = group.create_task(follow())
            await wait_until(lambda: happened, what="the first event")
            done = await files_in_all_states(asker, daemon, emulator, happened)
            await refusals(asker, daemon, done)
            await limits(asker)
            await a_reload_and_a_lost_folder(asker, daemon, tmp_path / "away")
            await resumptions(asker, [place for name, place, _ in happened if name == "file"][-1])
            following.cancel()

        assert asker.states >= set(FileState) - {"settling", "completing"}
        told = {data["state"] for name, _, data in happened if name == "file"}
        assert told >= set(FileState)
        assert {(method, path) for method, path, _ in asker.seen} == asker.described.calls()
        for name in ("done/arrives", "done/later", "failed/empty"):
            receipt = (daemon.spool / f"{name}.receipt.json").read_text()
            asker.described.check(json.loads(receipt), "Receipt")
