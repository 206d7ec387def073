"""The status socket: its documents, its errors, its place in the file system, its rude clients."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import select
import socket
import stat
import sys
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import wait_until
from uploaderd.control.claim import claim
from uploaderd.control.client import Client
from uploaderd.control.documents import AnswerError
from uploaderd.control.server import Control, Limits
from uploaderd.core.selection import Selection
from uploaderd.errors import (
    ConfigError,
    JournalError,
    NoDaemonError,
    NotApplicableError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(slots=True, eq=False)
class FakeStream:
    """Gives what it has, then silence, or the same for ever; until it is ended."""

    left: list[bytes]
    forever: bytes = b""
    given: int = 0
    closed: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def next(self, patience_s: float) -> bytes | None:
        """Give the next."""
        self.given += 1
        if self.left:
            return self.left.pop(0)
        if self.ended.is_set():
            return None
        if self.forever:
            await asyncio.sleep(0)
            return self.forever
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), patience_s)
            return await self.next(patience_s)
        return b""

    def end(self) -> None:
        """Come to an end."""
        self.ended.set()

    def close(self) -> None:
        """Nobody asks any more."""
        self.closed = True


@dataclass(slots=True)
class FakeView:
    """Answers with what it was given and remembers what it was asked."""

    rows: dict[str, dict[str, object]] = field(default_factory=dict)
    why: str | None = None
    error: Exception | None = None
    blob: str = ""
    refused: str = ""
    news: list[bytes] = field(default_factory=list)
    forever: bytes = b""
    streams: list[FakeStream] = field(default_factory=list)
    asked: list[dict[str, object]] = field(default_factory=list)

    async def status(self) -> dict[str, object]:
        """Give a document, or fail."""
        if self.error is not None:
            raise self.error
        return {"state": "running", "blob": self.blob}

    async def files(self, wanted: Selection, *, limit: int, after: str | None) -> dict[str, object]:
        """Remember the question and give every row."""
        self.asked.append({"wanted": wanted, "limit": limit, "after": after})
        if after == "nonsense":
            raise UsageError("there is no cursor 'nonsense'")
        return {"files": list(self.rows.values()), "next": None}

    async def file(self, file_id: str) -> dict[str, object] | None:
        """Give a row."""
        return self.rows.get(file_id)

    async def pause(self) -> dict[str, object]:
        """Remember it."""
        self.asked.append({"verb": "pause"})
        return {"state": "paused"}

    async def resume(self) -> dict[str, object]:
        """Remember it."""
        self.asked.append({"verb": "resume"})
        return {"state": "running"}

    async def limit(self, said: str) -> dict[str, object]:
        """Remember it; refuse what is no limit."""
        self.asked.append({"limit": said})
        if said == "nonsense":
            raise UsageError("that is no limit", hint="5MiB/s")
        return {"state": "running"}

    async def reload(self) -> dict[str, object]:
        """Remember it; refuse what is wrong."""
        self.asked.append({"verb": "reload"})
        if self.refused:
            raise ConfigError(self.refused, hint="correct it")
        return {"state": "running"}

    async def cancel(self, file_id: str) -> dict[str, object] | None:
        """Remember it; a file that is done is not cancelled."""
        return self._say("cancel", file_id)

    async def hold(self, file_id: str) -> dict[str, object] | None:
        """The same."""
        return self._say("hold", file_id)

    async def release(self, file_id: str) -> dict[str, object] | None:
        """The same."""
        return self._say("release", file_id)

    async def retry(self, file_id: str) -> dict[str, object] | None:
        """The same."""
        return self._say("retry", file_id)

    def _say(self, verb: str, file_id: str) -> dict[str, object] | None:
        self.asked.append({"verb": verb, "id": file_id})
        row = self.rows.get(file_id)
        if row is not None and row.get("state") == "done":
            raise NotApplicableError(f"/spool/a is done: no {verb}")
        return row

    async def events(self, last: str | None) -> FakeStream:
        """Remember it and give the stream that there is."""
        self.asked.append({"events": last})
        if self.error is not None:
            raise self.error
        stream = FakeStream(list(self.news), forever=self.forever)
        self.streams.append(stream)
        return stream

    async def metrics(self) -> tuple[bytes, str]:
        """Give one number."""
        return b"up 1\n", "text/plain; version=0.0.4"

    async def health(self) -> str | None:
        """Give what is wrong."""
        return self.why


@asynccontextmanager
async def serving(
    view: FakeView, path: Path, *, mode: int = 0o660, limits: Limits | None = None
) -> AsyncIterator[Control]:
    """Serve a view for as long as the block lasts."""
    server = Control(view, path, mode, limits=limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def exchange(path: Path, request: bytes) -> tuple[int, dict[str, str], Any]:
    """Send raw bytes and read one answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode()
    lines = head.strip().split("\r\n")
    headers = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
    }
    body = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return int(lines[0].split()[1]), headers, json.loads(body)


