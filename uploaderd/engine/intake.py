"""From the spool's sightings to rows: one row for each file, events only wake it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.core.events import Gone, Renamed, Retried, Sighted
from uploaderd.core.lifecycle import IN_DOUBT, VOUCHED, Begun, Decision, decide
from uploaderd.core.model import TERMINAL, Arrival, File, FileState, Filing, Identity, Now
from uploaderd.core.reasons import reason
from uploaderd.core.values import replace
from uploaderd.core.verbs import UNWANTED, WITHHELD
from uploaderd.engine.settling import find_all, seen_as
from uploaderd.engine.verdicts import Seen, Verdicts
from uploaderd.errors import GoneError, SpoolError
from uploaderd.spool.watcher import Sighting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from uploaderd.engine.context import Context, Place
    from uploaderd.engine.settling import Found
    from uploaderd.spool.known import Opinion

log = logs.get(__name__)

LATER_S = 1e-6  # the least step that a Unix time of today shows as a float


class Intake:
    """Journals what one watch sees, a batch a transaction."""

    def __init__(self, ctx: Context, place: Place) -> None:
        self._ctx = ctx
        self._place = place

    async def take(self, sightings: Iterable[Sighting]) -> list[File]:
        """Journal a batch; return the files in flight or ended that something happened to."""
        told = list(sightings)
        if not told:  # the end of a scan
            return []
        with self._place.watcher.known.opinion() as opinion:
            return await self._take(told, opinion)

    async def _take(self, sightings: list[Sighting], opinion: Opinion) -> list[File]:
        ctx = self._ctx
        seen = await self._ask(sightings)
        same, looks = await self._look_first(seen)
        now = ctx.clock.now()
        verdicts = Verdicts(
            seen=seen,
            judge=lambda existing, path, others: self._judge(
                existing, path, seen[path], others, now
            ),
            begin=lambda file: self._begin(file, looks.get(file.path), now),
            passed=ctx.passed,
            steady=same,
        )
        # What is there is judged before what is gone: a rename is one file, not two.
        order = sorted(
            (path for path in seen if path not in same),
            key=lambda path: seen[path].identity is None,
        )
        taken = await self._keep({path: seen[path].identity for path in order}, verdicts)
        self._doubt(file.path for file in verdicts.decided.values())
        verdicts.remember(taken, opinion)
        if ctx.returning:
            here = {file.id for file in taken}
            ctx.returning = {k: back for k, back in ctx.returning.items() if back.id not in here}
        for file in taken:
            self._announce(file, verdicts)
        again = verdicts.free_again(taken)
        if again:  # what stands there now is followed, once its name is free
            sightings = [Sighting(path=p, arrival=Arrival.FOUND, seen=None) for p in again]
            verdicts.touched += await self.take(sightings)
        if taken:
            ctx.wakes.due.set()
            ctx.wakes.cancels.set()  # a file that changed left its session behind
        return verdicts.touched

    async def _keep(self, paths: Mapping[bytes, Identity | None], verdicts: Verdicts) -> list[File]:
        """Have the journal keep the verdicts; whatever became of them otherwise is doubted."""
        if not paths:
            return []
        journal = self._ctx.journal
        try:
            return await self._ctx.keep(journal.intake, self._place.name, paths, verdicts)
        except BaseException:
            self._doubt((*paths, *(file.path for file in verdicts.decided.values())))
            for file_id in verdicts.begun:
                self._ctx.writing.pop(file_id, None)
            raise

    async def _ask(self, sightings: list[Sighting]) -> dict[bytes, Seen]:
        """What stands at each path, on a disk thread if that is not known already."""
        if any(sighting.seen is None for sighting in sightings):
            return await self._ctx.disk(self._look, sightings)
        return self._look(sightings)

    async def _look_first(
        self, seen: Mapping[bytes, Seen]
    ) -> tuple[set[bytes], dict[bytes, Found]]:
        """Which names are known as they are; and the first look at those never heard of.

        So a new file is looked at before its row is written, and one transaction does for both.
        """
        ctx = self._ctx
        there = {path: one.identity for path, one in seen.items() if one.identity is not None}
        same, free = await ctx.keep(ctx.journal.standing, self._place.name, there)
        same = {path for path in same if seen[path].arrival is Arrival.FOUND}
        if ctx.absent:  # one of them may have come back
            same = set()
        paths = [path for path in there if path in free]
        found = await ctx.disk(find_all, self._place.tree, paths) if paths else []
        return same, dict(zip(paths, found, strict=True))

    def _begin(self, file: File, found: Found | None, now: Now) -> File | Begun:
        """A new file with what the look at it says; without, where there was none or another."""
        event = None if found is None else seen_as(self._ctx, self._place, file, found)
        if event is None or isinstance(event, Gone):  # events are on their way that tell of it
            return file
        decision = decide(file, event, now)
        return Begun(file=file, decision=decision, event=type(event).__name__.lower())

    def _announce(self, file: File, verdicts: Verdicts) -> None:
        ctx, begun = self._ctx, verdicts.begun.get(file.id)
        if begun is None:
            ctx.tally.file(verdicts.decided.get(file.id), file)
            ctx.announce(None, file)
            return
        ctx.tally.file(None, begun.file)
        ctx.announce(None, begun.file)
        ctx.applied(begun.file, begun.decision, file)

    def _doubt(self, paths: Iterable[bytes]) -> None:
        for path in paths:
            self._place.watcher.known.doubt(path)

    def _look(self, sightings: list[Sighting]) -> dict[bytes, Seen]:
        """What each path's last sighting says; the file system is asked where it could not."""
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
