"""What a proxy does to a request, and what it has seen."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum, auto


class Does(Enum):
    """What a trouble does to its request; ``at`` counts bytes, the head's included."""

    CUT_REQUEST = auto()  # pass on the first `at` bytes, then end both connections
    STALL_REQUEST = auto()  # pass on the first `at` bytes and read no further
    CUT_REPLY = auto()  # pass on the request and the first `at` bytes of its reply, then end
    STALL_REPLY = auto()  # the same, and then nothing
    ANSWER = auto()  # read the first `at` bytes, pass on none, and say `says`
    REPLACE_REPLY = auto()  # pass on the request, and say `says` in place of its reply
    STRAY = auto()  # pass on everything, then say `says`, or the reply again, unasked
    SLOW = auto()  # pass on the request at `rate_bps`


class Ends(Enum):
    """How the connections end where a trouble ends them."""

    CLOSE = auto()  # with a FIN
    RESET = auto()  # with a RST (SO_LINGER 0)
    HALF = auto()  # with a FIN, reading on until the client leaves
    STAY = auto()  # not at all: only for an answer


def call_of(head: bytes) -> str:
    """Which of the five calls a request is."""
    method, path, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
    last = path.partition("?")[0].rpartition("/")[2]
    if method == "GET":
        return "list"
    return {"uploads": "create", "parts": "part"}.get(last, last)


def upload_of(head: bytes) -> bytes:
    """The id of the upload in a request's path, or nothing."""
    steps = head.split(b" ", 2)[1].split(b"/")
    return steps[-2] if steps[-1] in {b"parts", b"complete", b"cancel"} else b""


@dataclass(slots=True, kw_only=True)
class Seen:
    """One request that came through.

    Attributes:
        head: its line and headers, with the empty line.
        passed: bytes of it that went on to the service.
        reply: the service's whole reply, or empty.
    """

    call: str
    head: bytes
    passed: int = 0
    reply: bytes = b""

    @property
    def length(self) -> int:
        """Bytes of its body."""
        return content_length(self.head) or 0


@dataclass(slots=True, kw_only=True)
class Trouble:
    """One trouble of a plan.

    Attributes:
        call: create, part, complete, cancel or list; empty for any.
        at: a byte's place; negative counts from the end, and a fraction is one of the whole.
        says: bytes to say.
        wraps: `says` is the document of a 200, in which {id} stands for the upload's own id.
        on_and_on: bytes to say after them, again and again until the client leaves.
        skip: how many requests of the call pass before it strikes.
        times: how often it strikes.
        over: set once a stray's last byte was heard.
    """

    does: Does
    call: str = ""
    at: float = 0
    ends: Ends = Ends.CLOSE
    says: bytes = b""
    wraps: bool = False
    on_and_on: bytes = b""
    rate_bps: float = 0
    skip: int = 0
    times: int = 1
    fired: int = field(default=0, init=False)
    over: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _met: int = field(default=0, init=False)

    @property
    def left(self) -> int:
        """How many turns it still has."""
        return self.times - self.fired

    def strikes(self, seen: Seen) -> bool:
        """Say whether it strikes this request, and count it."""
        if self.call not in {"", seen.call} or not self.left:
            return False
        self._met += 1
        if self._met <= self.skip:
            return False
        self.fired += 1
        return True

    def words(self, seen: Seen) -> bytes:
        """What to say to a request."""
        if not self.wraps:
            return self.says
        return says("200 OK", self.says.replace(b"{id}", upload_of(seen.head)))

    def place(self, whole: int) -> int:
        """Where ``at`` is in something of so many bytes."""
        at = int(self.at * whole) if 0 < self.at < 1 else int(self.at)
        return min(max(at + whole if at < 0 else at, 0), whole)


def content_length(head: bytes) -> int | None:
    """The Content-Length of a message, or None."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return None


def says(
    status: str,
    body: str | bytes = b"",
    *headers: str,
    kind: str = "application/json",
) -> bytes:
    """Write a whole reply."""
    raw = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(raw)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw
