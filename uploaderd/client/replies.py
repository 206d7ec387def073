"""What a reply says: the objects of the protocol, or the error that it stands for."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uploaderd.client.address import is_id
from uploaderd.core.retry import Call, Verdict, classify
from uploaderd.errors import (
    ChecksumError,
    RejectedError,
    ServiceError,
    SessionLostError,
    TargetBlockedError,
    TransientError,
)

if TYPE_CHECKING:
    from uploaderd.client.exchange import Reply

_MESSAGE_CHARS = 300
_WORD_CHARS = 80
_LATEST_S = 253_402_300_799.0  # the end of the year 9999; a later stamp is in another unit
_LEVELS = 64  # of nesting; documents of the service have three
_INT_DIGITS = 19  # of which any number fits into 64 bits
_HALF = re.compile("[\ud800-\udfff]")
_KEY_SHAPE = re.compile(r"\b(sk|sess)-[\w*.-]{6,}", re.ASCII)

_NO_UPLOAD = ("upload.part", "file", "list", "error")
_NO_PART = ("upload", "file", "list", "error")  # a part's own word differs between services

_WHAT = {
    Call.CREATE: "creating the upload",
    Call.PART: "sending a part",
    Call.COMPLETE: "completing the upload",
    Call.CANCEL: "cancelling the upload",
    Call.LIST: "listing the files",
}
_DONE = {
    Verdict.BLOCKED: TargetBlockedError,
    Verdict.SESSION_LOST: SessionLostError,
    Verdict.CHECKSUM: ChecksumError,
    Verdict.REJECTED: RejectedError,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteUpload:
    """An upload as the service describes it.

    Attributes:
        created_at: Unix seconds by the service's clock, or None where it says nothing usable.
        expires_at: the same; it may lie before ``created_at`` (protocol notes, "Objects").
        status: pending, completed, cancelled or expired; empty where it was left out.
    """

    id: str
    created_at: float | None
    expires_at: float | None
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file as the service describes it.

    Attributes:
        bytes: its size, or None where the service does not say.
        created_at: Unix seconds by the service's clock, or None.
        document: the whole object as it came.
    """

    id: str
    bytes: int | None
    created_at: float | None
    filename: str
    purpose: str
    document: dict[str, Any]


