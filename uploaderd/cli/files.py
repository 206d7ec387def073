"""``list`` shows all files, ``show`` one with its reason, its history and its parts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click
import msgspec

from uploaderd.cli import voice
from uploaderd.cli.common import client, config_option, example, json_option, socket_option
from uploaderd.cli.waiting import known_id
from uploaderd.config.units import human_bytes, human_duration, human_rate
from uploaderd.control.client import text
from uploaderd.core.model import FileState
from uploaderd.errors import UploaderdError

if TYPE_CHECKING:
    from pathlib import Path

    from uploaderd.control.client import Client, Detail, Row

_PARTS_SHOWN: Final = 40
_HEAD: Final = f"{'STATE':<10}  {'SIZE':>10}  {'STORED':>6}  PATH"


@click.command("list", epilog=example("uploaderd list --state failed"))
@click.option(
    "--state",
    type=click.Choice([state.value for state in FileState]),
    metavar="S",
    help="Only these.",
)
@json_option
@config_option
@socket_option
def list_files(state: str | None, as_json: bool, config: Path | None, socket: Path | None) -> None:
    """List all files, the newest first."""
    with client(config, socket) as asked:
        if as_json:
            _print_all(asked, state)
            return
        head = sys.stdout.isatty()
        for row in asked.rows(state=state):
            if head:
                voice.out(_HEAD)
                head = False
            voice.out(voice.shown(_line(row)))


@click.command(epilog=example("uploaderd show /var/spool/uploaderd/batch/requests.jsonl"))
@click.argument("file", type=click.UNPROCESSED)
@json_option
@config_option
@socket_option
def show(file: str, as_json: bool, config: Path | None, socket: Path | None) -> None:
    """Show one file: its reason, history and parts.

    FILE is a path in the spool (also one that the file has left) or a file's id.
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
    for line in _detail(detail):
        voice.out(voice.shown(line))


def _print_all(asked: Client, state: str | None) -> None:
    """Join the pages into one document; the rows are handed on unread."""
    rows = [row for page in asked.pages(_RawPage, state=state) for row in page.files]
    voice.out(msgspec.json.encode({"files": rows, "next": None}).decode())


class _RawPage(msgspec.Struct, frozen=True, kw_only=True):
    files: list[msgspec.Raw]
    next: str | None = None


def percent(row: Row) -> str:
    """How much of it is stored."""
    if row.state == "done":
        return "100%"
    return f"{100 * row.bytes_stored // row.bytes}%" if row.bytes else "0%"


def _line(row: Row) -> str:
    line = (
        f"{row.state:<10}  {human_bytes(row.bytes):>10}  {percent(row):>6}  {voice.shown(row.path)}"
    )
    if row.state in {"done", "uploading"}:
        return line
    return f"{line}  ({row.reason.code})"


def _detail(row: Detail) -> list[str]:
    until = f" (until {row.reason.until})" if row.reason.until else ""
    over = row.state in {"done", "failed", "cancelled"}
    facts = {
        "id": row.id,
        "path": voice.shown(row.path),
        "state": row.state,
        "reason": f"{voice.shown(row.reason.text)}{until}",
        "code": row.reason.code,
        "size": f"{human_bytes(row.bytes)} ({row.bytes} bytes)",
        "stored": f"{percent(row)}, {row.parts.stored} of {row.parts.total} parts",
        "sent twice": human_bytes(row.bytes_resent) if row.bytes_resent else "",
        "rate": human_rate(row.rate_bps) if row.rate_bps else "",
        "done in": human_duration(row.eta_s) if row.eta_s is not None else "",
        "purpose": row.purpose,
        "target": row.target,
        "upload": row.upload_id or "",
        # The upload's, not the file's: of one that has ended it would only mislead.
        "ends": f"{row.expires_at} (the upload)" if row.expires_at and not over else "",
        "file id": row.file_id or "",
        "md5": row.md5 or "",
        "filed as": voice.shown(row.filed_as) if row.filed_as else "",
        "attempts": str(row.attempts),
        "first seen": row.created_at,
        "changed": row.updated_at,
    }
    lines = [f"{name:>10}: {value}" for name, value in facts.items() if value]
    if row.history:
        lines += ["", "history:"]
        lines += [f"  {one.at}  {one.state:<10}  {voice.shown(one.text)}" for one in row.history]
    if row.parts_list:
        lines += ["", "parts:"]
        lines += [
            f"  {part.number:>5}  {part.offset:>14}  {human_bytes(part.bytes):>10}  {part.state}"
            for part in row.parts_list[:_PARTS_SHOWN]
        ]
        left = len(row.parts_list) - _PARTS_SHOWN
        if left > 0:
            lines.append(f"  … and {left} more; all are in: uploaderd show --json {row.id}")
    return lines
