"""Who has which file in hand, and giving back what was set aside and then forgotten.

A file that is filed waits for a moment under a hidden name. A crash leaves it there until the
journal has it filed again; if the journal is lost, nobody asks for it any more. So each full scan
gives it its own name back, but only that one, and only if it is free and nobody has the file in
hand: then filing finds it as if it had never been set aside, and what nobody knows is a new file.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import TYPE_CHECKING

from uploaderd.errors import GoneError
from uploaderd.spool import beneath, naming
from uploaderd.spool.renaming import rename_new, status, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from uploaderd.spool.tree import Tree


class Claims:
    """The paths that somebody has in hand; for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Counter[bytes] = Counter()

    @contextlib.contextmanager
    def hold(self, path: bytes) -> Iterator[None]:
        """Keep others away from what was set aside for ``path``."""
        with self._lock:
            self._held[path] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[path] -= 1
                if not self._held[path]:
                    del self._held[path]

    def unless_held(self, path: bytes, act: Callable[[], None]) -> bool:
        """Do something short unless somebody has ``path`` in hand; True if it was done."""
        with self._lock:
            if self._held[path]:
                return False
            act()
            return True


def give_back(tree: Tree, path: bytes, ignored: Callable[[bytes], bool]) -> tuple[bytes, str]:
    """Give the file at the hidden ``path`` its own name back.

    Returns:
        its own path, and why it does not have that yet, nothing if it has; the hidden path and
        nothing if there is nothing to do.

    Raises:
        SpoolError: the file system refuses.
    """
    folder, slash, name = path.rpartition(b"/")
    try:
        with tree.parent(path) as (fd, _), beneath.mapped(path):
            found = status(name, fd)
            own = None if found is None else naming.set_aside(name, found.st_ino)
            if found is None:
                return path, ""
            if own is None:
                return path, "Its own name is not known any more; rename it by hand."
            own_path = folder + slash + own
            if ignored(own_path):
                return own_path, "The watch ignores its own name; rename it by hand."

            def rename() -> None:
                rename_new(name, own, from_fd=fd, to_fd=fd)
                sync_folder(fd)

            try:
                done = tree.claims.unless_held(own_path, rename)
            except FileExistsError:
                return own_path, "Its own name is taken; it gets that back once it is free."
            return (own_path if done else path), ""
    except GoneError:
        return path, ""
