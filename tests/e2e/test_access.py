"""Who may write to the status socket may operate the daemon, and nobody else."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import DaemonProcess
from tests.support.processes import ROOT, environment
from tests.support.under import Under

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOWHERE = "http://127.0.0.1:9/v1"
NOBODY = 65534
GROUP = 54321  # of the daemon; nobody is in it but by setpriv
STRANGER = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
MEMBER = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", f"--groups={GROUP}")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A short folder that everybody may pass through, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="up-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def others() -> None:
    """Skip where no other user can run the program."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv on this machine")
    tried = subprocess.run(
        [*STRANGER, sys.executable, "-c", "import uploaderd.cli.words"],
        capture_output=True,
        check=False,
        cwd="/",
        env={"PYTHONPATH": str(ROOT)},
    )
    if tried.returncode != 0:
        pytest.skip("other users may not read this checkout or its Python")


async def command(root: Path, who: tuple[str, ...], *words: str) -> tuple[int, str]:
    """Run one of our commands as somebody; return its exit code and what it said."""
    process = Under(root / "command.log", who)
    process.log.write_text("")
    await process.spawn("uploaderd", words, environment(root / "home"))
    return await process.ended(), process.log.read_text()


def daemon_at(path: Path, root: Path) -> DaemonProcess:
    """A daemon whose status socket is at that path; nothing is uploaded."""
    root.mkdir(exist_ok=True)
    daemon = DaemonProcess(root, NOWHERE, config={"daemon": {"socket": str(path)}})
    daemon.socket = path
    return daemon


@pytest.mark.usefixtures("others")
async def test_the_group_operates_and_a_stranger_is_told_why_not(
    tmp_path: Path, open_folder: Path
) -> None:
    """By the modes that the socket and its folder are born with; the sentence names the remedy."""
    path = open_folder / "run" / "status.sock"
    async with daemon_at(path, tmp_path) as daemon:
        daemon.process = Under(
            tmp_path / "daemon.log", ["setpriv", f"--regid={GROUP}", "--clear-groups"]
        )
        await daemon.start()
        folder, born = path.parent.stat(), path.stat()
        assert (stat.S_IMODE(folder.st_mode), folder.st_gid) == (0o710, GROUP)
        assert (stat.S_IMODE(born.st_mode), born.st_gid) == (0o660, GROUP)
        told = ("--socket", str(path))
        for words in (("status",), ("pause",), ("list",)):
            code, said = await command(tmp_path, STRANGER, *words, *told)
            assert code == 69
            assert f"uploaderd: error: no daemon answers on {path}: Permission denied\n" in said
            assert "uploaderd: hint: your user may not open it: join its group" in said
        assert (await daemon.status())["state"] == "running"
        assert (await command(tmp_path, MEMBER, "pause", *told))[0] == 0
        assert (await daemon.status())["state"] == "paused"
        assert (await command(tmp_path, MEMBER, "status", "--json", *told))[0] == 0


@pytest.mark.usefixtures("others")
async def test_a_wider_mode_lets_others_in(tmp_path: Path, open_folder: Path) -> None:
    """And 0600 keeps the group out: the configuration decides, not the umask."""
    for mode, folder_mode, group, stranger in (("0666", 0o711, 0, 0), ("0600", 0o700, 69, 69)):
        path = open_folder / mode / "s"
        async with daemon_at(path, tmp_path) as daemon:
            daemon.configure(daemon={"socket_mode": mode})
            words = ["setpriv", f"--regid={GROUP}", "--clear-groups"]
            daemon.process = Under(tmp_path / "daemon.log", words)
            await daemon.start()
            assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)
            assert stat.S_IMODE(path.parent.stat().st_mode) == folder_mode
            told = ("status", "--socket", str(path))
            assert (await command(tmp_path, MEMBER, *told))[0] == group
            assert (await command(tmp_path, STRANGER, *told))[0] == stranger


def _file(path: Path) -> None:
    path.write_text("precious")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _link(path: Path) -> None:
    path.with_name("target").write_text("precious")
    path.symlink_to("target")


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _link_to_a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(os.fspath(path.with_name("other")))
    path.symlink_to("other")


def _shape(folder: Path) -> list[tuple[str, int, int, int]]:
    """Everything in a folder, so that one can tell whether anything was touched."""
    found = [(one.name, one.lstat()) for one in sorted(folder.iterdir())]
    return [(name, one.st_ino, one.st_mode, one.st_size) for name, one in found]


@pytest.mark.parametrize("put", [_file, _fifo, _folder, _link, _dangling, _link_to_a_socket])
async def test_what_is_no_socket_is_refused_and_left(
    tmp_path: Path, open_folder: Path, put: Callable[[Path], None]
) -> None:
    """A file, a FIFO, a folder, a symlink: exit 78, a sentence, and all is as it was."""
    path = open_folder / "status.sock"
    put(path)
    before = _shape(open_folder)
    async with daemon_at(path, tmp_path) as daemon:
        await daemon.launch(notify=False)
        assert await daemon.process.ended() == 78
        said = daemon.process.last_words()
        assert f"uploaderd: error: {path} exists and is not a socket" in said
        assert "uploaderd: hint: " in said
        assert "Traceback" not in said
    assert _shape(open_folder) == before


async def test_a_stale_socket_is_replaced_and_a_living_one_refused(
    tmp_path: Path, open_folder: Path
) -> None:
    """After SIGKILL the same path answers again; while it does, no other daemon takes it."""
    path = open_folder / "status.sock"
    async with daemon_at(path, tmp_path / "one") as one, daemon_at(path, tmp_path / "two") as two:
        await one.start()
        await one.kill()
        assert stat.S_ISSOCK(path.stat().st_mode)
        await one.start()
        assert (await one.status())["pid"] == one.pid
        assert f"socket.stale_removed path={path}" in one.log_text()

        await two.launch(notify=False)
        assert await two.process.ended() == 78
        said = two.process.last_words()
        assert f"uploaderd: error: another daemon answers on {path}" in said
        assert "uploaderd: hint: stop it first" in said
        assert (await one.status())["pid"] == one.pid
        assert await one.stop() == 0
        assert not path.exists()

        await two.start()
        assert (await two.status())["pid"] == two.pid


async def test_a_socket_in_a_folder_that_is_not_ours_to_write_is_refused(tmp_path: Path) -> None:
    """The sentence names the socket and what to set."""
    async with daemon_at(Path("/proc/uploaderd/s"), tmp_path) as daemon:
        await daemon.launch(notify=False)
        assert await daemon.process.ended() == 78
        said = daemon.process.last_words()
        assert "uploaderd: error: the status socket /proc/uploaderd/s cannot be made" in said
        assert "uploaderd: hint: set daemon.socket" in said
