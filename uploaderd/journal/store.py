"""The SQLite file itself: opening, migrating, transactions."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING

from uploaderd.errors import JournalError, UploaderdError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_VERSION = 1
OLDEST_SQLITE = (3, 37, 0)  # STRICT tables
BUSY_MS = 5_000


class StaleError(UploaderdError):
    """The row went on meanwhile: read it again and decide again."""


def _schema() -> str:
    return files("uploaderd.journal").joinpath("schema.sql").read_text("utf-8")


# Step n takes a journal from version n to n + 1; each runs in one transaction with its version.
MIGRATIONS = (_schema,)


class Store:
    """One SQLite database in WAL mode with synchronous=FULL: a commit that returned is durable.

    With WAL and FULL each commit syncs the log (sqlite.org/pragma.html#pragma_synchronous).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open or make the database and bring its schema up to date.

        Raises:
            JournalError: it cannot be opened, is damaged, or is from a newer version.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise JournalError(
                f"SQLite {sqlite3.sqlite_version} is too old for the journal",
                hint="use a Python that is built with SQLite 3.37 or newer",
            )
        try:
            connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000
            )
            connection.row_factory = sqlite3.Row
            self._connection = connection
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._migrate(connection)
            self._sync_folder()
        except JournalError:
            self.close()
            raise
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise JournalError(
                f"the journal {self.path} cannot be used: {error}",
                hint="check its folder's permissions and free space; if the file is damaged, "
                "move it away: the files in the spool are then uploaded from the start",
            ) from error

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

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
                of the block was kept.
        """
        connection = self.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise JournalError(
                f"the journal {self.path} cannot be written: {error}",
                hint="free some space or mend the disk; work goes on by itself after that",
            ) from error

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise JournalError(
                f"the journal {self.path} is from a newer uploaderd "
                f"(schema {version}, this one knows {SCHEMA_VERSION})",
                hint="install that version again, or name another daemon.state_dir",
            )
        for step in range(version, SCHEMA_VERSION):
            with self.transaction():
                for statement in _statements(MIGRATIONS[step]()):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {step + 1}")

    def _sync_folder(self) -> None:
        """Make the database's own name durable (fsync(2): a new file's entry needs its own)."""
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _statements(script: str) -> Iterator[str]:
    """Cut a script into statements: executescript would commit behind our back."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
