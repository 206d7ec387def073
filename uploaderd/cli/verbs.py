"""What an operator tells the daemon: of files, and of itself.

Each verb says to how many files it was said; each refusal is one line, and makes the exit code 1.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click
import msgspec

from uploaderd.cli import voice
from uploaderd.cli.common import client, config_option, example, json_option, socket_option
from uploaderd.cli.picking import code_option, files_argument, joined, state_option
from uploaderd.cli.waiting import known_id
from uploaderd.control.documents import AnswerError, Row, Status, read, text
from uploaderd.core.report import escape_path
from uploaderd.core.selection import Selection
from uploaderd.errors import ConfigError, Exit, NoDaemonError, UploaderdError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from uploaderd.control.client import Client

PAST: Final = {
    "retry": "retried",
    "hold": "held",
    "release": "released",
    "cancel": "cancelled",
}
_GOING: Final = ("settling", "queued", "deferred", "uploading", "completing", "uncertain")
_CONFLICT: Final = 409
_SERVER_ERROR: Final = 500
_HINT_CHARS: Final = 300


class _Refused(msgspec.Struct, frozen=True, kw_only=True):
    file: str
    code: str
    message: str
    hint: str


@dataclass(slots=True, kw_only=True)
class _Said:
    """What became of one verb; rows are kept only for ``--json``."""

    verb: str
    keeps: bool
    count: int = 0
    last: str = ""
    rows: list[Row] = field(default_factory=list)
    refused: list[_Refused] = field(default_factory=list)
    refusals: int = 0


def count_of(number: int, noun: str = "file") -> str:
    """Say how many: ``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _command(verb: str, line: str, told: str) -> click.Command:
    """Make a verb's command: its example, and its help."""

    @click.command(verb, epilog=example(line), help=told)
    @files_argument(required=False)
    @state_option
    @code_option
    @json_option
    @config_option
    @socket_option
    def command(
        files: tuple[str, ...],
        states: tuple[tuple[str, ...], ...],
        code: str | None,
        as_json: bool,
        config: Path | None,
        socket: Path | None,
    ) -> Exit:
        which = Selection(states=joined(states), code=code)
        if bool(files) == bool(which.states or which.code):
            raise UsageError(
                f"{verb} takes either FILE... or --state and --code",
                hint=f"name files, or for example: {line}",
            )
        said = _Said(verb=verb, keeps=as_json)
        with client(config, socket) as asked, _told_how_far(said):
            for file_id, label in _named(asked, files, said) if files else _chosen(asked, which):
                _say(asked, said, file_id, label)
        _sum_up(said)
        return Exit.FAILED if said.refusals else Exit.DONE

    return command


retry = _command(
    "retry",
    "uploaderd retry --state failed,held",
    """Try files again, now and from scratch.

    That is for files that are deferred, held for a cause that is mended, failed (they are brought
    back from failed/) or cancelled. FILE is a path in the spool or a file's id.
    """,
)
hold = _command(
    "hold",
    "uploaderd hold /var/spool/uploaderd/later.jsonl",
    """Hold files back until `release`.

    Nothing of them is sent meanwhile, over restarts too. FILE is a path in the spool or a file's
    id. One that may have arrived already is not held: the exit code is then 1.
    """,
)
release = _command(
    "release",
    "uploaderd release --code held.operator",
    """Let files go on that `hold` holds.

    What is held for another cause goes on with `retry`. FILE is a path in the spool or a file's
    id.
    """,
)
cancel = _command(
    "cancel",
    "uploaderd cancel /var/spool/uploaderd/wrong.jsonl",
    """Give files up; they stay in the spool.

    They are uploaded only if they change, or after `retry`. FILE is a path in the spool or a
    file's id. One that has arrived, or may have, is not cancelled: the exit code is then 1.
    """,
)


@click.command(epilog=example("uploaderd pause"))
@json_option
@config_option
@socket_option
def pause(as_json: bool, config: Path | None, socket: Path | None) -> None:
    """Begin no request more, until `resume`.

    A restart changes nothing about that. Requests under way come to their end. An upload's hour
    runs on.
    """
    with client(config, socket) as asked:
        document = asked.tell("pause")
    waiting = _going(read(document, Status))
    wait = "waits" if waiting == 1 else "wait"
    said = f"paused; {count_of(waiting)} {wait} for: uploaderd resume"
    voice.out(text(document) if as_json else said)


