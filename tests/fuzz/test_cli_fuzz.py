"""The command line before a configuration or a daemon that is not what it should be."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from tests.cli.cli_helpers import ROOT, environment, row
from tests.fuzz.kit import ODD, effort, mutated, written
from tests.fuzz.test_config_fuzz import MARKER, documents, examples
from tests.fuzz.test_reply_fuzz import raw_replies
from uploaderd.cli import words
from uploaderd.config import load
from uploaderd.control.client import Client
from uploaderd.control.documents import AnswerError
from uploaderd.core.model import FileState
from uploaderd.errors import ConfigError, NoDaemonError, UploaderdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What failed is shown all the same.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

ENV = {"STATE_DIRECTORY": "/s", "RUNTIME_DIRECTORY": "/r"}
ROWS = [row("f1", "/spool/a", "uploading"), row("f2", "/spool/b", "held")]
STATUS = {
    "version": "9.9.9",
    "pid": 4711,
    "started_at": "2026-01-01T00:00:00.000Z",
    "state": "running",
    "drained": True,
    "counts": {state.value: 1 for state in FileState},
    "bytes": {"queued": 3_145_728, "stored": 1_048_576, "resent": 7},
    "rate_bps": 1_048_576,
    "bandwidth": {
        "limit_bps": 5_242_880,
        "why": "timetable",
        "until": "2100-01-01T00:00:00.000Z",
        "configured": "08:00,5MiB/s 18:00,unlimited",
    },
    "watches": [{"path": "/spool", "mode": "inotify", "why": ""}],
    "targets": [{"name": "openai", "state": "auth", "until": None}],
    "active": ROWS[:1],
    "trouble": "the disk is full",
}
PAGE = {"files": ROWS, "next": None}
DETAIL = ROWS[0] | {
    "parts_list": [{"number": 1, "offset": 0, "bytes": 250, "state": "stored", "sends": 1}],
    "history": [
        {"at": "2026-01-01T00:00:00Z", "event": "Seen", "state": "x", "code": "y", "text": "z"}
    ],
}


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Put back what a command has set."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def call(*args: str) -> tuple[int, str, str]:
    """Run one command in this process: its exit code, and what it said on both streams."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            words.main(args)
        except SystemExit as ended:
            code = ended.code
    out.flush()
    err.flush()
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return int(str(code)), texts[0], texts[1]


def decent(code: int, out: str, err: str, allowed: set[int]) -> None:
    """Assert that a command ended as a command should: a code, a sentence, nothing of Python's."""
    assert code in allowed, (code, err)
    assert "Traceback" not in out + err, err
    assert "fault of uploaderd itself" not in err, err
    assert "the system refused" not in err, err
    assert MARKER not in out + err
    assert not {c for c in out + err if not c.isprintable()} - {"\n"}, (out, err)
    if code:
        lines = err.splitlines()
        assert lines[-1].startswith(("uploaderd: error: ", "uploaderd: hint: ")), err
        assert all(0 < len(line) <= 2000 for line in lines), err[:5000]


# --- a configuration ------------------------------------------------------------------------------


def checked(file: Path, content: bytes) -> None:
    """Let ``check`` read a configuration."""
    file.write_bytes(content)
    try:
        load(file, ENV)
        allowed = {0, 78}  # it may be right, and yet the surroundings are not
    except ConfigError:
        allowed = {78}
    decent(*call("check", "--config", str(file)), allowed)


@given(st.one_of(documents(), examples(), examples(), st.binary(max_size=50)))
@effort(60)
def test_check_of_any_configuration(content: bytes) -> None:
    """Exit code 78 and a sentence, or the effective configuration; never a traceback."""
    with tempfile.TemporaryDirectory(prefix="up-") as folder:
        checked(Path(folder) / "c.toml", content)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\0",
        b"a = " + b"[" * 3000,
        b"[retry]\nattempts = " + b"9" * 5000,
        f'[targets."{MARKER}"]\nbase_url = "http://u:{MARKER}@h"\n'.encode(),
    ],
)
def test_a_bad_configuration_ends_a_real_command_with_78(tmp_path: Path, content: bytes) -> None:
    """``run`` as a process: the same sentence, the same code."""
    file = tmp_path / "c.toml"
    file.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-m", "uploaderd", "run", "--config", str(file)],
        env=environment(tmp_path, OPENAI_API_KEY=MARKER),
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    decent(done.returncode, done.stdout.decode(), done.stderr.decode(), {78})


# --- a daemon that lies ---------------------------------------------------------------------------


