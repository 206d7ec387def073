"""What the server answers: the Uploads service's calls, three of S3's, and a PUT for curl.

It keeps of an upload only what its replies repeat, and of a request one row for who asks what was
seen (see ``bench.server.process.Seen``).
"""

from __future__ import annotations

import itertools
import json
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from bench.server import s3

_LIFE_S = 3600
_SEEN = 200_000


@dataclass(slots=True)
class Pending:
    """A request whose body is on its way.

    Attributes:
        wanted: whether its body is to be read rather than thrown away.
        row: began_ns, ended_ns, call, about, size, received.
    """

    call: str
    path: str
    query: str
    wanted: bool
    row: list[Any]


class Service:
    """Its state is shared by all connections: each operation on it is one step of Python's."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._uploads: dict[str, dict[str, Any]] = {}
        self._seen: deque[list[Any]] = deque(maxlen=_SEEN)

    def begin(self, method: str, target: str, size: int, began_ns: int) -> Pending:
        """Note a request whose head is there."""
        path, _, query = target.partition("?")
        call, about = _call(method, path, query)
        row = [began_ns, 0, call, about, size, 0]
        if call != "seen":
            self._seen.append(row)
        wanted = call in {"create", "complete", "s3-complete"}
        return Pending(call, path, query, wanted, row)

    def end(self, pending: Pending, body: bytes) -> bytes:
        """Return the whole reply to a request that is all there."""
        reply = self._reply(pending, body)
        pending.row[1] = time.monotonic_ns()
        return reply

    def _reply(self, pending: Pending, body: bytes) -> bytes:
        call, row = pending.call, pending.row
        number = next(self._numbers)
        if call.startswith("s3-"):
            return s3.reply(call, pending.path, number)
        value: object = {}
        if call == "part":
            value = {
                "id": f"part_{number:032x}",
                "object": "upload.part",
                "created_at": int(time.time()),
                "upload_id": row[3],
            }
        elif call == "create":
            value = self._create(number, json.loads(body), row)
        elif call in {"complete", "cancel"}:
            value = self._finish(number, row[3], call)
        elif call == "list":
            value = {"object": "list", "data": [], "has_more": False}
        elif call == "seen":
            value = list(self._seen)
            if row[3] == "DELETE":
                self._seen.clear()
        return _json(value)

    def _create(self, number: int, asked: dict[str, Any], row: list[Any]) -> dict[str, Any]:
        now = int(time.time())
        upload = {
            "id": f"upload_{number:032x}",
            "object": "upload",
            "bytes": asked["bytes"],
            "filename": asked["filename"],
            "purpose": asked["purpose"],
            "created_at": now,
            "expires_at": now + _LIFE_S,
            "status": "pending",
            "file": None,
        }
        row[3] = asked["filename"]
        self._uploads[upload["id"]] = upload
        return upload

    def _finish(self, number: int, upload_id: str, call: str) -> dict[str, Any]:
        upload = self._uploads.pop(upload_id, None) or {}
        if call == "cancel":
            return upload | {"id": upload_id, "status": "cancelled"}
        file = {
            "id": f"file-{number:022x}",
            "object": "file",
            "bytes": upload.get("bytes"),
            "created_at": int(time.time()),
            "filename": upload.get("filename"),
            "purpose": upload.get("purpose"),
            "status": "processed",
        }
        return upload | {"status": "completed", "file": file}


def _call(method: str, path: str, query: str) -> tuple[str, str]:
    """What is asked for, and of what."""
    found = "other", path
    match [method, *path.split("/")]:
        case ["POST", "", "v1", "uploads", upload_id, "parts"]:
            found = "part", upload_id
        case ["POST", "", "v1", "uploads"]:
            found = "create", ""
        case ["POST", "", "v1", "uploads", upload_id, ("complete" | "cancel") as verb]:
            found = verb, upload_id
        case ["GET", "", "v1", "files"]:
            found = "list", ""
        case ["GET" | "DELETE", "", "bench", "seen"]:
            found = "seen", method
        case ["PUT" | "POST", "", "bucket", *_] if query:
            found = s3.call(method, query), path
        case ["PUT", *_]:
            found = "put", path
        case _:
            pass
    return found


def _json(value: object) -> bytes:
    body = json.dumps(value).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body
