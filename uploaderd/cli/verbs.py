"""What an operator tells the daemon: ``pause``, ``resume``, ``cancel``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from uploaderd.cli import voice
from uploaderd.cli.common import client, config_option, example, socket_option
from uploaderd.cli.waiting import known_id
from uploaderd.errors import Exit, NoDaemonError, UploaderdError

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog=example("uploaderd pause"))
@config_option
@socket_option
def pause(config: Path | None, socket: Path | None) -> None:
    """Begin no request more, until `resume`.

    A restart changes nothing about that. Requests under way come to their end. An upload's hour
    runs on.
    """
    with client(config, socket) as asked:
        status = asked.pause()
    waiting = sum(status.counts.get(s, 0) for s in ("settling", "queued", "deferred", "uploading"))
    voice.out(f"paused; {waiting} files wait for: uploaderd resume")


@click.command(epilog=example("uploaderd resume"))
@config_option
@socket_option
def resume(config: Path | None, socket: Path | None) -> None:
    """Go on after `pause`.

    Targets that take nothing for now are probed at once.
    """
    with client(config, socket) as asked:
        status = asked.resume()
    waiting = sum(status.counts.get(s, 0) for s in ("settling", "queued", "deferred", "uploading"))
    voice.out(voice.shown(f"{status.state}; {waiting} files go on"))


@click.command(epilog=example("uploaderd cancel /var/spool/uploaderd/wrong.jsonl"))
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.UNPROCESSED)
@config_option
@socket_option
def cancel(files: tuple[str, ...], config: Path | None, socket: Path | None) -> int:
    """Give files up; they stay in the spool.

    They are uploaded only if they change. FILE is a path in the spool or a file's id. One that has
    arrived, or may have, is not cancelled: the exit code is then 1.
    """
    refused = 0
    with client(config, socket) as asked:
        for name in files:
            try:
                row = asked.cancel(known_id(asked, name))
            except NoDaemonError:
                raise
            except UploaderdError as error:
                voice.error(str(error), hint=error.hint)
                refused += 1
            else:
                voice.out(f"cancelled {voice.shown(row.path)}")
    return Exit.FAILED if refused else Exit.DONE
