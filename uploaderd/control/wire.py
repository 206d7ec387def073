"""What comes over an open answer, piece by piece: HTTP's head and chunks, and server-sent events.

Nothing here asks or waits. Bytes go in as they come, however they are cut; a ``ValueError`` says
that they are not what they should be, and each thing that grows has an end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

HEAD_BYTES: Final = 64 * 1024
EVENT_BYTES: Final = 16 * 1024 * 1024
_LINE_BYTES: Final = 1024
_HEX_DIGITS: Final = 12
_RETRY_DIGITS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One server-sent event: its kind, its data, and the last id that came so far."""

    kind: str
    data: str
    id: str


@dataclass(slots=True)
class Answer:
    """One HTTP/1.1 answer that is read as it comes: its status, then its body's bytes."""

    status: int | None = None
    ended: bool = False
    _chunked: bool = False
    _left: int | None = None
    _kept: bytearray = field(default_factory=bytearray)
    _after_chunk: bool = False

    @property
    def endless(self) -> bool:
        """Whether the end of the connection is the end of its body."""
        return self.status is not None and not self._chunked and self._left is None

    def feed(self, some: bytes) -> bytes:
        """Take what came; give what it holds of the body."""
        self._kept += some
        if self.status is None and not self._head():
            return b""
        body = bytearray()
        if self._chunked:
            while self._chunk(body):
                pass
        else:
            body += self._take(len(self._kept))
            self.ended = self._left == 0
        return bytes(body)

    def _head(self) -> bool:
        end = self._kept.find(b"\r\n\r\n")
        if end < 0:
            if len(self._kept) > HEAD_BYTES:
                raise ValueError("the answer's head does not come to an end")
            return False
        first, *lines = bytes(self._kept[:end]).split(b"\r\n")
        del self._kept[: end + 4]
        version, _, rest = first.partition(b" ")
        status = rest[:3]
        if not version.startswith(b"HTTP/1.") or not (status.isdigit() and len(status) == 3):  # noqa: PLR2004 - digits
            raise ValueError("what answers does not speak HTTP")
        for line in lines:
            name, _, value = line.partition(b":")
            value = value.strip()
            match name.strip().lower():
                case b"transfer-encoding":
                    self._chunked = value.lower() == b"chunked"
                case b"content-length" if value.isdigit() and len(value) <= _HEX_DIGITS:
                    self._left = int(value)
        self.status = int(status)
        return True

    def _chunk(self, body: bytearray) -> bool:
        """Take one step; False where more has to come first."""
        if self.ended:
            return False
        if self._left:
            body += self._take(self._left)
            self._after_chunk = self._left == 0
            return self._after_chunk
        line, newline, _ = bytes(self._kept[:_LINE_BYTES]).partition(b"\r\n")
        if not newline:
            if len(self._kept) >= _LINE_BYTES:
                raise ValueError("a chunk's head does not come to an end")
            return False
        del self._kept[: len(line) + 2]
        if self._after_chunk:
            self._after_chunk = False
            if line:
                raise ValueError("a chunk is longer than it said")
            return True
        digits = line.partition(b";")[0].strip()
        if not 0 < len(digits) <= _HEX_DIGITS or not set(digits) <= set(b"0123456789abcdefABCDEF"):
            raise ValueError("a chunk's size is none")
        self._left = int(digits, 16)
        self.ended = self._left == 0
        return not self.ended

    def _take(self, most: int) -> bytes:
        if self._left is not None:
            most = min(most, self._left)
        found = bytes(self._kept[:most])
        del self._kept[:most]
        if self._left is not None:
            self._left -= len(found)
        return found


@dataclass(slots=True)
class Parser:
    """Server-sent events as the HTML standard has them.

    Attributes:
        last_id: where to go on after a break: the id of the last event that came whole.
        retry_s: how long to wait before that; None until the server said so.
    """

    last_id: str = ""
    retry_s: float | None = None
    _kept: bytearray = field(default_factory=bytearray)
    _id: str = ""
    _kind: str = ""
    _data: list[str] = field(default_factory=list)
    _size: int = 0
    _begun: bool = False
    _return: bool = False

    def feed(self, some: bytes) -> list[Event]:
        """Take what came; give the events that are whole by now."""
        found = []
        for line in self._lines(some):
            event = self._line(line)
            if event is not None:
                found.append(event)
        return found

    def broken(self) -> None:
        """Forget what was half there; the ids and the wait stay."""
        self._kept.clear()
        self._id, self._kind, self._data, self._size = self.last_id, "", [], 0
        self._begun = self._return = False

    def _lines(self, some: bytes) -> list[bytes]:
        """Lines end with CR, LF or both; a CR at the end of a piece may be the first half."""
        if self._return and some:
            some = some.removeprefix(b"\n")
            self._return = False
        if some.endswith(b"\r"):
            self._return = True
        *whole, rest = (
            some.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n") if some else [b""]
        )
        if whole:
            whole[0] = bytes(self._kept) + whole[0]
            self._kept.clear()
        self._kept += rest
        if len(self._kept) + self._size > EVENT_BYTES:
            raise ValueError("an event does not come to an end")
        if whole and not self._begun:
            self._begun = True
            whole[0] = whole[0].removeprefix(b"\xef\xbb\xbf")
        return whole

    def _line(self, line: bytes) -> Event | None:
        if not line:
            self.last_id = self._id
            kind, data = self._kind or "message", self._data
            self._kind, self._data, self._size = "", [], 0
            return Event(kind=kind, data="\n".join(data), id=self.last_id) if data else None
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._kind = value
            case "data":
                self._data.append(value)
                self._size += len(line)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit() and len(value) <= _RETRY_DIGITS:
                self.retry_s = int(value) / 1000
            case _:  # a comment, which begins with a colon, or a field of a later version
                pass
        return None
