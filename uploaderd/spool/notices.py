"""inotify beneath one watch: which folders are watched, and what the kernel's events mean.

The kernel watches inodes, one folder each, and knows nothing of trees (inotify(7)). So this keeps
the tree of watched folders by watch descriptor. A folder that moves within the spool keeps its
watch and changes its place; one that leaves it is unwatched. Rules that lose nothing:

- a folder is watched before it is scanned, through the very descriptor that is scanned;
- whatever appears makes its folder be looked at, at that moment or later, never earlier;
- after lost events everything is scanned anew, and what that scan did not meet is unwatched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from asyncinotify import Inotify, Mask

from uploaderd.core.model import Arrival
from uploaderd.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncinotify import Event, Watch

# EXCL_UNLINK: no events for what is already deleted but still open. MODIFY is left out: the end
# of a write is what matters, and a long write would flood the queue.
_MASK = (
    Mask.CLOSE_WRITE
    | Mask.CREATE
    | Mask.MOVED_TO
    | Mask.MOVED_FROM
    | Mask.DELETE
    | Mask.ATTRIB
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
    | Mask.ONLYDIR
    | Mask.EXCL_UNLINK
)
_READ_AHEAD = 64  # events of the longest name that one read(2) has room for


class WatchingError(SpoolError):
    """The kernel gives no (more) inotify watches; the sentence says which limit it was."""


@dataclass(slots=True)
class News:
    """What the events since the last reading come to.

    Attributes:
        files: how each file that something happened to arrived; None if it only changed or went.
        folders: folders to be watched and scanned, and how what is in them arrived.
        overflowed: events were lost; everything must be scanned.
        lost: the watched folder itself was deleted, moved or unmounted.
        count: how many events were read.
    """

    files: dict[bytes, Arrival | None] = field(default_factory=dict)
    folders: dict[bytes, Arrival] = field(default_factory=dict)
    overflowed: bool = False
    lost: bool = False
    count: int = 0


@dataclass(slots=True, eq=False)
class _Node:
    """A watched folder; without a parent it is the watch itself, or on its way elsewhere."""

    watch: Watch
    name: bytes
    parent: _Node | None
    round: int
    below: dict[bytes, _Node] = field(default_factory=dict)

    def detach(self) -> None:
        if self.parent is not None and self.parent.below.get(self.name) is self:
            del self.parent.below[self.name]
        self.parent = None

    def attach(self, parent: _Node, name: bytes) -> None:
        if self.parent is parent and self.name == name:
            return
        self.detach()
        other = parent.below.get(name)
        if other is not None:
            other.detach()
        self.parent, self.name = parent, name
        parent.below[name] = self


class Notices:
    """One inotify instance. Synchronous; one caller at a time, but ``close`` at any moment.

    Raises:
        WatchingError: no instance can be had.
    """

    def __init__(self, *, ignored: Callable[[bytes], bool], recursive: bool) -> None:
        self._ignored = ignored
        self._recursive = recursive
        self._lock = threading.Lock()
        self._closed = False
        self._round = 0
        self._root: _Node | None = None
        self._nodes: dict[int, _Node] = {}
        self._moving: dict[int, _Node] = {}
        try:
            self._inotify = Inotify(cache_size=_READ_AHEAD, sync_timeout=0)
        except OSError as error:
            raise _no_instance(error) from error

    @property
    def fd(self) -> int:
        """The descriptor that is readable when there is something to drain."""
        return self._inotify.fd

    @property
    def watched(self) -> int:
        """How many folders are watched."""
        return len(self._nodes)

    def close(self) -> None:
        """Give all watches back; whatever is called afterwards does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._inotify.close()

    def begin_round(self) -> None:
        """A full scan begins; see ``prune``."""
        self._round += 1

    def prune(self) -> None:
        """Unwatch what was not entered since the full scan began; call when no scan is left."""
        with self._lock:
            if self._closed:
                return
            for node in list(self._nodes.values()):
                if node.round < self._round:
                    self._forget(node)

    def enter(self, path: bytes, fd: int) -> None:
        """Watch the folder ``path``, open as ``fd``, before it is read.

        Raises:
            WatchingError: the limit on watches is reached, or there is no ``/proc``.
        """
        with self._lock:
            if self._closed:
                return
            try:
                # The magic link leads to the open folder itself, whatever its name means by now.
                watch = self._inotify.add_watch(f"/proc/self/fd/{fd}", _MASK)
            except OSError as error:
                raise _no_watch(error) from error
            self._place(path, watch)

    def drain(self, limit: int) -> News:
        """Read what happened, without waiting: ``limit`` events at most."""
        news = News()
        with self._lock:
            while not self._closed and news.count < limit:
                event = self._inotify.sync_get()
                if event is None:
                    break
                news.count += 1
                self._take(event, news)
        return news

    def _place(self, path: bytes, watch: Watch) -> None:
        node = self._nodes.get(watch.wd)
        if not path:
            if node is None:
                node = _Node(watch=watch, name=b"", parent=None, round=self._round)
                self._nodes[watch.wd] = node
            node.round = self._round
            self._root = node
            return
        above, _, name = path.rpartition(b"/")
        parent = self._find(above)
        if parent is None:
            # The scan runs behind: a folder above has moved, and is scanned again at its place.
            if node is None:
                self._unwatch(watch)
            return
        if node is None:
            node = _Node(watch=watch, name=b"", parent=None, round=self._round)
            self._nodes[watch.wd] = node
        node.round = self._round
        if node is not self._root:
            node.attach(parent, name)

    def _find(self, path: bytes) -> _Node | None:
        node = self._root
        for name in path.split(b"/") if path else ():
            if node is None:
                return None
            node = node.below.get(name)
        return node

    def _path_of(self, node: _Node, name: bytes) -> bytes | None:
        """Return a path below the watch; None in a folder that is on its way elsewhere."""
        parts = [name]
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return b"/".join(reversed(parts)) if node is self._root else None

    def _take(self, event: Event, news: News) -> None:
        mask = event.mask
        if Mask.Q_OVERFLOW in mask:
            news.overflowed = True
            self._moving.clear()
            return
        watch = event.watch
        node = None if watch is None else self._nodes.get(watch.wd)
        if node is None:
            return
        if event.name is None:
            self._take_self(node, mask, news)
            return
        name = os.fsencode(event.name)
        path = self._path_of(node, name)
        if path is None:
            return
        if Mask.ISDIR in mask:
            self._take_folder(node, name, path, event, news)
        elif not self._ignored(path):
            _note(path, mask, news)

    def _take_self(self, node: _Node, mask: Mask, news: News) -> None:
        gone = Mask.IGNORED in mask or Mask.UNMOUNT in mask
        if node is self._root:
            news.lost |= gone or Mask.DELETE_SELF in mask or Mask.MOVE_SELF in mask
        elif Mask.IGNORED in mask:
            self._drop(node)
        elif Mask.MOVE_SELF in mask and node.parent is None:
            # The kernel says MOVED_TO first; whoever has no new place by now has left the spool.
            self._leave(node)

    def _take_folder(
        self, parent: _Node, name: bytes, path: bytes, event: Event, news: News
    ) -> None:
        if not self._recursive:
            return
        mask = event.mask
        if Mask.MOVED_FROM in mask:
            moved = parent.below.get(name)
            if moved is not None:
                moved.detach()
                self._moving[event.cookie] = moved
            return
        moved = self._moving.pop(event.cookie, None) if Mask.MOVED_TO in mask else None
        if self._ignored(path):
            return
        if Mask.MOVED_TO in mask:
            if moved is not None:
                moved.attach(parent, name)
            news.folders[path] = Arrival.RENAMED
        elif Mask.CREATE in mask or (Mask.ATTRIB in mask and name not in parent.below):
            news.folders.setdefault(path, Arrival.FOUND)

    def _leave(self, node: _Node) -> None:
        pending = [node]
        while pending:
            folder = pending.pop()
            pending.extend(folder.below.values())
            self._forget(folder)

    def _forget(self, node: _Node) -> None:
        self._drop(node)
        self._unwatch(node.watch)

    def _drop(self, node: _Node) -> None:
        self._nodes.pop(node.watch.wd, None)
        node.detach()
        for below in list(node.below.values()):
            below.detach()
        for cookie in [key for key, moving in self._moving.items() if moving is node]:
            del self._moving[cookie]

    def _unwatch(self, watch: Watch) -> None:
        with contextlib.suppress(OSError):  # EINVAL: the kernel was faster
            self._inotify.rm_watch(watch)


