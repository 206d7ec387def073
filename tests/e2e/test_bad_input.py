"""Bad input gets a clear error and loses nothing: configuration, folders, files, sockets."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon import DaemonProcess, Table
from tests.support.processes import ROOT, Process, environment
from tests.support.waiting import wait_until
from uploaderd.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CONFIGURATION = 78
NOWHERE = "http://127.0.0.1:9/v1"
GIB = 1 << 30
RULED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")  # root that keeps to file modes


class _Plain(Process):
    """A process without the power to pass over file modes, or without some variables."""

    def __init__(self, log: Path, *, lacks: str = "") -> None:
        super().__init__(log)
        self._lacks = lacks

    async def spawn(
        self, module: str, words: Sequence[str], env: Mapping[str, str], *, piped: bool = False
    ) -> None:
        """Start it under ``setpriv``, unless file modes bind us anyway."""
        assert not piped
        before = RULED if os.geteuid() == 0 else ()
        if before and shutil.which(before[0]) is None:
            pytest.skip("root passes over file modes, and there is no setpriv to prevent it")
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *before,
                sys.executable,
                "-m",
                module,
                *words,
                env={name: value for name, value in env.items() if name != self._lacks},
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


async def refusal(daemon: DaemonProcess) -> str:
    """Start a daemon that must refuse to; return what it said."""
    seen = len(daemon.log_text()) if daemon.process.log.exists() else 0
    await daemon.launch(notify=False)
    code = await daemon.process.ended(20)
    said = daemon.log_text()[seen:]
    assert code == CONFIGURATION, said
    assert "uploaderd: error: " in said
    assert "Traceback" not in said
    return said


def receipt(path: Path) -> dict[str, Any]:
    """Read the receipt that belongs to a filed file."""
    document: dict[str, Any] = json.loads(
        path.with_name(f"{path.name}.receipt.json").read_text("utf-8")
    )
    return document


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"transfer": {"part_sise": "1MiB"}}, ["transfer.part_sise", "part_size"]),
        ({"watch": {"after_upload": "burn"}}, ["watch[0].after_upload", "burn", "keep"]),
        ({"transfer": {"parts_in_flight": 0}}, ["transfer.parts_in_flight", "0", "1"]),
        ({"retry": {"attempts": "five"}}, ["retry.attempts", "five"]),
    ],
    ids=["unknown key", "unknown word", "out of range", "wrong type"],
)
async def test_a_wrong_configuration_is_refused_naming_file_and_key(
    tmp_path: Path, tables: dict[str, Table], named: list[str]
) -> None:
    """What the configuration gets wrong is named with its file, and nothing is begun or lost."""
    async with DaemonProcess(tmp_path, NOWHERE) as daemon:
        file = daemon.drop("a.txt", b"kept")
        daemon.configure(**tables)
        said = await refusal(daemon)
        for word in (str(daemon.config_file), *named):
            assert word in said
        assert file.read_bytes() == b"kept"
        assert not daemon.state_dir.exists()


def _missing(spool: Path) -> None:
    spool.rmdir()


def _a_file(spool: Path) -> None:
    spool.rmdir()
    spool.write_bytes(b"not a folder")


def _unwritable(spool: Path) -> None:
    (spool / "a.txt").write_bytes(b"kept")
    spool.chmod(0o555)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_missing, "is not there"),
        (_a_file, "is not a folder"),
        (_unwritable, "is not ours to read and write"),
    ],
    ids=["missing", "a file", "unwritable"],
)
async def test_a_folder_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    """A watch that is missing, no folder or not writable ends the start with its path and why."""
    async with DaemonProcess(tmp_path, NOWHERE) as daemon:
        daemon.process = _Plain(tmp_path / "daemon.log")
        spoil(daemon.spool)
        said = await refusal(daemon)
        assert why in said
        assert str(daemon.spool) in said
        assert "hint: " in said


@pytest.mark.parametrize("how", ["unset", "empty", "no such file"])
async def test_without_a_key_it_does_not_start(tmp_path: Path, how: str) -> None:
    """Without a key, the start is refused with the places where one may stand."""
    env = {"OPENAI_API_KEY": ""} if how == "empty" else {}
    async with DaemonProcess(tmp_path, NOWHERE, env=env) as daemon:
        daemon.process = _Plain(
            tmp_path / "daemon.log", lacks="OPENAI_API_KEY" if how == "unset" else ""
        )
        if how == "no such file":
            daemon.configure(target={"api_key_file": str(tmp_path / "key")})
        said = await refusal(daemon)
        assert "API key" in said
        named = {"unset": "api_key_file", "empty": "$OPENAI_API_KEY", "no such file": "/key"}
        assert named[how] in said


async def test_an_empty_file_fails_with_a_receipt(tmp_path: Path) -> None:
    """A file without bytes goes to failed/ with its reason; nothing is asked of the service."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("sub/empty.txt", b"")
        await daemon.until_drained()
        filed = daemon.spool / "failed/sub/empty.txt"
        assert filed.read_bytes() == b""
        written = receipt(filed)
        assert (written["outcome"], written["reason"]["code"]) == ("failed", "failed.empty")
        assert emulator.stats.count() == 0


