"""From the spool's sightings to rows: one row for each file, events only wake it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.core.events import Gone, Renamed, Retried, Sighted
from uploaderd.core.lifecycle import IN_DOUBT, VOUCHED, Decision, decide
from uploaderd.core.model import TERMINAL, Arrival, File, FileState, Filing, Identity, Now
from uploaderd.core.reasons import reason
from uploaderd.core.verbs import UNWANTED, WITHHELD
from uploaderd.errors import GoneError, SpoolError
from uploaderd.spool.watcher import Sighting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from uploaderd.engine.context import Context, Place

log = logs.get(__name__)

LATER_S = 1e-6  # the least step that a Unix time of today shows as a float
WAKING = frozenset({FileState.SETTLING, FileState.QUEUED, FileState.DEFERRED, FileState.HELD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What stands at a path now: an identity, or nothing."""

    identity: Identity | None
    arrival: Arrival


class Intake:
    """Journals what one watch sees, a batch a transaction."""

    def __init__(self, ctx: Context, place: Place) -> None:
        self._ctx = ctx
        self._place = place

    async def take(self, sightings: Iterable[Sighting]) -> list[File]:
        """Journal a batch; return the files in flight or ended that something happened to."""
        ctx = self._ctx
        seen = await ctx.disk(self._look, list(sightings))
        if not seen:
            return []
        now = ctx.clock.now()
        touched: list[File] = []
        known: dict[str, File] = {}

        def judge(
            existing: File | None, path: bytes, others: Sequence[File]
        ) -> File | tuple[File, Decision] | None:
            if existing is not None and existing.state not in WAKING | TERMINAL:
                touched.append(existing)
                return None
            if existing is not None and existing.filing is Filing.PENDING:
                return None  # looked at again once that one has left the spool
            verdict = self._judge(existing, path, seen[path], others, now)
            if isinstance(verdict, tuple):
                known[verdict[0].id] = verdict[0]
            return verdict

        # What is there is judged before what is gone: a rename is one file, not two.
        order = sorted(seen, key=lambda path: seen[path].identity is None)
        paths = {path: seen[path].identity for path in order}
        taken = await ctx.keep(ctx.journal.intake, self._place.name, paths, judge)
        for file in taken:
            ctx.tally.file(known.get(file.id), file)
            ctx.announce(None, file)
        buried = [file.path for file in taken if file.reason.code == "cancelled.gone"]
        freed = [
            one.path for file in taken if (one := known.get(file.id)) and one.path != file.path
        ]
        again = [path for path in (*buried, *freed) if paths.get(path) is not None]
        if again:  # what stands there now is followed, once its name is free
            sightings = (Sighting(path=p, arrival=Arrival.FOUND, seen=None) for p in again)
            touched += await self.take(sightings)
        if taken:
            ctx.wakes.due.set()
            ctx.wakes.cancels.set()  # a file that changed left its session behind
        return touched

    def _look(self, sightings: list[Sighting]) -> dict[bytes, Seen]:
        """Ask the file system where a sighting could not say; the last one of a path counts."""
        seen: dict[bytes, Seen] = {}
        for sighting in sightings:
            identity = sighting.seen
            if identity is None:
                try:
                    identity = self._place.tree.identify(sighting.path)
                except GoneError:
                    pass
                except SpoolError as error:
                    log.debug("spool.not_seen", path=sighting.path, text=str(error))
                    continue
            arrival = sighting.arrival
            before = seen.get(sighting.path)
            if arrival is Arrival.FOUND and before is not None and before.identity == identity:
                arrival = before.arrival
            seen[sighting.path] = Seen(identity=identity, arrival=arrival)
        return seen

    def _judge(
        self,
        existing: File | None,
        path: bytes,
        seen: Seen,
        others: Sequence[File],
        now: Now,
    ) -> File | tuple[File, Decision] | None:
        if existing is None or existing.state in TERMINAL:
            return self._judge_free(existing, path, seen, others, now)
        operators = existing.reason.code == WITHHELD
        if seen.identity is None and operators and self._may_come_back(existing, now):
            return None
        self._ctx.absent.pop(existing.id, None)
        if seen.identity is None or self._is_buried(existing, path, seen.identity, others):
            return existing, decide(existing, Gone(), now)
        changed = seen.identity != existing.identity
        written = seen.arrival is not Arrival.FOUND and existing.state is FileState.SETTLING
        if existing.reason.code in IN_DOUBT and seen.identity.same_bytes(existing.identity):
            return None  # a chmod, or another link to it, is no reason to send it again
        if operators or _grows(existing, seen) or not (changed or written):
            return None
        arrival = Arrival.WRITTEN if seen.arrival is Arrival.FOUND else seen.arrival
        return existing, decide(existing, Sighted(identity=seen.identity, arrival=arrival), now)

    def _judge_free(
        self,
        ended: File | None,
        path: bytes,
        seen: Seen,
        others: Sequence[File],
        now: Now,
    ) -> File | tuple[File, Decision] | None:
        """A path without a file at work: one that came back or was renamed, or a new one."""
        identity = seen.identity
        if identity is None:
            return None
        back = self._ctx.returning.get((self._place.name, identity.dev, identity.inode))
        if back is not None:
            retried = Retried(
                path=path, identity=identity, arrival=seen.arrival, created_s=_after(back, ended)
            )
            return back, decide(back, retried, now)
        if ended is not None and self._is_kept(ended, identity):
            return None
        for other in others:
            if self._was_renamed(other, path, identity):
                return other, decide(other, self._renamed(other, path, identity), now)
        return self._judge_new(ended, path, seen, identity, now)

    def _was_renamed(self, other: File, path: bytes, identity: Identity) -> bool:
        """Whether this is a file at work that got another path.

        One that may be at the service already is followed under any name, so that it does not
        arrive twice; any other only if it goes by the same name and purpose there.
        """
        if other.path == path or not other.identity.same_bytes(identity):
            return False
        followed = {FileState.COMPLETING, FileState.UNCERTAIN} | TERMINAL
        held = other.reason.code in {WITHHELD} | IN_DOUBT  # by whatever name
        if other.state not in followed and not held and not self._is_same_upload(other, path):
            return False
        try:
            there = self._place.tree.identify(other.path)
        except SpoolError:
            return True
        return there.inode != identity.inode  # else it is a second link to the same file

    def _may_come_back(self, held: File, now: Now) -> bool:
        """Whether it may only be away: what an operator holds is not let go at the first look.

        Its other name may be seen a moment later, and its file system may be mounted again.
        """
        since_s = self._ctx.absent.setdefault(held.id, now.boot_s)
        if now.boot_s - since_s < self._place.settings.rescan_s:
            return True
        try:
            return self._place.tree.device_of(held.path) != held.identity.dev
        except SpoolError:
            return True

    def _is_same_upload(self, other: File, path: bytes) -> bool:
        """Whether an upload that was begun for it would fit its other path too."""
        same_name = other.path.rpartition(b"/")[2] == path.rpartition(b"/")[2]
        return same_name and self._place.purpose_of(path) == other.purpose

    def _renamed(self, other: File, path: bytes, identity: Identity) -> Renamed:
        held = other.reason.code == WITHHELD
        anew = held and not self._is_same_upload(other, path)
        return Renamed(path=path, identity=identity, anew=anew)

    def _is_buried(
        self, existing: File, path: bytes, identity: Identity, others: Sequence[File]
    ) -> bool:
        """Whether a file that may be at the service already was renamed over this one."""
        if identity.inode == existing.identity.inode:
            return False
        vouched = (other for other in others if other.state in VOUCHED)
        return any(self._was_renamed(other, path, identity) for other in vouched)

    def _is_kept(self, ended: File, identity: Identity | None) -> bool:
        """Whether this very content arrived from here and was left here, whatever holds now.

        What was moved back from done/ has another ctime.
        """
        return ended.state is FileState.DONE and identity == ended.identity

    def _has_left(self, path: bytes, identity: Identity) -> bool:
        """Whether this content does not stand at the path any more."""
        try:
            return not self._place.tree.identify(path).same_bytes(identity)
        except SpoolError:
            return True

    def _judge_new(
        self, ended: File | None, path: bytes, seen: Seen, identity: Identity, now: Now
    ) -> File | None:
        """A new file, unless it is the one that just ended."""
        if ended is not None:
            same = identity.same_bytes(ended.identity)
            if same and ended.filing is Filing.FILED and self._has_left(path, ended.identity):
                return None  # the sighting is older than the move
            # A device's number may change with a reboot.
            known = replace(identity, dev=ended.identity.dev)
            if ended.reason.code == UNWANTED and known.same_bytes(ended.identity):
                return None
        settings = self._place.settings
        # Of a path's rows the latest counts, also where the wall clock was set back in between.
        created_s = now.wall_s if ended is None else max(now.wall_s, ended.created_s + LATER_S)
        return File(
            id=self._ctx.new_id(),
            watch=self._place.name,
            path=path,
            identity=identity,
            arrival=seen.arrival,
            target=settings.target,
            purpose=self._place.purpose_of(path),
            state=FileState.SETTLING,
            reason=reason("settling.seen"),
            created_s=created_s,
            updated_s=now.wall_s,
            changed_s=now.wall_s,
            owner=self._ctx.owner,
            due_s=now.wall_s,
        )


def _after(back: File, ended: File | None) -> float:
    """When a file that came back counts as made: of a path's rows the latest counts."""
    if ended is None or ended.id == back.id:
        return back.created_s
    return max(back.created_s, ended.created_s + LATER_S)


def _grows(existing: File, seen: Seen) -> bool:
    """Whether it was found changed under its writer's hands: the looks at it follow that."""
    return (
        seen.identity is not None
        and seen.arrival is Arrival.FOUND
        and existing.reason.code == "settling.writer_open"
        and seen.identity.inode == existing.identity.inode
    )
