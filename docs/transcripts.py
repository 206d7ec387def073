"""Writes the transcripts in ``README.md`` anew: a real daemon and an emulator, and real commands.

    make transcripts

A scene is set in a temporary folder: one file has arrived, one is on its way and stalls after its
third part, one has no bytes, one is held, one waits. Then the commands are run as at a terminal of
80 columns. What differs from run to run (ids, times, rates, paths) is replaced by fixed values of
the same shape, so a test can compare. Each transcript stands between two marks:

    <!-- transcript: NAME -->
    <!-- end of transcript -->
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uploaderd.cli.common import answers, boot_s
from uploaderd.control.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from re import Match

ROOT: Final = Path(__file__).parent.parent
README: Final = ROOT / "README.md"
SPOOL: Final = "/var/spool/uploaderd"
MIB: Final = 2**20
WAIT_S: Final = 60.0
PAUSE_S: Final = 0.05
# One part for what arrives, three of the next file; the fourth is never answered.
STALL: Final = "call=part,action=stall,skip=4"
CONFIG: Final = """\
[daemon]
state_dir = "{root}/state"
socket = "{root}/s"
drain_timeout = "100ms"
[targets.openai]
base_url = "{url}"
[[watch]]
path = "{root}/spool"
settle = "0s"
[transfer]
part_size = "1MiB"
parts_in_flight = 1
files_in_flight = 1
"""
TRANSCRIPTS: Final = {
    "status": (("status",),),
    "verbs": (
        ("hold", f"{SPOOL}/batch/requests.jsonl"),
        ("release", f"{SPOOL}/batch/requests.jsonl"),
        ("hold", f"{SPOOL}/batch/requests.jsonl", f"{SPOOL}/notes.txt"),
        ("retry", "--state", "deferred"),
    ),
    "list": (("list",),),
    "show": (("show", f"{SPOOL}/empty.csv"),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A folder with a spool, a configuration and a daemon that runs."""

    root: Path
    env: dict[str, str]
    client: Client

    @property
    def spool(self) -> Path:
        """The watched folder."""
        return self.root / "spool"

    def drop(self, name: str, size: int) -> None:
        """Put a file into the spool, whole or not at all."""
        path = self.spool / name
        path.parent.mkdir(exist_ok=True)
        hidden = path.with_name(f".{path.name}.tmp")
        hidden.write_bytes(bytes(size))
        hidden.rename(path)

    def until(self, name: str, code: str, *, stored: int = 0) -> None:
        """Wait until a file has a reason, and so many parts are stored and one is on its way."""

        def there() -> bool:
            for row in self.client.rows():
                if row.path == str(self.spool / name) and row.reason.code == code:
                    return not stored or (row.parts.stored, row.parts.in_flight) == (stored, 1)
            return False

        wait_for(there, f"{name} to be {code}")

    def say(self, words: tuple[str, ...]) -> str:
        """Run a command as at a terminal; give what it said on both streams."""
        here = tuple(word.replace(SPOOL, str(self.spool)) for word in words)
        command = (sys.executable, "-m", "uploaderd", *here, "--config", "config.toml")
        ours, theirs = os.openpty()
        env = self.env | {"COLUMNS": "80", "TERM": "dumb"}
        with subprocess.Popen(  # noqa: S603 - our own
            command, cwd=self.root, env=env, stdin=theirs, stdout=theirs, stderr=theirs
        ) as process:
            os.close(theirs)
            said = bytearray()
            while some := _read(ours):
                said += some
            process.wait(WAIT_S)
        os.close(ours)
        return said.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    """Read what comes from a terminal; nothing once nobody has it open."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Ask again and again until it is so."""
    began_s = boot_s()
    while not condition():
        if boot_s() - began_s > WAIT_S:
            raise SystemExit(f"waited {WAIT_S:g} s in vain for {what}")
        time.sleep(PAUSE_S)


