"""The source that changes: what arrives is what the file is in the end, or nothing.

Six files go through one daemon, each changed in its own way at the same moment of its way.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support import outcome
from tests.support.daemon import DaemonProcess
from tests.support.scenes import half_way
from tests.support.waiting import wait_until
from uploaderd.emulator import Emulator
from uploaderd.emulator.objects import UploadStatus

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Table

MIB = 1 << 20
SIZE = 5 * MIB // 2
PARTS = 3
CONFIG: dict[str, Table] = {
    "daemon": {"log_level": "info"},
    "watch": {"rescan": "5s"},
    "transfer": {"part_size": "1MiB", "files_in_flight": 8, "parts_in_flight": 32},
    "retry": {"attempts": 1, "max_wait": "100ms", "defer_max": "300ms"},
}


# The changes: each returns what the file is in the end, None if it is gone


def rewritten(path: Path, content: bytes) -> bytes:
    """Other bytes in place, in the first part only, with the old mtime put back."""
    times = path.stat()
    with path.open("r+b") as file:
        file.write(b"new!")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return b"new!" + content[4:]


def truncated(path: Path, content: bytes) -> bytes:
    """Cut at the border of a part, so that each part that is left has its old digest."""
    os.truncate(path, 2 * MIB)
    return content[: 2 * MIB]


def grown(path: Path, content: bytes) -> bytes:
    """More bytes at its end."""
    with path.open("ab") as file:
        file.write(b"more")
    return content + b"more"


def replaced(path: Path, content: bytes) -> bytes:
    """Another file of the same size renamed over it, as old as the first."""
    times = path.stat()
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content[::-1])
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.replace(path)
    return content[::-1]


def deleted(path: Path, content: bytes) -> None:
    """No file any more."""
    assert content
    path.unlink()


def forbidden(path: Path, content: bytes) -> bytes:
    """A file that may not be read."""
    path.chmod(0)
    return content


CHANGES = (rewritten, truncated, grown, replaced, deleted, forbidden)
NAMES = {change: f"{change.__name__}.bin" for change in CHANGES}


# The moments: each drops the files and waits until all of them are there


async def _drop(daemon: DaemonProcess, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        daemon.drop(name, content)


async def _all_are(daemon: DaemonProcess, state: str) -> None:
    for name in NAMES.values():
        await daemon.until_state(name, state)


async def _asked(emulator: Emulator, parts: int) -> None:
    await emulator.stats.until(lambda stats: stats.count("part") == parts)


async def settling(daemon: DaemonProcess, emulator: Emulator, contents: dict[str, bytes]) -> None:
    """Written in place and looked at once: not quiet for long enough yet."""
    for name, content in contents.items():
        (daemon.spool / name).write_bytes(content)
    await _all_are(daemon, "settling")
    assert emulator.stats.uploads_created == 0


async def opening(daemon: DaemonProcess, emulator: Emulator, contents: dict[str, bytes]) -> None:
    """Found whole, and about to be opened."""
    await _drop(daemon, contents)
    await _all_are(daemon, "uploading")
    assert emulator.stats.uploads_created == 0


async def hashing(daemon: DaemonProcess, emulator: Emulator, contents: dict[str, bytes]) -> None:
    """All parts are stored, and the pass that proves them has not begun."""
    await _drop(daemon, contents)
    await emulator.stats.until(lambda stats: stats.count("part", 200) == PARTS * len(contents))


async def sending(daemon: DaemonProcess, emulator: Emulator, contents: dict[str, bytes]) -> None:
    """One part is stored, the others are on their way."""
    for number, (name, content) in enumerate(contents.items(), start=1):
        emulator.faults.replace(["call=part,action=stall,skip=1,at=65536"])
        daemon.drop(name, content)
        await half_way(emulator, number)
        await _asked(emulator, number * PARTS)


async def killed(daemon: DaemonProcess, emulator: Emulator, contents: dict[str, bytes]) -> None:
    """The daemon is dead, with one part of each file stored."""
    await sending(daemon, emulator, contents)
    await daemon.kill()


async def deferred(daemon: DaemonProcess, emulator: Emulator, contents: dict[str, bytes]) -> None:
    """All is stored and proved, and the service refuses to complete for a while."""
    emulator.faults.replace(["call=complete,action=refuse,status=429"])
    await _drop(daemon, contents)
    await emulator.stats.until(lambda stats: stats.count("complete", 429) >= len(contents))
    await _all_are(daemon, "deferred")


async def uncertain(daemon: DaemonProcess, emulator: Emulator, contents: dict[str, bytes]) -> None:
    """Complete broke off before it was acted upon, and nobody knows."""
    emulator.faults.replace(["call=complete,action=cut"])
    await _drop(daemon, contents)
    await _all_are(daemon, "uncertain")


async def completed(daemon: DaemonProcess, emulator: Emulator, contents: dict[str, bytes]) -> None:
    """The former content is at the service, and the file is about to be moved."""
    await _drop(daemon, contents)
    await _all_are(daemon, "done")
    assert emulator.stats.files_created == len(contents)


Reach = Callable[[DaemonProcess, Emulator, dict[str, bytes]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When the files change.

    Attributes:
        step: what the daemon does not do before they have changed.
        arrived: the former content is at the service already.
        settle: the watch's quiet time.
    """

    reach: Reach
    step: str = ""
    settle: str = "100ms"
    arrived: bool = False


