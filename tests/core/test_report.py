"""The documents of the contract: every key there, every value of its form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.core.limits import Limit, Whose
from uploaderd.core.model import (
    Arrival,
    File,
    FileState,
    Filing,
    Identity,
    Now,
    Part,
    PartState,
    Upload,
    UploadState,
)
from uploaderd.core.reasons import reason
from uploaderd.core.report import (
    FlightFacts,
    Progress,
    Snapshot,
    TargetFacts,
    WatchFacts,
    drained,
    escape_path,
    file_document,
    full_path,
    receipt_document,
    rfc3339,
    status_document,
)
from uploaderd.core.values import replace

FLIGHT = FlightFacts(now=2, limit=3, most=4, code="growing", why="Growing.", connection_bps=999.9)
NOW = Now(wall_s=1_700_000_100.0, boot_s=200.0, boot_id="b")
FILE = File(
    id="f1",
    watch="/spool",
    path=b"batch/x.jsonl",
    identity=Identity(dev=1, inode=2, size=25, mtime_ns=3, ctime_ns=4),
    arrival=Arrival.FOUND,
    target="openai",
    purpose="batch",
    state=FileState.UPLOADING,
    reason=reason("uploading.parts"),
    created_s=1_700_000_000.0,
    updated_s=1_700_000_001.0,
    changed_s=1_700_000_000.0,
    owner="here",
    upload="u1",
)
UPLOAD = Upload(
    key="u1",
    file="f1",
    target="openai",
    state=UploadState.OPEN,
    filename="x.jsonl",
    purpose="batch",
    size=25,
    part_bytes=10,
    created_s=1_700_000_000.0,
    created_boot_s=100.0,
    boot_id="b",
    life_s=3_600.0,
    remote_id="upload_1",
)
FILE_KEYS = """
id path watch target purpose bytes state reason parts bytes_stored bytes_resent rate_bps eta_s
upload_id expires_at file_id md5 attempts created_at updated_at
"""
RECEIPT_KEYS = """
schema outcome path bytes md5 purpose target upload_id file_id file parts attempts bytes_sent
bytes_resent started_at finished_at reason
"""


def test_a_file_shows_every_key_of_the_contract() -> None:
    """With its times in RFC 3339 and its reason in three keys."""
    document = file_document(FILE, UPLOAD, Progress(total=3, stored=1, bytes_stored=10), NOW)
    assert set(FILE_KEYS.split()) <= document.keys()
    assert document["path"] == "/spool/batch/x.jsonl"
    assert document["reason"] == {
        "code": "uploading.parts",
        "text": "Its parts are being sent.",
        "until": None,
    }
    assert document["parts"] == {"total": 3, "stored": 1, "in_flight": 0}
    assert document["upload_id"] == "upload_1"
    assert document["created_at"] == "2023-11-14T22:13:20.000Z"


def test_the_end_of_the_session_is_told_by_the_boot_clock() -> None:
    """Though the wall clock was moved meanwhile."""
    moved = replace(NOW, wall_s=NOW.wall_s + 7_200.0)
    document = file_document(FILE, UPLOAD, Progress(), moved)
    assert document["expires_at"] == rfc3339(moved.wall_s + 3_500.0)


def test_the_eta_counts_what_is_on_its_way() -> None:
    """Ten of 25 bytes stored, five moving, one a second: ten seconds."""
    progress = Progress(total=3, stored=1, bytes_stored=10)
    document = file_document(FILE, UPLOAD, progress, NOW, rate_bps=1.0, moving=5)
    assert document["eta_s"] == 10.0
    assert file_document(FILE, UPLOAD, progress, NOW)["eta_s"] is None


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"plain", "plain"),
        ("caf\u00e9".encode(), "caf\u00e9"),
        (b"caf\xe9", r"caf\udce9"),
        (b"a\nb\"'", "a\nb\"'"),
        (b"\\udce9", r"\udce9"),
    ],
)
def test_a_path_is_escaped_as_the_contract_says(path: bytes, shown: str) -> None:
    """Surrogateescape and backslash; nothing else is touched."""
    assert escape_path(path) == shown


@given(st.binary(min_size=1))
def test_any_path_can_be_shown(path: bytes) -> None:
    """And what is shown can be written as UTF-8."""
    assert escape_path(path).encode("utf-8")
    assert full_path(replace(FILE, path=path)).startswith("/spool/")


@pytest.mark.parametrize("state", FileState)
def test_drained_means_that_nothing_goes_on_by_itself(state: FileState) -> None:
    """Held, failed, done and cancelled files do not keep it from being drained."""
    rests = {FileState.DONE, FileState.HELD, FileState.FAILED, FileState.CANCELLED}
    assert drained({state: 1}, unfiled=0, scanned=True) is (state in rests)
    assert not drained({FileState.DONE: 1}, unfiled=1, scanned=True)
    assert not drained({}, unfiled=0, scanned=False)


def test_status_shows_every_key_of_the_contract() -> None:
    """And a count for every state, zeros included."""
    document = status_document(
        Snapshot(
            version="1",
            pid=7,
            started_s=1_700_000_000.0,
            state="running",
            counts={FileState.DONE: 2},
            unfiled=0,
            scanned=True,
            bytes_queued=1,
            bytes_stored=2,
            bytes_resent=3,
            rate_bps=4.4,
            limit=Limit(rate_bps=5, why=Whose.TIMETABLE, configured="5B/s", until_s=60.0),
            watches=[WatchFacts(path="/spool", mode="inotify", why="")],
            targets=[TargetFacts(name="openai", state="ok", flight=FLIGHT)],
            active=[],
        )
    )
    keys = "version pid started_at state drained counts bytes rate_bps watches targets active"
    assert set(keys.split()) <= document.keys()
    assert document["counts"] == {s.value: 2 if s is FileState.DONE else 0 for s in FileState}
    assert document["bytes"] == {"queued": 1, "stored": 2, "resent": 3}
    assert document["targets"] == [
        {
            "name": "openai",
            "state": "ok",
            "until": None,
            "parts_in_flight": {
                "now": 2, "limit": 3, "most": 4, "code": "growing", "why": "Growing.",
                "frozen": False,
            },
            "connection_bps": 1000,
        }
    ]  # fmt: skip


def test_a_receipt_shows_every_key_of_the_contract() -> None:
    """With the parts in order and the service's own File object."""
    done = replace(
        FILE,
        state=FileState.DONE,
        remote_file="file-1",
        md5="0" * 32,
        filing=Filing.PENDING,
        reason=reason("done.uploaded", place="done/batch/x.jsonl"),
        started_s=1_700_000_000.0,
        finished_s=1_700_000_050.0,
    )
    part = Part(
        upload="u1",
        number=1,
        offset=0,
        length=25,
        state=PartState.STORED,
        digest=bytes(16),
        part_id="part_1",
    )
    document = receipt_document(done, UPLOAD, [part], {"id": "file-1"})
    assert set(RECEIPT_KEYS.split()) <= document.keys()
    assert document["outcome"] == "uploaded"
    assert document["file"] == {"id": "file-1"}
    assert document["parts"] == [
        {
            "number": 1,
            "offset": 0,
            "bytes": 25,
            "part_id": "part_1",
            "digest": "xxh3_128:" + "0" * 32,
        }
    ]


def test_a_receipt_of_a_failure_says_why() -> None:
    """Without parts, without the service's file."""
    failed = replace(FILE, state=FileState.FAILED, reason=reason("failed.empty"), upload=None)
    document = receipt_document(failed, None, [], None)
    assert document["outcome"] == "failed"
    assert document["file"] is None
    assert document["parts"] == []
    assert document["reason"] == {
        "code": "failed.empty",
        "text": "It has no bytes; the service takes no empty file.",
        "until": None,
    }
