"""The crash table: a real process is killed at each of its rows, started again, and checked.

``ARCHITECTURE.md`` holds the table; it is read from there, so that it cannot say what is not
tested. *before*: the step was decided, and nothing
of it was done; *after*: it was done, and nobody heard of it.
"""

from __future__ import annotations

import asyncio
import re
import threading
import typing
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import ROOT
from tests.support.scenes import SCENES, Death, Scene, play
from uploaderd.client import Client
from uploaderd.core import events
from uploaderd.journal import Journal
from uploaderd.journal.errands import Errands
from uploaderd.journal.retention import Retention
from uploaderd.spool.filing import Filing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AT_ONCE = 4
ROW_S = 120.0


@dataclass(frozen=True, slots=True)
class Row:
    """One side of one row: a story, a step, and where the daemon dies."""

    scene: Scene
    death: Death

    def __str__(self) -> str:
        """The row's name in the table, and the side."""
        nth = f"#{self.death.nth}" if self.death.nth > 1 else ""
        return f"{self.scene.name}-{self.death.at}{nth}-{self.death.when}"


def _read_table() -> list[Row]:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    scenes = "|".join(sorted(SCENES, key=len, reverse=True))
    marks = re.findall(rf"\| `({scenes})-([A-Z][\w.:]+)(?:#(\d+))?` \|$", text, re.MULTILINE)
    return [
        Row(SCENES[scene], Death(at=at, when=when, nth=int(nth or 1)))
        for scene, at, nth in marks
        for when in ("before", "after")
    ]


ROWS = _read_table()
ELSEWHERE = {
    "Journal.record:sighted": "part of Journal.intake's one transaction",
    "Journal.record:renamed": "the same",
    "Journal.record:retried": "the same",
    "Journal.record:settled": "part of Journal.intake or of Journal.record_all",
    "Journal.record:unsettled": "the same",
    "Journal.record:admitted": "part of Journal.record_all",
    "Journal.record:refused": "the same; where a transfer says so it is kept as any other end is",
    "Journal.record:due": "the same; where a target is open again, as any other step is",
    "Journal.record:assembled": "part of Journal.assembled's one transaction",
    "Journal.clock_set_back": "brings times near, as Journal.recover does at every start",
    "Journal.awaken": "the same, as part of resume: whoever is told to wait less may wait longer",
    "Journal.bring_near": "the same, for a time that was on its way into the journal",
    "Errands.errands_due": "reads only",
    "Errands.next_errand_s": "reads only",
    "Errands.errands_of": "reads only",
    "Errands.errand_counts": "reads only",
    "Retention.ended_before": "reads only",
    "Retention.has_forgotten": "reads only",
    "Client.prepare": "reads a file at the start and leaves nothing behind",
}
Results = dict[str, "Future[None]"]  # by the row's name


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Results]:
    """Play the selected rows, a few at a time: most of one row's time is spent on starting."""
    names = {item.name for item in request.session.items if item.path == request.path}
    rows = [row for row in ROWS if f"test_killed[{row}]" in names]
    with _playing(rows, tmp_path_factory.mktemp("rows")) as futures:
        yield futures


@contextmanager
def _playing(rows: list[Row], root: Path) -> Iterator[Results]:
    futures: Results = {str(row): Future() for row in rows}
    loop = asyncio.new_event_loop()

    async def one(row: Row, number: int, places: asyncio.Semaphore) -> None:
        async with places:
            folder = root / str(number)
            folder.mkdir()
            try:
                async with asyncio.timeout(ROW_S):
                    await play(row.scene, row.death, folder)
            except BaseException as error:
                futures[str(row)].set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                futures[str(row)].set_result(None)

    async def all_of_them() -> None:
        places = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for number, row in enumerate(rows):
                group.create_task(one(row, number, places))

    task = loop.create_task(all_of_them())

    def run() -> None:
        try:
            loop.run_until_complete(asyncio.wait([task]))
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="crash-table")
    thread.start()
    try:
        yield futures
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)
        thread.join()


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_killed(results: Results, row: Row) -> None:
    """Wherever it is killed: one file at the service, one receipt, nothing left in the spool."""
    results[str(row)].result(timeout=ROW_S * 4)


def test_the_table_is_whole() -> None:
    """Whatever writes to the journal, to the spool or to the service has a row, each event too."""
    steps = {
        f"{kind.__name__}.{name}"
        for kind in (Journal, Errands, Retention, Client, Filing)
        for name, member in vars(kind).items()
        if callable(member) and not name.startswith("_")
    }
    steps -= {"Journal.record"}
    steps |= {f"Journal.record:{one.__name__.lower()}" for one in typing.get_args(events.Event)}
    told = {row.death.at for row in ROWS}
    told |= {at.partition(":")[0] for at in told}
    assert steps - told - set(ELSEWHERE) == set()
    assert set(ELSEWHERE) <= steps - told
