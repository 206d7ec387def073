"""``show``: one file, with its reason, its history, its parts and its requests."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import click

from uploaderd.cli import moments, voice
from uploaderd.cli.common import client, config_option, example, json_option, socket_option
from uploaderd.cli.picking import files_argument
from uploaderd.cli.waiting import known_id
from uploaderd.config.units import human_bytes, human_rate
from uploaderd.control.documents import text
from uploaderd.errors import UploaderdError

if TYPE_CHECKING:
    from pathlib import Path

    from uploaderd.control.documents import Detail

_FEW: Final = 12
_PARTS_SHOWN: Final = 20
_LINES_SHOWN: Final = 40
_REQUESTS_SHOWN: Final = 100
_OVER: Final = frozenset({"done", "failed", "cancelled"})


@click.command(epilog=example("uploaderd show /var/spool/uploaderd/batch/requests.jsonl"))
@files_argument(many=False)
@click.option("-v", "--verbose", is_flag=True, help="Its requests as well, and its whole history.")
@json_option
@config_option
@socket_option
def show(file: str, verbose: bool, as_json: bool, config: Path | None, socket: Path | None) -> None:
    """Show one file: its reason, history and parts.

    FILE is a path in the spool (also one that the file has left) or a file's id. Of many parts
    those are listed that are not stored. With --json everything is in one document.
    """
    with client(config, socket) as asked:
        file_id = known_id(asked, file)
        if as_json:
            document = asked.file_document(file_id)
            if document is not None:
                voice.out(text(document))
                return
        detail = asked.file(file_id)
    if detail is None:
        raise UploaderdError(f"no file has the id {file_id}", hint="see: uploaderd list")
    now_s = moments.now_s()
    lines = [*_facts(detail, now_s), *_history(detail, now_s, whole=verbose), *_parts(detail)]
    if verbose:
        lines += _requests(detail)
    for line in lines:
        voice.out(voice.shown(line))


def _facts(row: Detail, now_s: float) -> list[str]:
    over = row.state in _OVER
    left = moments.until(row.expires_at, now_s)
    until = f" (until {row.reason.until}, {moments.until(row.reason.until, now_s)})"
    facts = {
        "id": row.id,
        "path": row.path,
        "state": row.state,
        "reason": row.reason.text + (until if row.reason.until else ""),
        "code": row.reason.code,
        "size": f"{human_bytes(row.bytes)} ({row.bytes} bytes)",
        "stored": f"{row.percent}%, {row.parts.stored} of {row.parts.total} parts",
        "sent twice": human_bytes(row.bytes_resent) if row.bytes_resent else "",
        "rate": human_rate(row.rate_bps) if row.rate_bps else "",
        "done in": moments.short(row.eta_s) if row.eta_s is not None else "",
        "purpose": row.purpose,
        "target": row.target,
        "upload": row.upload_id or "",
        # The upload's, not the file's: of one that has ended it would only mislead.
        "ends": f"{row.expires_at}, {left} (the upload)" if row.expires_at and not over else "",
        "file id": row.file_id or "",
        "md5": row.md5 or "",
        "filed as": row.filed_as or "",
        "attempts": str(row.attempts),
        "first seen": row.created_at,
        "changed": row.updated_at,
    }
    return [f"{name:>10}: {value}" for name, value in facts.items() if value]


def _history(row: Detail, now_s: float, *, whole: bool) -> list[str]:
    """Each line with its time, and how long it was so."""
    history = row.history
    if not history:
        return []
    skipped = 0 if whole else max(len(history) - _LINES_SHOWN, 0)
    lines = ["", "history:"]
    if skipped:
        lines.append(f"  … {skipped} earlier ones; all are in: uploaderd show -v {row.id}")
    ends = [moments.seconds(one.at) for one in history[1:]]
    ends.append(None if row.state in _OVER else now_s)
    for one, end_s in list(zip(history, ends, strict=True))[skipped:]:
        began_s = moments.seconds(one.at)
        known = began_s is not None and end_s is not None
        lasted = moments.short(max((end_s or 0) - (began_s or 0), 0)) if known else ""
        lines.append(f"  {one.at}  {one.state:<10}  {lasted:>7}  {one.text}")
    return lines


def _parts(row: Detail) -> list[str]:
    """All of a few; of many how many are in which state, and those that are not stored."""
    parts = row.parts_list
    if not parts:
        return []
    states = Counter(part.state for part in parts)
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    shown = parts if len(parts) <= _FEW else [part for part in parts if part.state != "stored"]
    lines = ["", f"parts: {len(parts)}: {counts}"]
    lines += [
        f"  {part.number:>5}  at {part.offset:>12}  {human_bytes(part.bytes):>10}  {part.state}"
        + (f"  (tried {part.sends} times)" if part.sends > 1 else "")
        for part in shown[:_PARTS_SHOWN]
    ]
    rest = len(shown) - _PARTS_SHOWN
    if rest > 0:
        lines.append(f"  … and {rest} more; all are in: uploaderd show --json {row.id}")
    return lines


def _requests(row: Detail) -> list[str]:
    """The newest, with the ids that the service's own log knows them by."""
    if not row.requests:
        return ["", "requests: none"]
    lines = ["", f"requests: {len(row.requests)}, each with its X-Client-Request-Id"]
    skipped = max(len(row.requests) - _REQUESTS_SHOWN, 0)
    if skipped:
        lines.append(f"  … {skipped} earlier ones; all are in: uploaderd show --json {row.id}")
    for one in row.requests[skipped:]:
        call = one.call if one.part is None else f"{one.call} {one.part}"
        at = moments.written(one.at)
        lines.append(f"  {at:<24}  {call:<10}  {one.id}  {one.outcome or 'under way'}")
    return lines
