"""What must hold at every moment; what does not is noted, with its invariant's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uploaderd.core.model import Part
from uploaderd.core.retry import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.disk import Disk
    from tests.simulation.network import Request
    from tests.simulation.service import SimService
    from uploaderd.client.sending import Outgoing
    from uploaderd.core.model import Identity
    from uploaderd.journal import Journal

GRACE_S = 0.05


class Checks:
    """Looks at the journal, the service and the spool whenever the process does something.

    Attributes:
        paused_s: since when the operator knows that it is paused.
        slow: long waits may lie between the last look at a file and its complete.
        slack_s: how long a few steps take otherwise.
    """

    def __init__(self, service: SimService, disk: Disk, time_s: Callable[[], float]) -> None:
        self.broken: list[str] = []
        self.journal: Journal | None = None
        self.paused_s: float | None = None
        self.slow = False
        self.slack_s = GRACE_S
        self._time_s = time_s
        self._service = service
        self._disk = disk
        self.stored = 0
        self._stored: set[tuple[str, int]] = set()

    def kept(self, name: str, result: object) -> None:
        """The journal did something: note which parts it holds the ids of."""
        if isinstance(result, Part):
            place = (result.upload, result.offset)
            if name == "part_stored":
                self._stored.add(place)
                self.stored += 1
            elif name == "part_disproved":
                self._stored.discard(place)

    def begins(self, call: Call, request_id: str) -> None:
        """A request begins to leave: none does while the operator has it paused.

        What was journalled as leaving when the pause came may leave, and so may a search: it
        belongs to a look that has begun.
        """
        if self.paused_s is None or call is Call.LIST:
            return
        if self._time_s() - self.paused_s > self.slack_s:
            self.broken.append(f"paused: {call.value} ({request_id}) leaves all the same")

    def _is_free(self, request: Request) -> None:
        """Nothing leaves of a file that the operator holds, but for the end of old sessions."""
        if self.journal is None or request.call in {Call.CANCEL, Call.LIST}:
            return
        row = self.journal.connection.execute(
            "SELECT f.path FROM requests r JOIN files f ON f.id = r.file"
            " WHERE r.id = ? AND f.reason_code = 'held.operator'",
            (request.request_id,),
        ).fetchone()
        if row is not None:
            self.broken.append(f"held: {request.call.value} of {row['path']!r} leaves all the same")

    def leaves(self, request: Request, body: Outgoing | None) -> None:
        """A request is on its way: no stored part, and no complete of what is not there."""
        self._is_free(request)
        if request.call is Call.COMPLETE:
            self._completes(request)
        if request.call is not Call.PART or body is None or self.journal is None:
            return
        offset = getattr(body._body, "_offset", -1)
        row = self.journal.connection.execute(
            "SELECT key FROM uploads WHERE remote_id = ?", (request.upload,)
        ).fetchone()
        if row is not None and (row["key"], offset) in self._stored:
            self.broken.append(f"resent: the part at {offset} of {request.upload} was stored")

    def _completes(self, request: Request) -> None:
        """I2: what the first complete names is what stood there when it was looked at last.

        That look is a moment ago, unless the disk is slow or the operator paused meanwhile.
        """
        assert self.journal is not None
        asked = self.journal.connection.execute(
            "SELECT count(*) FROM requests r JOIN uploads u ON u.key = r.upload"
            " WHERE r.call = 'complete' AND u.remote_id = ?",
            (request.upload,),
        ).fetchone()[0]
        upload = self._service.uploads.get(request.upload)
        ids: list[str] = request.words["part_ids"]
        if asked != 1 or self.slow or upload is None or not upload.parts.keys() >= set(ids):
            return
        content = b"".join(upload.parts[one] for one in ids)
        if not self._disk.held(content, within_s=self.slack_s):
            self.broken.append(f"I2: {request} names bytes that the file no longer has")

    def files_away(self, path: bytes, destination: bytes | None, identity: Identity) -> None:
        """I1: what leaves the spool as uploaded is durable as such, and really there."""
        assert self.journal is not None
        where = "nowhere" if destination is None else destination.decode()
        ended = "failed" if where.startswith("failed/") else "done"
        row = self.journal.connection.execute(
            "SELECT * FROM files WHERE inode = ? AND size = ? AND mtime_ns = ? AND state = ?",
            (str(identity.inode), identity.size, identity.mtime_ns, ended),
        ).fetchone()
        if row is None:
            self.broken.append(f"I1: {path!r} goes {where} without a row that is {ended}")
            return
        if ended == "failed":
            return
        remote = self._service.files.get(row["remote_file"])
        if remote is None:
            self.broken.append(f"I1: {path!r} goes {where} but {row['remote_file']} is not there")

    def removed(self, path: bytes, content: bytes) -> None:
        """I1: what is deleted is at the service, byte by byte."""
        if not self._service.has(content):
            self.broken.append(f"I1: {path!r} was deleted with bytes that are nowhere else")
