"""What a scrape is told of the engine, and what that costs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from tests.support.exposition import Page
from uploaderd.core.events import Settled
from uploaderd.core.facts import SessionNumbers
from uploaderd.core.model import Arrival, FileState
from uploaderd.engine.intake import Intake
from uploaderd.engine.numbers import gather
from uploaderd.metrics import Metrics
from uploaderd.spool.watcher import Sighting

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.kit import Rig

P = ParamSpec("P")
T = TypeVar("T")

MANY = 20_000
LIFE_S = 3_600.0


async def test_the_nearest_deadline_is_that_of_the_session_that_ends_first(rig: Rig) -> None:
    """By target; one where nothing is open has none."""
    rig.session(rig.put("first"))
    rig.clock.forward(100.0)
    rig.session(rig.put("second"))
    rig.clock.forward(20.0)
    told = await gather(rig.engine, state="running")
    assert told.sessions == {
        "openai": SessionNumbers(open=2, late=0, nearest_s=LIFE_S - 120.0),
        "other": SessionNumbers(open=0, late=0, nearest_s=None),
    }
    rig.clock.forward(2 * LIFE_S)
    told = await gather(rig.engine, state="running")
    assert told.sessions is not None
    assert told.sessions["openai"].nearest_s == 0.0, "it is over, and no less than that"


async def test_a_session_that_cannot_be_filled_in_time_is_late(rig: Rig) -> None:
    """At the rate that was measured while something was sent."""
    rig.session(rig.put("big", content=bytes(1000)))
    goodput = rig.engine.senders.goodput
    goodput.begin(rig.clock.boot_s)
    rig.clock.forward(600.0)
    goodput.add(600, rig.clock.boot_s)  # a byte a second
    told = await gather(rig.engine, state="running")
    assert told.sessions is not None
    assert told.sessions["openai"].late == 0
    rig.clock.forward(LIFE_S - 600.0 - 999.0)
    goodput.end(rig.clock.boot_s)
    told = await gather(rig.engine, state="running")
    assert told.sessions is not None
    assert told.sessions["openai"].late == 1


async def test_bytes_that_are_stored_of_a_file_on_its_way_wait_no_more(rig: Rig) -> None:
    """The sums of a scrape are those of the status document."""
    rig.put("waits", content=bytes(70))
    rig.put("arrived", content=bytes(5), state=FileState.HELD, code="held.auth")
    told = await gather(rig.engine, state="running")
    assert told.queued_bytes == 70
    assert told.counts == {FileState.QUEUED: 1, FileState.HELD: 1}
    assert not told.drained


async def test_the_last_arrival_is_looked_for_among_the_last_that_ended(rig: Rig) -> None:
    """By target; where many failed since, nobody reads on through all that ever were."""

    def ended(path: str, state: str, at_s: float) -> None:
        file = rig.put(path)
        ids = ("file-1", "0" * 32) if state == "done" else (None, None)
        rig.journal.connection.execute(
            "UPDATE files SET state = ?, filing = 'filed', finished = ?, updated = ?,"
            " remote_file = ?, md5 = ? WHERE id = ?",
            (state, at_s, at_s + 0.5, *ids, file.id),
        )

    ended("arrived", "done", 10.0)
    for n in range(3):
        ended(f"failed{n}", "failed", 20.0 + n)
    assert rig.journal.last_arrivals() == {"openai": 10.0}
    assert (await gather(rig.engine, state="running")).arrivals == {"openai": 10.0}
    assert rig.journal.last_arrivals(4) == {"openai": 10.0}
    assert rig.journal.last_arrivals(3) == {}


async def test_trouble_is_told_by_kind(rig: Rig) -> None:
    """No label holds a sentence, and no folder's name makes a new series."""
    place = rig.place
    rig.ctx.trouble |= {
        "journal": "a",
        "journal damaged": "b",
        place.name: "c",
        place.watching: "d",
        place.filing_away: "e",
        "something new": "f",
    }
    told = await gather(rig.engine, state="running")
    kinds = ("journal", "journal_damaged", "watch", "watching", "filing", "other")
    assert told.troubles == dict.fromkeys(kinds, 1)


