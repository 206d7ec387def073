"""The journal's file: where it lies, what of it outlives a death, and a disk that gets full."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from uploaderd.journal import Journal

if TYPE_CHECKING:
    from random import Random
    from types import TracebackType
    from typing import Self

FULL = 2  # PRAGMA synchronous
NAME = "journal.sqlite3"
TABLES = ("files", "uploads", "parts")
UNSTEADY = frozenset({"version", "updated", "due"})  # recovering twice may move these on


class JournalFile:
    """Gives each life a journal that holds what the one before had made durable."""

    def __init__(self, rng: Random) -> None:
        memory = Path("/dev/shm")  # noqa: S108 - a RAM disk, where there is one
        self._root = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self._rng = rng
        self._lives = 0
        self._durable_bytes: int | None = None
        self.journal: Journal | None = None
        self.weak: list[str] = []

    def __enter__(self) -> Self:
        """Nothing is opened yet."""
        (self._root / "0").mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave nothing behind."""
        if self.journal is not None:
            self.journal.close()
        shutil.rmtree(self._root, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return self._root / str(self._lives)

    def new(self) -> Journal:
        """A journal that is still to be opened."""
        self.journal = Journal(self._folder / NAME)
        return self.journal

    def opened(self) -> None:
        """Ask the connection what its commits are worth."""
        assert self.journal is not None
        connection = self.journal.connection
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
        self._durable_bytes = None
        if (mode, synchronous) != ("wal", FULL):
            self.weak.append(f"durability: {mode} with synchronous={synchronous}")
            wal = self._folder / (NAME + "-wal")
            self._durable_bytes = wal.stat().st_size if wal.exists() else 0

    def room(self, *, there: bool) -> None:
        """Let the database's disk be full, or not any more."""
        if self.journal is None or self.journal._connection is None:
            return
        connection = self.journal.connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        limit = 1 << 30 if there else pages
        connection.execute(f"PRAGMA max_page_count = {limit}")

    def killed(self, *, power: bool) -> None:
        """Take over what a dead process left; without power only what was synced."""
        assert self.journal is not None
        old, self._lives = self._folder, self._lives + 1
        self._folder.mkdir()
        for name in (NAME, NAME + "-wal"):
            if (old / name).exists():
                shutil.copyfile(old / name, self._folder / name)
        self.journal.close()
        self.journal = None
        shutil.rmtree(old)
        wal = self._folder / (NAME + "-wal")
        if not power or not wal.exists():
            return
        if self._durable_bytes is not None:
            with wal.open("r+b") as file:
                file.truncate(min(self._durable_bytes, wal.stat().st_size))
        elif self._rng.random() < 0.5:  # a commit that was being written
            with wal.open("ab") as file:
                file.write(self._rng.randbytes(self._rng.randrange(1, 5_000)))

    def dump(self) -> list[tuple[object, ...]]:
        """The three tables, but for what may move on by itself."""
        assert self.journal is not None
        found: list[tuple[object, ...]] = []
        for table in TABLES:
            rows = self.journal.connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")  # noqa: S608
            found += [
                (table, *(row[key] for key in row.keys() if key not in UNSTEADY))  # noqa: SIM118
                for row in rows
            ]
        return found
