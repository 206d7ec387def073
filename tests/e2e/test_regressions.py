"""What went wrong once, each with the story that brought it to light."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon import DaemonProcess
from tests.support.outcome import assert_arrived
from tests.support.waiting import wait_until
from uploaderd.emulator import Emulator, Rules
from uploaderd.emulator.service import Service

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
DONE_ALREADY = json.dumps(
    {
        "error": {
            "message": "The upload was already completed.",
            "type": "invalid_request_error",
            "param": None,
            "code": "upload_not_pending",
        }
    }
)


async def test_a_wait_while_it_settles_does_not_skip_the_settling(tmp_path: Path) -> None:
    """A file that could not be looked at while it was written is not taken half written later."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config={"watch": {"settle": "1s"}}) as daemon,
    ):
        await daemon.start()
        (daemon.spool / "empty.txt").touch()
        with (daemon.spool / "half.bin").open("wb") as file:
            file.write(b"the first half")
            file.flush()
            await daemon.until_state("half.bin", "settling")
            away = tmp_path / "away"
            daemon.spool.rename(away)
            await daemon.until_state("half.bin", "deferred")
            await daemon.until_state("empty.txt", "deferred")
            away.rename(daemon.spool)
            row = await daemon.until_state("half.bin", "settling", "queued", timeout_s=25)
            assert row["state"] == "settling"
            row = await daemon.until_state("empty.txt", "failed", timeout_s=25)
            assert row["reason"]["code"] == "failed.empty"
            assert not emulator.store.files
            file.write(b" and the second")
        await daemon.until_drained()
        assert [file.bytes for file in emulator.store.files.values()] == [29]


async def test_complete_that_says_it_was_done_already_is_found_out(tmp_path: Path) -> None:
    """Something on the way sent complete twice: the refusal of the second makes no second file."""
    fault = f"call=complete,action=garble,status=400,times=1,body={DONE_ALREADY}"
    async with (
        Emulator(store=tmp_path / "store", faults=[fault]) as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.txt", b"once")
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"once"})


async def test_a_rename_over_an_unfiled_file_leaves_the_others_alone(tmp_path: Path) -> None:
    """Two ended files that wait for their filing get one name: what else is dropped is taken."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        (daemon.spool / "done").write_bytes(b"no folder")
        for name in ("a.txt", "b.txt"):
            daemon.drop(name, name.encode())
        await daemon.start()
        await daemon.until_state("a.txt", "done")
        await daemon.until_state("b.txt", "done")
        await daemon.stop()
        (daemon.spool / "a.txt").rename(daemon.spool / "b.txt")
        daemon.drop("c.txt", b"c.txt")
        await daemon.start()
        await daemon.until_state("c.txt", "done")


async def test_smaller_parts_after_a_restart_begin_a_new_session(tmp_path: Path) -> None:
    """A session whose parts are too large is not gone on with, or part_size had no effect."""
    content = bytes(5 * MIB)
    rules = replace(Rules(), part_max_bytes=MIB)
    config: dict[str, Any] = {"transfer": {"part_size": "2MiB"}}
    async with (
        Emulator(store=tmp_path / "store", rules=rules) as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=config) as daemon,
    ):
        await daemon.start()
        daemon.drop("a.bin", content)
        row = await daemon.until_state("a.bin", "held")
        assert row["reason"]["code"] == "held.part_too_large"
        await daemon.stop()
        daemon.configure(transfer={"part_size": "1MiB"})
        await daemon.start()
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.bin": content})


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"bytes": 3}, "3 bytes in place of 5"), ({"id": "file-other"}, "which is that of")],
    ids=["other size", "id of another file"],
)
async def test_an_answer_that_cannot_be_true_waits_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], says: str
) -> None:
    """A file of another size, or one that is another file's already, is no success."""
    complete = Service.complete

    async def changed(service: Service, upload_id: str, body: bytes) -> dict[str, Any]:
        upload: dict[str, Any] = await complete(service, upload_id, body)
        return upload | {"file": upload["file"] | changes}

    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        if "id" in changes:
            daemon.drop("first.txt", b"first")
            monkeypatch.setattr(Service, "complete", changed)
            await daemon.until_drained()
        monkeypatch.setattr(Service, "complete", changed)
        daemon.drop("b.txt", b"bytes")
        row = await daemon.until_state("b.txt", "held", "done")
        assert row["reason"]["code"] == "held.uncertain"
        assert says in row["reason"]["text"]
        assert (daemon.spool / "b.txt").exists()
        status = await daemon.status()
        assert status["trouble"] is None


async def test_an_upload_id_that_another_upload_has_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a bad reply, to be tried again, and no trouble of the journal's."""
    create = Service.create
    first: list[object] = []

    def repeated(service: Service, body: object) -> dict[str, Any]:
        upload = create(service, body)
        first.append(upload["id"])
        return upload | {"id": first[0]}

    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url) as daemon,
    ):
        await daemon.start()
        with monkeypatch.context() as patch:
            patch.setattr(Service, "create", repeated)
            daemon.drop("a.txt", b"a")
            await daemon.until_drained()
            daemon.drop("b.txt", b"b")
            row = await daemon.until_state("b.txt", "deferred")
            assert row["reason"]["code"] == "deferred.bad_reply"
            assert (await daemon.status())["trouble"] is None
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"a", "b.txt": b"b"})


async def test_what_the_journal_could_not_take_is_seen_again_at_once(tmp_path: Path) -> None:
    """After the journal's trouble there is a scan, and until then the spool is not called empty."""
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config={"watch": {"rescan": "10m"}}) as daemon,
    ):
        await daemon.start()
        await wait_until(lambda: _drained(daemon), what="the first scan")
        with closing(
            sqlite3.connect(daemon.state_dir / "journal.sqlite3", isolation_level=None)
        ) as journal:
            journal.execute("BEGIN IMMEDIATE")
            daemon.drop("a.txt", b"a")
            await wait_until(lambda: "locked" in daemon.log_text(), what="the trouble's line")
            journal.execute("ROLLBACK")
        assert not await _drained(daemon)
        await daemon.until_drained()
        assert_arrived(emulator, daemon, {"a.txt": b"a"})
        await wait_until(lambda: _drained(daemon), what="the end of the trouble")
        assert (await daemon.status())["trouble"] is None


async def _drained(daemon: DaemonProcess) -> bool:
    return bool((await daemon.status())["drained"])
