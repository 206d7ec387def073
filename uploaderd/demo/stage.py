"""The demo's temporary folder and its processes, each ended by its own id."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from uploaderd.cli.common import answers, boot_s
from uploaderd.control.client import Client
from uploaderd.errors import UploaderdError

if TYPE_CHECKING:
    from types import TracebackType

PARTS_IN_FLIGHT: Final = 4
PART_BYTES: Final = 4 * 2**20
FILES_IN_FLIGHT: Final = 4
KEY: Final = "sk-demo-not-a-secret"

_START_S: Final = 15.0
_STOP_S: Final = 30.0
_LAST_LINES: Final = 15
_TRIES: Final = 20
_PAUSE_S: Final = 0.05
_SOCKET_BYTES: Final = 107
# A child must not see the caller's service, key, folders or service manager.
_FOREIGN: Final = (
    "OPENAI_",
    "AZURE_",
    "UPLOADERD_",
    "NOTIFY_",
    "JOURNAL_",
    "CREDENTIALS_",
    "WATCHDOG_",
)
_CONFIG: Final = """\
[daemon]
state_dir = {state}
socket = {socket}
log_level = "info"
log_format = "text"

[targets.demo]
base_url = {base_url}

[[watch]]
path = {spool}

[transfer]
part_size = "4MiB"
parts_in_flight = 4
files_in_flight = 4
bandwidth = "28MiB/s"
"""


def _place_of_the_socket(root: Path) -> Path:
    """A folder in the stage, or a short one where its path is too long for a socket (unix(7))."""
    inside = root / "run"
    if len(os.fsencode(inside / "status.sock")) <= _SOCKET_BYTES:
        return inside
    return Path(tempfile.mkdtemp(prefix="uploaderd-demo-", dir="/tmp"))


class Stage:
    """A folder with sources, spool, store and state, an emulator and a daemon.

    Attributes:
        over: whoever makes files in it has to stop.
    """

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self.over = False
        self.root = Path(tempfile.mkdtemp(prefix="uploaderd-demo-"))
        self.sources = self.root / "sources"
        self.spool = self.root / "spool"
        self.store = self.root / "store"
        self.base_url = ""
        self._run = _place_of_the_socket(self.root)
        self.client = Client(self._run / "status.sock")
        self._config = self.root / "config.toml"
        self._log = self.root / "daemon.log"
        self._emulator: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Make the folders."""
        for folder in (self.sources, self.spool, self.store):
            folder.mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End what still runs and remove the folder."""
        self.over = True
        self.client.close()
        for process in (self._daemon, self._emulator):
            if process is not None:
                _end(process)
        if not self._keep:
            _remove(self.root)
        shutil.rmtree(self._run, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        return 0 if self._daemon is None else self._daemon.pid

    def start_emulator(self) -> None:
        """Start the local service and learn its address."""
        words = ["emulator", "--listen", "127.0.0.1:0", "--store", str(self.store)]
        with (self.root / "emulator.log").open("ab") as log:
            self._emulator = _start([*words, "--api-key", KEY], log, stdout=subprocess.PIPE)
        if self._emulator.stdout is None:
            raise AssertionError  # it is a pipe
        line = self._emulator.stdout.readline().decode()
        if not line.startswith("listening on "):
            raise UploaderdError(
                "the demo's emulator did not start", hint=_tail(self.root / "emulator.log")
            )
        self.base_url = line.removeprefix("listening on ").strip()

    def start_daemon(self) -> None:
        """Start the daemon and wait until its socket answers."""
        values = {
            "state": self.root / "state",
            "socket": self.client.socket,
            "base_url": self.base_url,
            "spool": self.spool,
        }
        quoted = {name: json.dumps(str(value)) for name, value in values.items()}
        self._config.write_text(_CONFIG.format(**quoted))
        with self._log.open("ab") as log:
            self._daemon = _start(["run", "--config", str(self._config)], log)
        began_s = boot_s()
        while not answers(self.client.socket):
            self.check_alive()
            if boot_s() - began_s > _START_S:
                raise UploaderdError("the demo's daemon does not answer", hint=self.last_words())
            time.sleep(0.05)

    def check_alive(self) -> None:
        """Raise if the daemon or the emulator has ended by itself."""
        for name, process in (("daemon", self._daemon), ("emulator", self._emulator)):
            if process is not None and process.poll() is not None:
                raise UploaderdError(
                    f"the demo's {name} ended with exit code {process.returncode}",
                    hint=self.last_words(),
                )

    def kill_daemon(self) -> None:
        """End the daemon the way a power cut would."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None
        self.client.close()

    def stop_daemon(self) -> int:
        """End the daemon the way a service manager would; return its exit code."""
        process, self._daemon = self._daemon, None
        return -1 if process is None else _end(process)

    def emulator_state(self) -> dict[str, Any]:
        """Ask the emulator what it holds and was sent."""
        address = urlsplit(self.base_url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
        try:
            connection.request("GET", "/_emulator/state")
            state: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return state

    def last_words(self) -> str:
        """Give the end of the daemon's log."""
        return _tail(self._log)


def _start(
    words: list[str], log: IO[bytes], *, stdout: int | None = None
) -> subprocess.Popen[bytes]:
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN) and not name.endswith("_DIRECTORY")
    }
    # A session of its own: Ctrl-C reaches the demo alone, which then ends its children in order.
    return subprocess.Popen(  # noqa: S603 - our own interpreter, our own words
        [sys.executable, "-m", "uploaderd", *words],
        env=env | {"OPENAI_API_KEY": KEY},
        stdin=subprocess.DEVNULL,
        stdout=log if stdout is None else stdout,
        stderr=log,
        start_new_session=True,
    )


def _remove(folder: Path) -> None:
    """Remove a folder, also where a file is still being made in it."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(_PAUSE_S)
        if not folder.exists():
            return


def _end(process: subprocess.Popen[bytes]) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return process.returncode


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="backslashreplace").splitlines()
    except OSError:
        return ""
    return "its last words were:\n" + "\n".join(lines[-_LAST_LINES:])
