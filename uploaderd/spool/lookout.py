"""Keeping a lookout over one watched folder, step by step: inotify, and a rescan behind it."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from uploaderd.core.model import Arrival
from uploaderd.errors import GoneError, SpoolError, UnreadableError
from uploaderd.spool import beneath, mounts, naming
from uploaderd.spool.claims import give_back
from uploaderd.spool.known import Known
from uploaderd.spool.notices import Notices, WatchingError
from uploaderd.spool.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uploaderd.core.model import Identity
    from uploaderd.spool.ignore import Ignore
    from uploaderd.spool.tree import Tree
    from uploaderd.spool.walk import Seen

BATCH = 500
_WAITING_SCANS = 1000  # beyond so many no more events are read: the kernel's queue is bounded
_RETRY_ROUNDS = 20  # rescans between two tries to get inotify back
_TOLD = 1000  # unreadable folders that are remembered, so that each is told once


class Mode(StrEnum):
    """How changes are noticed between two rescans."""

    INOTIFY = "inotify"
    POLLING = "polling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Something was seen at a path below the watch, or happened there.

    Attributes:
        seen: what it was at that moment; None: look for yourself, it may be gone. ``arrival``
            means nothing then.
    """

    path: bytes
    arrival: Arrival
    seen: Identity | None


@dataclass(slots=True)
class Turn:
    """What one step brought.

    Attributes:
        told: events for the log, with their facts.
        scanned: a full scan came to its end.
        names: how many names that full scan met, those included that it passed over.
        forget: what was known before may not hold any more.
        idle: nothing is left to do until something happens.
    """

    batch: list[Sighting] = field(default_factory=list)
    told: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    scanned: bool = False
    names: int = 0
    overflowed: bool = False
    forget: bool = False
    idle: bool = False


@dataclass(slots=True)
class _Scan:
    start: bytes
    arrival: Arrival
    full: bool
    walk: Walk | None = None
    steps: Iterator[Seen | None] | None = None
    told: int = 0


