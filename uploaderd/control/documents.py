"""The daemon's documents as the commands read them.

What a newer daemon adds is passed over; what an older one leaves out has a default.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import msgspec

from uploaderd.errors import UploaderdError

MESSAGE_CHARS: Final = 1000
_OK: Final = 200

T = TypeVar("T")
# Figures that can be shown, whoever answers on the socket.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Rate = Annotated[float, msgspec.Meta(ge=0, le=2.0**63)]


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """A reason: its code, its sentence, and until when it holds."""

    code: str
    text: str
    until: str | None = None


class PartCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many parts a file has and where they stand."""

    total: Count = 0
    stored: Count = 0
    in_flight: Count = 0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """FILE of the contract, with what the daemon adds to it."""

    id: str
    path: str
    watch: str
    target: str
    purpose: str
    bytes: Count
    state: str
    reason: Why
    parts: PartCounts
    bytes_stored: Count
    bytes_resent: Count
    rate_bps: Rate
    eta_s: Rate | None
    upload_id: str | None
    expires_at: str | None
    file_id: str | None
    md5: str | None
    attempts: Count
    created_at: str
    updated_at: str
    filed: bool = True
    filed_as: str | None = None
    inode: int = 0
    dev: int = 0
    bytes_moving: Count = 0

    @property
    def bytes_sent(self) -> int:
        """How much of it has left: what is stored, and what is on its way."""
        return min(self.bytes_stored + self.bytes_moving, self.bytes)

    @property
    def percent(self) -> int:
        """How much of it is stored."""
        if self.state == "done":
            return 100
        return 100 * self.bytes_stored // self.bytes if self.bytes else 0

    @property
    def ended(self) -> bool:
        """Nothing will happen to it any more, its after-care included."""
        return self.state == "cancelled" or (self.state in {"done", "failed"} and self.filed)


class PartRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``parts_list``."""

    number: Count
    offset: Count
    bytes: Count
    state: str
    part_id: str | None = None
    sends: Count = 0


class HistoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``history``."""

    at: str
    state: str
    text: str
    event: str = ""
    code: str = ""


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``requests``: an attempt, its X-Client-Request-Id, and how it ended."""

    id: str
    call: str = ""
    part: Count | None = None
    at: Rate | None = None
    outcome: str | None = None


class Detail(Row, frozen=True, kw_only=True):
    """One file with its parts, its history and its requests."""

    parts_list: list[PartRow] = []
    history: list[HistoryRow] = []
    requests: list[RequestRow] = []


class Bytes(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of all files' bytes."""

    queued: Count
    stored: Count
    resent: Count


class WatchRow(msgspec.Struct, frozen=True, kw_only=True):
    """A watched folder and how the daemon hears of its files."""

    path: str
    mode: str
    why: str | None = None


class Flying(msgspec.Struct, frozen=True, kw_only=True):
    """How many parts are on their way to a target, how many may be, and why."""

    now: Count = 0
    limit: Count = 0
    most: Count = 0
    code: str = ""
    why: str = ""
    frozen: bool = False


class TargetRow(msgspec.Struct, frozen=True, kw_only=True):
    """A target and whether it takes requests."""

    name: str
    state: str
    until: str | None = None
    parts_in_flight: Flying = Flying()
    connection_bps: Count | None = None


class Bandwidth(msgspec.Struct, frozen=True, kw_only=True):
    """The limit that is in force, by whose word and until when, and what is configured."""

    limit_bps: Count | None = None
    why: str = "configured"
    until: str | None = None
    configured: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /v1/status`` of the contract."""

    version: str
    pid: Count
    started_at: str
    state: str
    drained: bool
    counts: dict[str, Count]
    bytes: Bytes
    rate_bps: Rate
    watches: list[WatchRow]
    targets: list[TargetRow]
    active: list[Row]
    bandwidth: Bandwidth = Bandwidth()
    trouble: str | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of files."""

    files: list[Row]
    next: str | None = None


class RawPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of files whose rows are handed on unread."""

    files: list[msgspec.Raw]
    next: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """``event: file`` of ``GET /v1/events``: one row of the history, as it was written.

    Without a path the file is forgotten by now.
    """

    at: str
    event: str
    state: str
    code: str
    text: str
    id: str
    path: str | None = None


class AnswerError(UploaderdError):
    """The daemon answered, but not with what was asked for.

    Attributes:
        status: the HTTP status.
        code: the error document's code, empty where there was none.
    """

    def __init__(self, message: str, *, status: int, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


def read(document: bytes, kind: type[T]) -> T:
    """Read a document of the daemon's; AnswerError where it is none of that kind."""
    try:
        return msgspec.json.decode(document, type=kind)
    except (ValueError, RecursionError) as error:  # msgspec's own are among the first
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise AnswerError(
            f"the daemon's answer is not understood: {why[:MESSAGE_CHARS]}",
            status=_OK,
            hint="is it another version? compare: uploaderd --version",
        ) from error


def text(document: bytes) -> str:
    """A document as it came, to be handed on; AnswerError where it is no JSON."""
    read(document, Any)
    return document.decode().strip()


class _Refusal(msgspec.Struct, frozen=True, kw_only=True):
    message: str
    hint: str = ""
    code: str = ""


class _Refused(msgspec.Struct, frozen=True, kw_only=True):
    error: _Refusal


def refusal(status: int, body: bytes) -> AnswerError:
    """Read an error document; what is none is told by its status."""
    try:
        said = read(body, _Refused).error
    except AnswerError:
        return AnswerError(f"the socket answered with HTTP status {status}", status=status)
    return AnswerError(
        said.message[:MESSAGE_CHARS],
        status=status,
        hint=said.hint[:MESSAGE_CHARS],
        code=said.code[:MESSAGE_CHARS],
    )
