"""What a person or a program looks at: pages of files, each with all that its document tells.

``Reader`` asks on a connection of its own. In WAL mode a reader neither waits for a writer nor
holds one up (sqlite.org/wal.html, "Concurrency"): a commit that syncs delays no answer, and who
leafs through 200,000 files delays no upload.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING
from urllib.parse import quote

from uploaderd.core.model import FileState
from uploaderd.core.report import Progress
from uploaderd.journal.damage import fault
from uploaderd.journal.questions import Questions
from uploaderd.journal.rows import to_file, to_upload
from uploaderd.journal.store import BUSY_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from uploaderd.core.model import File, Upload
    from uploaderd.core.selection import Selection

AT_ONCE = 500  # ids in one statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A file with its session and how far that is."""

    file: File
    upload: Upload | None = None
    progress: Progress = field(default_factory=Progress)


class Looking(Questions):
    """Questions of those who look on."""

    def page(
        self, wanted: Selection, *, limit: int, after: tuple[float, str] | None
    ) -> list[Sight]:
        """Files from the newest to the oldest, beginning behind ``after`` (created, id).

        The reasons of queued files are not looked at: what they are shown with is not kept here.
        """
        found = chain.from_iterable(
            self._page_of(state, wanted, limit, after) for state in wanted.states or (None,)
        )
        newest = sorted(found, key=lambda file: (file.created_s, file.id), reverse=True)
        return self._sights(newest[:limit])

    def sights(self, ids: Iterable[str]) -> dict[str, Sight]:
        """The files of these ids, as far as they are known."""
        rows = self._among("SELECT * FROM files WHERE id IN ({})", ids)
        return {sight.file.id: sight for sight in self._sights(list(map(to_file, rows)))}

    def uploads(self, keys: Iterable[str]) -> dict[str, Upload]:
        """The sessions of these keys."""
        rows = self._among("SELECT * FROM uploads WHERE key IN ({})", keys)
        return {upload.key: upload for upload in map(to_upload, rows)}

    def _page_of(
        self, state: str | None, wanted: Selection, limit: int, after: tuple[float, str] | None
    ) -> list[File]:
        """One state's page: with its index nobody reads 200,000 files to find three."""
        terms: list[str] = []
        values: list[object] = []

        def want(term: str, *these: object) -> None:
            terms.append(term)
            values.extend(these)

        if state is not None:
            want("state = ?", state)
        if wanted.path is not None:
            want("watch = ? AND path = ?", wanted.watch, wanted.path)
        elif wanted.watch is not None:
            want("+watch = ?", wanted.watch)
        if wanted.target is not None:
            want("+target = ?", wanted.target)
        if wanted.code is not None:
            alike = f"{wanted.code}.*"  # no code holds a character that GLOB knows
            want(
                f"(state = '{FileState.QUEUED}' OR reason_code = ? OR reason_code GLOB ?)",
                wanted.code,
                alike,
            )
        want("(created, id) < (?, ?)", *(after or (float("inf"), "")))
        rows = self._all(
            f"SELECT * FROM files WHERE {' AND '.join(terms)}"
            " ORDER BY created DESC, id DESC LIMIT ?",
            (*values, limit),
        )
        return [to_file(row) for row in rows]

    def _sights(self, files: Sequence[File]) -> list[Sight]:
        keys = [file.upload for file in files if file.upload is not None]
        uploads = self.uploads(keys)
        progress = {
            row["upload"]: Progress(
                total=row["total"],
                stored=row["stored"],
                in_flight=row["in_flight"],
                bytes_stored=row["bytes"],
            )
            for row in self._among(
                "SELECT upload, count(*) AS total, sum(state = 'stored') AS stored,"
                " sum(state = 'in_flight') AS in_flight,"
                " sum(CASE WHEN state = 'stored' THEN length ELSE 0 END) AS bytes"
                " FROM parts WHERE upload IN ({}) GROUP BY upload",
                keys,
            )
        }
        return [
            Sight(
                file=file,
                upload=uploads.get(file.upload or ""),
                progress=progress.get(file.upload or "", Progress()),
            )
            for file in files
        ]

    def _among(self, query: str, keys: Iterable[str]) -> list[sqlite3.Row]:
        wanted = list(dict.fromkeys(keys))
        rows: list[sqlite3.Row] = []
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            rows += self._all(query.format(", ".join("?" * len(some))), tuple(some))
        return rows


def read_only(questions: Questions) -> sqlite3.Connection:
    """Open a connection that cannot write, on a journal that is open already."""
    path = questions.path
    try:
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(path.absolute()))}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_MS / 1000,
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cell_size_check = ON")
    except (sqlite3.Error, OSError) as error:
        raise fault(path, error, "opened") from error
    return connection
