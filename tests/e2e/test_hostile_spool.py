"""The hostile spool: nothing outside is touched, nobody blocks, the good file goes through."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.spool.flipping import FILE, FOLDER, MINE, flipper
from tests.spool.hostile import (
    HOLDING,
    REOPENING,
    descended,
    every_name,
    nested,
    process,
    processor_s,
    resident,
)
from tests.spool.outside import SECRET, Outside
from tests.support import figures, outcome
from tests.support.daemon import DaemonProcess
from tests.support.waiting import wait_until
from uploaderd.emulator import Emulator
from uploaderd.spool import naming

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Row, Table

MIB = 1 << 20
GOOD = "good.txt"
FLIPS = 3_000
DEPTH = 4_000
MANY = 5_000
APPENDS = 1_000
ANY_NAME: dict[str, Table] = {"daemon": {"log_level": "info"}, "watch": {"ignore": [".tmp-*"]}}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one, since thousands of names are synced to it.

    pytest cannot remove folders nested thousands deep, so this one is removed by hand.
    """
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    made = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else tmp_path))
    yield made
    subprocess.run(["rm", "-rf", made], check=True)


def arrived(emulator: Emulator) -> dict[str, list[bytes]]:
    """All that the service made files of, by name."""
    found: dict[str, list[bytes]] = {}
    for file in emulator.store.files.values():
        found.setdefault(file.filename, []).append(emulator.store.content_path(file).read_bytes())
    return found


async def good_goes_through(daemon: DaemonProcess, name: str = GOOD) -> None:
    """Drop a good file and wait until it is in done/, while the status is answered."""
    daemon.drop(name, name.encode())

    async def filed() -> bool:
        await daemon.status()
        return (daemon.spool / "done" / f"{name}.receipt.json").exists() and (
            daemon.spool / "done" / name
        ).exists()

    await wait_until(filed, timeout_s=30, what=f"{name} to be filed")


async def test_names_swapped_for_symlinks_lead_nowhere(tmp_path: Path) -> None:
    """A file, a folder and done/ flip between the real one and a symlink to the outside.

    Thousands of flips while the daemon looks, sends and files: nothing outside is even opened, no
    secret arrives, and the good files do, each once.
    """
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config={"watch": {"rescan": "1s"}}) as daemon,
    ):
        with Outside(tmp_path) as outside:
            spool = daemon.spool
            (spool / "done").mkdir()
            (spool / ".done").symlink_to(outside.folder)
            await daemon.start()
            with (
                flipper(spool / "x.txt", spool / "y.txt", outside.secret, FILE) as files,
                flipper(spool / "box", spool / "chest", outside.inner, FOLDER) as folders,
            ):
                for number in range(5):
                    await good_goes_through(daemon, f"good{number}.txt")
                with flipper(spool / "done", spool / ".done", outside.folder, FOLDER) as dones:
                    for number in range(5, 10):
                        daemon.drop(f"good{number}.txt", b"good%d.txt" % number)
                    await wait_until(
                        lambda: (
                            {f"good{number}.txt" for number in range(10)} <= set(arrived(emulator))
                        ),
                        timeout_s=30,
                        what="the files to arrive",
                    )
                    await daemon.status()
            assert await daemon.stop() == 0  # what could not be filed is tried again at once
            (spool / ".done").unlink(missing_ok=True)
            await daemon.start()
            await daemon.until_drained()
        figures.report(
            "names swapped for symlinks",
            file=files.count,
            folder=folders.count,
            done=dones.count,
        )
        assert files.count + folders.count + dones.count > FLIPS
        found = arrived(emulator)
        for number in range(10):
            name = f"good{number}.txt"
            assert found.pop(name) == [name.encode()]
            assert (spool / "done" / name).read_bytes() == name.encode()
        assert all(one.startswith(MINE) for contents in found.values() for one in contents)
        for path in spool.rglob("*"):
            if stat.S_ISREG(path.lstat().st_mode):
                assert SECRET not in path.read_bytes()


