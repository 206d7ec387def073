"""After the end: programs that hooks run, and rows that the journal forgets."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from uploaderd.config import Hook, HookEvent
from uploaderd.hooks import Ended, Order

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.life import Life
    from uploaderd.journal import Journal

HOOKS = (
    Hook(on=HookEvent.DONE, command=("notify",), timeout_s=30.0, attempts=3),
    Hook(on=HookEvent.FAILED, command=("complain",), timeout_s=30.0, attempts=3),
)
OUTCOMES = {"done": "uploaded", "failed": "failed"}
FAILS = 0.3


class Aftercare:
    """What outlives a death of the process: what ran, and what was forgotten.

    Attributes:
        well: how often a hook went well, by the file's id.
        forgotten: the rows of files that are in the journal no more.
    """

    def __init__(self, rng: Random) -> None:
        self.broken: list[str] = []
        self.well: Counter[str] = Counter()
        self.forgotten: dict[str, dict[str, Any]] = {}
        self._rng = rng

    def follow(self, journal: Journal) -> None:
        """Note every row that goes; where that is rolled back it is there as well."""
        db = journal.connection
        columns = [row["name"] for row in db.execute("SELECT name FROM pragma_table_info('files')")]

        def goes(rowid: int, *values: object) -> None:
            row = dict(zip(columns, values, strict=True)) | {"rowid": rowid}
            self.forgotten[str(row["id"])] = row

        db.create_function("goes", len(columns) + 1, goes)
        old = ", ".join(f"OLD.{name}" for name in columns)
        db.execute(
            "CREATE TEMP TRIGGER archive BEFORE DELETE ON main.files"
            f" BEGIN SELECT goes(OLD.rowid, {old}); END"
        )

    def runner(self, life: Life, journal: Journal) -> SimPrograms:
        """The programs of one life of the process."""
        return SimPrograms(self, life, journal, self._rng)

    def examine(self, journal: Journal) -> list[str]:
        """I7: each end has its hook, and what the journal calls done went well."""
        db, broken = journal.connection, list(self.broken)
        broken += [
            f"I7: the hook of {row['file']} is done and never went well"
            for row in db.execute("SELECT * FROM errands WHERE state = 'done'")
            if not self.well[row["file"]]
        ]
        owing = db.execute(
            "SELECT id FROM files WHERE filing = 'filed' AND filed_as IS NOT NULL"
            " AND id NOT IN (SELECT file FROM errands) AND id IN (SELECT file FROM events)"
        )
        broken += [f"I7: {row['id']} is filed and owes nothing" for row in owing]
        return broken


class SimPrograms:
    """What ``hooks.Programs`` is; its process ends with the daemon's."""

    def __init__(self, care: Aftercare, life: Life, journal: Journal, rng: Random) -> None:
        self._care = care
        self._life = life
        self._journal = journal
        self._rng = rng

    async def __call__(self, order: Order) -> Ended:
        """As ``Programs``."""
        file_id, event = order.env["UPLOADERD_ID"], order.env["UPLOADERD_EVENT"]
        receipt = json.loads(order.stdin)
        row = self._journal.connection.execute(
            "SELECT state FROM errands WHERE file = ?", (file_id,)
        ).fetchone()
        if row["state"] != "running":
            self._care.broken.append(f"I7: a hook runs for {file_id} and is {row['state']}")
        if (receipt["id"], receipt["outcome"]) != (file_id, OUTCOMES[event]):
            self._care.broken.append(f"I7: the hook of {file_id} got another receipt")
        self._life.step("hook", f"{order.command[0]} runs")
        await asyncio.sleep(self._rng.choice((0.01, 1.0, 20.0)) * self._rng.random())
        if self._rng.random() < FAILS:
            self._life.step("hook", f"{order.command[0]} fails")
            return Ended(outcome="failed", text="exit code 1")
        self._care.well[file_id] += 1
        self._life.step("hook", f"{order.command[0]} goes well")
        return Ended(outcome="ok", text="exit code 0")
