"""Starting, ending and starting again; and the levers for other processes."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from tests.emulator.kit import KEY, process, service
from uploaderd.emulator import Emulator, rules_for, serve
from uploaderd.emulator.control import Control, is_loopback
from uploaderd.emulator.server import parse_listen
from uploaderd.emulator.store import Store
from uploaderd.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

DATA = b"0123456789"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_line_and_clean_end(tmp_path: Path, number: signal.Signals) -> None:
    """The first line tells where it listens, and either signal ends it cleanly and quietly."""
    with process(tmp_path) as emulator:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", emulator.base_url)
        assert emulator.end(number) == (0, "", "")


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("[::1]:0", r"http://\[::1\]:\d+/v1"),
        ("localhost:0", r"http://(127\.0\.0\.1|\[::1\]):\d+/v1"),
    ],
)
async def test_other_addresses(tmp_path: Path, listen: str, url: str) -> None:
    """IPv6 and names work, and the address told is one that answers."""
    with process(tmp_path, listen=listen) as emulator:
        assert re.fullmatch(url, emulator.base_url)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(emulator.base_url + "/files") as reply,
        ):
            assert reply.status == 200


async def test_end_during_a_request(tmp_path: Path) -> None:
    """A signal ends the emulator although a request hangs in it."""
    with process(tmp_path, faults=["action=stall"]) as emulator:
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer x"}) as session:
            hanging = asyncio.create_task(session.get(emulator.base_url + "/files"))
            state = emulator.base_url.removesuffix("/v1") + "/_emulator/state"
            async with asyncio.timeout(10):
                while True:
                    async with session.get(state) as reply:
                        if (await reply.json())["log"]:
                            break
            assert await asyncio.to_thread(emulator.end) == (0, "", "")
            with pytest.raises(aiohttp.ClientError):
                await hanging


@pytest.mark.parametrize("listen", ["8080", ":8080", "::1:80", "[::1]", "h:-1", "h:65536", "h:x"])
def test_wrong_address(listen: str) -> None:
    """What is no HOST:PORT is a usage error."""
    with pytest.raises(UsageError, match="no address to listen on"):
        parse_listen(listen)


async def test_address_in_use(tmp_path: Path) -> None:
    """A port that is taken is told in one sentence, and the store is let go."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: "):
            await Emulator(store=tmp_path, port=port).start()
    async with service(tmp_path):
        pass


async def test_store_in_use(tmp_path: Path) -> None:
    """One store serves one emulator at a time."""
    async with service(tmp_path):
        with pytest.raises(ConfigError, match="in use by another emulator"):
            await Emulator(store=tmp_path).start()


async def test_store_that_is_a_file(tmp_path: Path) -> None:
    """A store that can't be a folder is told in one sentence."""
    (tmp_path / "store").write_text("x")
    with pytest.raises(ConfigError, match="cannot be used"):
        await serve(
            listen="127.0.0.1:0",
            store=tmp_path / "store",
            api_key=None,
            profile="openai",
            faults=[],
        )


async def test_store_outlives_its_emulator(tmp_path: Path) -> None:
    """Uploads, parts and files are there again after a restart, and an upload goes on."""
    async with service(tmp_path) as api:
        done = (await api.whole(filename="done.txt")).document["file"]
        upload_id = (await api.create(10)).id
        first = (await api.part(upload_id, DATA[:5])).id
        cancelled = (await api.create(10)).id
        await api.cancel(cancelled)
    async with service(tmp_path) as api:
        assert (await api.call("GET", f"/files/{done['id']}")).document == done
        assert (await api.part(cancelled, DATA)).status == 400
        second = (await api.part(upload_id, DATA[5:])).id
        file = (await api.complete(upload_id, first, second)).document["file"]
        listed = (await api.call("GET", "/files")).document["data"]
        assert [one["id"] for one in listed] == [file["id"], done["id"]]
        assert (tmp_path / "files" / file["id"] / "content").read_bytes() == DATA


