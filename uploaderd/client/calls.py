"""The five calls, one attempt each: whoever calls decides whether to try again."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from dataclasses import dataclass
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any

import aiohttp

from uploaderd.client import sending
from uploaderd.client.address import Paths, Who
from uploaderd.client.exchange import CONNECT_S, Answer, Asked, CleanRequest, Reply, exchange
from uploaderd.client.replies import Reader, RemoteFile, RemoteUpload
from uploaderd.core.retry import Call
from uploaderd.errors import ConfigError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp import AddrInfoType

    from uploaderd.client.address import Key, TargetAddress
    from uploaderd.client.sending import Body, Outgoing

_REPLY_BYTES = 1 << 20
_PAGE_BYTES = 16 << 20
_PAGE_FILES = 1000
_PAGES = 50
_UNSENT_BYTES = 256 * 1024
_ORDER_SLACK_S = 1.0  # order within one second is not fixed (protocol notes, "GET /files")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSpec:
    """What an upload is created with.

    Attributes:
        size: bytes of the whole file.
        expires_after_s: the life of the resulting file, or None for the service's default.
    """

    filename: str
    purpose: str
    size: int
    mime_type: str
    expires_after_s: int | None


def open_session(*, connections: int) -> aiohttp.ClientSession:
    """A pool of connections for all clients; the caller closes it. Needs a running loop.

    There is no total timeout, since a part may take as long as its bytes keep moving, and there
    are no cookies. Proxies and ``.netrc`` from the environment are not honoured: a stray variable
    must neither lead the key elsewhere nor replace it.

    Args:
        connections: how many may be open at once, at least as many as there are calls at once: a
            call that waits for a free connection counts as stalled.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, limit_per_host=0, socket_factory=_socket),
        timeout=aiohttp.ClientTimeout(
            total=None, connect=None, sock_connect=CONNECT_S, sock_read=None
        ),
        request_class=CleanRequest,
        response_class=Answer,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def _socket(address: AddrInfoType) -> socket.socket:
    """Make a connection's socket: what has left it is on its way, rather than in a long buffer.

    The kernel's own grows to megabytes, which would count as sent at once on the slowest line.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    return made


class Client:
    """One target. Each method is one attempt; its errors say what happens next.

    Every method raises TransientError, TargetBlockedError, SessionLostError, ChecksumError or
    RejectedError, by ``core.retry.classify``, and ``acted`` tells whether the service may have
    done it all the same. Every method may be cancelled at any time: the connection is dropped,
    and what the service did is then unknown.

    Args:
        address: where the target is.
        key: shows the key on each request, so that a new one is taken up at once.
        stall_s: how long no byte may move, in seconds.
        session: from ``open_session``; shared, and closed by its owner.
        observe: told of each request's call, the status of its reply (``no_reply`` where none
            came, ``given_up`` where it was broken off here) and the seconds that it took.

    Raises:
        ConfigError: the address cannot be used.
    """

    def __init__(
        self,
        address: TargetAddress,
        key: Key,
        *,
        stall_s: float,
        session: aiohttp.ClientSession,
        observe: Callable[[str, str, float], None] = lambda *_: None,
    ) -> None:
        self._address = address
        self._paths = Paths(address)
        self._key = key
        self._who: Who | None = None
        self._boundaries = sending.Boundaries()
        self._stall_s = stall_s
        self._session = session
        self._observe = observe
        self._tls: ssl.SSLContext | bool | None = None

    def __repr__(self) -> str:
        """Name the target; the key is no part of it."""
        return f"<Client of {self._address.name!r} at {self._address.base_url}>"

    async def create(self, spec: CreateSpec, *, request_id: str) -> RemoteUpload:
        """Open an upload; only a pending one is accepted."""
        words: dict[str, Any] = {
            "filename": spec.filename,
            "purpose": spec.purpose,
            "bytes": spec.size,
            "mime_type": spec.mime_type,
        }
        if spec.expires_after_s is not None:
            words["expires_after"] = {"anchor": "created_at", "seconds": spec.expires_after_s}
        reply, reader = await self._ask(
            Call.CREATE, "POST", self._paths.uploads(), _document(words), request_id
        )
        upload = reader.upload(Call.CREATE, reply, expected=None)
        if upload.status in {"completed", "cancelled", "expired"}:
            raise reader.bad(Call.CREATE, reply, "the new upload is already closed")
        return upload

    async def add_part(self, upload_id: str, body: Body, *, request_id: str) -> str:
        """Send one part and return its id.

        Raises:
            ChangedError: the body had fewer or more bytes than it promised.
            Exception: whatever the body's own iteration raised, as it was raised.
        """
        reply, reader = await self._ask(
            Call.PART,
            "POST",
            self._paths.upload(upload_id, "parts"),
            sending.part(body, self._boundaries.fresh()),
            request_id,
        )
        return reader.part(reply, upload_id=upload_id)

    async def complete(
        self, upload_id: str, part_ids: Sequence[str], md5: str, *, request_id: str
    ) -> RemoteFile:
        """Turn the parts, in this order, into a file.

        Args:
            upload_id: the upload.
            part_ids: the parts' ids in the order of their bytes.
            md5: of the whole file, in hex.
            request_id: of this attempt.
        """
        reply, reader = await self._ask(
            Call.COMPLETE,
            "POST",
            self._paths.upload(upload_id, "complete"),
            _document({"part_ids": list(part_ids), "md5": md5}),
            request_id,
        )
        found = reader.document(Call.COMPLETE, reply)
        upload = reader.upload_in(Call.COMPLETE, reply, found, expected=upload_id)
        if upload.status not in {"completed", ""}:
            raise reader.bad(Call.COMPLETE, reply, "the upload is not completed")
        return reader.file(Call.COMPLETE, reply, found.get("file"))

    async def cancel(self, upload_id: str, *, request_id: str) -> None:
        """Give an upload up; SessionLostError means that it had already ended."""
        reply, reader = await self._ask(
            Call.CANCEL, "POST", self._paths.upload(upload_id, "cancel"), None, request_id
        )
        upload = reader.upload(Call.CANCEL, reply, expected=upload_id)
        if upload.status == "pending":
            raise reader.bad(Call.CANCEL, reply, "the upload is still pending")

    async def list_files(
        self, purpose: str, *, created_after: float | None, request_id: str
    ) -> list[RemoteFile]:
        """All files of a purpose from ``created_after`` on, newest first.

        A list that could not be read to its end is an error, never a shorter list: what is not in
        it would be taken for absent.

        Args:
            purpose: the purpose.
            created_after: Unix seconds by the service's clock, or None for all files.
            request_id: of this attempt; its pages share it.
        """
        found: dict[str, RemoteFile] = {}
        query = {"purpose": purpose, "limit": str(_PAGE_FILES), "order": "desc"}
        for pages in count(1):
            reply, reader = await self._ask(
                Call.LIST, "GET", self._paths.files(query), None, request_id
            )
            document = reader.document(Call.LIST, reply)
            data = document.get("data")
            if not isinstance(data, list):
                raise reader.bad(Call.LIST, reply, "the reply has no list of files")
            page = [reader.file(Call.LIST, reply, each) for each in data]
            fresh = [each for each in page if each.id not in found]
            found.update((each.id, each) for each in fresh)
            if document.get("has_more") is not True or _is_past(page, created_after):
                break
            if not fresh:
                raise reader.bad(Call.LIST, reply, "its next page repeats the one before")
            if pages == _PAGES:
                raise reader.bad(Call.LIST, reply, f"the list goes on after {_PAGES} pages")
            query["after"] = page[-1].id
        return [
            each
            for each in found.values()
            if created_after is None or each.created_at is None or each.created_at >= created_after
        ]

    async def _ask(
        self, call: Call, method: str, url: str, body: Outgoing | None, request_id: str
    ) -> tuple[Reply, Reader]:
        who = self._asking()
        asked = Asked(
            method=method,
            url=url,
            headers=who.headers(request_id),
            body=body,
            limit=_PAGE_BYTES if call is Call.LIST else _REPLY_BYTES,
            tls=self._trust(),
        )
        reply = await self._exchange(call, asked)
        reader = Reader(who.secret)
        if reply.status not in {200, 201}:
            raise reader.refuse(call, reply)
        return reply, reader

    def _asking(self) -> Who:
        """Who asks, with the key as it is now."""
        secret = self._key.reveal()
        if self._who is None or self._who.secret != secret:
            self._who = Who(self._address, secret)
        return self._who

    async def _exchange(self, call: Call, asked: Asked) -> Reply:
        clock = asyncio.get_running_loop().time
        begun_s, status = clock(), "given_up"
        try:
            reply = await exchange(self._session, asked, stall_s=self._stall_s)
            status = str(reply.status)
        except ServiceError:
            status = "no_reply"
            raise
        finally:
            self._observe(call.value, status, clock() - begun_s)
        return reply

    def prepare(self) -> None:
        """Read what the first call would have to read; blocks.

        Raises:
            ConfigError: the target's ``ca_file`` cannot be used.
        """
        self._trust()

    def _trust(self) -> ssl.SSLContext | bool:
        """How the target is verified; read once."""
        if self._tls is None:
            ca_file = self._address.ca_file
            try:
                self._tls = True if ca_file is None else ssl.create_default_context(cafile=ca_file)
            except OSError as exc:  # ssl.SSLError is one
                raise ConfigError(
                    f"the ca_file {str(ca_file)!r} of target {self._address.name!r} "
                    f"cannot be used: {exc.strerror or exc}",
                    hint="name a readable file of PEM certificates",
                ) from exc
        return self._tls


def _document(words: dict[str, Any]) -> Outgoing:
    return sending.document(json.dumps(words).encode())


def _is_past(page: list[RemoteFile], created_after: float | None) -> bool:
    """True if a page ends before the window, in a list that really runs from new to old."""
    if created_after is None:
        return False
    stamps = [each.created_at for each in page if each.created_at is not None]
    falling = all(later <= sooner + _ORDER_SLACK_S for sooner, later in pairwise(stamps))
    return bool(stamps) and falling and stamps[-1] < created_after - _ORDER_SLACK_S