async def get(path: Path, target: str, method: str = "GET") -> tuple[int, dict[str, str], Any]:
    """Ask for one target."""
    return await exchange(path, f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


# --- documents ----------------------------------------------------------------------------------


async def test_documents_are_the_views(tmp_path: Path) -> None:
    """Status, the list, one file and health are what the view says, as JSON."""
    view = FakeView(rows={"f1": {"id": "f1", "path": "/spool/a"}})
    path = tmp_path / "s.sock"
    async with serving(view, path):
        assert (await get(path, "/v1/status"))[2]["state"] == "running"
        assert (await get(path, "/v1/files"))[2] == {"files": [view.rows["f1"]], "next": None}
        assert (await get(path, "/v1/files/f1"))[2] == view.rows["f1"]
        status, headers, health = await get(path, "/healthz")
        assert (status, health) == (200, {"status": "ok"})
        assert headers["content-type"] == "application/json"


async def test_ill_health_is_503_with_why(tmp_path: Path) -> None:
    """An unhealthy daemon says why."""
    async with serving(FakeView(why="the disk is full"), tmp_path / "s"):
        status, _, body = await get(tmp_path / "s", "/healthz")
    assert status == 503
    assert body["error"]["message"] == "the disk is full"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"limit": "5MiB/s"}', 200),
        (b'{"limit": "nonsense"}', 400),
        (b"", 400),
        (b"5MiB/s", 400),
        (b"[]", 400),
        (b'{"limit": 5}', 400),
        (b'{"limit": null}', 400),
        (b"{}", 400),
        (b'{"limit": "5MiB/s", "for": "1h"}', 400),
        (b'{"limit": "\xff"}', 400),
        (b"[" * 60_000, 400),
        (b'{"limit": "' + b"5" * 70_000 + b'"}', 413),
    ],
)
async def test_a_limit_is_an_object_with_one_text(tmp_path: Path, body: bytes, status: int) -> None:
    """What is none is refused in the shape of all errors, and reaches nobody."""
    view, path = FakeView(), tmp_path / "s"
    head = f"POST /v1/limit HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    async with serving(view, path):
        answer = await exchange(path, head.encode() + body)
    assert answer[0] == status
    if status == 200:
        assert (answer[2], view.asked) == ({"state": "running"}, [{"limit": "5MiB/s"}])
    else:
        assert answer[2]["error"].keys() == {"code", "message", "hint"}
        assert view.asked in ([], [{"limit": "nonsense"}])


async def test_verbs_reach_the_view(tmp_path: Path) -> None:
    """Each is a POST; one that does not apply is a conflict that says why."""
    view = FakeView(rows={"f1": {"id": "f1"}, "f2": {"id": "f2", "state": "done"}})
    path = tmp_path / "s"
    verbs = ["cancel", "hold", "release", "retry"]
    async with serving(view, path):
        assert (await get(path, "/v1/pause", "POST"))[2] == {"state": "paused"}
        assert (await get(path, "/v1/resume", "POST"))[2] == {"state": "running"}
        assert (await get(path, "/v1/reload", "POST"))[2] == {"state": "running"}
        for verb in verbs:
            assert (await get(path, f"/v1/files/f1/{verb}", "POST"))[2] == {"id": "f1"}
            status, _, body = await get(path, f"/v1/files/f2/{verb}", "POST")
            assert (status, body["error"]["code"]) == (409, "not_applicable")
            assert f"is done: no {verb}" in body["error"]["message"]
            assert (await get(path, f"/v1/files/f3/{verb}", "POST"))[0] == 404
        assert (await get(path, "/v1/pause"))[0] == 405
    said = [asked["verb"] for asked in view.asked]
    assert said == ["pause", "resume", "reload", *[verb for verb in verbs for _ in range(3)]]


async def test_a_refused_configuration_is_a_conflict(tmp_path: Path) -> None:
    """The sentence and the hint of what is wrong with it reach who asked for the reload."""
    async with serving(FakeView(refused="config.toml: no key x"), tmp_path / "s"):
        status, _, body = await get(tmp_path / "s", "/v1/reload", "POST")
    assert status == 409
    assert body["error"] == {
        "code": "config",
        "message": "config.toml: no key x",
        "hint": "correct it",
    }


