"""The status socket under rude clients, and its client before a daemon that lies."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from tests.fuzz.kit import effort, is_sentence, spoilt
from tests.support.waiting import wait_until
from uploaderd.clock import SystemClock
from uploaderd.config import Retry, Transfer
from uploaderd.control.server import Control, Limits
from uploaderd.core.model import Arrival, File, FileState, Identity
from uploaderd.core.reasons import reason
from uploaderd.engine.context import Context
from uploaderd.engine.engine import Engine
from uploaderd.engine.view import EngineView
from uploaderd.journal import Journal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

# What failed is shown all the same.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

LIMITS = Limits(connections=64, request_s=0.15, idle_s=0.15)
POST = b"POST /v1/status HTTP/1.1\r\nHost: x\r\n"
GOOD = b"GET /v1/files?limit=5 HTTP/1.1\r\nHost: x\r\n\r\n"
MIB = 2**20


async def inline(function: Callable[..., Any], /, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 - whatever it returns
    """An offload without threads."""
    await asyncio.sleep(0)
    return function(*args, **kwargs)


def a_journal(path: Path, clock: SystemClock) -> Journal:
    """A journal with a few files whose names are hard to show."""
    journal = Journal(path)
    journal.open()
    journal.watch(["/spool"])
    now_s = clock.now().wall_s
    for number, name in enumerate([b"a", b"\xff\xfe", b"x\n\x1b[31m", "ä/ß".encode(), b"\\udcff"]):
        identity = Identity(dev=1, inode=number, size=5, mtime_ns=0, ctime_ns=0)
        file = File(
            id=f"f{number}",
            watch="/spool",
            path=name,
            identity=identity,
            arrival=Arrival.RENAMED,
            target="openai",
            purpose="user_data",
            state=FileState.QUEUED,
            reason=reason("queued.slot"),
            created_s=now_s + number,
            updated_s=now_s,
            changed_s=now_s,
            owner="here",
            started_s=now_s,
            due_s=None,
        )
        journal.intake("/spool", {name: identity}, lambda *_, file=file: file)
    return journal


@asynccontextmanager
async def serving(limits: Limits = LIMITS) -> AsyncIterator[Path]:
    """The real server with the engine's own view of a real journal."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="up-") as folder:
        journal = a_journal(Path(folder) / "journal.sqlite3", clock)
        ctx = Context(
            journal=journal,
            keep=inline,
            disk=inline,
            clock=clock,
            chance=lambda: 0.5,
            new_id=lambda: "x",
            week_s=lambda _: 0.0,
            owner="here",
            places={},
            services={},
            transfer=Transfer(),
            retry=Retry(),
        )
        server = Control(
            EngineView(Engine(ctx), version="9"), Path(folder) / "s", 0o600, limits=limits
        )
        await server.start()
        try:
            yield Path(folder) / "s"
        finally:
            await server.stop()
            journal.close()


class Complaints(logging.Handler):
    """Keeps what the log would show as trouble."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, unless it is a warning to the operator, such as that of a pause."""
        if record.levelno >= logging.ERROR or record.exc_info:
            self.found.append(f"{record.name}: {record.getMessage()} {record.exc_info}")


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """The log of everything, from warnings on."""
    handler = Complaints()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


async def say(path: Path, raw: bytes) -> bytes:
    """Send bytes and read until the server hangs up."""
    reader, writer = await asyncio.open_unix_connection(path)
    found = b""
    with suppress(ConnectionError):
        writer.write(raw)
        async with asyncio.timeout(30):
            while some := await reader.read(65536):
                found += some
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return found


