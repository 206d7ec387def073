"""The simulated file system: names, inodes, their times, who writes, every version there was."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from uploaderd.core.model import Arrival, Identity
from uploaderd.errors import GoneError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.clock import SimClock
    from tests.simulation.trace import Trace

DEV = 7
AT_ONCE_S = 1.0


@dataclass(slots=True, kw_only=True)
class Version:
    """One content of one inode, from one moment to the next.

    Attributes:
        closed: there was a moment at which nobody had it open for writing.
        renamed: it came to a name of the spool by a rename while it had this content.
    """

    content: bytes
    since_s: float
    until_s: float | None = None
    closed: bool = False
    renamed: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class Inode:
    """A file, whatever it is called.

    Attributes:
        filed: the content with which the daemon put it into done/ or failed/.
    """

    number: int
    data: bytes = b""
    mtime_ns: int = 0
    ctime_ns: int = 0
    writers: int = 0
    readable: bool = True
    opened_s: float = 0.0
    filed: bytes | None = None
    versions: list[Version] = field(default_factory=list)

    @property
    def identity(self) -> Identity:
        """As stat(2) has it."""
        return Identity(
            dev=DEV,
            inode=self.number,
            size=len(self.data),
            mtime_ns=self.mtime_ns,
            ctime_ns=self.ctime_ns,
        )


class Disk:
    """What lies below the watched folder; synchronous, each call at one moment.

    Attributes:
        tell: called with a path, how it got there and whether it went away, for inotify.
        drops: how often each content was put there on purpose.
    """

    def __init__(self, clock: SimClock, trace: Trace) -> None:
        self.paths: dict[bytes, Inode] = {}
        self.versions: list[tuple[bytes, Version]] = []
        self.drops: dict[bytes, int] = {}
        self.full = False
        self.tell: Callable[[bytes, Arrival | None, bool], None] = lambda *_: None
        self._clock = clock
        self._trace = trace
        self._last_ns = 0
        self._inodes = 100

    def at(self, path: bytes) -> Inode:
        """What stands at a path.

        Raises:
            GoneError: nothing.
        """
        found = self.paths.get(path)
        if found is None:
            raise GoneError(f"{path!r} is no longer there.")
        return found

    def readable(self, path: bytes) -> Inode:
        """The same, if it may be opened."""
        found = self.at(path)
        if not found.readable:
            raise UnreadableError(f"{path!r} may not be opened: Permission denied.")
        return found

    def make(self, path: bytes) -> Inode:
        """Create a file, open for writing."""
        self._inodes += 1
        inode = Inode(number=self._inodes, writers=1, opened_s=self._clock.true_s)
        inode.mtime_ns = inode.ctime_ns = self._stamp_ns()
        old = self.paths.get(path)
        self.paths[path] = inode
        if old is not None:
            self._unlinked(old)
        self._say(f"creates {path.decode()} as inode {inode.number}")
        self._version(path, inode)
        self.tell(path, Arrival.WRITTEN, False)
        return inode

    def open(self, path: bytes) -> Inode | None:
        """Open for writing what stands there, if anything does."""
        inode = self.paths.get(path)
        if inode is not None:
            if not inode.writers:
                inode.opened_s = self._clock.true_s
            inode.writers += 1
            self._say(f"opens {path.decode()} for writing")
        return inode

    def write(self, inode: Inode, data: bytes, *, mtime_ns: int | None = None) -> None:
        """Give it this content; ``mtime_ns`` puts its time back afterwards."""
        inode.data = data
        inode.mtime_ns = inode.ctime_ns = self._stamp_ns()
        path = self.path_of(inode)
        put_back = ""
        if mtime_ns is not None:
            inode.mtime_ns, inode.ctime_ns = mtime_ns, self._stamp_ns()
            put_back = ", its mtime put back"
        self._say(f"writes inode {inode.number} ({shown(path)}): {len(data)} bytes{put_back}")
        self._version(path or b"", inode)
        if mtime_ns is not None and path is not None:
            self.tell(path, None, False)

    def close(self, inode: Inode) -> None:
        """End one opening for writing."""
        inode.writers -= 1
        path = self.path_of(inode)
        self._say(f"closes inode {inode.number} ({shown(path)})")
        if not inode.writers:
            inode.versions[-1].closed = True
        if path is not None:
            self.tell(path, Arrival.WRITTEN, False)

    def rename(self, path: bytes, to: bytes) -> None:
        """Rename, over whatever is there."""
        inode = self.paths.pop(path)
        old = self.paths.get(to)
        self.paths[to] = inode
        if old is not None:
            self._unlinked(old)
        inode.ctime_ns = self._stamp_ns()
        inode.versions[-1].renamed = True
        if to.startswith((b"done/", b"failed/")):
            inode.filed = inode.data
        self._say(f"renames {path.decode()} to {to.decode()} (inode {inode.number})")
        self.tell(path, None, True)
        self.tell(to, Arrival.RENAMED, False)

    def unlink(self, path: bytes) -> None:
        """Remove a name."""
        inode = self.paths.pop(path)
        self._unlinked(inode)
        self._say(f"removes {path.decode()} (inode {inode.number})")
        self.tell(path, None, True)

    def permit(self, path: bytes, *, readable: bool) -> None:
        """Change a file's mode."""
        inode = self.paths[path]
        inode.readable = readable
        inode.ctime_ns = self._stamp_ns()
        self._say(f"makes {path.decode()} {'' if readable else 'un'}readable")
        self.tell(path, None, False)

    def rot(self, path: bytes, at: int) -> None:
        """Flip a bit behind everybody's back: no time changes, and no event tells."""
        inode = self.paths.get(path)
        if inode is None or not inode.data or inode.writers:
            return
        at %= len(inode.data)
        flipped = bytes([inode.data[at] ^ 1])
        inode.data = inode.data[:at] + flipped + inode.data[at + 1 :]
        self._say(f"flips a bit of inode {inode.number} ({path.decode()}) at {at}")
        self._version(path, inode)
        self.dropped(inode.data)

    def dropped(self, content: bytes) -> None:
        """Note that this content was put there on purpose, once more."""
        self.drops[content] = self.drops.get(content, 0) + 1

    def held(self, content: bytes, *, within_s: float) -> bool:
        """Whether some file had this content a moment ago."""
        since_s = self._clock.true_s - within_s
        return any(
            version.content == content and (version.until_s is None or version.until_s >= since_s)
            for _, version in self.versions
        )

    def path_of(self, inode: Inode) -> bytes | None:
        """Its name, if it has one."""
        return next((path for path, one in self.paths.items() if one is inode), None)

    def _unlinked(self, inode: Inode) -> None:
        inode.ctime_ns = self._stamp_ns()

    def _version(self, path: bytes, inode: Inode) -> None:
        now_s = self._clock.true_s
        if inode.versions:
            inode.versions[-1].until_s = now_s
        version = Version(content=inode.data, since_s=now_s, closed=not inode.writers)
        if inode.versions:  # changed before anybody can have looked: still as it came
            former = inode.versions[-1]
            version.renamed = former.renamed and now_s - former.since_s < AT_ONCE_S
        inode.versions.append(version)
        self.versions.append((path, version))

    def _stamp_ns(self) -> int:
        now_ns = int(self._clock.now().wall_s * 1e6) * 1000
        if 0 <= self._last_ns - now_ns < 1000_000:
            now_ns = self._last_ns + 1
        self._last_ns = now_ns
        return now_ns

    def _say(self, what: str) -> None:
        self._trace.say("spool", what)


def shown(path: bytes | None) -> str:
    """A path for a person."""
    return "without a name" if path is None else path.decode()
