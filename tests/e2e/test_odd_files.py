"""Odd ways to drop a file: slow writers, renames, deep folders, changes while it is sent."""

from __future__ import annotations

import hashlib
import json
import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import DaemonProcess
from tests.support.waiting import wait_until
from uploaderd.emulator import Emulator
from uploaderd.emulator.objects import UploadStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20
SLOW = "call=part,action=slow,rate=128KiB"
RESCAN: dict[str, object] = {"rescan": "500ms"}


def noise(count: int, seed: int = 1) -> bytes:
    """Make bytes that differ from part to part."""
    return random.Random(seed).randbytes(count)


def arrived(emulator: Emulator) -> dict[str, list[bytes]]:
    """Read all that the service made files of, by name."""
    found: dict[str, list[bytes]] = {}
    for file in emulator.store.files.values():
        found.setdefault(file.filename, []).append(emulator.store.content_path(file).read_bytes())
    return found


def uploads(emulator: Emulator) -> list[UploadStatus]:
    """Say what became of each upload, in the order of their creation."""
    return [upload.status for upload in emulator.store.uploads.values()]


async def test_a_file_renamed_into_place_is_taken_at_once(tmp_path: Path) -> None:
    """A rename says that a file is whole: it does not wait for the quiet time."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config={"watch": {"settle": "10m"}}) as daemon,
    ):
        await daemon.start()

        async def watching() -> bool:
            return bool((await daemon.status())["watches"][0]["mode"] == "inotify")

        await wait_until(watching, what="the folder to be watched")
        daemon.drop("a.txt", b"whole")
        await daemon.until_drained(5)
        assert arrived(emulator) == {"a.txt": [b"whole"]}


async def test_a_writer_that_closes_many_times_is_waited_for(tmp_path: Path) -> None:
    """Each new write begins the quiet time again: one upload, of the whole."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config={"watch": {"settle": "1s"}}) as daemon,
    ):
        await daemon.start()
        path = daemon.spool / "scan.pdf"
        whole = b""
        for page in range(8):
            with path.open("ab") as file:
                file.write(b"page %d " % page)
            whole += b"page %d " % page
            size = len(whole)

            async def quiet(size: int = size) -> bool:
                row = await daemon.file("scan.pdf")
                if row is None or row["bytes"] != size:
                    return False
                assert row["state"] == "settling"
                return row["reason"]["code"] == "settling.quiet" and bool(row["reason"]["until"])

            await wait_until(quiet, what=f"the daemon to see {size} bytes and wait on")
        await daemon.until_drained()
        assert arrived(emulator) == {"scan.pdf": [whole]}
        assert emulator.stats.uploads_created == 1


async def test_a_file_that_is_open_for_writing_is_not_touched(tmp_path: Path) -> None:
    """However long a writer holds a file open, it is taken only after the close."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        with (daemon.spool / "a.txt").open("wb", buffering=0) as file:
            file.write(b"first ")
            looks: set[str] = set()

            async def looked_at_again() -> bool:
                row = await daemon.file("a.txt")
                if row is not None and row["reason"]["code"] == "settling.writer_open":
                    looks.add(row["updated_at"])
                return len(looks) > 3

            await wait_until(looked_at_again, what="four looks at the file")
            assert emulator.stats.count() == 0
            file.write(b"last")
        await daemon.until_drained()
        assert arrived(emulator) == {"a.txt": [b"first last"]}


async def test_files_in_new_deep_folders_are_found(tmp_path: Path) -> None:
    """A file that comes together with all its folders is found and filed under the same path."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config={"watch": {"rescan": "1h"}}) as daemon,
    ):
        await daemon.start()
        deep = "/".join(f"level{number}" for number in range(40))
        names = [f"{deep}/a.txt", "level0/b.txt", "other/c.txt"]
        for name in names:
            path = daemon.spool / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        await daemon.until_drained()
        for name in names:
            assert (daemon.spool / "done" / name).read_text() == name
        assert len(arrived(emulator)) == len(names)


