"""What must be true once the spool is empty, looked at from outside of the daemon."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from uploaderd.emulator.store import md5_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.daemon import DaemonProcess
    from uploaderd.emulator import Emulator

UNENDED = (
    "SELECT state, remote_id FROM uploads"
    " WHERE state NOT IN ('completed', 'cancelled', 'expired', 'lost')"
)


def md5(content: bytes) -> str:
    """The md5 of bytes, in hex."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def assert_arrived(
    emulator: Emulator, daemon: DaemonProcess, contents: Mapping[str, bytes], *, moved: bool = True
) -> None:
    """Each file is at the service exactly once, byte for byte, and its receipt says so.

    Args:
        emulator: the service.
        daemon: whose folders are looked at.
        contents: what was dropped, by its name in the spool.
        moved: the source is in ``done/`` under its own name.
    """
    assert sorted(file.filename for file in emulator.store.files.values()) == sorted(
        _base(name) for name in contents
    ), "each file is at the service exactly once, and nothing else is"
    for name, content in contents.items():
        assert_receipt(emulator, daemon, name, content, remote_name=_base(name))
        if moved:
            assert (daemon.spool / "done" / name).read_bytes() == content
    expected = {f"{name}.receipt.json" for name in contents} | (set(contents) if moved else set())
    assert files_below(daemon.spool / "done") == expected, "nothing else lies in done/"


def assert_receipt(
    emulator: Emulator,
    daemon: DaemonProcess,
    name: str,
    content: bytes,
    *,
    remote_name: str,
    filed_as: str | None = None,
) -> None:
    """The service holds these bytes under that name, and the receipt tells what it holds."""
    (remote,) = (f for f in emulator.store.files.values() if f.filename == remote_name)
    assert md5_of(emulator.store.content_path(remote)) == md5(content), name
    receipt = read_receipt(daemon.spool / "done" / (filed_as or name))
    assert receipt["outcome"] == "uploaded"
    assert receipt["path"] == str(daemon.spool / name)
    assert (receipt["bytes"], receipt["md5"]) == (len(content), md5(content))
    assert receipt["file_id"] == receipt["file"]["id"] == remote.id
    assert receipt["upload_id"] == remote.upload_id
    assert remote.upload_id is not None
    part_ids = emulator.store.uploads[remote.upload_id].part_ids
    assert [part["part_id"] for part in receipt["parts"]] == list(part_ids)
    assert sum(part["bytes"] for part in receipt["parts"]) == len(content)


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def assert_counted(emulator: Emulator, daemon: DaemonProcess, name: str) -> None:
    """A receipt owns up to what was sent: all of the file, and at least what was sent twice.

    Only where that file alone was sent, in one session.
    """
    receipt = read_receipt(daemon.spool / "done" / name)
    assert receipt["bytes_sent"] - receipt["bytes_resent"] == receipt["bytes"]
    assert sent_twice(emulator, receipt["bytes"]) <= receipt["bytes_resent"]


def read_receipt(filed: Path) -> dict[str, Any]:
    """The receipt of a filed file."""
    receipt: dict[str, Any] = json.loads(filed.with_name(f"{filed.name}.receipt.json").read_text())
    return receipt


def files_below(folder: Path) -> set[str]:
    """Every file in a folder, by its path below it."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def unended(state_dir: Path) -> list[tuple[str, str | None]]:
    """The sessions in the journal, state and remote id, that have not come to an end."""
    return [(str(state), remote) for state, remote in ask_journal(state_dir, UNENDED)]


def ask_journal(state_dir: Path, query: str) -> list[tuple[Any, ...]]:
    """Read the journal beside the daemon."""
    uri = f"file:{state_dir / 'journal.sqlite3'}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
        return connection.execute(query).fetchall()


def sent_twice(emulator: Emulator, size: int) -> int:
    """Bytes of parts that reached the service beyond those that a file of ``size`` has."""
    return emulator.stats.bytes_received - size


def uploads_with_parts(emulator: Emulator) -> list[str]:
    """The ids of the uploads that any part of a part reached."""
    return sorted(key for key, count in emulator.stats.received.items() if count)


def distinct_bytes(emulator: Emulator) -> int:
    """Bytes of parts that the service holds, each part of a file counted once by its content."""
    return sum(
        {
            md5_of(emulator.store.part_path(part)): part.bytes
            for part in emulator.store.parts.values()
        }.values()
    )
