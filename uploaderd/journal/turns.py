"""What the loops ask in each turn: by an index of the very question, whatever else there is.

One watch, state or target of many files never makes those of another wait for them to be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uploaderd.journal.questions import ENDED, WATCHED, Questions
from uploaderd.journal.rows import to_file

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from uploaderd.core.model import File, Identity

# In these a file may have a due time.
TIMED = ("settling", "deferred", "held", "uncertain", "done", "failed")
_UNFILED = frozenset({"done", "failed"})
_AT_ONCE = 250  # names in one statement
_FIRST = "SELECT " + ", ".join(
    "(SELECT due FROM files INDEXED BY files_turn WHERE watch = :watch"
    f" AND state = '{state}' AND due IS NOT NULL ORDER BY due LIMIT 1)"
    for state in TIMED
)


class Turns(Questions):
    """The questions of a turn."""

    def due(
        self,
        now_s: float,
        limit: int,
        *,
        latest: bool = False,
        unfiled_in: Iterable[str] = (),
        unasked: Iterable[str] = (),
        looked_at: Iterable[str] = (),
        states: Iterable[str] = TIMED,
    ) -> list[File]:
        """Files whose time has come, the longest overdue first, or the latest.

        Left out are files that are to be filed in one of the watches ``unfiled_in``, and those of
        which one of the targets ``unasked`` would have to be asked, and those that settle in one of
        the watches ``looked_at``.
        """
        order = "due DESC, id DESC" if latest else "due, id"
        full, silent, looked = frozenset(unfiled_in), tuple(unasked), frozenset(looked_at)
        rows: list[sqlite3.Row] = []
        for state in states:
            doubted = state == "uncertain" and silent
            asked = f" AND target NOT IN ({_marks(silent)})" if doubted else ""
            for watch in self.watched:
                if state in _UNFILED and watch in full:
                    continue
                if state == "settling" and watch in looked:
                    continue
                rows += self._all(
                    "SELECT * FROM files INDEXED BY files_turn"
                    f" WHERE watch = ? AND state = ? AND due <= ?{asked} ORDER BY {order} LIMIT ?",
                    (watch, state, now_s, *(silent if doubted else ()), limit),
                )
        rows.sort(key=lambda row: (row["due"], row["id"]), reverse=latest)
        return [to_file(row) for row in rows[:limit]]

    def turn(
        self,
        now_s: float,
        most: Mapping[str, int],
        *,
        latest: bool = False,
        unfiled_in: Iterable[str] = (),
        unasked: Iterable[str] = (),
        looked_at: Iterable[str] = (),
    ) -> tuple[dict[str, list[File]], float | None]:
        """What is due now, up to so many of each state, and when the next file will be.

        One statement a watch says which states have anything due; only those are read.
        """
        full, silent, looked = tuple(unfiled_in), tuple(unasked), tuple(looked_at)
        firsts = self._first_due_s()
        found = {
            state: self.due(
                now_s,
                limit,
                latest=latest,
                unfiled_in=full,
                unasked=silent,
                looked_at=looked,
                states=(state,),
            )
            for state, limit in most.items()
            if any(due_s <= now_s for (_, of), due_s in firsts.items() if of == state)
        }
        times = [
            self._next_s(watch, state, now_s) if due_s <= now_s else due_s
            for (watch, state), due_s in firsts.items()
        ]
        return found, min((due_s for due_s in times if due_s is not None), default=None)

    def next_due_s(self, after_s: float) -> float | None:
        """The wall time of the next file that will be due after ``after_s``."""
        times = [self._next_s(watch, state, after_s) for watch in self.watched for state in TIMED]
        return min((due_s for due_s in times if due_s is not None), default=None)

    def _first_due_s(self) -> dict[tuple[str, str], float]:
        """The earliest due time of each watch and state, where there is one."""
        found = {}
        for watch in self.watched:
            row = self._one(_FIRST, {"watch": watch})
            for state, due_s in zip(TIMED, row or (), strict=False):
                if due_s is not None:
                    found[watch, state] = float(due_s)
        return found

    def _next_s(self, watch: str, state: str, after_s: float) -> float | None:
        row = self._one(
            "SELECT due FROM files INDEXED BY files_turn"
            " WHERE watch = ? AND state = ? AND due > ? ORDER BY due LIMIT 1",
            (watch, state, after_s),
        )
        return None if row is None else row["due"]

    def queued(
        self, limit: int, without_targets: Iterable[str] = (), without_watches: Iterable[str] = ()
    ) -> list[File]:
        """Files that wait for a place: those with a session first, then the oldest."""
        shut, full = tuple(without_targets), tuple(without_watches)
        rows = self._all(
            "SELECT * FROM files INDEXED BY files_resume"
            f" WHERE state = 'queued' AND upload IS NOT NULL AND {WATCHED}"
            f" AND target NOT IN ({_marks(shut)}) AND +watch NOT IN ({_marks(full)})"
            " ORDER BY created, id LIMIT ?",
            (*shut, *full, limit),
        )
        left, fresh = limit - len(rows), []
        for target in self._targets_queued() if left > 0 else ():
            if target in shut:
                continue
            for watch in self.watched:
                if watch not in full:
                    fresh += self._all(
                        "SELECT * FROM files INDEXED BY files_queue WHERE state = 'queued'"
                        " AND upload IS NULL AND target = ? AND watch = ?"
                        " ORDER BY created, id LIMIT ?",
                        (target, watch, left),
                    )
        fresh.sort(key=lambda row: (row["created"], row["id"]))
        return [to_file(row) for row in (*rows, *fresh[:left])]

    def held_by(self, target: str, codes: Iterable[str], limit: int) -> list[File]:
        """Files that a target's trouble holds, the oldest first."""
        rows: list[sqlite3.Row] = []
        for code in codes:
            rows += self._all(
                "SELECT * FROM files INDEXED BY files_held WHERE state = 'held' AND target = ?"
                f" AND reason_code = ? AND {WATCHED} ORDER BY created, id LIMIT ?",
                (target, code, limit),
            )
        rows.sort(key=lambda row: (row["created"], row["id"]))
        return [to_file(row) for row in rows[:limit]]

    def standing(
        self, watch: str, identities: Mapping[bytes, Identity]
    ) -> tuple[set[bytes], set[bytes]]:
        """Paths whose file waits as it stands there, and paths that no file ever went by."""
        same, free, paths = set(), set(identities), list(identities)
        for start in range(0, len(paths), _AT_ONCE):
            some = paths[start : start + _AT_ONCE]
            there = f"watch = ? AND path IN ({_marks(some)})"
            for row in self._all(
                f"SELECT DISTINCT path FROM files INDEXED BY files_path WHERE {there}",
                (watch, *some),
            ):
                free.discard(row["path"])
            if free.issuperset(some):
                continue
            for row in self._all(
                "SELECT path, state, dev, inode, size, mtime_ns, ctime_ns FROM files"
                f" INDEXED BY files_live WHERE {there}"
                f" AND (filing = 'pending' OR state NOT IN {ENDED})",
                (watch, *some),
            ):
                path, state, dev, inode, *rest = row
                one = identities[path]
                now = (one.dev, str(one.inode), one.size, one.mtime_ns, one.ctime_ns)
                if state in _WAITING and now == (dev, inode, *rest):
                    same.add(path)
        return same, free

    def _targets_queued(self) -> Iterator[str]:
        """The targets of queued files, without a look at each of them."""
        last = ""
        while row := self._one(
            "SELECT target FROM files INDEXED BY files_queue"
            " WHERE state = 'queued' AND upload IS NULL AND target > ? ORDER BY target LIMIT 1",
            (last,),
        ):
            last = row["target"]
            yield last


_WAITING = frozenset({"settling", "queued", "deferred", "held"})


def bring_near(db: sqlite3.Connection, latest_due_s: float) -> None:
    """Let no file wait beyond a time; those that wait for an hour's bandwidth may."""
    for watch, state in _pairs(db):
        db.execute(
            "UPDATE files SET due = ? WHERE watch = ? AND state = ? AND due > ?"
            " AND reason_code NOT LIKE '%.deadline'",
            (latest_due_s, watch, state, latest_due_s),
        )


def _pairs(db: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Each watch and state in which a file has a due time, of any folder there ever was."""
    last = ("", "")
    while row := db.execute(
        "SELECT watch, state FROM files INDEXED BY files_turn"
        " WHERE due IS NOT NULL AND (watch, state) > (?, ?) ORDER BY watch, state LIMIT 1",
        last,
    ).fetchone():
        last = (row[0], row[1])
        yield last


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))
