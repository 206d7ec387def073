"""The status socket's client: short, synchronous, without aiohttp, so that commands start fast.

A document is read into the record below it; what a newer daemon adds is passed over. ``--json``
hands the daemon's own document on, unread.
"""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol, Self, TypeVar
from urllib.parse import quote, quote_from_bytes

import msgspec

from uploaderd.errors import NoDaemonError, UploaderdError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

TIMEOUT_S: Final = 10.0
PAGE: Final = 500
_MOST_BYTES: Final = 2**25
_MESSAGE_CHARS: Final = 1000
_OK: Final = 200
_NOT_FOUND: Final = 404

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


class Detail(Row, frozen=True, kw_only=True):
    """One file with its parts and its history."""

    parts_list: list[PartRow] = []
    history: list[HistoryRow] = []


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


class TargetRow(msgspec.Struct, frozen=True, kw_only=True):
    """A target and whether it takes requests."""

    name: str
    state: str
    until: str | None = None


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
    trouble: str | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of files."""

    files: list[Row]
    next: str | None = None


class AnyPage(Protocol):
    """A page read in whatever depth."""

    @property
    def files(self) -> Sequence[object]:
        """Its rows."""
        ...

    @property
    def next(self) -> str | None:
        """Where the next one begins."""
        ...


P = TypeVar("P", bound=AnyPage)


class AnswerError(UploaderdError):
    """The daemon answered, but not with what was asked for.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Client:
    """Asks the daemon on one socket; a kept connection is opened anew where it was lost."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._connection: _UnixConnection | None = None

    def __enter__(self) -> Self:
        """Use it as a context manager to close its connection."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def status(self) -> Status:
        """Ask what is going on."""
        return read(self.get("/v1/status"), Status)

    def files(
        self,
        *,
        state: str | None = None,
        path: bytes | None = None,
        limit: int = PAGE,
        after: str | None = None,
    ) -> bytes:
        """Ask for one page of files, the newest first, as the daemon wrote it."""
        query = {"state": state, "limit": str(limit), "after": after}
        pairs = [f"{name}={quote(value, safe='')}" for name, value in query.items() if value]
        if path is not None:
            pairs.append(f"path={quote_from_bytes(path, safe='')}")
        return self.get("/v1/files?" + "&".join(pairs))

    def rows(
        self, *, state: str | None = None, path: bytes | None = None, limit: int = PAGE
    ) -> Iterator[Row]:
        """Go through all files, page by page."""
        for page in self.pages(Page, state=state, path=path, limit=limit):
            yield from page.files

    def pages(
        self, kind: type[P], *, state: str | None, path: bytes | None = None, limit: int = PAGE
    ) -> Iterator[P]:
        """Go through all pages, each read as ``kind``; AnswerError where they go in a circle."""
        after: str | None = None
        seen: set[str] = set()
        while True:
            page = read(self.files(state=state, path=path, limit=limit, after=after), kind)
            yield page
            after = page.next
            if after is None:
                return
            if after in seen or not page.files:
                raise AnswerError("the daemon's list of files does not come to an end", status=_OK)
            seen.add(after)

    def file(self, file_id: str) -> Detail | None:
        """Ask for one file by its id."""
        document = self.file_document(file_id)
        return None if document is None else read(document, Detail)

    def file_document(self, file_id: str) -> bytes | None:
        """Ask for one file by its id, as the daemon wrote it."""
        try:
            return self.get(f"/v1/files/{quote(file_id, safe='', errors='surrogateescape')}")
        except AnswerError as error:
            if error.status == _NOT_FOUND:
                return None
            raise

    def pause(self) -> Status:
        """Let the daemon begin no request more."""
        return read(self.get("/v1/pause", method="POST"), Status)

    def resume(self) -> Status:
        """Let the daemon go on."""
        return read(self.get("/v1/resume", method="POST"), Status)

    def cancel(self, file_id: str) -> Row:
        """Let the daemon give a file up; AnswerError where that does not apply."""
        name = quote(file_id, safe="", errors="surrogateescape")
        return read(self.get(f"/v1/files/{name}/cancel", method="POST"), Row)

    def get(self, path: str, *, method: str = "GET") -> bytes:
        """Get one document; every call may be made twice, so a lost connection is tried again.

        Raises:
            NoDaemonError: nobody answers.
            AnswerError: the daemon refuses.
        """
        kept = self._connection is not None
        try:
            status, body = self._exchange(path, method)
        except (http.client.HTTPException, ConnectionError, BrokenPipeError) as error:
            self.close()
            if not kept:
                raise self._nobody(error) from error
            return self.get(path, method=method)
        except OSError as error:
            self.close()
            raise self._nobody(error) from error
        if status != _OK:
            raise _refusal(status, body)
        return body

    def _exchange(self, path: str, method: str) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = _UnixConnection(self.socket)
        self._connection.request(method, path)
        answer = self._connection.getresponse()
        body = answer.read(_MOST_BYTES + 1)
        if len(body) > _MOST_BYTES:
            self.close()
            raise AnswerError(
                f"the daemon's answer is longer than {_MOST_BYTES} bytes", status=answer.status
            )
        if answer.length:  # http.client says nothing where a part of it is read
            raise http.client.IncompleteRead(body, answer.length)
        return answer.status, body

    def _nobody(self, error: Exception) -> NoDaemonError:
        hint = "start it with: uploaderd run; or name its socket with --socket"
        if isinstance(error, PermissionError):
            hint = "your user may not open it: join its group, or see daemon.socket_mode"
        if isinstance(error, OSError):
            why = error.strerror or str(error)
        else:  # its words quote what came
            why = "what answers breaks off or does not speak HTTP"
        return NoDaemonError(f"no daemon answers on {self.socket}: {why or 'no answer'}", hint=hint)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(TIMEOUT_S)
        try:
            sock.connect(str(self._path))
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def read(document: bytes, kind: type[T]) -> T:
    """Read a document of the daemon's; AnswerError where it is none of that kind."""
    try:
        return msgspec.json.decode(document, type=kind)
    except (ValueError, RecursionError) as error:  # msgspec's own are among the first
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise AnswerError(
            f"the daemon's answer is not understood: {why[:_MESSAGE_CHARS]}",
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


class _Refused(msgspec.Struct, frozen=True, kw_only=True):
    error: _Refusal


def _refusal(status: int, body: bytes) -> AnswerError:
    try:
        said = read(body, _Refused).error
    except AnswerError:
        return AnswerError(f"the socket answered with HTTP status {status}", status=status)
    return AnswerError(
        said.message[:_MESSAGE_CHARS], status=status, hint=said.hint[:_MESSAGE_CHARS]
    )