async def test_store_outlives_a_kill(tmp_path: Path) -> None:
    """After SIGKILL in mid-body whole parts are there, and the broken body is gone."""
    with process(tmp_path, faults=["call=part,action=stall,at=5,skip=1"]) as emulator:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(emulator.base_url + "/", headers=headers) as session:
            fields = {"filename": "a", "purpose": "user_data", "mime_type": "a/b", "bytes": 10}
            async with session.post("uploads", json=fields) as reply:
                upload_id = (await reply.json())["id"]
            path = f"uploads/{upload_id}/parts"
            form = aiohttp.FormData()
            form.add_field("data", DATA[:5], filename="upload")
            async with session.post(path, data=form) as reply:
                part_id = (await reply.json())["id"]
            form = aiohttp.FormData()
            form.add_field("data", DATA[5:], filename="upload")
            hanging = asyncio.create_task(session.post(path, data=form))
            async with asyncio.timeout(10):
                while not list((tmp_path / "incoming").iterdir()):
                    await asyncio.sleep(0)
            assert (await asyncio.to_thread(emulator.end, signal.SIGKILL))[0] == -signal.SIGKILL
            with pytest.raises(aiohttp.ClientError):
                await hanging
    (tmp_path / "incoming" / "file-half").mkdir()
    async with service(tmp_path) as api:
        assert list((tmp_path / "incoming").iterdir()) == []
        parts = (await api.state())["uploads"][0]["parts"]
        assert [part["id"] for part in parts] == [part_id]


async def test_file_without_its_upload(tmp_path: Path) -> None:
    """Death between the file's appearance and the upload's end is mended at the next start."""
    async with service(tmp_path) as api:
        done = (await api.whole()).document
        document = tmp_path / "uploads" / done["id"] / "upload.json"
        pending = document.read_text().replace('"completed"', '"pending"')
    document.write_text(pending.replace(f'"{done["file"]["id"]}"', "null"))
    store = Store(tmp_path)
    upload = store.uploads[done["id"]]
    store.close()
    assert (upload.status, upload.file_id) == ("completed", done["file"]["id"])


async def test_state(tmp_path: Path) -> None:
    """The state tells uploads, parts, files, bytes, requests and the log."""
    async with service(tmp_path) as api:
        done = (await api.whole()).document
        await api.part(done["id"], DATA)
        await api.create(-1)
        state = await api.state()
        assert state["bytes_received"] == 20
        assert (state["uploads_created"], state["files_created"]) == (1, 1)
        assert state["requests"] == {
            "complete": {"200": 1},
            "create": {"200": 1, "400": 1},
            "part": {"200": 1, "400": 1},
        }
        upload = state["uploads"][0]
        assert upload["file_id"] == done["file"]["id"]
        assert (upload["bytes_received"], upload["part_requests"]) == (20, 2)
        part = upload["parts"][0]
        assert part == {"id": part["id"], "number": 1, "bytes": 10, "listed": True}
        assert state["files"][0]["upload_id"] == upload["id"]
        assert [one["call"] for one in state["log"]] == [
            "create",
            "part",
            "complete",
            "part",
            "create",
        ]
        assert [one["bytes_received"] for one in state["log"]][1] == 10
        stats = api.emulator.stats
        assert [one.bytes_received for one in stats.part_attempts(upload["id"])] == [10, 10]
        assert (stats.count(), stats.count("part"), stats.count("part", 200)) == (5, 2, 1)
        assert stats.count(upload_id=upload["id"]) == 4