@contextmanager
def running(words: tuple[str, ...], root: Path, env: dict[str, str]) -> Iterator[Path]:
    """Run a command until the block is left; give the file with what it says."""
    said = root / f"{words[0]}.out"
    with (
        said.open("wb") as out,
        (root / f"{words[0]}.err").open("wb") as err,
        subprocess.Popen(  # noqa: S603 - the same
            (sys.executable, "-m", "uploaderd", *words), cwd=root, env=env, stdout=out, stderr=err
        ) as process,
    ):
        try:
            yield said
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def scene() -> Iterator[Scene]:
    """Set the scene; leave nothing behind."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    with tempfile.TemporaryDirectory(prefix="uploaderd-") as folder:
        root = Path(folder)
        env = kept | {"HOME": folder, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "sk-not-a-key"}
        (root / "spool").mkdir()
        words = ("emulator", "--listen", "127.0.0.1:0", "--store", "store", "--fault", STALL)
        with running(words, root, env) as said:
            wait_for(lambda: said.read_text().endswith("/v1\n"), "the emulator")
            url = said.read_text().split()[-1]
            (root / "config.toml").write_text(CONFIG.format(root=root, url=url))
            with running(("run", "--config", "config.toml"), root, env):
                wait_for(lambda: answers(root / "s"), "the daemon")
                with Client(root / "s") as client:
                    made = Scene(root=root, env=env, client=client)
                    set_up(made)
                    yield made


def set_up(here: Scene) -> None:
    """Bring the daemon into the state that is shown; the order of the files is fixed."""
    here.drop("notes.txt", 1200)
    here.until("notes.txt", "done.uploaded")
    here.drop("models/checkpoint-0417.bin", 5 * MIB + 4711)
    here.until("models/checkpoint-0417.bin", "uploading.parts", stored=3)
    here.drop("empty.csv", 0)
    here.until("empty.csv", "failed.empty")
    wait_for((here.spool / "failed/empty.csv.receipt.json").exists, "its receipt")
    for name in ("evals/questions.jsonl", "batch/requests.jsonl"):
        here.drop(name, 42_000)
        here.until(name, "queued.slot")


def record() -> dict[str, str]:
    """Run all commands; give their transcripts."""
    found = {}
    with scene() as here:
        for name, commands in TRANSCRIPTS.items():
            said = "".join(
                f"$ uploaderd {' '.join(words)}\n{here.say(words)}" for words in commands
            )
            found[name] = steady(said, here)
    return found


# --- what differs from run to run -----------------------------------------------------------------

_ID: Final = re.compile(r"\b[0-9a-f]{32}\b")
_TIME: Final = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_UP: Final = re.compile(r"pid \d+, up [^\n]+")
_SPAN: Final = r"\d+[dhms](?: \d+[hms])?"
_PACE: Final = re.compile(rf", [\d.]+ (?:[KMG]i)?B/s, {_SPAN} left")
_ACTIVE: Final = re.compile(rf" +[\d.]+ (?:[KMG]i)?B/s +{_SPAN} +{_SPAN}$", re.MULTILINE)
_LASTED: Final = re.compile(rf"(Z  \w+)( +{_SPAN})  ")


def steady(said: str, here: Scene) -> str:
    """Put fixed values of the same shape in the place of what differs."""
    ids: dict[str, str] = {}

    def identity(match: Match[str]) -> str:
        return ids.setdefault(match[0], f"{len(ids) + 1:x}" + "0c5e1f7a9b3d248" * 3)[:32]

    def active(match: Match[str]) -> str:
        return f"{'8.2 KiB/s':>13}{'4m 22s':>9}{'58m 49s':>9}".rjust(len(match[0]))

    def lasted(match: Match[str]) -> str:
        return match[1] + "0s".rjust(len(match[2])) + "  "

    said = said.replace(str(here.spool), SPOOL)
    said = _UP.sub("pid 4711, up 2h 11m", said)
    said = _ID.sub(identity, said)
    said = _TIME.sub("2026-03-02T09:14:07.318Z", said)
    said = _PACE.sub(", 8.2 KiB/s, 4m 22s left", said)
    said = _ACTIVE.sub(active, said)
    return _LASTED.sub(lasted, said)


def filled(readme: str, transcripts: dict[str, str]) -> str:
    """Put the transcripts between their marks."""
    for name, said in transcripts.items():
        block = "".join(f"    {line}".rstrip() + "\n" for line in said.splitlines())
        mark = f"<!-- transcript: {name} -->\n"
        before, found, rest = readme.partition(mark)
        _, end, after = rest.partition("<!-- end of transcript -->")
        if not found or not end:
            raise SystemExit(f"README.md has no marks for the transcript {name}")
        readme = f"{before}{mark}\n{block}\n{end}{after}"
    return readme


if __name__ == "__main__":
    README.write_text(filled(README.read_text("utf-8"), record()), "utf-8")
