"""The simulated service: what it holds, and how it answers by this seed's rules."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.clock import SimClock
    from tests.simulation.scenario import Rules
    from tests.simulation.trace import Trace

Document = dict[str, Any]
PENDING, COMPLETED, CANCELLED, EXPIRED = "pending", "completed", "cancelled", "expired"


class Refusal(Exception):  # noqa: N818 - an answer, not an error of ours
    """An answer other than 200."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(slots=True, kw_only=True)
class HeldUpload:
    """An upload as the service has it."""

    id: str
    filename: str
    purpose: str
    size: int
    created_s: float
    expires_s: float
    ended: str = ""
    parts: dict[str, bytes] = field(default_factory=dict)
    file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFile:
    """A file as the service has it."""

    id: str
    filename: str
    purpose: str
    content: bytes
    created_s: float
    upload: str
    order: float

    @property
    def md5(self) -> str:
        """The content's md5 in hex."""
        return hashlib.md5(self.content, usedforsecurity=False).hexdigest()


class SimService:
    """Acts at once when asked; the network decides when that is."""

    def __init__(self, rules: Rules, clock: SimClock, rng: Random, trace: Trace) -> None:
        self.rules = rules
        self.uploads: dict[str, HeldUpload] = {}
        self.files: dict[str, HeldFile] = {}
        self.wrong: list[str] = []
        self._clock = clock
        self._rng = rng
        self._trace = trace

    def answer(self, call: str, upload_id: str, words: Document, data: bytes) -> tuple[int, bytes]:
        """Do what is asked; return status and body."""
        try:
            found = self._act(call, upload_id, words, data)
            status, text = 200, str(found.get("id", "")) + " " + str(found.get("status", ""))
        except Refusal as refusal:
            kind = "invalid_request_error"
            error = {"message": refusal.message, "type": kind, "param": None, "code": refusal.code}
            found, status, text = {"error": error}, refusal.status, refusal.message
        self._trace.say("service", f"{call} {upload_id} -> {status} {text.strip()}")
        return status, json.dumps(found).encode()

    def has(self, content: bytes) -> bool:
        """Whether a file with these bytes is here."""
        return any(file.content == content for file in self.files.values())

    def status_of(self, upload: HeldUpload) -> str:
        """Where an upload stands now."""
        if upload.ended:
            return upload.ended
        return EXPIRED if self._clock.true_s >= upload.expires_s else PENDING

    def _act(self, call: str, upload_id: str, words: Document, data: bytes) -> Document:
        if call == "create":
            return self._create(words)
        if call == "list":
            return self._list(words)
        upload = self.uploads.get(upload_id)
        if upload is None:
            raise Refusal(404, f"No such Upload object: {upload_id}")
        if call == "part":
            return self._part(upload, data)
        if call == "complete":
            return self._complete(upload, words)
        return self._cancel(upload)

    def _new(self, kind: str) -> str:
        return f"{kind}{self._rng.getrandbits(40):010x}"

    def _stamp(self) -> float:
        return self._clock.true_s + self.rules.skew_s

    def _create(self, words: Document) -> Document:
        now_s = self._clock.true_s
        upload = HeldUpload(
            id=self._new("upload_"),
            filename=words["filename"],
            purpose=words["purpose"],
            size=words["bytes"],
            created_s=now_s,
            expires_s=now_s + self.rules.life_s,
        )
        self.uploads[upload.id] = upload
        return self._shown(upload)

    def _part(self, upload: HeldUpload, data: bytes) -> Document:
        self._must_be_pending(upload)
        if not data:
            raise Refusal(400, "The part has no bytes.")
        stored = sum(map(len, upload.parts.values())) if self.rules.orphans_counted else 0
        if stored + len(data) > upload.size:
            raise Refusal(400, "The parts exceed the total declared bytes of the upload.")
        part_id = self._new("part_")
        upload.parts[part_id] = data
        return {"id": part_id, "object": "upload.part", "upload_id": upload.id}

    def _complete(self, upload: HeldUpload, words: Document) -> Document:
        status = self.status_of(upload)
        if status == COMPLETED:
            return self._completed_again(upload)
        self._must_be_pending(upload)
        ids: list[str] = words["part_ids"]
        unknown = [one for one in ids if one not in upload.parts]
        if unknown or len(set(ids)) < len(ids):
            raise Refusal(400, f"No such part: {', '.join(unknown) or 'one is listed twice'}")
        content = b"".join(upload.parts[one] for one in ids)
        counted = len(content)
        if self.rules.orphans_counted:
            counted = sum(map(len, upload.parts.values()))
        if counted != upload.size:
            raise Refusal(400, f"The parts hold {counted} bytes, declared were {upload.size}.")
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != words["md5"]:
            self.wrong.append(f"I2: complete of {upload.id} names parts of other bytes")
            raise Refusal(400, "The md5 is not that of the parts.")
        file = HeldFile(
            id=self._new("file-"),
            filename=upload.filename,
            purpose=upload.purpose,
            content=content,
            created_s=self._stamp(),
            upload=upload.id,
            order=self._rng.random(),
        )
        self.files[file.id] = file
        upload.ended, upload.file = COMPLETED, file.id
        return self._shown(upload)

    def _completed_again(self, upload: HeldUpload) -> Document:
        match self.rules.complete_twice:
            case 200:
                return self._shown(upload)
            case 404:
                raise Refusal(404, f"No such Upload object: {upload.id}")
            case other:
                raise Refusal(other, "The upload is not pending.", "upload_not_pending")

    def _cancel(self, upload: HeldUpload) -> Document:
        if self.status_of(upload) != CANCELLED:
            self._must_be_pending(upload)
        upload.ended = CANCELLED
        return self._shown(upload)

    def _must_be_pending(self, upload: HeldUpload) -> None:
        status = self.status_of(upload)
        if status == PENDING:
            return
        answer = self.rules.after_expiry if status == EXPIRED else self.rules.after_end
        if answer == 404:
            raise Refusal(404, f"No such Upload object: {upload.id}")
        raise Refusal(answer, f"The upload is {status}.", "upload_not_pending")

    def _list(self, words: Document) -> Document:
        latest_s = self._clock.true_s - self.rules.list_lag_s
        visible = [
            file
            for file in self.files.values()
            if file.purpose == words["purpose"] and file.created_s - self.rules.skew_s <= latest_s
        ]
        visible.sort(key=lambda file: (-int(file.created_s), file.order))
        start = 0
        if "after" in words:
            start = [file.id for file in visible].index(words["after"]) + 1
        page = visible[start : start + self.rules.page]
        return {
            "object": "list",
            "data": [self._file(file) for file in page],
            "has_more": start + len(page) < len(visible),
        }

    def _shown(self, upload: HeldUpload) -> Document:
        created = int(upload.created_s + self.rules.skew_s)
        expires = int(upload.expires_s + self.rules.skew_s)
        found: Document = {
            "id": upload.id,
            "object": "upload",
            "bytes": upload.size,
            "created_at": created,
            "expires_at": created - 1 if self.rules.nonsense_expiry else expires,
            "filename": upload.filename,
            "purpose": upload.purpose,
            "status": self.status_of(upload),
        }
        if self.rules.created_missing:
            del found["created_at"]
        if upload.file is not None:
            found["file"] = self._file(self.files[upload.file])
        return found

    def _file(self, file: HeldFile) -> Document:
        found: Document = {
            "id": file.id,
            "object": "file",
            "bytes": None if self.rules.bytes_null else len(file.content),
            "created_at": int(file.created_s),
            "filename": file.filename,
            "purpose": file.purpose,
            "status": "processed",
        }
        if self.rules.created_missing:
            del found["created_at"]
        return found
