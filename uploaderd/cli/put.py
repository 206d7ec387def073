"""``put`` drops files into a watch; ``wait`` blocks until files have ended."""

from __future__ import annotations

import json
import os
import shlex
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import click

from uploaderd.cli import voice
from uploaderd.cli.common import (
    PATH,
    client,
    config_option,
    example,
    has_config,
    json_option,
    load,
    socket_option,
)
from uploaderd.cli.waiting import Wanted, by_name, failures, patiently, wait_all
from uploaderd.errors import ConfigError, Exit, NoDaemonError, UploaderdError, UsageError
from uploaderd.put import Dropped, drop, refuse_unusable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from uploaderd.config import Watch

PURPOSES: Final = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
START_S: Final = 3.0
_NAMED: Final = 8


@click.command(epilog=example("uploaderd put --purpose batch --wait requests.jsonl"))
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="FILE...")
@click.option("--purpose", metavar="P", help="What the files are for, such as batch.")
@click.option("--watch-path", type=PATH, metavar="DIR", help="The watched folder, if several.")
@click.option("--wait", "wait_", is_flag=True, help="Block until each is done; print their ids.")
@json_option
@config_option
@socket_option
def put(
    files: tuple[Path, ...],
    purpose: str | None,
    watch_path: Path | None,
    wait_: bool,
    as_json: bool,
    config: Path | None,
    socket: Path | None,
) -> Exit:
    """Drop files into a watched folder, whole or not at all.

    Each is copied under a temporary name, synced and renamed; a name that is taken becomes
    name~2.ext. No daemon need run, but for --wait, which prints one remote file id a line.
    """
    folder = _folder(watch_path, purpose, config, socket, files)
    for file in files:
        refuse_unusable(file)
    asked = client(config, socket) if wait_ else None
    if asked is not None:
        # Nothing is dropped for a command that could not keep its word.
        patiently(asked.status, grace_s=START_S)
    dropped = [drop(file, folder) for file in files]
    wanted = [_wanted(one) for one in dropped]
    failed = 0
    if asked is not None:
        with asked, _told_how_to_go_on(wanted, dropped):
            wait_all(asked, wanted)
        failed = failures(wanted)
    if as_json:
        rows = [_document(one, end) for one, end in zip(dropped, wanted, strict=True)]
        voice.out(json.dumps({"files": rows}, indent=2))
    elif asked is None:
        for one in dropped:
            voice.out(voice.shown(one.path))
    else:
        for end in wanted:
            if end.row is not None and end.row.state == "done" and end.row.file_id:
                voice.out(end.row.file_id)
    return Exit.FAILED if failed else Exit.DONE


@click.command(epilog=example("uploaderd wait /var/spool/uploaderd/batch/requests.jsonl"))
@click.argument("files", nargs=-1, required=True, type=click.UNPROCESSED, metavar="FILE...")
@config_option
@socket_option
def wait(files: tuple[str, ...], config: Path | None, socket: Path | None) -> Exit:
    """Block until the files have ended.

    They have when they are uploaded and filed, have failed, or are cancelled.

    FILE is a path in the spool (also one that the file has left) or a file's id.
    """
    with client(config, socket) as asked:
        wanted = [by_name(asked, name) for name in files]
        wait_all(asked, wanted)
    return Exit.FAILED if failures(wanted) else Exit.DONE


@contextmanager
def _told_how_to_go_on(wanted: Sequence[Wanted], dropped: Sequence[Dropped]) -> Iterator[None]:
    """End a wait that was broken off: the same `put` again would upload the files twice."""
    try:
        yield
    except (KeyboardInterrupt, NoDaemonError) as error:
        names = [
            end.row.id if end.row is not None else shlex.quote(os.path.abspath(one.path))  # noqa: PTH100 - no symlink followed
            for one, end in zip(dropped, wanted, strict=True)
            if not end.ended
        ]
        hint = "all is dropped and goes on by itself; to wait again: uploaderd wait "
        hint += " ".join(names) if len(names) <= _NAMED else "FILE..."
        if isinstance(error, NoDaemonError):
            raise NoDaemonError(str(error), hint=hint) from error
        voice.error("stopped before the end", hint=hint)
        raise click.exceptions.Exit(Exit.TRY_AGAIN) from None


