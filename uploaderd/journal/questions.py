"""What may be asked; nothing here writes."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from uploaderd.core.report import Moment, Progress
from uploaderd.journal.damage import fault
from uploaderd.journal.rows import to_file, to_part, to_upload
from uploaderd.journal.store import Store, alone

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from uploaderd.core.model import File, Part, Upload

ENDED = "('done', 'failed', 'cancelled')"
# Files of a folder that is no longer watched stay in the journal, untouched and uncounted.
# The plus keeps SQLite from reading all of a watch for it (sqlite.org/optoverview.html, "Unary").
WATCHED = "+watch IN (SELECT path FROM watched)"


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


class Questions(Store):
    """The journal's reading side.

    Attributes:
        watched: the folders that are watched now.
    """

    watched: tuple[str, ...] = ()

    def _all(
        self, query: str, values: tuple[object, ...] | dict[str, object] = ()
    ) -> list[sqlite3.Row]:
        try:
            return self.connection.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeError) as error:
            raise fault(self.path, error, "read") from error

    def _one(
        self, query: str, values: tuple[object, ...] | dict[str, object] = ()
    ) -> sqlite3.Row | None:
        rows = self._all(query, values)
        return rows[0] if rows else None

    @staticmethod
    def _latest(db: sqlite3.Connection, watch: str, path: bytes) -> File | None:
        row = db.execute(
            "SELECT * FROM files WHERE watch = ? AND path = ? ORDER BY"
            f" (filing = 'pending' OR state NOT IN {ENDED}) DESC, created DESC, id DESC",
            (watch, path),
        ).fetchone()
        return None if row is None else to_file(row)

    @alone
    def watch(self, paths: Iterable[str]) -> None:
        """Say which folders are watched now; the other questions speak of those only."""
        names = tuple(sorted(paths))
        with self.transaction() as db:
            db.execute("CREATE TEMP TABLE IF NOT EXISTS watched (path TEXT PRIMARY KEY)")
            db.execute("DELETE FROM watched")
            db.executemany("INSERT INTO watched VALUES (?)", [(path,) for path in names])
        self.watched = names

    def file(self, file_id: str) -> File | None:
        """The file of this id."""
        row = self._one("SELECT * FROM files WHERE id = ?", (file_id,))
        return None if row is None else to_file(row)

    @staticmethod
    def _at_work_by_inode(db: sqlite3.Connection, watch: str, dev: int, inode: int) -> list[File]:
        rows = db.execute(
            "SELECT * FROM files WHERE watch = ? AND inode = ? AND dev = ?"
            f" AND (filing = 'pending' OR state NOT IN {ENDED}) ORDER BY created, id",
            (watch, str(inode), dev),
        )
        return [to_file(row) for row in rows]

    def interrupted(self) -> list[File]:
        """What a stopped daemon left in the middle: to be recovered one by one.

        What only waits for its time is not: there may be very many, and it has one.
        """
        rows = self._all(
            "SELECT * FROM files WHERE (state IN ('uploading', 'completing', 'uncertain')"
            " OR (state = 'queued' AND upload IS NOT NULL))"
            f" AND {WATCHED}"
        )
        return [to_file(row) for row in rows]

    def waiting_in(self, watch: str, after: str, limit: int) -> list[File]:
        """Deferred and held files of a watch, by id: removals that no event told of are noticed."""
        rows = self._all(
            "SELECT * FROM files INDEXED BY files_waiting"
            " WHERE watch = ? AND state IN ('deferred', 'held') AND id > ?"
            " ORDER BY id LIMIT ?",
            (watch, after, limit),
        )
        return [to_file(row) for row in rows]

    def held_elsewhere(self, targets: Iterable[str], codes: Iterable[str]) -> list[File]:
        """Files held by the trouble of a target that is none of these."""
        known, wanted = tuple(targets), tuple(codes)
        rows = self._all(
            f"SELECT * FROM files WHERE state = 'held' AND {WATCHED}"
            f" AND target NOT IN ({', '.join('?' * len(known))})"
            f" AND reason_code IN ({', '.join('?' * len(wanted))})",
            (*known, *wanted),
        )
        return [to_file(row) for row in rows]

    def upload(self, key: str) -> Upload | None:
        """The session of this key."""
        row = self._one("SELECT * FROM uploads WHERE key = ?", (key,))
        return None if row is None else to_upload(row)

    def session(self, key: str) -> tuple[Upload | None, list[Part]]:
        """The session of this key, and its parts in order."""
        return self.upload(key), self.parts(key)

    def knows_upload(self, target: str, remote_id: str) -> bool:
        """Whether a session bears this id of the service's already."""
        return bool(
            self._all(
                "SELECT 1 FROM uploads WHERE target = ? AND remote_id = ?", (target, remote_id)
            )
        )

    def cancelling(self, limit: int, targets: Iterable[str]) -> list[Upload]:
        """Abandoned sessions of these targets that are still to be cancelled."""
        names = tuple(targets)
        rows = self._all(
            "SELECT * FROM uploads WHERE state = 'cancelling'"
            f" AND target IN ({_marks(names)}) ORDER BY created LIMIT ?",
            (*names, limit),
        )
        return [to_upload(row) for row in rows]

    def cancelling_elsewhere(self, limit: int, targets: Iterable[str]) -> list[Upload]:
        """Abandoned sessions of targets that are none of these, the oldest first."""
        names = tuple(targets)
        rows = self._all(
            "SELECT * FROM uploads WHERE state = 'cancelling'"
            f" AND target NOT IN ({_marks(names)}) ORDER BY created LIMIT ?",
            (*names, limit),
        )
        return [to_upload(row) for row in rows]

    def open_sessions(self, targets: Iterable[str]) -> list[tuple[Upload, int]]:
        """Sessions of these targets that are being filled, each with its bytes still to store."""
        names = tuple(targets)
        rows = self._all(
            "SELECT u.*, (SELECT coalesce(sum(p.length), 0) FROM parts p WHERE p.upload = u.key"
            " AND p.state <> 'stored') AS left FROM uploads u CROSS JOIN files f ON f.id = u.file"
            " WHERE u.state = 'open' AND f.upload = u.key"
            " AND f.state IN ('uploading', 'deferred', 'queued')"
            f" AND f.target IN ({', '.join('?' * len(names))})"
            " AND f.watch IN (SELECT path FROM watched)",
            names,
        )
        return [(to_upload(row), int(row["left"])) for row in rows]

    def last_arrivals(self, among: int = 200) -> dict[str, float]:
        """When a file last arrived, by target, as far as it is ``among`` the last that ended."""
        rows = self._all(
            "SELECT target, max(finished) AS at FROM (SELECT target, state, finished FROM files"
            " INDEXED BY files_ended WHERE filing = 'filed' OR state = 'cancelled'"
            " ORDER BY updated DESC LIMIT ?)"
            " WHERE state = 'done' AND finished IS NOT NULL GROUP BY target",
            (among,),
        )
        return {row["target"]: row["at"] for row in rows}

    def waits_for(self, target: str) -> bool:
        """Whether any file will ask something of this target by itself."""
        return bool(
            self._all(
                "SELECT 1 FROM files WHERE state IN ('queued', 'uploading', 'completing',"
                f" 'deferred', 'uncertain') AND target = ? AND {WATCHED} LIMIT 1",
                (target,),
            )
        )

    def setting(self, name: str) -> str | None:
        """What the operator said about ``name``, or None."""
        row = self._one("SELECT value FROM settings WHERE name = ?", (name,))
        return None if row is None else str(row["value"])

    def parts(self, upload: str) -> list[Part]:
        """The parts of a session, in order."""
        rows = self._all("SELECT * FROM parts WHERE upload = ? ORDER BY number", (upload,))
        return [to_part(row) for row in rows]

    def progress(self, upload: str) -> Progress:
        """How far a session is."""
        row = self._one(
            "SELECT count(*) AS total, coalesce(sum(state = 'stored'), 0) AS stored,"
            " coalesce(sum(state = 'in_flight'), 0) AS in_flight,"
            " coalesce(sum(CASE WHEN state = 'stored' THEN length ELSE 0 END), 0) AS bytes"
            " FROM parts WHERE upload = ?",
            (upload,),
        )
        if row is None:
            return Progress()
        return Progress(
            total=row["total"],
            stored=row["stored"],
            in_flight=row["in_flight"],
            bytes_stored=row["bytes"],
        )

    def known_remote(self, target: str, filename: str) -> frozenset[str]:
        """The service's file ids that belong to files already, as far as this name goes."""
        rows = self._all(
            "SELECT f.remote_file AS id FROM files f JOIN uploads u ON u.key = f.upload"
            " WHERE f.target = ? AND u.filename = ? AND f.remote_file IS NOT NULL",
            (target, filename),
        )
        return frozenset(row["id"] for row in rows)

    def twin_in_doubt(self, file: str, upload: Upload) -> bool:
        """Whether another file of this name and purpose may have arrived at its target.

        Whatever its size: the service need not tell that (protocol notes, "Objects").
        """
        return bool(
            self._all(
                "SELECT 1 FROM files f JOIN uploads u ON u.key = f.upload"
                " WHERE f.state IN ('completing', 'uncertain') AND f.id <> ? AND f.target = ?"
                " AND u.filename = ? AND u.purpose = ?"
                " AND f.watch IN (SELECT path FROM watched) LIMIT 1",
                (file, upload.target, upload.filename, upload.purpose),
            )
        )

    def owner_of(self, target: str, remote_file: str) -> File | None:
        """The file that arrived as this one of the service's."""
        row = self._one(
            "SELECT * FROM files WHERE target = ? AND remote_file = ?"
            " AND reason_code <> 'done.already_uploaded'",
            (target, remote_file),
        )
        return None if row is None else to_file(row)

    def uploaded_content(
        self, watch: str, path: bytes, size: int, md5: str | None = None
    ) -> File | None:
        """A file of this watch that arrived with this size, and this md5 where one is given.

        One that was at this very path comes first.
        """
        row = self._one(
            "SELECT * FROM files WHERE watch = ? AND state = 'done' AND size = ?"
            " AND (? IS NULL OR md5 = ?) ORDER BY path = ? DESC, created LIMIT 1",
            (watch, size, md5, md5, path),
        )
        return None if row is None else to_file(row)

    def history(self, file_id: str) -> list[Moment]:
        """What happened to a file, in order."""
        rows = self._all("SELECT * FROM events WHERE file = ? ORDER BY seq", (file_id,))
        return [
            Moment(
                at_s=row["at"],
                event=row["event"],
                state=row["state"],
                code=row["code"],
                text=row["text"],
            )
            for row in rows
        ]

    def requests(self, file_id: str) -> list[dict[str, object]]:
        """Every attempt for a file: its X-Client-Request-Id, call, part, time and outcome."""
        rows = self._all(
            "SELECT id, call, part, at, outcome FROM requests WHERE file = ? ORDER BY at, id",
            (file_id,),
        )
        return [dict(row) for row in rows]