def _note(path: bytes, mask: Mask, news: News) -> None:
    """Fold an event of a file into what is known of it from the events before."""
    if Mask.MOVED_TO in mask:
        news.files[path] = Arrival.RENAMED
    elif Mask.CREATE in mask or Mask.CLOSE_WRITE in mask:
        news.files[path] = Arrival.WRITTEN
    elif Mask.ATTRIB in mask:
        news.files.setdefault(path, None)
    else:
        news.files[path] = None


def _no_instance(error: OSError) -> WatchingError:
    if error.errno == errno.EMFILE:
        return WatchingError(
            "No inotify instance can be had: fs.inotify.max_user_instances"
            f"{_setting('max_user_instances')} or the limit on open files is used up.",
            hint="Raise it with sysctl, or LimitNOFILE.",
        )
    return WatchingError(f"inotify is not to be had: {os.strerror(error.errno or 0)}.")


def _no_watch(error: OSError) -> WatchingError:
    if error.errno == errno.ENOSPC:
        return WatchingError(
            "The kernel's limit on inotify watches, fs.inotify.max_user_watches"
            f"{_setting('max_user_watches')}, is used up.",
            hint="Raise it with sysctl.",
        )
    if error.errno == errno.ENOENT:
        return WatchingError("inotify needs /proc, which is not mounted.")
    return WatchingError(f"A folder cannot be watched: {os.strerror(error.errno or 0)}.")


def _setting(name: str) -> str:
    try:
        return f" = {Path('/proc/sys/fs/inotify', name).read_text('utf-8').strip()}"
    except OSError:
        return ""