async def test_queries_reach_the_view(tmp_path: Path) -> None:
    """Filters, limit, cursor and a path of any bytes arrive as they were sent."""
    view = FakeView()
    path = tmp_path / "s"
    async with serving(view, path):
        await get(path, "/v1/files?state=held&limit=7&after=c1&path=/sp%20ool/a%FF%26%2B+b")
        await get(path, "/v1/files?state=&after=")
        await get(path, "/v1/files?state=held,%20done&watch=/spool/&target=t&code=held.auth")
    assert view.asked == [
        {
            "wanted": Selection(states=("held",), path=b"/sp ool/a\xff&+ b"),
            "limit": 7,
            "after": "c1",
        },
        {"wanted": Selection(), "limit": 100, "after": None},
        {
            "wanted": Selection(
                states=("held", "done"), watch="/spool", target="t", code="held.auth"
            ),
            "limit": 100,
            "after": None,
        },
    ]


@pytest.mark.parametrize(
    "query",
    [
        "state=lost",
        "state=held,lost",
        "code=lost",
        "code=held.au",
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "limit=²",
        "limit=1&limit=2",
        "colour=red",
        "after=nonsense",
    ],
)
async def test_a_wrong_query_is_400(tmp_path: Path, query: str) -> None:
    """Nothing in a query is guessed."""
    async with serving(FakeView(), tmp_path / "s"):
        status, _, body = await get(tmp_path / "s", f"/v1/files?{query}")
    assert status == 400
    assert body["error"]["code"] == "bad_request"
    assert body["error"]["message"]


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", "/v1/files/none", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("POST", "/v1/events", 405, "method_not_allowed"),
        ("POST", "/v1/status", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_said(
    tmp_path: Path, method: str, target: str, status: int, code: str
) -> None:
    """Unknown ids, paths and methods have the error document too."""
    async with serving(FakeView(), tmp_path / "s"):
        found, _, body = await get(tmp_path / "s", target, method)
    assert found == status
    assert set(body["error"]) == {"code", "message", "hint"}
    assert body["error"]["code"] == code


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("secret detail"), 500), (JournalError("no journal"), 503)]
)
async def test_a_failing_view_shows_no_traceback(
    tmp_path: Path, error: Exception, status: int
) -> None:
    """A fault inside is an error document without its inner words, and the daemon goes on."""
    view = FakeView(error=error)
    async with serving(view, tmp_path / "s"):
        found, _, body = await get(tmp_path / "s", "/v1/status")
        view.error = None
        again, _, _ = await get(tmp_path / "s", "/v1/status")
    assert found == status
    assert "secret" not in json.dumps(body)
    assert "Traceback" not in json.dumps(body)
    assert again == 200


async def test_a_thousand_rude_words_are_400(tmp_path: Path) -> None:
    """What is not HTTP, or has huge headers, is refused in the same shape."""
    async with serving(FakeView(), tmp_path / "s"):
        status, _, body = await exchange(tmp_path / "s", b"\x16\x03\x01 hello\r\n\r\n")
        assert (status, body["error"]["code"]) == (400, "bad_request")
        huge = b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"
        status, _, body = await exchange(tmp_path / "s", huge)
        assert (status, body["error"]["code"]) == (400, "bad_request")


# --- rude clients -------------------------------------------------------------------------------


