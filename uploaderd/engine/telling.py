"""What the log says of a file: each change of its state once, and no retry of what it waits for."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from uploaderd import logs
from uploaderd.core.model import FileState, Filing

if TYPE_CHECKING:
    from uploaderd.core.model import File

log = logs.get(__name__)

# One and the same outage has many faces, from one attempt to the next.
OUTAGE = frozenset(
    {"deferred.network", "deferred.server_error", "deferred.gateway", "deferred.bad_reply"}
)
REMEMBERED = 4096  # waiting files whose last word is known; the others may be told of again


class Telling:
    """Tells of a file's way at debug, and louder of what a person wants to know.

    A file that goes its way is told of twice, when it is taken up and when it is filed. One that
    waits is told of when it begins to and when the reason becomes another: that it was tried
    again meanwhile, in vain, is there at debug.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, str] = OrderedDict()

    def tell(self, after: File) -> None:  # noqa: C901 - one case a state
        """Log the state that a file has come to."""
        facts: dict[str, object] = {"path": after.path, "id": after.id}
        if after.state is FileState.DONE:
            facts |= {"file_id": after.remote_file, "bytes": after.identity.size}
        facts |= {"reason": after.reason.code, "text": after.reason.text}
        match after.state:
            case FileState.SETTLING:
                self._waiting.pop(after.id, None)
                log.debug("file.settling", exc=None, **facts)
            case FileState.QUEUED:
                log.debug("file.queued", exc=None, **facts)
            case FileState.UPLOADING:
                say = log.debug if after.id in self._waiting else log.info
                say("file.uploading", exc=None, **facts)
            case FileState.COMPLETING:
                log.debug("file.completing", exc=None, **facts)
            case FileState.DEFERRED:
                say = log.info if self._is_news(after) else log.debug
                say("file.deferred", exc=None, **facts)
            case FileState.HELD:
                say = log.warning if self._is_news(after) else log.debug
                say("file.held", exc=None, **facts)
            case FileState.UNCERTAIN:
                say = log.warning if self._is_news(after) else log.debug
                say("file.uncertain", exc=None, **facts)
            case FileState.DONE:
                self._waiting.pop(after.id, None)
                known = after.reason.code == "done.already_uploaded"
                say = log.info if known or after.filing is Filing.FILED else log.debug
                say("file.done", exc=None, **facts)
            case FileState.FAILED:
                self._waiting.pop(after.id, None)
                log.warning("file.failed", exc=None, **facts)
            case FileState.CANCELLED:
                self._waiting.pop(after.id, None)
                log.info("file.cancelled", exc=None, **facts)

    def _is_news(self, after: File) -> bool:
        """Whether the last wait that was told of was another one."""
        why = "outage" if after.reason.code in OUTAGE else after.reason.code
        known = self._waiting.pop(after.id, None)
        self._waiting[after.id] = why
        if len(self._waiting) > REMEMBERED:
            self._waiting.popitem(last=False)
        return known != why
