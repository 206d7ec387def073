"""The schema and its versions; a journal of an older version is brought up to date."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib.resources import files
from typing import TYPE_CHECKING

from uploaderd.journal.seal import part_seal

if TYPE_CHECKING:
    from collections.abc import Iterator

# Step n takes a journal from version n to n + 1; each runs in one transaction with its version.
MIGRATIONS = (
    "schema.sql",
    "v2_seals.sql",
    "v3_settings_and_queue.sql",
    "v4_errands_and_retention.sql",
    "v5_turns.sql",
)
SCHEMA_VERSION = len(MIGRATIONS)

Shape = dict[tuple[str, str], tuple[str, ...]]


def migrate(connection: sqlite3.Connection, step: int) -> None:
    """Take one step, in the transaction that the caller has begun."""
    connection.create_function("part_seal", 6, part_seal, deterministic=True)
    script = files("uploaderd.journal").joinpath(MIGRATIONS[step]).read_text("utf-8")
    for statement in _statements(script):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {step + 1}")


def shape(connection: sqlite3.Connection) -> Shape:
    """Every table and index by kind and name, with its columns in their order."""
    there = connection.execute(
        "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).fetchall()
    return {
        (kind, name): tuple(
            str(column[0])
            for column in connection.execute(f"SELECT name FROM pragma_{kind}_info(?)", (name,))
        )
        for kind, name in there
        if kind in {"table", "index"}
    }


def shape_of(version: int) -> Shape:
    """What a journal of this version is made of."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for step in range(version):
            migrate(connection, step)
        return shape(connection)


def _statements(script: str) -> Iterator[str]:
    """Cut a script into statements: executescript would commit behind our back."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