async def test_what_was_dropped_while_the_daemon_was_down_is_taken(tmp_path: Path) -> None:
    """Files that came, and one that changed, while no daemon ran are found at the start."""
    async with (
        Emulator(store=tmp_path / "store", faults=["call=create,action=refuse"]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("changed.txt", b"before")
        await daemon.until_state("changed.txt", "deferred")
        assert await daemon.stop() == 0
        emulator.faults.clear()
        (daemon.spool / "changed.txt").write_bytes(b"afterwards")
        daemon.drop("sub/new.txt", b"new")
        await daemon.start()
        await daemon.until_drained()
        assert arrived(emulator) == {"changed.txt": [b"afterwards"], "new.txt": [b"new"]}


async def test_the_same_name_again_is_filed_beside_the_first(tmp_path: Path) -> None:
    """Nothing in done/ is ever overwritten: the newcomer gets ~2, its receipt too."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        for content in (b"first", b"second", b"third"):
            daemon.drop("sub/a.tar.gz", content)
            await daemon.until_drained()
        done = daemon.spool / "done/sub"
        filed = {
            name: (done / name).read_bytes() for name in ("a.tar.gz", "a.tar~2.gz", "a.tar~3.gz")
        }
        assert list(filed.values()) == [b"first", b"second", b"third"]
        for name, content in filed.items():
            receipt = json.loads((done / f"{name}.receipt.json").read_text())
            assert receipt["md5"] == hashlib.md5(content, usedforsecurity=False).hexdigest()
        assert len(os.listdir(done)) == 6


async def test_ignored_names_are_left_alone(tmp_path: Path) -> None:
    """What an ignore pattern names stays where it is, folders with all that is in them."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        names = [
            ".dir/inside.txt",
            ".hidden",
            "a.crdownload",
            "b.part",
            "c.partial",
            "d~",
            "x.tmp",
        ]
        for name in names[:4]:
            (daemon.spool / name).parent.mkdir(exist_ok=True)
            (daemon.spool / name).write_bytes(b"not yet")
        await daemon.start()
        for name in names[4:]:
            (daemon.spool / name).write_bytes(b"not yet")
        daemon.drop("last.txt", b"last")
        await daemon.until_drained(files=1)
        assert daemon.left() == names
        assert [row["path"] for row in await daemon.files()] == [str(daemon.spool / "last.txt")]
        (daemon.spool / "x.tmp").rename(daemon.spool / "x.txt")
        await daemon.until_drained(files=2)
        assert arrived(emulator) == {"last.txt": [b"last"], "x.txt": [b"not yet"]}


async def test_the_first_folder_names_the_purpose(tmp_path: Path) -> None:
    """batch/x.jsonl is uploaded for batches; a file that the purpose forbids fails at once."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        for name in ("batch/x.jsonl", "vision/sub/y.png", "other/z.txt", "fine-tune/x.txt"):
            daemon.drop(name, b"{}\n")
        await daemon.until_drained()
        purposes = {file.filename: file.purpose for file in emulator.store.files.values()}
        assert purposes == {"x.jsonl": "batch", "y.png": "vision", "z.txt": "user_data"}
        receipt = json.loads((daemon.spool / "failed/fine-tune/x.txt.receipt.json").read_text())
        assert receipt["reason"]["code"] == "failed.purpose_rule"
        assert ".jsonl" in receipt["reason"]["text"]


async def test_purpose_by_folder_can_be_switched_off(tmp_path: Path) -> None:
    """Without purpose_by_folder a folder's name is only a name."""
    config: dict[str, dict[str, object]] = {"watch": {"purpose_by_folder": False}}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        await daemon.start()
        daemon.drop("batch/x.txt", b"x")
        await daemon.until_drained()
        assert [file.purpose for file in emulator.store.files.values()] == ["user_data"]


async def test_without_recursive_sub_folders_are_left_alone(tmp_path: Path) -> None:
    """With recursive = false only the folder itself is a spool."""
    config: dict[str, dict[str, object]] = {"watch": {"recursive": False}}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        (daemon.spool / "old").mkdir()
        (daemon.spool / "old/x.txt").write_bytes(b"left")
        await daemon.start()
        daemon.drop("new/y.txt", b"left")
        daemon.drop("a.txt", b"taken")
        await daemon.until_drained(files=1)
        assert daemon.left() == ["new/y.txt", "old/x.txt"]
        assert arrived(emulator) == {"a.txt": [b"taken"]}


def _overwrite(path: Path, content: bytes) -> bytes:
    changed = content[:-4] + b"end."
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"end.")
    return changed


