"""Which names a watch leaves alone."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

from uploaderd.spool.naming import OURS

if TYPE_CHECKING:
    from collections.abc import Iterable

RESERVED = frozenset({b"done", b"failed"})


class Ignore:
    """The watch's ``ignore`` patterns, applied to paths below it.

    A pattern is a shell wildcard (fnmatch) for one name, case-sensitive on every platform; bytes
    that are not UTF-8 match ``?`` and ``*``. Whatever lies in an ignored folder is ignored, which
    holds since nobody enters it: only a path's last name is looked at here. The watch's own
    ``done`` and ``failed`` are left out, and so are the daemon's hidden names.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        joined = "|".join(fnmatch.translate(pattern) for pattern in patterns)
        self._ignored = re.compile(joined or r"(?!)")

    def __call__(self, path: bytes) -> bool:
        """True if the path's last name is to be left out."""
        if path in RESERVED:
            return True
        name = path.rpartition(b"/")[2]
        if name.startswith(OURS):
            return True
        return self._ignored.match(name.decode("utf-8", "surrogateescape")) is not None