class Lookout:
    """One run of a watch. Synchronous; one caller at a time, but ``close`` at any moment.

    Attributes:
        mode: how changes are noticed now.
        why: why it is polling; empty with inotify.
        lost: the watched folder cannot be used at present.
        due: a full scan is to begin.
    """

    def __init__(
        self, tree: Tree, *, ignored: Ignore, recursive: bool, known: Known | None = None
    ) -> None:
        self.mode = Mode.POLLING
        self.why = "The first scan is not done yet."
        self.lost = False
        self.due = True
        self._tree = tree
        self._ignored = ignored
        self._recursive = recursive
        self._known = known or Known()
        self._forget = False
        self._opening = 0
        self._lock = threading.Lock()
        self._stepping = threading.Lock()
        self._closed = False
        self._notices: Notices | None = None
        self._rounds_without = 0
        self._scans: list[_Scan] = []
        self._unreadable: set[bytes] = set()
        self._unreadable_now: set[bytes] = set()
        self._asides: list[bytes] = []
        self._astray: set[bytes] = set()
        self._told: list[tuple[str, dict[str, object]]] = []

    @property
    def folders(self) -> int:
        """How many folders the kernel watches for us."""
        return 0 if self._notices is None else self._notices.watched

    @property
    def fd(self) -> int | None:
        """The descriptor that is readable when something happened; None when polling."""
        return None if self._notices is None else self._notices.fd

    def close(self) -> None:
        """Give everything back; a step that still runs in a thread does so at its end."""
        with self._lock:
            self._closed = True
            if self._notices is not None:
                self._notices.close()
        if self._stepping.acquire(blocking=False):
            self._scans.clear()
            self._stepping.release()

    def turn(self) -> Turn:
        """Take one step, of ``BATCH`` sightings or ``walk.SLICE`` known names at most."""
        with self._stepping:
            turn = self._step()
        if self._closed:
            # A walk refers to us and we to it: left to the garbage collector, its folders would
            # stay open for long.
            self._scans.clear()
        return turn

    def _step(self) -> Turn:
        turn = Turn()
        try:
            if self.due and not any(scan.full for scan in self._scans):
                self.due = False
                self._begin_scan()
            self._read_events(turn)
            self._scan_on(turn)
        except SpoolError as error:
            self._lose(error)
        turn.told, self._told = self._told, []
        turn.forget, self._forget = self._forget, False
        turn.idle = not self._scans and not self.due and len(turn.batch) < BATCH
        return turn

    def _begin_scan(self) -> None:
        opening = self._tree.open()
        if self.lost:
            self.lost = False
            self._told.append(("spool.back", {"path": str(self._tree.root)}))
        if opening != self._opening:
            self._stop_inotify()
            self._opening = opening
            self._forget = True
        if self._notices is None:
            self._start_inotify()
        if self._notices is not None:
            self._notices.begin_round()
        self._unreadable_now = set()
        self._asides = []
        self._scans.insert(0, _Scan(start=b"", arrival=Arrival.FOUND, full=True))

    def _start_inotify(self) -> None:
        # Not at each rescan: with a big tree, watching it in vain costs a system call a folder.
        waited, self._rounds_without = self._rounds_without, self._rounds_without + 1
        if waited % _RETRY_ROUNDS != 0:
            return
        kind = self._tree.file_system()
        if kind is not None and mounts.is_remote(kind):
            self._poll(f"{kind} does not tell of changes made on other machines.")
            return
        try:
            notices = Notices(ignored=self._ignored, recursive=self._recursive)
        except WatchingError as error:
            self._poll(_whole(error))
            return
        with self._lock:
            self._notices = notices
            if self._closed:
                notices.close()

    def _stop_inotify(self) -> None:
        if self._notices is not None:
            self._notices.close()
            self._notices = None
        self._rounds_without = 0

    def _poll(self, why: str) -> None:
        if self.mode is not Mode.POLLING or self.why != why:
            self._told.append(("spool.polling", {"path": str(self._tree.root), "why": why}))
        self.mode, self.why = Mode.POLLING, why

    def _lose(self, error: SpoolError) -> None:
        """The watched folder cannot be used: say so once and look again at each rescan."""
        why = _whole(error)
        if not self.lost:
            facts: dict[str, object] = {"path": str(self._tree.root), "why": why}
            self._told.append(("spool.lost", facts))
        self.lost = True
        self._doubt_all()
        self._stop_inotify()
        self.mode, self.why = Mode.POLLING, why

    def _doubt_all(self) -> None:
        """Another folder may stand there: scan it as if it had never been seen."""
        self._scans.clear()
        self._forget = True

    def _read_events(self, turn: Turn) -> None:
        if self._notices is None or len(self._scans) > _WAITING_SCANS:
            return
        news = self._notices.drain(BATCH)
        if news.lost:
            # Let ``open`` say whether another folder stands there already.
            self._stop_inotify()
            self._doubt_all()
            self.due = True
        if news.overflowed:
            turn.overflowed = True
            self._forget = True
            self.due = True
            self._told.append(("spool.overflow", {"path": str(self._tree.root)}))
        for path, arrival in news.files.items():
            turn.batch.append(self._sighting(path, arrival))
        for path, arrival in news.folders.items():
            self._scans.append(_Scan(start=path, arrival=arrival, full=False))

    def _sighting(self, path: bytes, arrival: Arrival | None) -> Sighting:
        seen = None
        if arrival is not None:
            with contextlib.suppress(GoneError, UnreadableError):
                seen = self._tree.identify(path)
        return Sighting(path=path, arrival=arrival or Arrival.FOUND, seen=seen)

    def _scan_on(self, turn: Turn) -> None:
        """Go on with the latest scan: a new folder comes before the rest of the full one."""
        while self._scans and len(turn.batch) < BATCH:
            scan = self._scans[-1]
            if scan.steps is None:
                scan.walk = self._walk(full=scan.full)
                scan.steps = scan.walk.run(scan.start)
            try:
                for seen in scan.steps:
                    if seen is None:
                        return
                    scan.told += 1
                    turn.batch.append(
                        Sighting(path=seen.path, arrival=scan.arrival, seen=seen.identity)
                    )
                    if len(turn.batch) >= BATCH:
                        return
            except (GoneError, UnreadableError):
                if scan.full:
                    raise
            self._scans.remove(scan)
            if scan.full:
                turn.names = scan.told + (scan.walk.passed if scan.walk else 0)
                self._end_scan(turn)

    def _end_scan(self, turn: Turn) -> None:
        turn.scanned = True
        for path in self._asides:
            self._give_back(path, turn)
        self._unreadable &= self._unreadable_now
        if self._notices is not None:
            self._notices.prune()
            if self.mode is Mode.POLLING:
                self._told.append(("spool.inotify", {"path": str(self._tree.root)}))
            self.mode, self.why = Mode.INOTIFY, ""

    def _give_back(self, path: bytes, turn: Turn) -> None:
        """Free a file that after-care set aside and that nobody may know of any more."""
        try:
            own, why = give_back(self._tree, path, self._ignored)
        except SpoolError as error:
            own, why = path, _whole(error)
        if not why:
            self._astray.discard(path)
            if own != path and len(turn.batch) < BATCH:  # else an event or the next scan tells
                turn.batch.append(self._sighting(own, Arrival.RENAMED))
        elif path not in self._astray and len(self._astray) < _TOLD:
            self._astray.add(path)
            facts: dict[str, object] = {
                "path": beneath.shown(own),
                "hidden": beneath.shown(path),
                "why": why,
            }
            self._told.append(("spool.astray", facts))

    def _walk(self, *, full: bool) -> Walk:
        def enter(path: bytes, fd: int) -> None:
            if self._notices is None:
                return
            try:
                self._notices.enter(path, fd)
            except WatchingError as error:
                self._stop_inotify()
                self._rounds_without = 1
                self.due = True  # for what happened where no event is read any more
                self._poll(_whole(error))

        def left_out(path: bytes) -> bool:
            if naming.is_aside(path.rpartition(b"/")[2]) and len(self._asides) < _TOLD:
                self._asides.append(path)
            return self._ignored(path)

        def trouble(path: bytes, error: SpoolError) -> None:
            if isinstance(error, GoneError):
                return
            self._unreadable_now.add(path)
            if path not in self._unreadable and len(self._unreadable) < _TOLD:
                self._unreadable.add(path)
                self._told.append(
                    ("spool.unreadable", {"path": beneath.shown(path), "why": str(error)})
                )

        return Walk(
            self._tree.folder,
            recursive=self._recursive,
            ignored=left_out,
            enter=enter,
            trouble=trouble,
            # A folder that has just come may bring back what was known under its name.
            known=self._known if full and not self._forget else None,
        )


def _whole(error: SpoolError) -> str:
    return f"{error} {error.hint}".strip()
