"""The stories in which a daemon is killed at every step, and what must be true in their end."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from tests.support import outcome
from tests.support.stepping_forks import ForkedDaemon, ForkServer
from tests.support.waiting import wait_until
from uploaderd.emulator import Call, Emulator, Outcome
from uploaderd.emulator.objects import UploadStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.daemon import Table
    from uploaderd.emulator import RequestRecord

Rows = list[tuple[Any, ...]]

MIB = 1 << 20
PARTS_IN_FLIGHT = 1
LIFE_S = 60.0
LOOK_S = 0.01
LATE_S = 0.2
COMPLETE_SENT = "SELECT remote_id FROM uploads WHERE complete_sent"
OF_THE_LOOK = frozenset({"updated", "due", "version"})
_CHANCE = random.Random(9)
LARGE = _CHANCE.randbytes(2 * MIB + 9)
MIDDLE = _CHANCE.randbytes(MIB + 9)
OTHER = _CHANCE.randbytes(MIB + 1)
TINY = b"tiny"

UNFINISHED = """
    SELECT (SELECT count(*) FROM files WHERE filing = 'pending'
               OR state NOT IN ('done', 'failed', 'cancelled'))
         + (SELECT count(*) FROM uploads
               WHERE state NOT IN ('completed', 'cancelled', 'expired', 'lost'))
         + (SELECT count(*) FROM requests WHERE outcome IS NULL)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What is dropped before the first start, and what must come of it.

    Attributes:
        dropped: contents by name.
        refused: contents by name that no service would take.
        rewritten: the content that a file gets while its second part is sent, by its name.
    """

    name: str
    dropped: dict[str, bytes]
    refused: dict[str, bytes] = field(default_factory=dict)
    rewritten: dict[str, bytes] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    watch: Table = field(default_factory=dict)
    moved: bool = True

    @property
    def arrives(self) -> dict[str, bytes]:
        """What is at the service in the end, by name."""
        return self.dropped | self.rewritten


THREE = Story(name="three", dropped={"l.bin": LARGE, "t.bin": TINY}, refused={"e.bin": b""})
LOST = Story(name="lost", dropped={"t.bin": TINY}, faults=("call=complete,action=lose,times=1",))
CHANGED = Story(
    name="changed",
    dropped={"c.bin": MIDDLE},
    rewritten={"c.bin": OTHER},
    faults=("call=part,action=stall,skip=1,times=1,at=1",),
)
DELETED = Story(
    name="deleted", dropped={"t.bin": TINY}, watch={"after_upload": "delete"}, moved=False
)
STORIES = {story.name: story for story in (THREE, LOST, CHANGED, DELETED)}


class Death(Protocol):
    """A way to die in one life."""

    @property
    def words(self) -> list[str]:
        """The command line of ``tests.support.stepping``."""

    def arm(self, emulator: Emulator) -> None:
        """Let the service do its part, before the daemon starts."""

    async def strike(self, emulator: Emulator, daemon: ForkedDaemon) -> None:
        """Bring it about from outside, where it does not come from within."""


@dataclass(frozen=True, slots=True)
class At:
    """By its own hand, right before or after its kth effect, or its kth of such a name."""

    effect: int
    when: str
    of: str = ""

    @property
    def words(self) -> list[str]:
        """The command line of ``tests.support.stepping``."""
        return ["--kill-at", str(self.effect), "--when", self.when, "--of", self.of]

    def arm(self, emulator: Emulator) -> None:
        """Leave the service alone."""

    async def strike(self, emulator: Emulator, daemon: ForkedDaemon) -> None:
        """Leave it alone."""


RECOVERED = At(0, "recovered")
UNTOUCHED = At(0, "before")


class Moment(StrEnum):
    """How far a request is at the service when it holds it."""

    ARRIVED = "arrived"  # and is never acted upon
    LATE = "late"  # and is acted upon when the next life has begun
    ACTED = "acted"  # upon, and never answered


@dataclass(frozen=True, slots=True)
class Held:
    """From outside, while the service holds its nth request."""

    request: int
    moment: Moment

    @property
    def words(self) -> list[str]:
        """The command line of ``tests.support.stepping``."""
        return []

    def arm(self, emulator: Emulator) -> None:
        """Let the service hold the request."""
        at = "reply" if self.moment is Moment.ACTED else "after"
        seconds = LATE_S if self.moment is Moment.LATE else "forever"
        spec = f"call=any,action=stall,at={at},seconds={seconds},skip={self.request - 1},times=1"
        emulator.faults.add(spec)

    async def strike(self, emulator: Emulator, daemon: ForkedDaemon) -> None:
        """Kill it as soon as the service is that far; never if the request ends before."""
        while daemon.running:
            record = next((r for r in emulator.stats.requests if r.number == self.request), None)
            if record is not None and record.outcome is not Outcome.OPEN:
                return
            if record is not None and self._reached(emulator, record):
                await daemon.kill()
            await asyncio.sleep(LOOK_S)

    def _reached(self, emulator: Emulator, record: RequestRecord) -> bool:
        if self.moment is not Moment.ACTED:
            return record.bytes_received > 0 or record.call in {Call.CANCEL, Call.LIST}
        upload = emulator.store.uploads.get(record.upload_id)
        match record.call:
            case Call.LIST:
                return True
            case Call.CREATE:
                return upload is not None
            case Call.PART:
                return bool(record.part_id)
            case _:
                return upload is not None and upload.status is not UploadStatus.PENDING


@dataclass(slots=True, kw_only=True)
class Played:
    """What came of one play: the effects of each life that was given a death, and who died."""

    steps: list[list[str]] = field(default_factory=list)
    died: list[bool] = field(default_factory=list)
    requests: int = 0
    states: list[dict[str, Rows]] = field(default_factory=list)


async def play(story: Story, deaths: Sequence[Death], root: Path, server: ForkServer) -> Played:
    """Let it live and die as told, start the ordinary daemon, wait until all is done, check."""
    config: dict[str, Table] = {
        "watch": {"settle": "0s"} | story.watch,
        "transfer": {"parts_in_flight": PARTS_IN_FLIGHT, "files_in_flight": 1},
    }
    played = Played()
    async with (
        Emulator(store=root / "store", faults=story.faults) as emulator,
        ForkedDaemon(server, root, emulator.base_url, config=config) as daemon,
    ):
        for name, content in (story.dropped | story.refused).items():
            daemon.drop(name, content)
        meddling = _Meddling(story, daemon, emulator)
        for number, death in enumerate(deaths):
            tally = root / f"tally{number}"
            death.arm(emulator)
            words = [*death.words, "--tally", str(tally)]
            died = not await daemon.try_to_start("tests.support.stepping", words)
            if not died:
                striking = asyncio.create_task(death.strike(emulator, daemon))
                await _life(daemon, meddling)
                code = await daemon.stop()  # it may still die of what follows its work
                assert code in {0, -signal.SIGKILL}, daemon.process.last_words()
                died = code != 0
                await striking
            played.steps.append(tally.read_text().splitlines())
            played.died.append(died)
            _check_the_dead(story, daemon, emulator)
            if death is RECOVERED:
                played.states.append(_contents(daemon))
            if not died:
                break
        meddling.now_if_due()
        await daemon.start()
        await _life(daemon, meddling)

        async def drained() -> bool:
            return bool((await daemon.status())["drained"])

        await wait_until(drained, what="the daemon to say that all is done")
        await _check(story, daemon, emulator, sum(played.died))
        assert await daemon.stop() == 0, daemon.process.last_words()
        _check_journal(daemon)
        played.requests = len(emulator.stats.requests)
    return played


class _Meddling:
    """Rewrites a file, once, as soon as a second part is on its way, or was when it died."""

    def __init__(self, story: Story, daemon: ForkedDaemon, emulator: Emulator) -> None:
        self._left = dict(story.rewritten)
        self._daemon, self._emulator = daemon, emulator

    @property
    def over(self) -> bool:
        """Nothing more will be changed."""
        return not self._left

    def now_if_due(self) -> None:
        """Rewrite it if the story is that far."""
        if self._left and self._emulator.stats.count(Call.PART) > 1:
            name, content = self._left.popitem()
            (self._daemon.spool / name).write_bytes(content)


async def _life(daemon: ForkedDaemon, meddling: _Meddling) -> None:
    """Wait until everything is done, or it was killed."""

    def over() -> bool:
        meddling.now_if_due()
        return not daemon.running or (meddling.over and _done(daemon))

    await wait_until(over, timeout_s=LIFE_S, what="a death or an end")
    assert daemon.running or await daemon.process.ended() == -signal.SIGKILL, (
        daemon.process.last_words()
    )


def _done(daemon: ForkedDaemon) -> bool:
    """Tell whether the spool is empty and the journal knows of nothing that is left to do."""
    if daemon.left():
        return False
    try:
        return outcome.ask_journal(daemon.state_dir, UNFINISHED) == [(0,)]
    except sqlite3.Error:  # it is being made, or its daemon just died
        return False


async def _check(story: Story, daemon: ForkedDaemon, emulator: Emulator, deaths: int) -> None:
    outcome.assert_arrived(emulator, daemon, story.arrives, moved=story.moved)
    failed = daemon.spool / "failed"
    receipts = {f"{name}.receipt.json" for name in story.refused}
    assert outcome.files_below(failed) == set(story.refused) | receipts
    for name, content in story.refused.items():
        assert (failed / name).read_bytes() == content
        assert outcome.read_receipt(failed / name)["outcome"] == "failed"
    rows = await daemon.files()
    assert sorted(row["path"] for row in rows) == sorted(
        str(daemon.spool / name) for name in story.dropped | story.refused
    ), "one row for each file"

    size = sum(map(len, story.arrives.values()))
    size += sum(len(story.dropped[name]) for name in story.rewritten)
    twice = outcome.sent_twice(emulator, size)
    assert twice <= deaths * PARTS_IN_FLIGHT * MIB, "no more sent twice than was in flight"
    own = [outcome.read_receipt(daemon.spool / "done" / name) for name in story.arrives]
    if not story.rewritten:
        assert all(r["bytes_sent"] - r["bytes_resent"] == r["bytes"] for r in own)
        assert sum(r["bytes_resent"] for r in own) >= twice, "the receipts own up to that"

    told = "SELECT remote_id, state FROM uploads WHERE remote_id IS NOT NULL"
    known = dict(outcome.ask_journal(daemon.state_dir, told))
    for upload in emulator.store.uploads.values():
        if upload.status is UploadStatus.PENDING:
            assert upload.id not in known, f"left open: {upload.id}, {known.get(upload.id)}"
            assert not emulator.store.parts_of[upload.id], "nobody sent parts to it"


def _check_the_dead(story: Story, daemon: ForkedDaemon, emulator: Emulator) -> None:
    """What it did was written down first: what the service was asked, what left the spool."""
    noted, meant = set(), set()
    with suppress(sqlite3.OperationalError):  # it died before there was a journal
        noted = set(outcome.ask_journal(daemon.state_dir, "SELECT id FROM requests"))
        meant = set(outcome.ask_journal(daemon.state_dir, COMPLETE_SENT))
    for record in emulator.stats.requests:
        assert (record.client_request_id,) in noted, record
        assert record.call is not Call.COMPLETE or (record.upload_id,) in meant, record
    for name in story.dropped | story.refused:
        if (daemon.spool / name).exists():
            continue  # not yet
        folder = "failed" if name in story.refused else "done"
        outcome.read_receipt(daemon.spool / folder / name)
        query = f"SELECT remote_file FROM files WHERE path = x'{name.encode().hex()}'"  # noqa: S608
        query += f" AND state = '{folder}'"
        ((remote,),) = outcome.ask_journal(daemon.state_dir, query)
        assert remote is None if name in story.refused else remote in emulator.store.files


def _check_journal(daemon: ForkedDaemon) -> None:
    """Look into the closed journal."""
    with closing(sqlite3.connect(daemon.state_dir / "journal.sqlite3")) as journal:
        assert journal.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert journal.execute("PRAGMA foreign_key_check").fetchall() == []


def _contents(daemon: ForkedDaemon) -> dict[str, Rows]:
    """All that the journal of a dead daemon holds, but for the times of its last look at a file."""
    found: dict[str, Rows] = {}
    for table in ("files", "uploads", "parts", "requests", "events"):
        names = f"SELECT name FROM pragma_table_info('{table}')"  # noqa: S608
        told = [str(name) for (name,) in outcome.ask_journal(daemon.state_dir, names)]
        columns = ", ".join(name for name in told if name not in OF_THE_LOOK)
        query = f"SELECT {columns} FROM {table} ORDER BY 1, 2"  # noqa: S608
        found[table] = outcome.ask_journal(daemon.state_dir, query)
    return found