def _overwrite_the_start_keeping_mtime(path: Path, content: bytes) -> bytes:
    times = path.stat()
    with path.open("r+b") as file:
        file.write(b"new!")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return b"new!" + content[4:]


def _append(path: Path, content: bytes) -> bytes:
    with path.open("ab") as file:
        file.write(b"more")
    return content + b"more"


def _truncate(path: Path, content: bytes) -> bytes:
    os.truncate(path, MIB)
    return content[:MIB]


def _replace(path: Path, content: bytes) -> bytes:
    new = path.with_name(".new")
    new.write_bytes(content[::-1])
    new.replace(path)
    return content[::-1]


@pytest.mark.parametrize(
    "change",
    [_overwrite, _overwrite_the_start_keeping_mtime, _append, _truncate, _replace],
    ids=["overwritten", "overwritten, same mtime", "grown", "truncated", "replaced"],
)
async def test_a_file_that_changes_while_it_is_sent_arrives_in_its_last_form(
    tmp_path: Path, change: Callable[[Path, bytes], bytes]
) -> None:
    """A change under way begins that file anew: its last content arrives, once, and only that.

    The upload that was begun for the former content is cancelled at the service.
    """
    async with (
        Emulator(store=tmp_path / "store", faults=[SLOW]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config={"watch": RESCAN}) as daemon,
    ):
        await daemon.start()
        content = noise(4 * MIB)
        path = daemon.drop("a.bin", content)
        await emulator.stats.until(lambda stats: stats.bytes_received > MIB / 4)
        emulator.faults.clear()  # for the requests to come
        last = change(path, content)
        await daemon.until_drained()
        assert arrived(emulator) == {"a.bin": [last]}
        await wait_until(
            lambda: uploads(emulator) == [UploadStatus.CANCELLED, UploadStatus.COMPLETED],
            what="the first upload to be cancelled",
        )
        row = await daemon.file("a.bin")
        assert row is not None
        assert row["md5"] == hashlib.md5(last, usedforsecurity=False).hexdigest()
        codes = [moment["code"] for moment in row["history"]]
        assert {"settling.changed", "settling.seen"} & set(codes[codes.index("uploading.parts") :])


async def test_a_file_that_is_deleted_while_it_is_sent_is_cancelled(tmp_path: Path) -> None:
    """A file that leaves the spool is not uploaded: its upload is cancelled at the service."""
    async with (
        Emulator(store=tmp_path / "store", faults=[SLOW]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        path = daemon.drop("a.bin", noise(4 * MIB))
        await emulator.stats.until(lambda stats: stats.bytes_received > MIB / 4)
        path.unlink()
        row = await daemon.until_state("a.bin", "cancelled")
        assert row["reason"]["code"] == "cancelled.gone"
        await wait_until(
            lambda: uploads(emulator) == [UploadStatus.CANCELLED],
            what="the upload to be cancelled",
        )
        status = await daemon.until_drained()
        assert status["counts"]["cancelled"] == 1
        assert emulator.stats.files_created == 0


async def test_a_file_that_is_moved_within_the_spool_while_it_is_sent_arrives_once(
    tmp_path: Path,
) -> None:
    """A rename under way makes it another file: it arrives under its new name alone."""
    async with (
        Emulator(store=tmp_path / "store", faults=[SLOW]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        content = noise(4 * MIB)
        path = daemon.drop("a.bin", content)
        await emulator.stats.until(lambda stats: stats.bytes_received > MIB / 4)
        emulator.faults.clear()
        path.rename(daemon.spool / "b.bin")
        await daemon.until_drained()
        assert arrived(emulator) == {"b.bin": [content]}
        assert (daemon.spool / "done/b.bin").read_bytes() == content


async def test_a_file_that_waits_and_is_deleted_is_noticed(tmp_path: Path) -> None:
    """A file that is removed while it waits to be tried again is given up, not tried for ever."""
    async with (
        Emulator(store=tmp_path / "store", faults=["call=create,action=refuse"]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config={"watch": RESCAN}) as daemon,
    ):
        await daemon.start()
        path = daemon.drop("a.txt", b"x")
        await daemon.until_state("a.txt", "deferred")
        path.unlink()
        row = await daemon.until_state("a.txt", "cancelled")
        assert row["reason"]["code"] == "cancelled.gone"
        assert (await daemon.until_drained())["counts"]["cancelled"] == 1
