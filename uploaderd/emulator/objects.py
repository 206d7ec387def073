"""What the service keeps about uploads, parts and files, and how it shows each of them."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from enum import StrEnum

from uploaderd.emulator.rules import FileBytes, NoFile, Rules

_ALPHANUMERIC = string.ascii_letters + string.digits
_FILE_ID_LENGTH = 22


class UploadStatus(StrEnum):
    """The states of an upload; all but pending are final."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One upload; times are Unix seconds, `part_ids` is the order that `complete` gave."""

    id: str
    bytes: int
    filename: str
    purpose: str
    mime_type: str
    created_s: float
    expires_s: float
    file_life_s: int | None
    status: UploadStatus = UploadStatus.PENDING
    file_id: str | None = None
    part_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One stored part; `number` counts arrivals from 1."""

    id: str
    upload_id: str
    number: int
    bytes: int
    created_s: float
    block_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file; `faulty` marks one whose status will turn to error."""

    id: str
    number: int
    bytes: int
    md5: str
    filename: str
    purpose: str
    created_s: float
    expires_s: float | None
    upload_id: str | None
    faulty: bool = False


def upload_id(rules: Rules) -> str:
    """Return a new upload's id in the flavour's shape."""
    return ("fine-tune-" if rules.azure else "upload_") + secrets.token_hex(16)


def part_id(rules: Rules) -> str:
    """Return a new part's id in the flavour's shape."""
    return ("uplprt-" if rules.azure else "part_") + secrets.token_hex(16)


def file_id(rules: Rules) -> str:
    """Return a new file's id in the flavour's shape."""
    if rules.azure:
        return "file-" + secrets.token_hex(16)
    return "file-" + "".join(secrets.choice(_ALPHANUMERIC) for _ in range(_FILE_ID_LENGTH))


def show_upload(
    upload: Upload, rules: Rules, *, now_s: float, file: File | None = None
) -> dict[str, object]:
    """Return the Upload object as the wire has it."""
    created_at = int(upload.created_s)
    document: dict[str, object] = {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.bytes,
        "created_at": created_at,
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": upload.status.value,
        "expires_at": created_at - 1 if rules.expiry_nonsense else int(upload.expires_s),
    }
    if file is not None:
        document["file"] = show_file(file, rules, now_s=now_s, in_complete=True)
    elif rules.no_file is NoFile.NULL:
        document["file"] = None
    return document


def show_part(part: Part) -> dict[str, object]:
    """Return the UploadPart object: no size and no hash, as on the real wire."""
    document: dict[str, object] = {
        "id": part.id,
        "object": "upload.part",
        "created_at": int(part.created_s),
        "upload_id": part.upload_id,
    }
    if part.block_id:
        document["azure_block_id"] = part.block_id
    return document


def show_file(
    file: File, rules: Rules, *, now_s: float, in_complete: bool = False
) -> dict[str, object]:
    """Return the File object as it looks at `now_s`."""
    hidden = rules.file_bytes is FileBytes.NULL_EVERYWHERE or (
        in_complete and rules.file_bytes is FileBytes.NULL_IN_COMPLETE
    )
    status = file_status(file, rules, now_s=now_s)
    document: dict[str, object] = {
        "id": file.id,
        "object": "file",
        "bytes": None if hidden else file.bytes,
        "created_at": int(file.created_s),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": status,
        "status_details": "The file's checksum is wrong." if status == "error" else None,
    }
    if file.expires_s is not None:
        document["expires_at"] = int(file.expires_s)
    return document


def file_status(file: File, rules: Rules, *, now_s: float) -> str:
    """Return the status that the file has at `now_s`; it lags by the rules' choice."""
    age_s = now_s - file.created_s
    if file.faulty and age_s >= rules.error_after_s:
        return "error"
    if age_s < rules.processing_s:
        return "pending" if rules.azure else "uploaded"
    return "processed"