async def test_a_file_over_the_services_limit_fails_at_once(tmp_path: Path) -> None:
    """8 GiB and a byte are refused and moved without being read or offered to the service."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        hidden = daemon.spool / ".big"
        hidden.touch()
        os.truncate(hidden, 8 * GIB + 1)
        hidden.rename(daemon.spool / "big.bin")
        await daemon.until_drained(5)
        filed = daemon.spool / "failed/big.bin"
        assert filed.stat().st_size == 8 * GIB + 1
        written = receipt(filed)
        assert written["reason"]["code"] == "failed.too_large"
        assert str(8 * GIB) in written["reason"]["text"]
        assert emulator.stats.count() == 0


NAMES = [
    b'it\'s "quoted" `here` $HOME.txt',
    b"two\nlines\r.txt",
    b"caf\xe9 \xff.txt",
    "na\u00efve-nai\u0308ve.txt".encode(),
    b"-rf",
    b"\\udce9.txt",
    b"x" * 251 + b".txt",
    "\u20ac".encode() * 85,
]


async def test_any_name_that_a_file_can_have_arrives(tmp_path: Path) -> None:
    """Quotes, new lines, bytes that are no UTF-8 and 255 of them: each arrives with a receipt."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        spool = os.fsencode(daemon.spool)
        await daemon.start()
        for name in NAMES:
            hidden = daemon.spool / ".new"
            hidden.write_bytes(b"content of " + name)
            os.rename(os.fsencode(hidden), spool + b"/" + name)
        await daemon.until_drained(files=len(NAMES))
        done = spool + b"/done/"
        receipts = [name for name in os.listdir(done) if name.endswith(b".receipt.json")]
        documents = [json.loads(Path(os.fsdecode(done + name)).read_bytes()) for name in receipts]
        listed = {row["path"]: row for row in await daemon.files()}
        for name in NAMES:
            shown = (spool + b"/" + name).decode("utf-8", "surrogateescape")
            shown = shown.encode("utf-8", "backslashreplace").decode()
            if name == b"\\udce9.txt":  # a backslash of its own stays what it is
                assert shown.endswith("\\udce9.txt")
            assert listed[shown]["state"] == "done", name
            filed = [
                os.fsdecode(done + one)
                for one in set(os.listdir(done)) - set(receipts)
                if Path(os.fsdecode(done + one)).read_bytes() == b"content of " + name
            ]
            assert len(filed) == 1, name
            assert [one["outcome"] for one in documents if one["path"] == shown] == ["uploaded"]
        contents = sorted(
            emulator.store.content_path(file).read_bytes() for file in emulator.store.files.values()
        )
        assert contents == sorted(b"content of " + name for name in NAMES)


