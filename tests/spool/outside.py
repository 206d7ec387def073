"""What lies outside of the spool, and the kernel's word that nobody touched it (inotify(7))."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from asyncinotify import Inotify, Mask

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

SECRET = b"secret: nobody may read this"
_ANY = (
    Mask.OPEN
    | Mask.ACCESS
    | Mask.MODIFY
    | Mask.ATTRIB
    | Mask.CLOSE
    | Mask.CREATE
    | Mask.DELETE
    | Mask.MOVE
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
)


class Outside:
    """A folder with a secret file and a folder with one; leaving the block checks them.

    Opening an inode, by whatever name, is an event, and so is each change.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / "outside"
        self.secret = self.folder / "secret.txt"
        self.inner = self.folder / "inner"
        self.inner.mkdir(parents=True)
        self.secret.write_bytes(SECRET)
        (self.inner / "inner.txt").write_bytes(SECRET)
        self._inotify = Inotify(sync_timeout=0)

    def __enter__(self) -> Self:
        """Begin to listen."""
        for path in (self.folder, self.secret, self.inner, self.inner / "inner.txt"):
            self._inotify.add_watch(path, _ANY)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing was opened, read, changed, moved, deleted or put there."""
        events = []
        while (event := self._inotify.sync_get()) is not None:
            events.append(f"{event.mask!r} {event.path}")
        self._inotify.close()
        if error is None:
            assert events == []
            assert sorted(os.listdir(self.folder)) == ["inner", "secret.txt"]
            assert os.listdir(self.inner) == ["inner.txt"]