class Reader:
    """Reads replies for one target, and keeps its key out of every text.

    Attributes:
        secret: the key, to be struck from what the service echoes.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def refuse(self, call: Call, reply: Reply) -> ServiceError:
        """The error that a reply other than success stands for."""
        error = _error_object(reply.body)
        meaning = classify(call, reply.status, reply.headers, error)
        message = f"{_WHAT[call]} was answered with status {reply.status}"
        if meaning.code == "redirect":
            there = self.clean(reply.headers.get("location"), _MESSAGE_CHARS)
            message += f", which points to {there or 'nowhere'}"
        words = self.clean((error or {}).get("message"), _MESSAGE_CHARS)
        if words:
            message += f": {words}"
        code = self.clean((error or {}).get("code") or (error or {}).get("type"), _WORD_CHARS)
        if code:
            message += f" ({code})"
        facts: dict[str, Any] = {
            "code": meaning.code,
            "status": reply.status,
            "request_id": self._request_id(reply),
            "acted": meaning.acted and not reply.unasked,  # half a request can't have been done
            "hint": meaning.hint,
        }
        if meaning.verdict is Verdict.TRANSIENT:
            return TransientError(message, retry_after_s=meaning.retry_after_s, **facts)
        return _DONE[meaning.verdict](message, **facts)

    def bad(self, call: Call, reply: Reply, why: str) -> TransientError:
        """The error for a success that cannot be believed: the outcome is open."""
        reply.distrust()
        return TransientError(
            f"{_WHAT[call]} was answered with status {reply.status}, but {why}",
            code="bad_reply",
            status=reply.status,
            request_id=self._request_id(reply),
            acted=call is not Call.LIST,
        )

    def document(self, call: Call, reply: Reply) -> dict[str, Any]:
        """The JSON object of a successful reply.

        Raises:
            TransientError: the reply is cut, is no JSON or is no object.
        """
        if reply.unasked:
            raise self.bad(call, reply, "before the request had been sent whole")
        if reply.cut:
            raise self.bad(call, reply, f"the reply can't be used: {reply.cut}")
        found = _parse(reply.body)
        if not isinstance(found, dict):
            raise self.bad(call, reply, "the reply is not a JSON object")
        return found

    def upload(self, call: Call, reply: Reply, *, expected: str | None) -> RemoteUpload:
        """The upload that a reply describes.

        Raises:
            TransientError: it is no upload, or not the ``expected`` one.
        """
        return self.upload_in(call, reply, self.document(call, reply), expected=expected)

    def upload_in(
        self, call: Call, reply: Reply, found: dict[str, Any], *, expected: str | None
    ) -> RemoteUpload:
        """The same, from a document that was read already."""
        upload_id = found.get("id")
        if not is_id(upload_id):
            raise self.bad(call, reply, "the reply has no usable id")
        if found.get("object") in _NO_UPLOAD:
            raise self.bad(call, reply, "the reply is about something else than an upload")
        if expected is not None and upload_id != expected:
            raise self.bad(call, reply, "the reply is about another upload")
        status = found.get("status")
        return RemoteUpload(
            id=str(upload_id),
            created_at=_time(found.get("created_at")),
            expires_at=_time(found.get("expires_at")),
            status=status if isinstance(status, str) else "",
        )

    def part(self, reply: Reply, *, upload_id: str) -> str:
        """The id of a stored part.

        Raises:
            TransientError: there is none, or the part went to another upload.
        """
        found = self.document(Call.PART, reply)
        part_id = found.get("id")
        if not is_id(part_id):
            raise self.bad(Call.PART, reply, "the reply has no usable id")
        if found.get("upload_id") not in (upload_id, None):  # what is no text may have no hash
            raise self.bad(Call.PART, reply, "the reply is about another upload")
        if part_id == upload_id or found.get("object") in _NO_PART:
            raise self.bad(Call.PART, reply, "the reply is about something else than a part")
        return str(part_id)

    def file(self, call: Call, reply: Reply, found: object) -> RemoteFile:
        """A file object.

        Raises:
            TransientError: it is none.
        """
        if not isinstance(found, dict) or not is_id(found.get("id")):
            raise self.bad(call, reply, "the reply has no usable file")
        size = found.get("bytes")
        filename, purpose = found.get("filename"), found.get("purpose")
        return RemoteFile(
            id=found["id"],
            bytes=size if type(size) is int and size >= 0 else None,
            created_at=_time(found.get("created_at")),
            filename=filename if isinstance(filename, str) else "",
            purpose=purpose if isinstance(purpose, str) else "",
            document=found,
        )

    def clean(self, value: object, limit: int) -> str:
        """Text of the service, fit for a log: without the key, on one line and bounded.

        The key goes first: a cut through its middle would leave a half that is not recognised.
        """
        if not isinstance(value, str):
            return ""
        if self._secret:
            value = value.replace(self._secret, "[key]")
        value = _KEY_SHAPE.sub("[key]", value[: limit * 8])
        value = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
            for char in value[: limit + 1]
        )
        return value if len(value) <= limit else value[: limit - 1] + "…"

    def _request_id(self, reply: Reply) -> str:
        return self.clean(reply.headers.get("x-request-id"), _WORD_CHARS)


def _parse(body: bytes) -> object:
    """Read JSON whose values can be written again by any writer; None if it is none.

    What is no text becomes U+FFFD, so that it hides nothing else in the document; unlike a
    question mark, that is in no id.
    """
    text = body.decode("utf-8-sig", "replace")
    try:
        found: object = _READ(text)
        if "\\u" in text:  # half of a surrogate pair can be escaped, but never encoded
            plain = _HALF.sub("\ufffd", json.dumps(found, ensure_ascii=False))
            found = json.loads(plain, parse_int=_int)
    except (ValueError, RecursionError):
        return None
    brackets = text.count("{") + text.count("[")  # as many as there are levels, at least
    return None if brackets >= _LEVELS and _is_deep(found) else found


def _is_deep(found: object) -> bool:
    """Whether it is nested so deeply that a writer further down the stack may not manage it."""
    level = [found]
    for _ in range(_LEVELS):
        inner = [each for each in level if isinstance(each, (dict, list))]
        if not inner:
            return False
        level = [x for each in inner for x in (each.values() if isinstance(each, dict) else each)]
    return bool(level)


def _int(digits: str) -> int | float:
    """An integer, or a float where it is beyond 64 bits."""
    return int(digits) if len(digits) < _INT_DIGITS else float(digits)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_READ = json.JSONDecoder(parse_constant=_no_constant, parse_int=_int).decode


def _error_object(text: bytes) -> dict[str, Any] | None:
    found = _parse(text)
    if not isinstance(found, dict):
        return None
    error = found.get("error", found.get("detail", found))
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else None


def _time(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if 0 < found < _LATEST_S else None
