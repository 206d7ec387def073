"""What may be written; one transaction a method."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from uploaderd.core.lifecycle import Begun
from uploaderd.core.model import File, Part, PartState, Upload, UploadState
from uploaderd.core.values import replace
from uploaderd.journal import turns, writing
from uploaderd.journal.configured import Configured
from uploaderd.journal.counting import Counting
from uploaderd.journal.errands import Errands, owe
from uploaderd.journal.following import Following
from uploaderd.journal.retention import Retention
from uploaderd.journal.rows import upload_values
from uploaderd.journal.store import StaleError
from uploaderd.journal.together import Together
from uploaderd.journal.writing import Leaving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from uploaderd.core.lifecycle import Decision
    from uploaderd.core.model import Identity
    from uploaderd.core.plan import Range
    from uploaderd.journal.errands import Command

    Verdict = File | Begun | tuple[File, Decision] | None


class Journal(Together, Counting, Following, Configured, turns.Turns, Errands, Retention):
    """The daemon's memory; what a method returned is durable.

    Every method raises ``JournalError`` when the disk or the database refuses, and then nothing
    of it was kept; those that go on from a file raise ``StaleError`` when its row went on since
    it was read.
    """

    def intake(
        self,
        watch: str,
        paths: Mapping[bytes, Identity | None],
        judge: Callable[[File | None, bytes, Sequence[File]], Verdict],
    ) -> list[File]:
        """Let ``judge`` decide about each path, and keep what it says.

        It is given the newest file at the path, the path, and the files at work elsewhere in the
        watch with the inode that stands there now. It returns a new file, one that was looked at
        already, a file with a decision about it, or None for nothing to do.
        """
        kept = []
        with self.transaction() as db:
            for path, identity in paths.items():
                others: list[File] = []
                if identity is not None:
                    others = self._at_work_by_inode(db, watch, identity.dev, identity.inode)
                verdict = judge(self._latest(db, watch, path), path, others)
                if isinstance(verdict, File):
                    kept.append(writing.insert_file(db, verdict))
                elif isinstance(verdict, Begun):
                    kept.append(writing.insert_begun(db, verdict))
                elif verdict is not None:
                    kept.append(writing.record(db, *verdict, "sighted"))
        return kept

    def record(
        self, before: File, decision: Decision, event: str, owed: Iterable[Command] | None = None
    ) -> File:
        """Keep one transition: the file, its session's state, its history, the cancel's intent.

        ``owed`` are the commands of the hooks that wait for this very transition, or None.
        """
        with self.transaction() as db:
            after = writing.record(db, before, decision, event)
            owe(db, after, owed)
            return after

    def record_all(self, steps: Iterable[tuple[File, Decision, str]]) -> list[File | None]:
        """Keep many transitions of files that owe nobody a hook; None for one that went on."""
        kept: list[File | None] = []
        with self.transaction() as db:
            for before, decision, event in steps:
                try:
                    if decision.abandon is None and not decision.cut_off:
                        kept.append(writing.record(db, before, decision, event))
                        continue
                    with self.savepoint():  # it writes before it knows whether the file went on
                        kept.append(writing.record(db, before, decision, event))
                except StaleError:
                    kept.append(None)
        return kept

    def assembled(
        self, before: File, decision: Decision, upload: Upload, request_id: str, at_s: float
    ) -> File | None:
        """Keep the intent of a complete and that its request is about to leave.

        None: another file of its name is in doubt at the target, and nothing was kept.
        """
        with self.transaction() as db:
            if self.twin_in_doubt(before.id, upload):
                return None
            after = writing.record(db, before, decision, "assembled")
            writing.request(db, request_id, before.id, "complete", at_s, upload=upload.key)
            return after

    def request(
        self,
        request_id: str,
        file: str,
        call: str,
        at_s: float,
        *,
        upload: str | None = None,
    ) -> None:
        """Note that a request is about to leave."""
        with self.transaction() as db:
            writing.request(db, request_id, file, call, at_s, upload=upload)

    def answered(self, request_id: str, outcome: str) -> None:
        """Note how a request ended."""
        with self.transaction() as db:
            writing.answered(db, request_id, outcome)

    def begin_upload(self, file: File, upload: Upload, request_id: str) -> File:
        """Note the intent of a ``create`` before it leaves; return the file that points to it."""
        with self.transaction() as db:
            writing.insert(db, "uploads", upload_values(upload))
            writing.request(db, request_id, file.id, "create", upload.created_s, upload=upload.key)
            return writing.point_to(db, file, upload.key)

    def upload_opened(
        self,
        upload: Upload,
        request_id: str,
        *,
        remote_id: str,
        server_created_s: float | None,
        life_s: float,
        ranges: Iterable[Range],
        leaving: Leaving | None = None,
    ) -> tuple[Upload, list[Part]]:
        """Keep the id that ``create`` was answered with, and the plan of parts.

        ``leaving`` is the request of the first part, where that is about to leave at once.

        Raises:
            TakenError: another session bears that id already.
        """
        opened = replace(
            upload,
            state=UploadState.OPEN,
            remote_id=remote_id,
            server_created_s=server_created_s,
            life_s=life_s,
        )
        parts = [
            Part(upload=upload.key, number=r.number, offset=r.offset, length=r.length)
            for r in ranges
        ]
        if leaving is not None:
            parts[0] = replace(parts[0], state=PartState.IN_FLIGHT, sends=1)
        with self.transaction() as db:
            self._open_upload(db, opened)
            writing.answered(db, request_id, "ok")
            writing.plan_parts(db, parts)
            if leaving is not None:
                writing.part_leaves(db, upload.file, parts[0], leaving)
            return opened, parts

    def _open_upload(self, db: sqlite3.Connection, upload: Upload) -> None:
        try:
            writing.open_upload(db, upload)
        except sqlite3.IntegrityError as error:
            if upload.remote_id is None or not self.knows_upload(upload.target, upload.remote_id):
                raise
            raise writing.TakenError(f"{upload.remote_id} is that of another session") from error

    def upload_not_opened(self, file: File, upload: Upload, request_id: str, outcome: str) -> File:
        """Note that ``create`` brought no id, and take the file off that session."""
        with self.transaction() as db:
            writing.answered(db, request_id, outcome)
            writing.end_upload(db, upload.key, UploadState.LOST)
            return writing.point_to(db, file, None)

    def upload_ended(self, upload: Upload, state: UploadState, request_id: str) -> None:
        """Note how the cancel of an abandoned session ended."""
        with self.transaction() as db:
            writing.answered(db, request_id, state.value)
            writing.end_upload(db, upload.key, state)

    def part_leaves(self, file: str, part: Part, request_id: str, at_s: float) -> Part:
        """Note that a part is about to leave."""
        with self.transaction() as db:
            writing.part_leaves(db, file, part, Leaving(request_id, at_s))
            return writing.write_part(
                db, replace(part, sends=part.sends + 1), after=PartState.IN_FLIGHT
            )

    def part_stored(
        self, file: str, part: Part, request_id: str, *, part_id: str, digest: bytes, sent: int
    ) -> Part:
        """Keep a part's id and the digest of the bytes that it was sent with."""
        with self.transaction() as db:
            writing.answered(db, request_id, "ok")
            writing.count(db, file, part, sent)
            return writing.write_part(
                db,
                replace(part, part_id=part_id, digest=digest, sent=part.sent + sent),
                after=PartState.STORED,
            )

    def part_not_stored(
        self, file: str, part: Part, request_id: str, *, outcome: str, sent: int, ambiguous: bool
    ) -> Part:
        """Note that a part must be sent again; ``ambiguous`` where no reply was seen."""
        with self.transaction() as db:
            writing.answered(db, request_id, outcome)
            writing.count(db, file, part, sent)
            return writing.write_part(
                db,
                replace(part, sent=part.sent + sent),
                after=PartState.AMBIGUOUS if ambiguous else PartState.PLANNED,
            )

    def part_disproved(self, part: Part) -> Part:
        """Forget a stored part: the bytes on disk are not those that it was sent with."""
        with self.transaction() as db:
            return writing.write_part(
                db, replace(part, part_id=None, digest=None), after=PartState.PLANNED
            )

    def take_up(self, file: str, key: str) -> tuple[Upload | None, list[Part]]:
        """Read a session to go on with it; what was in flight when it was left is ambiguous.

        Such a part counts as sent whole, since nobody knows how much of it left.
        """
        with self.transaction() as db:
            writing.cut_off(db, file, key)
        return self.session(key)

    def recover(self, latest_due_s: float) -> None:
        """After a start: a create without a reply is lost, other requests ended nobody knows how.

        No file waits beyond ``latest_due_s``, whatever the wall clock said when it was deferred.
        """
        with self.transaction() as db:
            db.execute(
                "UPDATE files SET upload = NULL, version = version + 1 WHERE upload IN"
                " (SELECT key FROM uploads WHERE state = 'creating')"
            )
            db.execute("UPDATE uploads SET state = 'lost' WHERE state = 'creating'")
            db.execute("UPDATE requests SET outcome = 'unknown' WHERE outcome IS NULL")
            turns.bring_near(db, latest_due_s)

    def awaken(self, targets: Iterable[str], now_s: float) -> None:
        """Let the deferred files of these targets be tried now."""
        names = tuple(targets)
        with self.transaction() as db:
            db.execute(
                "UPDATE files SET due = ? WHERE state = 'deferred' AND due > ?"
                " AND reason_code NOT LIKE '%.deadline'"
                f" AND target IN ({', '.join('?' * len(names))})",
                (now_s, now_s, *names),
            )

    def bring_near(self, latest_due_s: float) -> None:
        """Let no file wait beyond ``latest_due_s``: such a time was meant for another clock.

        Those that wait for an hour with more bandwidth are left out.
        """
        with self.transaction() as db:
            turns.bring_near(db, latest_due_s)

    def set_setting(self, name: str, value: str | None) -> None:
        """Keep what the operator said; None forgets it."""
        with self.transaction() as db:
            if value is None:
                db.execute("DELETE FROM settings WHERE name = ?", (name,))
            else:
                db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def clock_set_back(self, by_s: float) -> None:
        """Let no file wait longer because the wall clock was set back."""
        with self.transaction() as db:
            db.execute("UPDATE files SET due = due - ? WHERE due IS NOT NULL", (by_s,))
            db.execute("UPDATE errands SET due = due - ? WHERE state <> 'done'", (by_s,))