async def test_a_silent_client_is_dropped(tmp_path: Path) -> None:
    """Who connects and never finishes a request is hung up on in time."""
    async with serving(FakeView(), tmp_path / "s", limits=Limits(request_s=0.2)):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b"GET /v1/status HTTP/1.1\r\nHost:")
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_a_client_that_never_reads_is_dropped(tmp_path: Path) -> None:
    """An answer that nobody fetches does not hold its connection for ever."""
    view = FakeView(blob="x" * 4_000_000)
    async with serving(view, tmp_path / "s", limits=Limits(idle_s=0.2)) as server:
        _, writer = await asyncio.open_unix_connection(tmp_path / "s", limit=1024)
        writer.write(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        assert server._runner is not None
        manager = server._runner.server
        assert manager is not None
        async with asyncio.timeout(5):
            while not manager.requests_count or manager.connections:
                await asyncio.sleep(0.02)
        writer.close()


async def test_who_is_idle_for_the_longest_makes_room(tmp_path: Path) -> None:
    """Beyond the limit a newcomer gets in, and the one silent for the longest is hung up on."""
    path = tmp_path / "s"
    async with serving(FakeView(), path, limits=Limits(connections=5)):
        crowd = [await asyncio.open_unix_connection(path) for _ in range(5)]
        crowd[0][1].write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")  # it is silent no more
        assert await asyncio.wait_for(crowd[0][0].readuntil(b"\r\n\r\n"), 10)
        for _ in range(3):
            assert (await get(path, "/healthz"))[0] == 200
        with suppress(ConnectionError):
            assert await asyncio.wait_for(crowd[1][0].read(), 10) == b""
        crowd[0][1].write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await asyncio.wait_for(crowd[0][0].readuntil(b"200 OK"), 10)
        for _, one in crowd:
            one.close()


async def test_who_waits_for_an_answer_makes_no_room(tmp_path: Path) -> None:
    """Where all are busy a newcomer is hung up on, until one of them leaves."""
    path = tmp_path / "s"
    view = FakeView()
    async with serving(view, path, limits=Limits(connections=2, streams=2, silence_s=3600.0)):
        busy = [await asyncio.open_unix_connection(path) for _ in range(2)]
        for _, writer in busy:
            writer.write(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        await wait_until(lambda: len(view.streams) == 2, what="two streams")
        reader, writer = await asyncio.open_unix_connection(path)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        for _, one in busy:
            one.close()
        await wait_until(lambda: all(one.closed for one in view.streams), what="they left")
        assert (await get(path, "/healthz"))[0] == 200


async def test_limits_leave_descriptors_to_the_uploads() -> None:
    """At most a quarter of what the process may open is for clients of the status socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert Limits.fitting().connections == 64
        assert Limits.fitting().streams == 16
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_stop_does_not_wait_for_idle_clients(tmp_path: Path) -> None:
    """Kept connections do not hold up the daemon's end."""
    server = Control(FakeView(), tmp_path / "s", 0o600)
    await server.start()
    _, writer = await asyncio.open_unix_connection(tmp_path / "s")
    async with asyncio.timeout(5):
        await server.stop()
    writer.close()


async def test_a_socket_that_was_handed_over_is_served_and_left(tmp_path: Path) -> None:
    """Nothing is claimed or removed, and who comes between two daemons is heard by the second."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(path))
        theirs.listen()
        first = Control(FakeView(), path, 0o600, listening=theirs.dup())
        await first.start()
        assert (await get(path, "/healthz"))[0] == 200
        await first.stop()
        assert path.exists()
        waiting = asyncio.create_task(get(path, "/healthz"))
        while not select.select([theirs], [], [], 0)[0]:
            await asyncio.sleep(0)
        second = Control(FakeView(), path, 0o600, listening=theirs.dup())
        await second.start()
        assert (await asyncio.wait_for(waiting, 10))[0] == 200
        await second.stop()
        assert path.exists()


@pytest.mark.parametrize("handed", [False, True])
async def test_stop_loses_nobody_who_was_let_in(tmp_path: Path, *, handed: bool) -> None:
    """Who has connected is answered, also who asks only after the end has begun."""
    path = tmp_path / "s"
    theirs = None
    if handed:
        theirs = socket.socket(socket.AF_UNIX)
        theirs.bind(str(path))
        theirs.listen()
    server = Control(FakeView(), path, 0o600, listening=theirs)
    await server.start()
    ready = [await asyncio.open_unix_connection(path) for _ in range(20)]
    await wait_until(lambda: len(server._crowd.members) == 20, what="all to be in")
    late = [await asyncio.open_unix_connection(path) for _ in range(20)] if not handed else []
    ending = asyncio.create_task(server.stop())
    await wait_until(lambda: server._crowd.closed, what="the end to begin")
    for reader, writer in ready + late:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 10)).endswith(b"200 OK\r\n")
        writer.close()
    await asyncio.wait_for(ending, 10)


# --- the socket's place -------------------------------------------------------------------------


async def test_the_socket_is_born_with_its_mode_and_folder(tmp_path: Path) -> None:
    """The mode is the configured one; a folder that we make lets pass only whom the mode lets."""
    path = tmp_path / "run" / "s.sock"
    old = os.umask(0o077)
    try:
        async with serving(FakeView(), path, mode=0o660):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o710
    finally:
        os.umask(old)
    assert not path.exists()
    assert path.parent.is_dir()
    private = tmp_path / "private" / "s.sock"
    async with serving(FakeView(), private, mode=0o600):
        assert stat.S_IMODE(private.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_the_socket_never_has_more_than_its_mode(tmp_path: Path, umask: int) -> None:
    """Whatever the umask is: its name is born with no more than the mode, and ends with just it."""
    path = tmp_path / "s"
    born: list[int] = []

    def look(_frame: object, event: str, arg: object) -> None:
        if event == "c_return" and getattr(arg, "__name__", "") == "bind":
            born.append(stat.S_IMODE(path.lstat().st_mode))

    old = os.umask(umask)
    sys.setprofile(look)
    try:
        with claim(path, 0o640):
            pass
    finally:
        sys.setprofile(None)
        os.umask(old)
    assert len(born) == 1
    assert born[0] & ~0o640 == 0, oct(born[0])
    assert stat.S_IMODE(path.lstat().st_mode) == 0o640


def test_a_daemon_that_takes_no_more_clients_is_not_robbed(tmp_path: Path) -> None:
    """Where so many wait that there is no room for one more, somebody lives there."""
    with socket.socket(socket.AF_UNIX) as living, ExitStack() as stack:
        living.bind(str(tmp_path / "s"))
        living.listen(0)
        with suppress(BlockingIOError):
            for _ in range(10):
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(tmp_path / "s"))
        with pytest.raises(ConfigError, match="another daemon answers on"):
            claim(tmp_path / "s", 0o660)
        assert (tmp_path / "s").exists()


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """A socket that a killed daemon left is no obstacle."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    async with serving(FakeView(), path):
        assert (await get(path, "/healthz"))[0] == 200


async def test_a_living_daemon_is_not_robbed(tmp_path: Path) -> None:
    """A second daemon is refused, and the first goes on answering."""
    path = tmp_path / "s"
    async with serving(FakeView(), path):
        with pytest.raises(ConfigError, match=f"another daemon answers on {path}"):
            await Control(FakeView(), path, 0o660).start()
        assert (await get(path, "/healthz"))[0] == 200


@pytest.mark.parametrize("kind", ["file", "folder", "fifo", "symlink"])
async def test_what_is_no_socket_is_untouched(tmp_path: Path, kind: str) -> None:
    """Anything else at the path is refused and left as it is."""
    path = tmp_path / "s"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "elsewhere")
    before = path.lstat()
    with pytest.raises(ConfigError, match="is not a socket"):
        await Control(FakeView(), path, 0o660).start()
    assert path.lstat().st_ino == before.st_ino
    assert path.lstat().st_mode == before.st_mode


async def test_a_path_that_is_too_long_is_refused_with_a_hint(tmp_path: Path) -> None:
    """The kernel's limit is explained."""
    path = tmp_path / ("x" * 107)
    with pytest.raises(ConfigError, match="107 bytes") as caught:
        await Control(FakeView(), path, 0o660).start()
    assert "daemon.socket" in caught.value.hint


async def test_a_folder_without_permission_is_refused() -> None:
    """What the system refuses is a sentence."""
    with pytest.raises(ConfigError, match="cannot be made"):
        await Control(FakeView(), Path("/proc/uploaderd/s"), 0o660).start()


async def test_anothers_socket_is_not_removed_on_stop(tmp_path: Path) -> None:
    """Only the socket that we made is taken away."""
    path = tmp_path / "s"
    async with serving(FakeView(), path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            inode = path.lstat().st_ino
    assert path.lstat().st_ino == inode


# --- the client ---------------------------------------------------------------------------------


async def test_the_client_asks_with_any_bytes(tmp_path: Path) -> None:
    """A path that is not UTF-8 reaches the view as it is in the file system."""
    view = FakeView()
    async with serving(view, tmp_path / "s"):
        with Client(tmp_path / "s") as client:
            await asyncio.to_thread(
                client.files, Selection(path=b"/a b/\xff&=%+\n", states=("done",))
            )
            assert await asyncio.to_thread(client.file_document, "no/such ?id") is None
    wanted = Selection(states=("done",), path=b"/a b/\xff&=%+\n")
    assert view.asked[0]["wanted"] == wanted


async def test_the_client_outlives_a_restart(tmp_path: Path) -> None:
    """A kept connection that the daemon has closed is opened anew."""
    client = Client(tmp_path / "s")
    for _ in range(2):
        async with serving(FakeView(), tmp_path / "s"):
            assert await asyncio.to_thread(client.get, "/healthz")
    with pytest.raises(NoDaemonError, match="no daemon answers on"):
        client.get("/healthz")


async def test_the_client_hands_refusals_on(tmp_path: Path) -> None:
    """The daemon's own sentence and hint reach the caller."""
    async with serving(FakeView(), tmp_path / "s"):
        with Client(tmp_path / "s") as client, pytest.raises(AnswerError) as caught:
            await asyncio.to_thread(client.files, Selection(states=("lost",)))
    assert "lost" in str(caught.value)
    assert "settling" in caught.value.hint