async def test_a_file_that_is_still_written_comes_into_its_state_once(rig: Rig) -> None:
    """However often it is seen to grow; going back to settling is a step again."""
    metrics = rig.ctx.tally = Metrics(version="1")
    intake, path = Intake(rig.ctx, rig.place), rig.root / "grows"

    async def seen() -> Page:
        with path.open("ab") as file:
            file.write(b"more")
        rig.clock.forward(1.0)
        await intake.take([Sighting(path=b"grows", arrival=Arrival.WRITTEN, seen=None)])
        told = await gather(rig.engine, state="running")
        return Page(metrics.exposition(told).decode())

    name = "uploaderd_file_transitions_total"
    assert (await seen()).value(name, state="settling", reason="settling.seen") == 1
    [file] = rig.journal.due(rig.ctx.wall_s + 60.0, 1)
    assert file.reason.code == "settling.quiet"  # the first look was part of it
    for _ in range(3):
        page = await seen()
        assert page.value(name, state="settling", reason="settling.quiet") == 1
        assert page.value(name, state="settling", reason="settling.seen") == 2
    [file] = rig.journal.due(rig.ctx.wall_s + 60.0, 1)
    settled = Settled(identity=file.identity, target="openai", purpose="user_data")
    await rig.ctx.apply(file, settled)
    page = await seen()
    assert page.value(name, state="queued") == 1
    assert page.value(name, state="settling", reason="settling.seen") == 3


class Stuck:
    """A journal's thread whose disk takes nothing."""

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Never return."""
        await asyncio.Event().wait()
        return function(*args, **kwargs)


async def test_a_journal_that_does_not_answer_is_not_waited_for_long(rig: Rig) -> None:
    """Whoever scrapes hears the rest: that is when it matters most."""
    rig.put("waits")
    rig.ctx.keep = Stuck()
    told = await gather(rig.engine, state="running", patience_s=0.01)
    assert told.sessions is None
    assert told.counts == {FileState.QUEUED: 1}


async def test_a_journal_that_is_closed_tells_no_sessions(rig: Rig) -> None:
    """The rest of the page is there, and says what is wrong."""
    rig.journal.close()
    told = await gather(rig.engine, state="draining")
    assert told.sessions is None
    assert told.state == "draining"


async def test_the_sizes_are_those_on_disk(rig: Rig) -> None:
    """Of the database and of its log; what is not there is left out."""
    rig.put("any")
    told = await gather(rig.engine, state="running")
    path = rig.journal.path
    assert told.journal_bytes == {
        "database": path.stat().st_size,
        "log": path.with_name(path.name + "-wal").stat().st_size,
    }
    rig.ctx.journal.close()
    told = await gather(rig.engine, state="running")
    assert told.journal_bytes.keys() == {"database"}


async def test_a_scrape_costs_the_same_whatever_the_journal_holds(rig: Rig) -> None:
    """SQLite's own steps are counted: no statement looks at all the files."""
    rig.session(rig.put("one"))
    before = await _steps(rig)
    db = rig.journal.connection
    columns = [row[1] for row in db.execute("PRAGMA table_info(files)")]
    rest = ", ".join(name for name in columns if name not in {"id", "path", "upload"})
    db.execute(
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY})"  # noqa: S608 - all of it is ours
        f" INSERT INTO files (id, path, {rest})"
        f" SELECT 'x' || i, CAST('x' || i AS BLOB), {rest} FROM files, n WHERE id = 'one'"
    )
    assert db.execute("SELECT count(*) FROM files").fetchone()[0] == MANY + 1
    assert await _steps(rig) <= before + 10


async def _steps(rig: Rig) -> int:
    """How many of SQLite's steps a scrape takes, in hundreds."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    rig.journal.connection.set_progress_handler(step, 100)
    await gather(rig.engine, state="running")
    rig.journal.connection.set_progress_handler(None, 0)
    return steps
