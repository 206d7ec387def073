"""Walking a tree of folders by descriptors: as deep as it goes, with few of them open."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from uploaderd.errors import SpoolError
from uploaderd.spool import beneath
from uploaderd.spool.known import key_of, mark_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from uploaderd.core.model import Identity
    from uploaderd.spool.known import Known

_OPEN_FOLDERS = 32
SLICE = 2_000  # names that are passed over without a word in between


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Something that is no folder, with what it was when the scan passed; never followed."""

    path: bytes
    identity: Identity


@dataclass(slots=True)
class _Folder:
    """A folder whose sub-folders are still to be visited.

    Names hang together by ``above`` instead of each holding its whole path, so that the memory
    for a deep tree grows with its depth and not with its square.
    """

    name: bytes
    above: _Folder | None
    below: list[bytes] = field(default_factory=list)
    fd: int | None = None
    inode: tuple[int, int] | None = None

    def path(self) -> bytes:
        parts: list[bytes] = []
        folder: _Folder | None = self
        while folder is not None:
            if folder.name:
                parts.append(folder.name)
            folder = folder.above
        return b"/".join(reversed(parts))

    def close(self) -> None:
        if self.fd is not None:
            status = os.fstat(self.fd)
            self.inode = (status.st_dev, status.st_ino)
            os.close(self.fd)
            self.fd = None


class Walk:
    """One walk; see ``Tree.walk`` for what the arguments mean.

    Attributes:
        passed: how many names were passed over because they are ``known``.
    """

    def __init__(
        self,
        open_folder: Callable[[bytes], int],
        *,
        recursive: bool,
        ignored: Callable[[bytes], bool],
        enter: Callable[[bytes, int], None] | None,
        trouble: Callable[[bytes, SpoolError], None] | None,
        known: Known | None = None,
    ) -> None:
        self.passed = 0
        self._known = known
        self._open_folder = open_folder
        self._recursive = recursive
        self._ignored = ignored
        self._enter = enter
        self._trouble = trouble

    def run(self, start: bytes) -> Iterator[Seen | None]:
        """Yield what lies below ``start``; a folder that cannot be read is told and left out.

        None says only that ``SLICE`` names were passed over, so that nobody waits for a million.
        """
        here = _Folder(name=start, above=None)
        here.fd = self._open_folder(start)
        stack: list[_Folder] = []
        try:
            yield from self._scan(here)
            while here.below or stack:
                if not here.below:
                    here = self._ascend(here, stack)
                    continue
                folder = self._descend(here)
                if folder is None:
                    continue
                if here.below:
                    stack.append(here)
                    if len(stack) > _OPEN_FOLDERS:
                        stack[-1 - _OPEN_FOLDERS].close()
                else:
                    here.close()
                here = folder
                yield from self._scan(here)
        finally:
            here.close()
            for left in stack:
                left.close()

    def _descend(self, here: _Folder) -> _Folder | None:
        """Open the next sub-folder."""
        folder = _Folder(name=here.below.pop(), above=here)
        try:
            folder.fd = os.open(folder.name, beneath.FOLDER_BENEATH, dir_fd=here.fd)
        except OSError as error:
            self._tell(folder, beneath.translated(error, folder.path()))
            return None
        return folder

    def _ascend(self, here: _Folder, stack: list[_Folder]) -> _Folder:
        """Go back to the deepest folder that has sub-folders left, or give it up."""
        above = stack.pop()
        try:
            if above.fd is None:  # closed to save descriptors
                above.fd = _climb(here, above)
            if above.fd is None:
                above.fd = self._open_folder(above.path())
        except OSError as error:
            self._tell(above, beneath.translated(error, above.path()))
        except SpoolError as error:
            self._tell(above, error)
        if above.fd is None:
            above.below.clear()
            return here
        here.close()
        return above

    def _scan(self, folder: _Folder) -> Iterator[Seen | None]:
        path, fd = folder.path(), folder.fd
        if fd is None:
            return
        prefix = path + b"/" if path else b""
        try:
            if self._enter is not None:
                self._enter(path, fd)
            with os.scandir(fd) as entries:
                yield from self._read(folder, prefix, entries)
        except OSError as error:
            self._tell(folder, beneath.translated(error, path))

    def _read(
        self, folder: _Folder, prefix: bytes, entries: Iterator[os.DirEntry[str]]
    ) -> Iterator[Seen | None]:
        """Go through one folder; a name that is known costs next to nothing but its lstat(2)."""
        known, shown, passed = self._known, os.fsdecode(prefix), 0
        for entry in entries:
            if known is not None and not entry.is_dir(follow_symlinks=False):
                key = key_of(shown + entry.name)
                status = _stat(entry)
                if status is not None and known.has(key, _mark(key, status)):
                    passed += 1
                    if passed % SLICE == 0:
                        self.passed += SLICE
                        yield None
                    continue
            name = os.fsencode(entry.name)
            if self._ignored(prefix + name):
                continue
            if entry.is_dir(follow_symlinks=False):
                if self._recursive:
                    folder.below.append(name)
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield Seen(path=prefix + name, identity=beneath.identity_of(status))
        self.passed += passed % SLICE

    def _tell(self, folder: _Folder, error: SpoolError) -> None:
        if self._trouble is not None:
            self._trouble(folder.path(), error)


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """What stands there, or None; trouble with it is met again where it is told."""
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None


def _mark(key: int, status: os.stat_result) -> int:
    return mark_of(
        key,
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _climb(here: _Folder, above: _Folder) -> int | None:
    """Open ``above`` by way of ``..``; None if a folder was moved meanwhile.

    From the top each step back would cost as many opens as the folder is deep. ``..`` may lead
    anywhere by now, so it is entered by name only (O_PATH) until it is known to be the right one.
    """
    if here.fd is None:
        return None
    fd, folder = os.dup(here.fd), here
    try:
        while folder is not above and folder.above is not None:
            folder = folder.above
            up = os.open(b"..", beneath.NOT_OPENED | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = up
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) != folder.inode:
                return None
        return os.open(b".", beneath.FOLDER_BENEATH, dir_fd=fd)
    finally:
        os.close(fd)
