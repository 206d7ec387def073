"""The status socket's client: short, synchronous, without aiohttp, so that commands start fast.

A document is read into one of ``documents``' records; ``--json`` hands the daemon's own document
on, unread.
"""

from __future__ import annotations

import socket as sockets
import struct
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeVar
from urllib.parse import quote, quote_from_bytes

import msgspec

from uploaderd.control.documents import AnswerError, Detail, Page, Row, Status, read, refusal
from uploaderd.control.wire import Answer
from uploaderd.core.selection import Selection
from uploaderd.errors import NoDaemonError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

TIMEOUT_S: Final = 10.0
PAGE: Final = 500
_MOST_BYTES: Final = 2**25
_PIECE: Final = 2**18
_OK: Final = 200
_NOT_FOUND: Final = 404


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


ALL: Final = Selection()


def _query(which: Selection) -> list[str]:
    """Write what is asked for as the parts of a query."""
    texts = {
        "state": ",".join(which.states),
        "watch": which.watch,
        "target": which.target,
        "code": which.code,
    }
    found = [
        f"{name}={quote(value, safe=',', errors='surrogateescape')}"
        for name, value in texts.items()
        if value
    ]
    if which.path is not None:
        found.append(f"path={quote_from_bytes(which.path, safe='')}")
    return found


class Client:
    """Asks the daemon on one socket; a kept connection is opened anew where it was lost."""

    def __init__(self, socket: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self.socket = socket
        self._timeout_s = timeout_s
        self._connection: sockets.socket | None = None

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
        self, which: Selection = ALL, *, limit: int = PAGE, after: str | None = None
    ) -> bytes:
        """Ask for one page of files, the newest first, as the daemon wrote it."""
        query = [*_query(which), f"limit={limit}"]
        if after:
            query.append(f"after={quote(after, safe='')}")
        return self.get("/v1/files?" + "&".join(query))

    def rows(self, which: Selection = ALL, *, limit: int = PAGE) -> Iterator[Row]:
        """Go through all files, page by page."""
        for page in self.pages(Page, which, limit=limit):
            yield from page.files

    def pages(self, kind: type[P], which: Selection = ALL, *, limit: int = PAGE) -> Iterator[P]:
        """Go through all pages, each read as ``kind``; AnswerError where they go in a circle."""
        after: str | None = None
        seen: set[int] = set()
        while True:
            page = read(self.files(which, limit=limit, after=after), kind)
            yield page
            after = page.next
            if after is None:
                return
            # A million files are two thousand pages: their hashes are little enough to keep.
            if hash(after) in seen or not page.files:
                raise AnswerError("the daemon's list of files does not come to an end", status=_OK)
            seen.add(hash(after))

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

    def tell(self, verb: str) -> bytes:
        """Tell the daemon to pause, resume or reload; how it stands then, as it wrote it."""
        return self.get(f"/v1/{verb}", method="POST")

    def limit(self, rate: str) -> bytes:
        """Limit the bandwidth; how the daemon stands then, as it wrote it."""
        said = msgspec.json.encode({"limit": rate})
        return self.get("/v1/limit", method="POST", content=said)

    def say(self, verb: str, file_id: str) -> Row:
        """Say a verb of one file; AnswerError with status 409 where it does not apply."""
        name = quote(file_id, safe="", errors="surrogateescape")
        return read(self.get(f"/v1/files/{name}/{verb}", method="POST"), Row)

    def get(self, path: str, *, method: str = "GET", content: bytes = b"") -> bytes:
        """Get one document; every call may be made twice, so a lost connection is tried again.

        Raises:
            NoDaemonError: nobody answers.
            AnswerError: the daemon refuses.
        """
        kept = self._connection is not None
        try:
            status, body = self._exchange(path, method, content)
        except (ValueError, EOFError, ConnectionError) as error:
            self.close()
            if not kept:
                raise self._nobody(error) from error
            return self.get(path, method=method, content=content)
        except OSError as error:
            self.close()
            raise self._nobody(error) from error
        if status != _OK:
            raise refusal(status, body)
        return body

    def _exchange(self, path: str, method: str, content: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = connect(self.socket, self._timeout_s)
        length = f"Content-Length: {len(content)}\r\n" if method == "POST" else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n"
        self._connection.sendall(head.encode("ascii") + content)
        answer, body = Answer(), bytearray()
        while not answer.ended:
            some = self._connection.recv(_PIECE)
            body += answer.feed(some)
            if len(body) > _MOST_BYTES:
                self.close()
                raise AnswerError(
                    f"the daemon's answer is longer than {_MOST_BYTES} bytes",
                    status=answer.status or 0,
                )
            if not some:
                if not answer.endless:
                    raise EOFError
                self.close()
                break
        if answer.status is None:
            raise EOFError
        return answer.status, bytes(body)

    def _nobody(self, error: Exception) -> NoDaemonError:
        return nobody(self.socket, error)


def nobody(path: Path, error: Exception) -> NoDaemonError:
    """Say why nobody answers on a socket, and what to do about it."""
    hint = "start it with: uploaderd run; or name its socket with --socket"
    if isinstance(error, PermissionError):
        hint = "your user may not open it: join its group, or see daemon.socket_mode"
    if isinstance(error, OSError):
        why = error.strerror or str(error)
    else:  # its words quote what came
        why = "what answers breaks off or does not speak HTTP"
    return NoDaemonError(f"no daemon answers on {path}: {why or 'no answer'}", hint=hint)


def connect(path: Path, timeout_s: float) -> sockets.socket:
    """Open a connection; OSError where nobody listens.

    Where many come at once it waits for its turn. Only a blocking connect(2) does: any other has
    EAGAIN at once where the queue of a Unix socket is full, and SO_SNDTIMEO bounds it (unix(7)).
    """
    sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        seconds, rest = divmod(timeout_s, 1)
        patience = struct.pack("@ll", int(seconds), int(rest * 1_000_000))
        sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDTIMEO, patience)
        sock.connect(str(path))
        sock.settimeout(timeout_s)
    except BaseException:
        sock.close()
        raise
    return sock
