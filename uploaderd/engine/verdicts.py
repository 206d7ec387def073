"""What one batch of sightings comes to, name by name, while the journal asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from uploaderd.core.lifecycle import Begun, Decision
from uploaderd.core.model import TERMINAL, Arrival, File, FileState, Filing, Identity
from uploaderd.core.verbs import UNWANTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from uploaderd.spool.known import Opinion

WAKING = frozenset({FileState.SETTLING, FileState.QUEUED, FileState.DEFERRED, FileState.HELD})

Verdict = File | Begun | tuple[File, Decision] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What stands at a path now: an identity, or nothing."""

    identity: Identity | None
    arrival: Arrival


@dataclass(slots=True, kw_only=True)
class Verdicts:
    """What was decided about each name of a batch.

    Attributes:
        judge: decides about a name, given its newest file and the files with its inode.
        begin: lets a new file begin with the first look at it, where there was one.
        passed: ids of files that are being filed, at whose path something was seen.
        touched: files in flight that something happened to.
        steady: names whose row goes on by itself, or says that what stands there is not wanted.
        decided: files that were decided about, as they were before, by id.
        begun: new files that were looked at already, by id.
    """

    seen: Mapping[bytes, Seen]
    judge: Callable[[File | None, bytes, Sequence[File]], File | tuple[File, Decision] | None]
    begin: Callable[[File], File | Begun]
    passed: set[str]
    touched: list[File] = field(default_factory=list)
    steady: set[bytes] = field(default_factory=set)
    decided: dict[str, File] = field(default_factory=dict)
    begun: dict[str, Begun] = field(default_factory=dict)

    def __call__(self, existing: File | None, path: bytes, others: Sequence[File]) -> Verdict:
        """Decide about one name, on the journal's thread."""
        if existing is not None and existing.state not in WAKING | TERMINAL:
            self.touched.append(existing)
            return None
        if existing is not None and existing.filing is Filing.PENDING:
            self.passed.add(existing.id)
            return None  # looked at again once that one has left the spool
        verdict = self.judge(existing, path, others)
        if isinstance(verdict, tuple):
            self.decided[verdict[0].id] = verdict[0]
            return verdict
        if verdict is None:
            if _is_steady(existing, self.seen[path].identity):
                self.steady.add(path)
            return None
        begun = self.begin(verdict)
        if isinstance(begun, Begun):
            self.begun[verdict.id] = begun
        return begun

    def remember(self, taken: Iterable[File], opinion: Opinion) -> None:
        """Let the watch pass over the names that are dealt with as they are."""
        rows = [file for file in taken if file.state not in TERMINAL]
        identities = {path: self.seen[path].identity for path in self.steady}
        for file in rows:
            if file.path in self.seen and self.seen[file.path].identity == file.identity:
                identities[file.path] = file.identity
        for path, identity in identities.items():
            if identity is not None:
                opinion.keep(path, identity)

    def free_again(self, taken: Iterable[File]) -> list[bytes]:
        """Paths whose row gave way to what stands there now, which nobody has taken in yet."""
        paths = []
        for file in taken:
            before = self.decided.get(file.id)
            if file.reason.code == "cancelled.gone":
                paths.append(file.path)
            if before is not None and before.path != file.path:
                paths.append(before.path)
        return [p for p in paths if (one := self.seen.get(p)) and one.identity is not None]


def _is_steady(existing: File | None, identity: Identity | None) -> bool:
    if existing is None or identity != existing.identity or existing.filing is Filing.PENDING:
        return False
    lasting = existing.state is FileState.DONE or existing.reason.code == UNWANTED
    return existing.state in WAKING or lasting