async def test_clock_from_outside(tmp_path: Path) -> None:
    """Another process may move the clock, forward only, without a key."""
    async with service(tmp_path, api_key="secret") as api:
        moved = await api.call("POST", "//_emulator/clock", json={"advance_s": 3600})
        assert (moved.status, moved.document["offset_s"]) == (200, 3600)
        assert api.emulator.clock.offset_s == 3600
        wrong: list[object] = [{"advance_s": -1}, {"advance_s": "x"}, {}, [], {"advance_s": None}]
        for body in wrong:
            reply = await api.call("POST", "//_emulator/clock", json=body)
            assert reply.status == 400
        assert api.emulator.clock.offset_s == 3600


async def test_faults_from_outside(tmp_path: Path) -> None:
    """Another process may replace, add and see the faults; a wrong one changes nothing."""
    async with service(tmp_path, faults=["call=part,action=cut"]) as api:
        path = "//_emulator/faults"
        set_ = await api.call("POST", path, json={"faults": ["call=list,action=refuse"]})
        assert set_.document["faults"] == [
            {"spec": "call=list,action=refuse", "matched": 0, "fired": 0}
        ]
        assert (await api.call("GET", "/files")).status == 503
        wrong = await api.call("POST", path, json={"faults": ["action=explode"]})
        assert wrong.status == 400
        assert "explode" in wrong.error["message"]
        added = {"faults": ["call=create,action=lose"], "add": True}
        assert len((await api.call("POST", path, json=added)).document["faults"]) == 2
        assert (await api.state())["faults"][0]["fired"] == 1
        await api.call("POST", path, json={"faults": []})
        assert (await api.create()).status == 200


async def test_levers_want_json(tmp_path: Path) -> None:
    """A web page, which can post plain text only, does not reach the levers."""
    async with service(tmp_path) as api:
        for path in ("clock", "faults"):
            reply = await api.call("POST", f"//_emulator/{path}", data='{"advance_s": 1}')
            assert reply.status == 415


async def test_levers_are_for_loopback_only(tmp_path: Path) -> None:
    """A peer from elsewhere neither sees the state nor reaches the levers."""

    @web.middleware
    async def from_elsewhere(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await handler(request.clone(remote="192.0.2.1"))

    async with service(tmp_path) as api:
        app = web.Application(middlewares=[from_elsewhere])
        app.add_routes(Control(api.emulator._face).routes())
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/_emulator"
            async with api.session.get(f"{url}/state") as reply:
                assert reply.status == 403
            for path, body in (("clock", {"advance_s": 1}), ("faults", {"faults": []})):
                async with api.session.post(f"{url}/{path}", json=body) as reply:
                    assert reply.status == 403
        finally:
            await runner.cleanup()
        assert api.emulator.clock.offset_s == 0


async def test_store_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When its disk fails the emulator answers 500 as the service would, and says so in its log."""
    async with service(tmp_path) as api:
        upload_id = (await api.create()).id
        (tmp_path / "incoming").rmdir()
        reply = await api.part(upload_id, DATA)
        assert (reply.status, reply.error["type"]) == (500, "server_error")
        assert api.emulator.stats.part_attempts(upload_id)[0].status == 500
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        (tmp_path / "incoming").mkdir()
        assert (await api.part(upload_id, DATA)).status == 200


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("192.0.2.1", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback_peers(remote: str | None, expected: bool) -> None:
    """Only this machine's own addresses count as loopback."""
    assert is_loopback(remote) == expected


async def test_until(tmp_path: Path) -> None:
    """A test may wait for what the emulator has seen, without polling."""
    async with service(tmp_path) as api, asyncio.timeout(10):
        waiting = asyncio.create_task(
            api.emulator.stats.until(lambda stats: stats.uploads_created == 2)
        )
        await api.create()
        assert not waiting.done()
        await api.create()
        await waiting


def test_profile_with_rules_of_its_own(tmp_path: Path) -> None:
    """A profile may be changed by rules, each in turn."""
    rules = rules_for("azure", ["life_s=1", "life_s=2", "error_detail=true"])
    assert (rules.life_s, rules.error_detail, rules.azure) == (2, True, True)
    assert Emulator(store=tmp_path, rules=rules).rules is rules
