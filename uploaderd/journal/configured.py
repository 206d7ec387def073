"""What a change of the configuration asks the journal, and what it lets go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uploaderd.journal.questions import ENDED, Questions
from uploaderd.journal.rows import to_file

if TYPE_CHECKING:
    from uploaderd.core.model import File


class Configured(Questions):
    """The journal at the moment of a reload."""

    def sessions_at(self, target: str, now_s: float) -> int:
        """How many sessions at a target still live at a wall time, or may have been completed."""
        row = self._one(
            "SELECT count(*) AS n FROM uploads WHERE target = ? AND (state = 'completing'"
            " OR (state IN ('creating', 'open') AND created + life > ?))",
            (target, now_s),
        )
        return 0 if row is None else int(row["n"])

    def in_the_middle(self, watch: str) -> list[File]:
        """Files of a watch that are on the wire, may have arrived or are being filed."""
        rows = self._all(
            "SELECT * FROM files WHERE watch = ? AND (filing = 'pending'"
            " OR state IN ('uploading', 'completing', 'uncertain'))",
            (watch,),
        )
        return [to_file(row) for row in rows]

    def at_work(self, watch: str, path: bytes) -> File | None:
        """The file at work that goes by a path, whether it stands there or not."""
        row = self._one(
            "SELECT * FROM files WHERE watch = ? AND path = ?"
            f" AND (filing = 'pending' OR state NOT IN {ENDED})",
            (watch, path),
        )
        return None if row is None else to_file(row)

    def look_now(self, file_id: str, now_s: float) -> None:
        """Let an uncertain file be asked about now, without a step that would overtake an answer.

        It has a new due time and no new version.
        """
        with self.transaction() as db:
            db.execute(
                "UPDATE files SET due = ? WHERE id = ? AND state = 'uncertain' AND due > ?",
                (now_s, file_id, now_s),
            )

    def reconsider(self, now_s: float) -> None:
        """Let everything be looked at now that a restart or another configuration may mend."""
        with self.transaction() as db:
            for watch in self.watched:
                for state in ("held", "uncertain", "deferred", "done", "failed"):
                    db.execute(
                        "UPDATE files INDEXED BY files_turn SET due = ?"
                        " WHERE watch = ? AND state = ? AND due > ? AND (state <> 'deferred'"
                        " OR reason_code = 'deferred.deadline')",
                        (now_s, watch, state, now_s),
                    )