def _wanted(one: Dropped) -> Wanted:
    written = os.path.abspath(os.fsencode(one.path))  # noqa: PTH100 - bytes
    real = os.path.realpath(os.path.dirname(written))  # noqa: PTH120 - bytes
    paths = dict.fromkeys((written, os.path.join(real, os.path.basename(written))))  # noqa: PTH118, PTH119 - bytes
    return Wanted(
        label=str(one.source),
        paths=tuple(paths),
        inode=(one.dev, one.inode),
        since_ns=one.changed_ns,
    )


def _document(one: Dropped, end: Wanted) -> dict[str, object]:
    row = end.row
    found: dict[str, object] = {
        "source": voice.shown(one.source),
        "path": voice.shown(one.path),
        "bytes": one.size,
    }
    if row is not None:
        found |= {
            "id": row.id,
            "state": row.state,
            "file_id": row.file_id,
            "md5": row.md5,
            "reason": {"code": row.reason.code, "text": row.reason.text},
        }
    return found


# --- where to -----------------------------------------------------------------------------------


def _folder(
    watch_path: Path | None,
    purpose: str | None,
    config: Path | None,
    socket: Path | None,
    files: Sequence[Path],
) -> Path:
    """Choose the folder; everything that can be refused is refused here, before any copy."""
    if purpose is not None and purpose not in PURPOSES:
        raise UsageError(f"there is no purpose {purpose!r}", hint="one of: " + ", ".join(PURPOSES))
    if watch_path is not None and not watch_path.is_dir():
        raise UsageError(f"{watch_path} is not a folder", hint="name a watched folder")
    watches = _watches(watch_path, config, socket)
    if watches is None:
        if watch_path is None:
            raise AssertionError  # without --watch-path a missing configuration was refused
        return _by_purpose(watch_path, purpose)
    watch = _chosen(watches, watch_path)
    if not watch.path.is_dir():
        raise ConfigError(
            f"the watched folder {watch.path} does not exist",
            hint="make it, or name another with --watch-path",
        )
    _refuse_ignored(watch, files)
    if purpose is None or purpose == watch.purpose:
        return watch.path
    if not watch.purpose_by_folder:
        raise UsageError(
            f"the watch {watch.path} gives every file the purpose {watch.purpose}",
            hint="leave --purpose away, or name another watch with --watch-path",
        )
    if not watch.recursive:
        raise UsageError(
            f"the watch {watch.path} takes no sub-folders, and a purpose would be one",
            hint="set recursive = true for it, or name another watch with --watch-path",
        )
    return _by_purpose(watch.path, purpose)


def _watches(
    watch_path: Path | None, config: Path | None, socket: Path | None
) -> tuple[Watch, ...] | None:
    """Read the watches; None where the caller named a folder and nothing is configured."""
    if watch_path is not None and config is None and (socket is not None or not has_config()):
        return None
    return load(config).watches


def _chosen(watches: Sequence[Watch], watch_path: Path | None) -> Watch:
    listed = ", ".join(str(watch.path) for watch in watches)
    if watch_path is not None:
        for watch in watches:
            if watch.path.resolve() == watch_path.resolve():
                return watch
        raise UsageError(f"{watch_path} is not a watched folder", hint=f"watched are: {listed}")
    if len(watches) > 1:
        raise UsageError(
            "there are several watched folders", hint=f"name one with --watch-path: {listed}"
        )
    return watches[0]


def _refuse_ignored(watch: Watch, files: Sequence[Path]) -> None:
    for file in files:
        for pattern in watch.ignore:
            if fnmatchcase(file.name, pattern):
                raise UploaderdError(
                    f"{file} would never be uploaded: the watch ignores {pattern}",
                    hint="give it another name, or change the watch's ignore",
                )


def _by_purpose(folder: Path, purpose: str | None) -> Path:
    return folder if purpose is None else folder / purpose