async def test_what_is_no_regular_file_is_put_aside(tmp_path: Path) -> None:
    """Symlinks, FIFOs, sockets and devices go to failed/ as they are, unopened, with a receipt."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        with Outside(tmp_path) as outside:
            spool = daemon.spool
            kinds = {"fifo": stat.S_ISFIFO, "socket": stat.S_ISSOCK}
            os.mkfifo(spool / "fifo")
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(f"/proc/self/fd/{(here := os.open(spool, os.O_PATH))}/socket")
                os.close(here)
                server.listen()
                for name, target in (
                    ("file", outside.secret),
                    ("folder", outside.inner),
                    ("nowhere", Path("nowhere")),
                    ("itself", Path("itself")),
                ):
                    (spool / name).symlink_to(target)
                    kinds[name] = stat.S_ISLNK
                if os.geteuid() == 0:
                    os.mknod(spool / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
                    os.mknod(spool / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 200))
                    kinds |= {"null": stat.S_ISCHR, "disk": stat.S_ISBLK}
                await daemon.start()
                await good_goes_through(daemon)
                await daemon.until_drained()
            for name, of_kind in kinds.items():
                assert of_kind((spool / "failed" / name).lstat().st_mode), name
                receipt = outcome.read_receipt(spool / "failed" / name)
                assert receipt["reason"]["code"] == "failed.not_regular"
            assert list(arrived(emulator)) == [GOOD]


@pytest.mark.parametrize("after", ["move", "delete"])
async def test_a_hard_link_is_only_a_name(tmp_path: Path, after: str) -> None:
    """A link to somebody's file is uploaded like any; only the link is moved or removed.

    The file outside keeps its bytes, times, owner and permissions. (Whether a user may make such
    a link at all is the kernel's to say: fs.protected_hardlinks.)
    """
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(
            tmp_path, emulator.base_url, config={"watch": {"after_upload": after}}
        ) as daemon,
    ):
        theirs = tmp_path / "theirs.txt"
        theirs.write_bytes(b"theirs")
        if os.geteuid() == 0:
            os.chown(theirs, 65534, 65534)
        theirs.chmod(0o640)
        before = theirs.stat()
        os.link(theirs, daemon.spool / "link.txt")
        await daemon.start()
        await good_goes_through(daemon) if after == "move" else daemon.drop(GOOD, GOOD.encode())
        await daemon.until_drained()
        assert arrived(emulator) == {"link.txt": [b"theirs"], GOOD: [GOOD.encode()]}
        now = theirs.stat()
        for fact in ("st_ino", "st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns"):
            assert getattr(now, fact) == getattr(before, fact)
        assert theirs.read_bytes() == b"theirs"
        link = daemon.spool / "done" / "link.txt"
        assert link.exists() == (after == "move")
        assert now.st_nlink == (2 if after == "move" else 1)


async def test_folders_nested_thousands_deep(root: Path) -> None:
    """A file far beyond PATH_MAX arrives, and is filed as deep below done/."""
    async with (
        Emulator(store=root / "store") as emulator,
        DaemonProcess(root, emulator.base_url, config={"watch": {"rescan": "1h"}}) as daemon,
    ):
        deepest = nested(daemon.spool, DEPTH)
        os.close(os.open(b"empty", os.O_WRONLY | os.O_CREAT, dir_fd=deepest))
        fd = os.open(b"deep.txt", os.O_WRONLY | os.O_CREAT, dir_fd=deepest)
        os.write(fd, b"deep")
        os.close(fd)
        os.close(deepest)
        await daemon.start()
        await good_goes_through(daemon)
        await wait_until(
            lambda: "deep.txt" in arrived(emulator), timeout_s=60, what="the deep file"
        )
        path = "/".join([str(daemon.spool), *["d"] * DEPTH, "deep.txt"])

        async def filed() -> bool:
            row = next(row for row in await daemon.files() if row["path"] == path)
            return row["state"] == "done" and bool(row["filed"])

        await wait_until(filed, timeout_s=60, what="the deep file to be filed")
        fd = descended(daemon.spool / "done", DEPTH)
        assert sorted(os.listdir(fd)) == ["deep.txt", "deep.txt.receipt.json"]
        os.close(fd)
        assert arrived(emulator) == {"deep.txt": [b"deep"], GOOD: [GOOD.encode()]}


async def test_names_of_every_byte(root: Path) -> None:
    """Whatever a name is made of, its file arrives, and its receipt is JSON that tells the name."""
    async with (
        Emulator(store=root / "store") as emulator,
        DaemonProcess(root, emulator.base_url, config=ANY_NAME) as daemon,
    ):
        names = every_name()
        spool = os.fsencode(daemon.spool)
        for number, name in enumerate(names):
            hidden = spool + b"/.tmp-%d" % number
            Path(os.fsdecode(hidden)).write_bytes(b"%d" % number)
            os.rename(hidden, spool + b"/" + name)
        await daemon.start()
        async with asyncio.timeout(60):
            await emulator.stats.until(lambda stats: stats.files_created == len(names))
        await daemon.until_drained()
        contents = sorted(one for every in arrived(emulator).values() for one in every)
        assert contents == sorted(b"%d" % number for number in range(len(names)))
        done = spool + b"/done/"
        told = set()
        for entry in os.listdir(done):
            if entry.endswith(b".receipt.json"):
                receipt = json.loads(Path(os.fsdecode(done + entry)).read_bytes())
                told.add(receipt["path"])
        wanted = {
            os.fsdecode(spool + b"/" + name).encode("utf-8", "backslashreplace").decode()
            for name in names
        }
        assert told == wanted
        short = [name for name in names if len(name) < 200]
        assert all(
            Path(os.fsdecode(done + name)).read_bytes() == b"%d" % names.index(name)
            for name in short
        )
        figures.report("names of every byte", names=len(names))


async def test_thousands_of_names(root: Path) -> None:
    """Beside thousands of names to be ignored or refused the good file goes through.

    Status and health are answered all along, and memory does not grow with the names.
    """
    config: dict[str, Table] = {"daemon": {"log_level": "error"}}
    async with (
        Emulator(store=root / "store") as emulator,
        DaemonProcess(root, emulator.base_url, config=config) as daemon,
    ):
        await daemon.start()
        await good_goes_through(daemon, "first.txt")
        before = resident(daemon.pid)
        fd = os.open(daemon.spool, os.O_RDONLY)
        for number in range(MANY):
            os.close(os.open(f".{number}", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        for number in range(MANY // 10):
            os.symlink("nowhere", f"link{number}", dir_fd=fd)
        os.close(fd)
        daemon.drop(GOOD, GOOD.encode())
        slowest_s = 0.0

        async def drained() -> bool:
            nonlocal slowest_s
            asked_s = time.monotonic()
            status: Row = await daemon.status()
            health: Row = await daemon.ask("/healthz")
            slowest_s = max(slowest_s, time.monotonic() - asked_s)
            assert health
            return bool(status["counts"]["failed"] == MANY // 10 and status["drained"])

        await wait_until(drained, timeout_s=60, what="the refused ones to be filed")
        grown = resident(daemon.pid) - before
        figures.report(
            "thousands of names", names=MANY, grown_mib=grown / MIB, slowest_answer_s=slowest_s
        )
        assert sorted(arrived(emulator)) == ["first.txt", GOOD]
        assert grown < 16 * MIB


async def waits(daemon: DaemonProcess, name: str, code: str) -> bool:
    """Whether a look found that; one that falls into a write finds its writer."""
    row = await daemon.until_state(name, "settling")
    return bool(row["reason"]["code"] == code)


async def test_files_that_grow_for_ever(tmp_path: Path) -> None:
    """One is held open, one opened for each write: neither is taken nor given up, nor costs much.

    The quiet time is the only thing that could take them, so it is long.
    """
    config: dict[str, Table] = {"daemon": {"log_level": "info"}, "watch": {"settle": "10s"}}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        await daemon.start()
        held, reopened = daemon.spool / "held.log", daemon.spool / "reopened.log"
        with process("-c", HOLDING, str(held)), process("-c", REOPENING, str(reopened)):
            spent_s, began_s = processor_s(daemon.pid), time.monotonic()
            size = reopened.stat().st_size
            await wait_until(
                lambda: reopened.stat().st_size - size > 4 * APPENDS,
                timeout_s=60,
                what="thousands of appends",
            )
            share = (processor_s(daemon.pid) - spent_s) / (time.monotonic() - began_s)
            await good_goes_through(daemon)
            for name, code in (
                ("held.log", "settling.writer_open"),
                ("reopened.log", "settling.quiet"),
            ):
                await wait_until(partial(waits, daemon, name, code), what=f"{name}: {code}")
            figures.report("files that grow for ever", processor_share=share)
            assert share < 0.4
        assert list(arrived(emulator)) == [GOOD]


@pytest.mark.parametrize("journal", ["kept", "lost"])
async def test_a_file_set_aside_by_a_crash_is_never_forgotten(tmp_path: Path, journal: str) -> None:
    """Killed while it filed: with its journal it goes on; without, the file is a new one."""
    content = os.urandom(MIB // 2)
    config: dict[str, Table] = {"watch": {"rescan": "1h"}}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        path = daemon.drop("sub/a.bin", content)
        death = ["--at", "Filing.move", "--when", "before"]
        await daemon.launch("tests.support.doomed", death, notify=False)
        assert await daemon.process.ended() == -9
        path.rename(path.with_name(os.fsdecode(naming.aside(b"a.bin", path.stat().st_ino))))
        if journal == "lost":
            shutil.rmtree(daemon.state_dir)
        await daemon.start()
        await good_goes_through(daemon)
        await daemon.until_drained()
        filed = "a.bin" if journal == "kept" else "a~2.bin"  # its first receipt lies there
        assert (daemon.spool / "done/sub" / filed).read_bytes() == content
        assert arrived(emulator) == {
            GOOD: [GOOD.encode()],
            "a.bin": [content] * (1 if journal == "kept" else 2),
        }