def answers(found: bytes, *, head: bool) -> list[tuple[int, Any]]:
    """Cut what was said into answers, and assert that each is a JSON document."""
    said = []
    while found:
        top, end, rest = found.partition(b"\r\n\r\n")
        assert end, found
        lines = top.decode("ascii").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version.startswith("HTTP/")
        if status == "100":
            found = rest
            continue
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
        }
        numbers = headers["content-type"].startswith("text/plain; version=0.0.4")
        assert numbers or headers["content-type"].startswith("application/json"), top
        size = int(headers["content-length"])
        if head and (len(rest) < size or rest.startswith(b"HTTP/")):
            size = 0  # an answer to HEAD, perhaps with another one behind it
        said.append((int(status), json.loads(rest[:size]) if size and not numbers else None))
        found = rest[size:]
    return said


def right(found: bytes, raw: bytes) -> None:
    """Assert that every answer is a document, or a refusal in the contract's shape."""
    for status, body in answers(found, head=b"HEAD" in raw):
        event(str(status))
        assert status == 200 or 400 <= status < 500, (status, body, raw)
        if status == 200 or body is None:
            continue
        assert set(body) == {"error"}, body
        assert set(body["error"]) == {"code", "message", "hint"}, body
        assert is_sentence(body["error"]["code"], limit=40)
        assert 0 < len(body["error"]["message"]) <= 600, len(body["error"]["message"])
        assert "Traceback" not in body["error"]["message"]