async def test_the_list_keeps_each_odd_name_on_one_line(tmp_path: Path) -> None:
    """`uploaderd list` shows each file on a line of its own, whatever its name holds."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        hidden = daemon.spool / ".new"
        hidden.write_bytes(b"x")
        name = b"two\nlines \x1b[31m \xe9.txt"
        os.rename(os.fsencode(hidden), os.fsencode(daemon.spool) + b"/" + name)
        await daemon.until_drained(files=1)
        for words in (["list"], ["list", "--json"]):
            process = Process(tmp_path / "list.log")
            await process.spawn(
                "uploaderd",
                [*words, "--socket", str(daemon.socket)],
                environment(tmp_path / "home"),
            )
            assert await process.ended(20) == 0
            said = process.log.read_bytes()
            process.log.unlink()
            assert b"udce9.txt" in said
            assert b"two\nlines" not in said
            assert b"\x1b[31m" not in said


@contextmanager
def _listening(path: Path) -> Iterator[None]:
    """A socket at ``path``, bound by a short name: the kernel takes 107 bytes at most."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(f"/proc/self/fd/{folder}/{path.name}")
            yield
    finally:
        os.close(folder)


async def test_what_is_no_regular_file_fails_untouched_and_blocks_nothing(tmp_path: Path) -> None:
    """A symlink, a symlinked folder, a FIFO and a socket fail by themselves; a file behind goes on.

    Nothing is followed: what the links lead to is neither read nor moved.
    """
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret.txt").write_bytes(b"secret")
        await daemon.start()
        (daemon.spool / "link.txt").symlink_to(outside / "secret.txt")
        (daemon.spool / "folder").symlink_to(outside)
        (daemon.spool / "dangling").symlink_to(tmp_path / "nowhere")
        os.mkfifo(daemon.spool / "fifo")
        with _listening(daemon.spool / "socket"):
            daemon.drop("good.txt", b"good")
            await daemon.until_drained(10)
            failed = daemon.spool / "failed"
            for name in ("link.txt", "folder", "dangling", "fifo", "socket"):
                written = receipt(failed / name)
                assert written["reason"]["code"] == "failed.not_regular", name
                assert written["reason"]["text"].startswith(f"{name} is "), name
                assert os.path.lexists(failed / name), name
            assert (failed / "link.txt").readlink() == outside / "secret.txt"
            assert stat.S_ISFIFO((failed / "fifo").lstat().st_mode)
        assert (daemon.spool / "done/good.txt").read_bytes() == b"good"
        assert os.listdir(outside) == ["secret.txt"]
        assert emulator.stats.files_created == 1


