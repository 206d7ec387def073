"""Group commit: what waits for the journal at the same time shares one transaction and one sync.

Each method still is a transaction of its own to whoever wrote it. Nobody is told anything before
the commit, so to those who wait there is no difference but the time. A method that fails after it
has written is rare, and undoing it alone needs a savepoint around each (sqlite.org,
"lang_savepoint"), whose two statements are a good part of what a method costs: so the group is
done without them, and only if one has to be undone, all of it is undone and done again with them.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uploaderd.errors import JournalError
from uploaderd.journal.damage import DamagedError, fault
from uploaderd.journal.store import Store, roll_back

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from functools import partial


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one call ended: what it returned, or what it raised."""

    value: Any = None
    error: Exception | None = None


def each(calls: Sequence[partial[Any]]) -> list[Outcome]:
    """Make the calls one after the other; ``Together.together`` for those who have no journal."""
    return [_outcome(call) for call in calls]


class Together(Store):
    """A store whose methods can be called together.

    A method may be called twice for one call that was made, with nothing kept of the first time:
    it is a function of its arguments and of the database.
    """

    _grouping = False
    _begun = False  # the group's transaction
    _careful = False  # each method in a savepoint
    _undone = False  # one that had written failed, and had no savepoint
    _refused: sqlite3.Error | None = None  # why none could begin: each would wait as long for it

    def together(self, calls: Sequence[partial[Any]]) -> list[Outcome]:
        """Make the calls in their order, with one commit for as many as may share it.

        If that commit fails nothing of the group was kept, and each call of it that came after the
        transaction had begun fails: also what was only read may have been what is gone.
        """
        outcomes: list[Outcome] = []
        while len(outcomes) < len(calls):
            call = calls[len(outcomes)]
            if len(calls) == 1 or getattr(call.func, "alone", False):
                outcomes.append(_outcome(call))
            else:
                outcomes += self._group(calls[len(outcomes) :])
        return outcomes

    def _group(self, calls: Sequence[partial[Any]]) -> list[Outcome]:
        """Make calls up to one that is to be alone, or whose trouble ended the transaction."""
        self._grouping, self._begun, self._undone, self._refused = True, False, False, None
        try:
            outcomes, first = self._go_through(calls)
            if self._undone:
                self._careful = True
                outcomes, first = self._go_through(calls[: len(outcomes)])
            if self._begun:
                self._commit(outcomes, first)
            return outcomes
        finally:
            self._grouping = self._careful = False
            if self._begun:
                self._begun = False
                roll_back(self.connection)

    def _go_through(self, calls: Sequence[partial[Any]]) -> tuple[list[Outcome], int]:
        """Make the calls; return also which of them was the first to write."""
        outcomes: list[Outcome] = []
        first = 0
        for call in calls:
            if getattr(call.func, "alone", False):
                break
            read_only = not self._begun
            outcomes.append(_outcome(call))
            if read_only and self._begun:
                first = len(outcomes) - 1
            if self._undone and not self._careful:
                roll_back(self.connection)
                self._begun = False
                break
            if self._begun and not self.connection.in_transaction:  # SQLite has ended it by itself
                self._begun = False
                self._fail(outcomes, first, outcomes[-1].error)
                break
        return outcomes, first

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """As ``Store.transaction``; inside a group nothing is durable before the group is."""
        if not self._grouping:
            with super().transaction() as db:
                yield db
            return
        connection = self.connection
        if self._refused is not None:
            raise fault(self.path, self._refused, "written") from self._refused
        try:
            if not self._begun:
                roll_back(connection)
                connection.execute("BEGIN IMMEDIATE")
                self._begun = True
                self._began()
        except sqlite3.Error as error:
            self._refused = error
            roll_back(connection)
            raise fault(self.path, error, "written") from error
        mark, changes = self._marked(), connection.total_changes
        try:
            if self._careful:
                connection.execute("SAVEPOINT one")
            yield connection
            if self._careful:
                connection.execute("RELEASE one")
        except BaseException as error:
            self._forget(mark)
            self._take_back(connection, changed=connection.total_changes != changes)
            if isinstance(error, sqlite3.Error):
                raise fault(self.path, error, "written") from error
            raise

    def _take_back(self, connection: sqlite3.Connection, *, changed: bool) -> None:
        """Undo what one method wrote, or see to it that it is undone with all the others."""
        if not connection.in_transaction:
            return
        if not self._careful:
            self._undone = self._undone or changed
            return
        try:
            connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
        except sqlite3.Error:
            roll_back(connection)

    def _commit(self, outcomes: list[Outcome], first: int) -> None:
        try:
            with self.measure():
                self.connection.execute("COMMIT")
            self._begun = False
            self._committed()
        except sqlite3.Error as error:
            roll_back(self.connection)
            self._begun = False
            self._fail(outcomes, first, error)

    def _fail(self, outcomes: list[Outcome], first: int, why: Exception | None) -> None:
        """Let all fail that was done in a transaction that is gone."""
        for index in range(first, len(outcomes)):
            if isinstance(outcomes[index].error, DamagedError):
                continue
            error = self._lost(why)
            error.__cause__ = why
            outcomes[index] = Outcome(error=error)

    def _lost(self, why: Exception | None) -> JournalError:
        if isinstance(why, sqlite3.Error):
            return fault(self.path, why, "written")
        if isinstance(why, JournalError):
            return JournalError(str(why), hint=why.hint)
        return JournalError(f"the journal {self.path} cannot be written: its transaction was ended")


def _outcome(call: partial[Any]) -> Outcome:
    try:
        return Outcome(value=call())
    except Exception as error:  # noqa: BLE001 - it is for whoever made the call
        return Outcome(error=error)