MOMENTS = (
    Moment(reach=settling, settle="5s"),
    Moment(reach=opening, step="Place.open_source"),
    Moment(reach=hashing, step="Md5Pass.advance"),
    Moment(reach=sending),
    Moment(reach=killed),
    Moment(reach=deferred),
    Moment(reach=uncertain),
    Moment(reach=completed, step="Filing.write_receipt", arrived=True),
)


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.reach.__name__)
async def test_a_file_that_changes_arrives_as_it_is_in_the_end(
    tmp_path: Path, moment: Moment
) -> None:
    """Once, with the right md5 and its own receipt; one that is gone or forbidden does not.

    A content that was whole and is at the service already stays there, and its source is not
    taken for the new one. Whatever was begun for another content is cancelled.
    """
    contents = {
        name: random.Random(seed).randbytes(SIZE) for seed, name in enumerate(NAMES.values())
    }
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        DaemonProcess(tmp_path, emulator.base_url, config=CONFIG) as daemon,
    ):
        daemon.configure(watch={"settle": moment.settle})
        go = tmp_path / "go"
        words = ["uploaderd", "run"]
        if moment.step:
            words = ["tests.support.hindered", "--step", moment.step, "--until", str(go)]
        await _launch(daemon, words)
        await moment.reach(daemon, emulator, contents)
        last = {NAMES[how]: how(daemon.spool / NAMES[how], contents[NAMES[how]]) for how in CHANGES}
        if moment.reach is uncertain:
            # A complete that was on its way when they changed must still meet the fault.
            held, former = emulator.store.uploads, list(emulator.store.uploads)[: len(contents)]
            await wait_until(
                lambda: all(held[one].status is UploadStatus.CANCELLED for one in former),
                what="the former sessions to be cancelled",
            )
        emulator.faults.clear()
        go.touch()
        if not daemon.running:
            await _launch(daemon, ["uploaderd", "run"])
        await _check(daemon, emulator, moment, contents, last)


async def _launch(daemon: DaemonProcess, words: list[str]) -> None:
    await daemon.launch("tests.spool.powerless", words, notify=False)
    await wait_until(lambda: _answers(daemon), what="the daemon to answer")


async def _answers(daemon: DaemonProcess) -> bool:
    try:
        return bool(await daemon.status())
    except OSError:
        return False


async def _check(
    daemon: DaemonProcess,
    emulator: Emulator,
    moment: Moment,
    contents: dict[str, bytes],
    last: dict[str, bytes | None],
) -> None:
    secret = NAMES[forbidden]
    if moment.arrived:
        # It may be another content by now, and nobody can tell before it may be read.
        await daemon.until_state(secret, "done")
        assert (daemon.spool / secret).exists()
    else:
        row = await daemon.until_state(secret, "held")
        assert row["reason"]["code"] == "held.unreadable"
        row = await daemon.until_state(NAMES[deleted], "cancelled")
        assert row["reason"]["code"] == "cancelled.gone"
        assert secret not in {file.filename for file in emulator.store.files.values()}
    await wait_until(
        lambda: daemon.left() == [secret], what="all but the forbidden file to be filed"
    )
    await daemon.stop()
    (daemon.spool / secret).chmod(0o600)
    await daemon.start()
    await daemon.until_drained()
    await wait_until(
        lambda: not outcome.unended(daemon.state_dir), what="every session to have ended"
    )
    arrived: dict[str, list[str]] = {}
    for file in emulator.store.files.values():
        content = emulator.store.content_path(file).read_bytes()
        arrived.setdefault(file.filename, []).append(outcome.md5(content))
        assert file.md5 == outcome.md5(content)
    wanted = {name: [outcome.md5(end)] for name, end in last.items() if end is not None}
    if moment.arrived:
        for name, content in contents.items():
            if last[name] != content:
                wanted.setdefault(name, []).insert(0, outcome.md5(content))
    assert arrived == wanted
    _check_filed(daemon, last)
    ends = {upload.status for upload in emulator.store.uploads.values()}
    assert ends <= {UploadStatus.COMPLETED, UploadStatus.CANCELLED}


def _check_filed(daemon: DaemonProcess, last: dict[str, bytes | None]) -> None:
    """What lies in done/ is the last content of each file, beside a receipt with its md5."""
    done = daemon.spool / "done"
    filed = [path for path in done.iterdir() if not path.name.endswith(".receipt.json")]
    held = sorted(outcome.md5(path.read_bytes()) for path in filed)
    assert held == sorted(outcome.md5(end) for end in last.values() if end is not None)
    for path in filed:
        assert outcome.read_receipt(path)["md5"] == outcome.md5(path.read_bytes()), path.name
