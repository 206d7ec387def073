"""What becomes of a source once it arrived: moved, deleted, or kept and never sent again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.support.daemon import DaemonProcess, Table
from tests.support.outcome import assert_arrived, files_below, read_receipt
from tests.support.waiting import wait_until
from uploaderd.emulator import Call, Emulator

if TYPE_CHECKING:
    from pathlib import Path

KEEP: dict[str, Table] = {"watch": {"after_upload": "keep", "rescan": "500ms"}}
DELETE: dict[str, Table] = {"watch": {"after_upload": "delete"}}


def contents(emulator: Emulator) -> list[bytes]:
    """What the service made files of, in that order."""
    return [
        emulator.store.content_path(file).read_bytes() for file in emulator.store.files.values()
    ]


async def test_deleted_after_its_receipt(tmp_path: Path) -> None:
    """With delete the source goes and its receipt stays in done/."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=DELETE) as daemon,
    ):
        await daemon.start()
        daemon.drop("sub/a.txt", b"gone")
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"sub/a.txt": b"gone"}, moved=False)
        assert not (daemon.spool / "sub/a.txt").exists()


async def test_delete_spares_a_file_that_failed(tmp_path: Path) -> None:
    """With delete too, a file that failed is moved to failed/, never removed."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=DELETE) as daemon,
    ):
        await daemon.start()
        daemon.drop("fine-tune/a.txt", b"precious")
        await daemon.until_drained()
        assert (daemon.spool / "failed/fine-tune/a.txt").read_bytes() == b"precious"
        assert emulator.stats.count() == 0


async def test_delete_of_the_same_name_again_keeps_both_receipts(tmp_path: Path) -> None:
    """With delete a second file of the same name gets a receipt of its own."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=DELETE) as daemon,
    ):
        await daemon.start()
        for content in (b"first", b"second"):
            daemon.drop("a.txt", content)
            await daemon.until_drained()
        assert contents(emulator) == [b"first", b"second"]
        assert files_below(daemon.spool / "done") == {
            "a.txt.receipt.json",
            "a~2.txt.receipt.json",
        }


async def test_a_kept_file_stays_and_is_not_sent_again(tmp_path: Path) -> None:
    """With keep the source stays, with a receipt in done/; rescans and restarts leave it alone."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=KEEP) as daemon,
    ):
        await daemon.start()
        path = daemon.drop("sub/a.txt", b"kept")
        await daemon.until_drained(files=1)
        assert_arrived(emulator, daemon, {"sub/a.txt": b"kept"}, moved=False)
        assert path.read_bytes() == b"kept"
        asked = emulator.stats.count()
        for end in (daemon.stop, daemon.kill):
            await end()
            await daemon.start()
            daemon.drop(f"{daemon.starts}.txt", b"a scan that saw this one saw that one too")
            await daemon.until_drained(files=daemon.starts)
        assert path.read_bytes() == b"kept"
        assert contents(emulator).count(b"kept") == 1
        # The two files have the same content: the second is not sent, but has its receipt.
        assert emulator.stats.count() == asked + 3
        second = read_receipt(daemon.spool / "done/3.txt")
        assert second["reason"]["code"] == "done.already_uploaded"
        assert second["file_id"] == read_receipt(daemon.spool / "done/2.txt")["file_id"]
        assert read_receipt(daemon.spool / "done/sub/a.txt")["outcome"] == "uploaded"


async def test_a_kept_file_that_was_only_touched_is_not_sent_again(tmp_path: Path) -> None:
    """A new mtime, or the same bytes written again, is no new content: the md5 is known."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=KEEP) as daemon,
    ):
        await daemon.start()
        path = daemon.drop("a.txt", b"the same")
        await daemon.until_drained(files=1)
        for count, change in ((2, os.utime), (3, lambda file: file.write_bytes(b"the same"))):
            change(path)

            async def known(count: int = count) -> bool:
                rows = await daemon.files()
                return len(rows) >= count and rows[0]["state"] == "done"

            await wait_until(known, what="the touched file to be looked at")
            row = (await daemon.files())[0]
            assert row["reason"]["code"] == "done.already_uploaded"
            assert row["file_id"] == next(iter(emulator.store.files))
        assert emulator.stats.uploads_created == 1
        assert path.read_bytes() == b"the same"


async def test_a_kept_file_that_changed_is_sent_again(tmp_path: Path) -> None:
    """New content of the same size and name is new: it is uploaded, and so are both receipts."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=KEEP) as daemon,
    ):
        await daemon.start()
        path = daemon.drop("a.txt", b"content 1")
        await daemon.until_drained(files=1)
        path.write_bytes(b"content 2")
        await emulator.stats.until(lambda stats: stats.count(Call.COMPLETE, 200) == 2)
        await daemon.until_drained(files=2)
        assert contents(emulator) == [b"content 1", b"content 2"]
        assert path.read_bytes() == b"content 2"
        assert files_below(daemon.spool / "done") == {
            "a.txt.receipt.json",
            "a~2.txt.receipt.json",
        }


async def test_a_kept_file_that_changes_back_is_known(tmp_path: Path) -> None:
    """Content that arrived once is known for ever, whatever came between."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=KEEP) as daemon,
    ):
        await daemon.start()
        path = daemon.drop("a.txt", b"content 1")
        await daemon.until_drained(files=1)
        for count, content in ((2, b"content 2"), (3, b"content 1")):
            path.write_bytes(content)

            async def ended(count: int = count) -> bool:
                rows = await daemon.files()
                return len(rows) >= count and rows[0]["state"] == "done"

            await wait_until(ended, what=f"{count} contents to have ended")
        assert contents(emulator) == [b"content 1", b"content 2"]
