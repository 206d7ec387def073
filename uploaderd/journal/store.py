"""The SQLite file itself: making, opening, setting aside, transactions."""

from __future__ import annotations

import os
import sqlite3
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from uploaderd.errors import JournalError, NewerJournalError, UploaderdError
from uploaderd.journal.damage import damaged, fault, is_well
from uploaderd.journal.inspection import THOROUGH_BYTES, inspect
from uploaderd.journal.schema import SCHEMA_VERSION, migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

F = TypeVar("F", bound="Callable[..., Any]")

OLDEST_SQLITE = (3, 37, 0)  # STRICT tables
BUSY_MS = 5_000
LOG_BYTES = 16 << 20  # of the log, before it is worked in; what a long reader adds is given back

# Every journal is made in WAL mode before it gets its name, so these bytes never differ
# (sqlite.org/fileformat2.html, "The Database Header").
HEADER_BYTES = 100
MAGIC = b"SQLite format 3\0"
WAL_MODE = b"\x02\x02"
SIBLINGS = ("-wal", "-shm", "-journal")


class StaleError(UploaderdError):
    """The row went on meanwhile: read it again and decide again."""


def alone(method: F) -> F:
    """Mark a method that shares its transaction with no other: it says what is durable."""
    method.__dict__["alone"] = True
    return method


class Store:
    """One SQLite database in WAL mode with synchronous=FULL: a commit that returned is durable.

    With WAL and FULL each commit syncs the log (sqlite.org/pragma.html#pragma_synchronous).

    Args:
        path: the database's.
        thorough_bytes: up to this size it is looked through whole at each opening.

    Attributes:
        measure: makes what is entered around each commit, on the journal's thread.
    """

    def __init__(self, path: Path, *, thorough_bytes: int = THOROUGH_BYTES) -> None:
        self.path = path
        self.measure: Callable[[], AbstractContextManager[object]] = nullcontext
        self._thorough_bytes = thorough_bytes
        self._connection: sqlite3.Connection | None = None

    @alone
    def open(self) -> None:
        """Open or make the database, look it through, and bring its schema up to date.

        Raises:
            DamagedError: what is there is no journal any more; ``set_aside`` is for that.
            JournalError: it cannot be read or written, or is from a newer version; it is left
                as it is.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise JournalError(
                f"SQLite {sqlite3.sqlite_version} is too old for the journal",
                hint="use a Python that is built with SQLite 3.37 or newer",
            )
        try:
            self._look_at_file()
            self._connection = _connect(self.path)
            self._prepare(self._connection)
            self._suspicion.unlink(missing_ok=True)
            _sync_folder(self.path.parent)
        except JournalError:
            self.close()
            raise
        except (sqlite3.Error, OSError, MemoryError, UnicodeError) as error:
            self.close()
            raise fault(self.path, error, "opened") from error

    @alone
    def close(self) -> None:
        """Close the database; a second call does nothing."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @alone
    def suspect(self) -> None:
        """Have the next opening look the whole journal through, however big it is."""
        with suppress(OSError):
            self._suspicion.touch()

    @alone
    def set_aside(self, stamp: str) -> Path:
        """Give a damaged journal another name, with all that belongs to it; return that name.

        Raises:
            JournalError: it cannot be renamed.
        """
        self.close()
        try:
            kept = named = _beside(self.path, f".damaged-{stamp}")
            number = 1
            while any(os.path.lexists(_beside(kept, end)) for end in ("", *SIBLINGS)):
                number += 1
                kept = _beside(named, f"-{number}")
            # The database first: without it the rest is never taken for a journal.
            for end in ("", *SIBLINGS):
                with suppress(FileNotFoundError):
                    _beside(self.path, end).rename(_beside(kept, end))
            self._suspicion.unlink(missing_ok=True)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise fault(self.path, error, "set aside") from error
        return kept

    @alone
    def prove(self) -> None:
        """Write for the sake of writing.

        Raises:
            JournalError: nothing can be written still.
        """
        with self.transaction() as db:
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        is_well(self.path)

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection."""
        if self._connection is None:
            raise JournalError(f"the journal {self.path} is not open")
        return self._connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block as one transaction, durable once the block has ended.

        Raises:
            JournalError: the disk is full, the database damaged or a constraint broken; nothing
                of the block was kept, and the next transaction may be tried.
        """
        connection = self.connection
        roll_back(connection)
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._began()
            yield connection
            with self.measure():
                connection.execute("COMMIT")
            self._committed()
        except sqlite3.Error as error:
            roll_back(connection)
            raise fault(self.path, error, "written") from error
        except BaseException:
            roll_back(connection)
            raise

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Take back what the block wrote where its row went on meanwhile; all else is kept."""
        mark = self._marked()
        self.connection.execute("SAVEPOINT step")
        try:
            yield
        except StaleError:
            self._forget(mark)
            self.connection.execute("ROLLBACK TO step")
            self.connection.execute("RELEASE step")
            raise
        self.connection.execute("RELEASE step")

    def _began(self) -> None:
        """A transaction has begun: what is counted along begins anew."""

    def _committed(self) -> None:
        """What was counted along is so now; nothing in here may fail."""

    def _marked(self) -> int:
        """How much was counted along so far."""
        return 0

    def _forget(self, mark: int) -> None:
        """What was counted along since then was taken back."""

    @property
    def _suspicion(self) -> Path:
        return _beside(self.path, ".suspect")

    def _look_at_file(self) -> None:
        """Make the journal if there is none; refuse what SQLite would take for an empty one."""
        try:
            # For writing too: SQLite itself would go on read-only, and leave logs that are so.
            with self.path.open("r+b") as file:
                header = file.read(HEADER_BYTES)
        except FileNotFoundError:
            for end in ("-wal", "-journal"):
                if os.path.lexists(_beside(self.path, end)):
                    raise damaged(f"{self.path} is gone, but its {end} is there") from None
            self._make()
            return
        if header[: len(MAGIC)] != MAGIC or header[18:20] != WAL_MODE:
            raise damaged(f"{self.path} does not begin as a journal does")

    def _make(self) -> None:
        """Make an empty journal under another name, so that what bears its name is always whole."""
        made = _beside(self.path, ".new")
        for end in ("", *SIBLINGS):
            _beside(made, end).unlink(missing_ok=True)
        with closing(_connect(made)) as connection:
            _migrate(connection, 0)
        made.rename(self.path)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise NewerJournalError(
                f"the journal {self.path} is from a newer uploaderd "
                f"(schema {version}, this one knows {SCHEMA_VERSION})",
                hint="install that version again, or name another daemon.state_dir",
            )
        if version < 1:
            raise damaged(f"its version is {version}")
        thorough = self._suspicion.exists() or self.path.stat().st_size <= self._thorough_bytes
        inspect(connection, version, thorough=thorough)
        _migrate(connection, version)
        try:
            self.prove()  # one that may only be read is refused now
        except JournalError as error:
            if getattr(error.__cause__, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
                raise  # a full disk is waited for, with the status socket there to say so


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000
    )
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        pages = int(connection.execute("PRAGMA page_size").fetchone()[0])
        connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // pages}")
        connection.execute("PRAGMA temp_store = MEMORY")  # /tmp may be full, or not ours
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    for step in range(version, SCHEMA_VERSION):
        connection.execute("BEGIN IMMEDIATE")
        try:
            migrate(connection, step)
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise


def roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction, if one is open; some errors of SQLite's have ended it already."""
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _sync_folder(path: Path) -> None:
    """Make a name in a folder durable (fsync(2): a new file's entry needs its own)."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
