"""Judging requests: pure functions that return what was asked for or raise a Refusal."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from uploaderd.emulator.objects import Part, Upload, UploadStatus
from uploaderd.emulator.purposes import check_extension, check_purpose
from uploaderd.emulator.refusals import (
    Refusal,
    missing,
    not_pending,
    unknown,
    wrong_type,
    wrong_value,
)
from uploaderd.emulator.rules import Answer, Counting, Md5Form, Orphans, PartOrder, Rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FILE_LIFE_MIN_S = 3600
FILE_LIFE_MAX_S = 2_592_000
LIST_MAX = 10_000

_MIME = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(\s*;.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """What `POST /uploads` asks for."""

    filename: str
    purpose: str
    bytes: int
    mime_type: str
    file_life_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteRequest:
    """What `POST /uploads/{id}/complete` asks for."""

    part_ids: tuple[str, ...]
    md5: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """What `GET /files` asks for."""

    purpose: str | None
    limit: int
    newest_first: bool
    after: str | None


def read_create(body: object, rules: Rules) -> CreateRequest:
    """Read the body of create (protocol notes, POST /uploads)."""
    known = ("filename", "purpose", "bytes", "mime_type", "expires_after")
    fields = _object(body, known, rules)
    filename, purpose, mime_type = (
        _string(fields, name) for name in ("filename", "purpose", "mime_type")
    )
    size = fields.get("bytes")
    if size is None:
        raise missing("bytes")
    if not isinstance(size, int) or isinstance(size, bool):
        raise wrong_type("bytes", "an integer")
    check_filename(filename)
    check_purpose(purpose)
    if rules.extension_rules:
        check_extension(purpose, filename)
    if rules.mime_check and not _MIME.fullmatch(mime_type):
        raise wrong_value("mime_type", f"'{mime_type}' is not a MIME type.")
    check_size(size, purpose, rules)
    return CreateRequest(
        filename=filename,
        purpose=purpose,
        bytes=size,
        mime_type=mime_type,
        file_life_s=read_expires_after(fields.get("expires_after"), rules),
    )


def check_filename(filename: str) -> None:
    """Refuse an empty file name, and one that is no Unicode text."""
    try:
        filename.encode()
    except UnicodeEncodeError:
        raise wrong_value("filename", "The filename is not valid Unicode.") from None
    if not filename:
        raise wrong_value("filename", "The filename is empty.")


def check_size(size: int, purpose: str, rules: Rules) -> None:
    """Refuse a declared size below, at or above what the service takes."""
    if size < 0:
        raise wrong_value("bytes", f"{size} is less than the minimum of 0 - 'bytes'")
    if size == 0 and rules.empty_file is not Answer.ACCEPT:
        raise Refusal(
            "The file is empty: 'bytes' must be at least 1.",
            status=int(rules.empty_file),
            param="bytes",
        )
    limit = rules.upload_max_bytes
    if purpose == "batch":
        limit = min(limit, rules.batch_max_bytes)
    if size > limit:
        raise Refusal(
            f"'bytes' is {size}: an upload with the purpose {purpose} holds at most {limit}.",
            status=int(rules.bytes_over_max),
            param="bytes",
        )


def read_expires_after(value: object, rules: Rules) -> int | None:
    """Read the life of the resulting file in seconds; the refusal names seconds or anchor."""
    if value is None:
        return None
    fields = _object(value, ("anchor", "seconds"), rules, prefix="expires_after.")
    if fields.get("anchor") != "created_at":
        raise wrong_value("expires_after.anchor", "The anchor must be 'created_at'.")
    seconds = fields.get("seconds")
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise wrong_type("expires_after.seconds", "an integer number of seconds")
    if not FILE_LIFE_MIN_S <= seconds <= FILE_LIFE_MAX_S:
        raise wrong_value(
            "expires_after.seconds",
            f"seconds is {seconds}: it must lie between {FILE_LIFE_MIN_S} and {FILE_LIFE_MAX_S}.",
        )
    return seconds


def read_complete(body: object, rules: Rules) -> CompleteRequest:
    """Read the body of complete (protocol notes, POST /uploads/{id}/complete)."""
    fields = _object(body, ("part_ids", "md5"), rules)
    ids = fields.get("part_ids")
    if ids is None:
        raise missing("part_ids")
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise wrong_type("part_ids", "an array of strings")
    md5 = fields.get("md5")
    if md5 is not None and not isinstance(md5, str):
        raise wrong_type("md5", "a string")
    return CompleteRequest(part_ids=tuple(cast("list[str]", ids)), md5=md5)


def read_list(query: Mapping[str, str]) -> ListRequest:
    """Read the query of the list of files (protocol notes, GET /files)."""
    text = query.get("limit", str(LIST_MAX))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LIST_MAX):
        raise wrong_value("limit", f"limit must be an integer between 1 and {LIST_MAX}.")
    order = query.get("order", "desc")
    if order not in {"asc", "desc"}:
        raise wrong_value("order", "order must be 'asc' or 'desc'.")
    return ListRequest(
        purpose=query.get("purpose"),
        limit=int(text),
        newest_first=order == "desc",
        after=query.get("after"),
    )


def part_room(upload: Upload, stored_bytes: int, rules: Rules) -> int:
    """Return how many bytes one more part may bring within the declared total."""
    match rules.beyond_bytes:
        case Counting.EACH_PART:
            return upload.bytes
        case Counting.ALL_PARTS:
            return max(0, upload.bytes - stored_bytes)
        case Counting.AT_COMPLETE:
            return rules.part_max_bytes


def check_part(upload: Upload, part_bytes: int, stored_bytes: int, rules: Rules) -> None:
    """Refuse a part that is too large, beyond the declared bytes, or (by a knob) empty."""
    if part_bytes > rules.part_max_bytes:
        raise Refusal(
            f"The part is larger than the maximum of {rules.part_max_bytes} bytes.",
            status=int(rules.part_over_max),
            param="data",
        )
    if part_bytes > part_room(upload, stored_bytes, rules):
        raise Refusal(
            f"The part goes beyond the {upload.bytes} bytes that upload {upload.id} declared.",
            param="data",
        )
    if part_bytes == 0 and rules.empty_part is not Answer.ACCEPT:
        raise Refusal("The part is empty.", status=int(rules.empty_part), param="data")


def check_part_state(upload: Upload, rules: Rules) -> None:
    """Refuse a part of an upload that is not pending."""
    if upload.status is UploadStatus.EXPIRED:
        raise not_pending(upload.id, upload.status, int(rules.after_expiry))
    if upload.status is not UploadStatus.PENDING:
        raise not_pending(upload.id, upload.status, int(rules.part_after_end))


def choose_parts(
    upload: Upload, ids: Sequence[str], stored: Mapping[str, Part], rules: Rules
) -> tuple[Part, ...]:
    """Return the parts that `complete` lists, in its order; `stored` has those of all uploads."""
    chosen: list[Part] = []
    for one in ids:
        part = stored.get(one)
        if part is None:
            raise Refusal(f"No such part: {one}", status=int(rules.unknown_part), param="part_ids")
        if part.upload_id != upload.id and rules.foreign_part is not Answer.ACCEPT:
            raise Refusal(
                f"The part {one} does not belong to upload {upload.id}.",
                status=int(rules.foreign_part),
                param="part_ids",
            )
        chosen.append(part)
    distinct = {part.id for part in chosen}
    if len(distinct) < len(chosen) and rules.duplicate_part is not Answer.ACCEPT:
        raise Refusal(
            "The same part is listed more than once.",
            status=int(rules.duplicate_part),
            param="part_ids",
        )
    numbers = [part.number for part in chosen]
    if rules.part_order is PartOrder.ARRIVAL and numbers != sorted(numbers):
        raise Refusal("The parts must be listed in the order they arrived.", param="part_ids")
    return tuple(chosen)


def sum_refusal(
    upload: Upload, chosen: Sequence[Part], own: Iterable[Part], rules: Rules
) -> Refusal | None:
    """Return why the listed parts don't add up to the declared bytes, or None if they do."""
    total = sum(part.bytes for part in chosen)
    listed = {part.id for part in chosen}
    if rules.orphans is Orphans.COUNTED:
        total += sum(part.bytes for part in own if part.id not in listed)
    if total == upload.bytes:
        return None
    return Refusal(
        f"The parts hold {total} bytes, but upload {upload.id} declared {upload.bytes}.",
        param="part_ids",
    )


def md5_matches(claimed: str, md5: str, rules: Rules) -> bool:
    """Tell whether the claimed checksum is `md5` (hex), written in the form the rules want."""
    in_base64 = base64.b64encode(bytes.fromhex(md5)).decode()
    as_hex = claimed.lower() == md5
    as_base64 = claimed == in_base64
    match rules.md5_form:
        case Md5Form.HEX:
            return as_hex
        case Md5Form.BASE64:
            return as_base64
        case Md5Form.EITHER:
            return as_hex or as_base64


def _object(
    value: object, known: Sequence[str], rules: Rules, *, prefix: str = ""
) -> dict[str, object]:
    if not isinstance(value, dict):
        raise wrong_type(prefix.rstrip(".") or "body", "an object")
    if rules.unknown_keys_refused:
        for name in value:
            if name not in known:
                raise unknown(f"{prefix}{name}")
    return cast("dict[str, object]", value)


def _string(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if value is None:
        raise missing(name)
    if not isinstance(value, str):
        raise wrong_type(name, "a string")
    return value