class Liar:
    """Something on a Unix socket that says the same bytes to everyone, then hangs up."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="up-")
        self.path = Path(self._folder.name) / "s"
        self.raw = b""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        """Begin to lie."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._folder.cleanup()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                heard = b""
                while b"\r\n\r\n" not in heard and (some := connection.recv(65536)):
                    heard += some
                connection.sendall(self.raw)


def http(body: bytes, status: int = 200) -> bytes:
    """A whole answer."""
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


COMMANDS = (
    ("status",),
    ("status", "--json"),
    ("list",),
    ("list", "--json"),
    ("list", "--state", "held", "--json"),
    ("show", "f1"),
    ("show", "--json", "f1"),
    ("show", "/spool/a"),
    ("pause",),
    ("resume",),
    ("limit",),
    ("limit", "5MiB/s"),
    ("limit", "config", "--json"),
    ("cancel", "f1"),
    ("cancel", "/spool/a", "f1"),
)
DOCUMENTS = {
    "status": STATUS,
    "pause": STATUS,
    "resume": STATUS,
    "limit": STATUS,
    "list": PAGE,
    "show": DETAIL,
    "cancel": DETAIL,
}
LIES = st.one_of(
    mutated(STATUS).map(http),
    mutated(PAGE).map(http),
    mutated({**PAGE, "next": "more"}).map(http),
    mutated(DETAIL).map(http),
    st.tuples(
        mutated({"error": {"code": "x", "message": "no", "hint": "y"}}),
        st.integers(100, 499),
    ).map(lambda told: http(*told)),
    ODD.map(lambda text: http(text.encode("utf-8", "surrogatepass"))),
    raw_replies(),
    st.binary(max_size=60),
)
HUGE = "9" * 400


@given(
    st.sampled_from(COMMANDS).flatmap(
        lambda command: st.tuples(st.just(command), LIES | mutated(DOCUMENTS[command[0]]).map(http))
    )
)
@example((("list",), http(written({**PAGE, "next": "again"}).encode())))
@example((("list", "--json"), http(written({**PAGE, "next": "again"}).encode())))
@example((("list", "--json"), http(b"nonsense")))
@example((("list", "--json"), http(b'{"files": [\xff]}')))
@example((("status", "--json"), http(b"\xff")))
@example((("status", "--json"), http(b"[" * 5000)))
@example((("status",), http(b'{"x":' * 5000)))
@example((("status",), http(b"[" * 5000, 404)))
@example((("status",), http(b'{"error": {"message": 5, "hint": []}}', 404)))
@example((("status",), http(written(STATUS).replace("1048576", HUGE).encode())))
@example((("status",), http(written({**STATUS, "state": "\x1b[31m"}).encode())))
@example((("resume",), http(written({**STATUS, "state": "\x1b[31m"}).encode())))
@example((("status",), http(written({**STATUS, "pid": 10**4299}).encode())))
@example((("show", "f1"), http(written(DETAIL).replace("1000", HUGE).encode())))
@example((("show", "f1"), http(written({**DETAIL, "md5": "\x1b]0;x\x07"}).encode())))
@example((("show", "f1"), b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{}"))
@example((("show", "f1"), b"x" * 60_000 + b"\r\n"))
@effort(150)
def test_a_daemon_that_lies_gets_a_sentence(told: tuple[tuple[str, ...], bytes]) -> None:
    """Exit code 0, 1 or 69; no traceback, no control character, no endless list."""
    command, raw = told
    with Liar() as liar:
        liar.raw = raw
        code, out, err = call(*command, "--socket", str(liar.path))
    decent(code, out, err, {0, 1, 69})
    if code == 0 and "--json" in command:
        json.loads(out)


@given(LIES)
@effort(100)
def test_the_client_raises_its_own_errors_alone(raw: bytes) -> None:
    """A document as it was promised, or NoDaemonError or AnswerError."""
    with Liar() as liar, Client(liar.path) as client:
        liar.raw = raw
        asks: tuple[Callable[[], object], ...] = (
            client.status,
            lambda: list(client.rows()),
            lambda: client.file("x/../ \0é"),
        )
        for ask in asks:
            said = ""
            try:
                event(type(ask()).__name__)
            except (NoDaemonError, AnswerError) as error:
                said = str(error)
            assert len(said) <= 1200, said


def test_an_answer_without_an_end_is_given_up() -> None:
    """The client reads so much and no more."""
    with Liar() as liar, Client(liar.path) as client:
        liar.raw = b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 2**25 + b"x"
        with pytest.raises(UploaderdError, match="longer than"):
            client.status()