@click.command(epilog=example("uploaderd resume"))
@json_option
@config_option
@socket_option
def resume(as_json: bool, config: Path | None, socket: Path | None) -> None:
    """Go on after `pause`.

    Targets that take nothing for now are probed at once.
    """
    with client(config, socket) as asked:
        document = asked.tell("resume")
    status = read(document, Status)
    going = _going(status)
    said = voice.shown(f"{status.state}; {count_of(going)} {'goes' if going == 1 else 'go'} on")
    voice.out(text(document) if as_json else said)


@click.command("reload", epilog=example("uploaderd reload"))
@json_option
@config_option
@socket_option
def reload_(as_json: bool, config: Path | None, socket: Path | None) -> None:
    """Let the daemon read its configuration anew.

    It is checked as a whole first; one that is wrong is refused with 78, and the daemon goes on
    with the one that it has. Nothing in flight is lost.
    """
    with client(config, socket) as asked:
        try:
            document = asked.tell("reload")
        except AnswerError as error:
            if error.status == _CONFLICT and error.code == "config":
                raise ConfigError(str(error), hint=error.hint) from error
            raise
    status = read(document, Status)
    watches = count_of(len(status.watches), "folder")
    targets = count_of(len(status.targets), "target")
    said = voice.shown(f"reloaded; {status.state} with {watches} and {targets}")
    voice.out(text(document) if as_json else said)
    if status.bandwidth.why == "operator":
        from uploaderd.cli import moments, screen  # noqa: PLC0415 - only here

        kept = screen.limit(status.bandwidth, moments.now_s())
        voice.note(f"the bandwidth is still {voice.shown(kept)}")


def _going(status: Status) -> int:
    return sum(status.counts.get(state, 0) for state in _GOING)


@contextmanager
def _told_how_far(said: _Said) -> Iterator[None]:
    """End a verb that was broken off with how many files it reached."""
    try:
        yield
    except BaseException:
        if said.count:
            voice.note(f"{PAST[said.verb]} {count_of(said.count)} before the end came")
        raise


def _say(asked: Client, said: _Said, file_id: str, label: str) -> None:
    try:
        row = asked.say(said.verb, file_id)
    except AnswerError as error:
        if error.status >= _SERVER_ERROR:
            raise
        _refuse(said, label, error)
        return
    said.count, said.last = said.count + 1, row.path
    if said.keeps:
        said.rows.append(row)


def _named(asked: Client, files: tuple[str, ...], said: _Said) -> Iterator[tuple[str, str]]:
    """Find each file's id; what is no file's is refused, and the others go on."""
    for name in dict.fromkeys(files):
        try:
            yield known_id(asked, name), name
        except NoDaemonError:
            raise
        except UploaderdError as error:
            _refuse(said, name, error)


def _chosen(asked: Client, which: Selection) -> Iterator[tuple[str, str]]:
    """Go through the files page by page; what leaves its state meanwhile moves no page."""
    for row in asked.rows(which):
        if which.states and row.state not in which.states:
            continue
        if which.has_code(row.reason.code):
            yield row.id, row.path


def _refuse(said: _Said, label: str, error: UploaderdError) -> None:
    said.refusals += 1
    code = error.code if isinstance(error, AnswerError) else ""
    if said.keeps:
        name = escape_path(os.fsencode(label))
        said.refused.append(_Refused(file=name, code=code, message=str(error), hint=error.hint))
        return
    hint = f"; {error.hint[:_HINT_CHARS]}" if error.hint else ""
    voice.error(f"{error}{hint}")


def _sum_up(said: _Said) -> None:
    if said.keeps:
        document = {"verb": said.verb, "files": said.rows, "refused": said.refused}
        voice.out(msgspec.json.encode(document).decode())
    elif said.count == 1:
        voice.out(f"{PAST[said.verb]} {voice.shown(said.last)}")
    elif said.count:
        voice.out(f"{PAST[said.verb]} {count_of(said.count)}")
    elif not said.refusals:
        voice.out(f"nothing to {said.verb}")