async def still_well(path: Path) -> None:
    """Assert that a good request is answered as ever; on a busy machine its time may run out."""

    async def answered() -> bool:
        found = await say(path, GOOD.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        return [status for status, _ in answers(found, head=False)] == [200]

    await wait_until(answered, timeout_s=30, what="an answer to a good request")


METHODS = st.sampled_from(
    [
        *("GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE"),
        *("get", "", "G" * 9000, "GE T", "*", "PRI"),
    ]
)
ESCAPES = st.sampled_from(
    [
        *(
            "%",
            "%%",
            "%0",
            "%00",
            "%2e%2e",
            "%2F",
            "%ff",
            "%ed%a0%80",
            "%zz",
            "%25%32",
            "%0d%0aX:1",
        ),
        *("..", ".", "/", "//", "?", "#", "&", "=", ";", ":", "@", "*", "\\", "'", "\x7f", "\t"),
        *("\xff", "é", "\ud800", "\u2028", "f0", "none", "x" * 300, "x" * 9000, "retry", "{id}"),
    ]
)
PATHS = st.one_of(
    st.sampled_from(
        ["/v1/status", "/v1/files", "/healthz", "/metrics", "/v1/events/", "/v1/pause", "/v1/limit"]
    ),
    st.sampled_from(
        [
            *("/v1/resume", "/v1/reload", "/v1/files/f0/cancel", "/v1/files/f0/cancel/"),
            *("/v1/files/f0/hold", "/v1/files/f1/release", "/v1/files/f2/retry", "/v1/files/f0/x"),
        ]
    ),
    st.lists(ESCAPES, max_size=3).map(lambda found: f"/v1/files/{''.join(found)}/cancel"),
    st.lists(ESCAPES, max_size=4).map(lambda found: "/v1/files/" + "".join(found)),
    st.lists(ESCAPES, max_size=4).map(lambda found: "/" + "".join(found)),
    st.sampled_from(["*", "http://h/v1/status", "http://[::1", "//h:x/v1/status", "h:80", ""]),
    st.text(max_size=20),
)
FIGURES = st.sampled_from(
    [
        *("", "1", "0", "-1", "1000", "1001", "0001", "1e3", " 5", "+5", "5_0", "²", "%31", "0x10"),
        *("9" * 18, "9" * 30, "0" * 8 + "1" + "9" * 30, "0" * 8 + "1" + "9" * 5000, "nan"),
    ]
)
CURSORS = st.sampled_from(
    [
        *(":", "1:", ":x", "nan:f0", "inf:f0", "-inf:", "1e999:f1", "9" * 400 + ":", "1:%00"),
        *("1_0:x", "1:%ff", "1:%ed%a0%80", "x", "%", "1.5:f2"),
    ]
)
QUERIES = st.lists(
    st.one_of(
        FIGURES.map(lambda value: f"limit={value}"),
        CURSORS.map(lambda value: f"after={value}"),
        st.sampled_from([*(state.value for state in FileState), "lost", "%00", "%ff", ","]).map(
            lambda value: f"state={value}"
        ),
        st.tuples(
            st.sampled_from(["watch", "target", "code"]),
            st.sampled_from(["held", "queued.slot", "/", "/spool", "*", "%00", "%ff", "[", "'"]),
        ).map("=".join),
        st.lists(ESCAPES, max_size=3).map(lambda found: "path=" + "".join(found)),
        st.sampled_from(["path=/spool/a", "path=/spool/%ff%fe", "path=/spool/%5Cudcff", "path=/"]),
        st.tuples(ESCAPES, ESCAPES).map("=".join),
        st.text(max_size=10),
    ),
    max_size=4,
).map("&".join)
EXTRAS = st.sampled_from(
    [
        *("Expect: 100-continue", "Expect: miracles", "Content-Length: 5", "Content-Length: -1"),
        *("Content-Length: 99999999999999999999", "Transfer-Encoding: chunked", "X: " + "x" * 9000),
        *(
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Upgrade: websocket\r\nConnection: Upgrade",
        ),
        *("Connection: close", "Content-Encoding: gzip", "Range: bytes=0-1", "If-None-Match: *"),
        *("Host: y", "Cookie: " + "a=b;" * 500, "X : y", " folded", "\xff: \xff", "X: \ud800", ":"),
        *(
            "Content-Type: multipart/form-data",
            "Sec-WebSocket-Key: x",
            "Accept-Encoding: br",
            "X: \0",
        ),
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """What looks like a request, as a rule."""
    path, query = draw(PATHS), draw(QUERIES)
    version = draw(
        st.sampled_from(["HTTP/1.1"] * 6 + ["HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "X", ""])
    )
    target = f"{path}?{query}" if query else path
    lines = [f"{draw(METHODS)} {target} {version}", "Host: x", *draw(st.lists(EXTRAS, max_size=2))]
    raw = "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n"
    return raw + draw(st.sampled_from([b"", b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n"]))


RUDE = st.one_of(
    requests(),
    requests(),
    requests().flatmap(spoilt),
    st.lists(requests(), min_size=2, max_size=5).map(b"".join),
    st.binary(max_size=100),
    st.integers(0, len(GOOD)).map(lambda end: GOOD[:end]),
)

FOUND = (
    POST + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    b"POST /v1/pause HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/files?limit=00000000019999999999 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/files?limit=000000001" + b"9" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/status HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n",
    b"GET /nothing HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n",
    b"GET /" + b"x" * 8000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/files?state=" + b"x" * 8000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/files?" + b"x" * 8000 + b"=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/files?after=" + b"x" * 8000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/files?after=nan:%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/files/%ed%a0%80 HTTP/1.1\r\nHost: x\r\n\r\n",
)


def test_whatever_is_asked_the_answer_is_a_document_or_a_refusal(complaints: Complaints) -> None:
    """Any bytes: JSON with 200 or 4xx, or the line goes dead; and the next good request is fine."""
    with asyncio.Runner() as runner, ExitStack() as stack:
        server = serving()
        path = runner.run(server.__aenter__())
        stack.callback(lambda: runner.run(server.__aexit__(None, None, None)))

        async def round_of(rude: list[bytes]) -> None:
            found = await asyncio.gather(*(say(path, raw) for raw in rude))
            for raw, said in zip(rude, found, strict=True):
                right(said, raw)
            await still_well(path)

        @given(st.lists(RUDE, min_size=20, max_size=40))
        @example([*FOUND])
        @effort(10)
        def case(rude: list[bytes]) -> None:
            runner.run(round_of(rude))
            assert complaints.found == []

        case()