async def test_an_unreadable_file_is_held_until_its_mode_changes(tmp_path: Path) -> None:
    """A file that may not be read waits with that reason and goes on once it may be."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        daemon.process = _Plain(tmp_path / "daemon.log")
        await daemon.start()
        hidden = daemon.spool / ".new"
        hidden.write_bytes(b"private")
        hidden.chmod(0)
        hidden.rename(daemon.spool / "a.txt")
        row = await daemon.until_state("a.txt", "held")
        assert row["reason"]["code"] == "held.unreadable"
        assert (await daemon.status())["drained"] is True
        (daemon.spool / "a.txt").chmod(0o600)
        await daemon.until_drained(10)
        assert (daemon.spool / "done/a.txt").read_bytes() == b"private"


@pytest.mark.parametrize("how", ["moved away and back", "removed and made anew"])
async def test_a_folder_that_vanishes_and_comes_back(tmp_path: Path, how: str) -> None:
    """While the watched folder is gone the daemon says so and stays; then it goes on by itself."""
    async with (
        Emulator(store=tmp_path / "store", faults=["call=create,action=refuse"]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config={"watch": {"rescan": "1s"}}) as daemon,
    ):
        await daemon.start()
        names = ["a.txt", "sub/b.txt"]
        for name in names:
            daemon.drop(name, name.encode())
        for name in names:
            await daemon.until_state(name, "deferred")
        aside = tmp_path / "aside"
        if how == "moved away and back":
            daemon.spool.rename(aside)
        else:
            shutil.rmtree(daemon.spool)

        async def told() -> bool:
            watch = (await daemon.status())["watches"][0]
            return "is not there" in watch["why"]

        await wait_until(told, what="the status to say that the folder is gone")
        assert "spool.lost" in daemon.log_text()
        assert not (await daemon.status())["drained"]
        assert "is not there" in (await daemon.ask("/healthz"))["error"]["message"]
        assert daemon.running
        emulator.faults.clear()
        if how == "moved away and back":
            aside.rename(daemon.spool)
        else:
            daemon.spool.mkdir()
            for name in names:
                daemon.drop(name, name.encode())
        await daemon.until_drained()

        async def watched() -> bool:
            return bool((await daemon.status())["watches"][0]["mode"] == "inotify")

        await wait_until(watched, what="the folder to be watched again")
        for name in names:
            assert (daemon.spool / "done" / name).read_bytes() == name.encode()
        assert emulator.stats.files_created == len(names)


async def test_a_second_daemon_on_one_state_directory_is_refused(tmp_path: Path) -> None:
    """The second daemon on a state directory is told the first one's pid; the first goes on."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path / "one", emulator.base_url) as first,
        DaemonProcess(tmp_path / "two", emulator.base_url) as second,
    ):
        await first.start()
        second.configure(daemon={"state_dir": str(first.state_dir)})
        said = await refusal(second)
        assert f"pid {first.pid}" in said
        assert str(first.state_dir) in said
        first.drop("a.txt", b"still at work")
        await first.until_drained()


async def test_a_socket_of_a_living_daemon_is_refused(tmp_path: Path) -> None:
    """Nobody takes the status socket of a daemon that lives; it goes on answering there."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path / "one", emulator.base_url) as first,
        DaemonProcess(tmp_path / "two", emulator.base_url) as second,
    ):
        await first.start()
        second.configure(daemon={"socket": str(first.socket)})
        said = await refusal(second)
        assert str(first.socket) in said
        assert (await first.status())["pid"] == first.pid


async def test_a_socket_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """A path beyond the kernel's 107 bytes is refused with that number."""
    async with DaemonProcess(tmp_path, NOWHERE) as daemon:
        daemon.configure(daemon={"socket": str(tmp_path / ("s" * 108))})
        said = await refusal(daemon)
        assert "daemon.socket" in said
        assert "107" in said


async def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """Something else at the socket's path is never removed: the start is refused."""
    async with DaemonProcess(tmp_path, NOWHERE) as daemon:
        daemon.socket.write_bytes(b"precious")
        said = await refusal(daemon)
        assert "is not a socket" in said
        assert daemon.socket.read_bytes() == b"precious"


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """The socket that a killed daemon left behind is no hindrance to the next."""
    async with DaemonProcess(tmp_path, NOWHERE) as daemon:
        await daemon.start()
        await daemon.kill()
        assert stat.S_ISSOCK(daemon.socket.stat().st_mode)
        await daemon.start()
        assert (await daemon.status())["pid"] == daemon.pid
        assert await daemon.stop() == 0
        assert not daemon.socket.exists()


async def test_a_second_daemon_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    """Though its state and its socket are its own: each file would be uploaded twice."""
    second = tmp_path / "second"
    second.mkdir()
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
        DaemonProcess(second, emulator.base_url) as other,
    ):
        await daemon.start()
        text = other.config_file.read_text()
        other.config_file.write_text(text.replace(str(other.spool), str(daemon.spool)))
        await other.launch()
        assert await other.process.ended(20) == 78
        assert f"another uploaderd watches {daemon.spool}" in other.log_text()
        await daemon.kill()
        await other.start()
