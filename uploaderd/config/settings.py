"""The configuration's frozen values, each key written once: its kind, its unit, its default.

A field annotated with ``Key`` is a key of the file. Fields without a default have one that the
environment decides (see ``paths``), but for a watch's path.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - keys.keys_of reads the annotations at run time
from typing import Annotated

from uploaderd.config import kinds
from uploaderd.config.keys import Key
from uploaderd.config.units import UNLIMITED
from uploaderd.core.model import Flavour
from uploaderd.core.timetable import DAY_S, Timetable

OPENAI_URL = "https://api.openai.com/v1"


class LogLevel(StrEnum):
    """The least grave events that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line looks; ``AUTO`` is text, with journald's priorities where it listens."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


class HookEvent(StrEnum):
    """What a hook waits for: the states that a file ends in by itself."""

    DONE = "done"
    FAILED = "failed"


class AfterUpload(StrEnum):
    """What becomes of a source file once its success is durable."""

    MOVE = "move"
    DELETE = "delete"
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """The process: where it keeps its state, where it listens, how it talks and stops."""

    state_dir: Annotated[Path, Key(kinds.PATH)]
    socket: Annotated[Path, Key(kinds.PATH)]
    socket_mode: Annotated[int, Key(kinds.MODE)] = 0o660
    log_level: Annotated[LogLevel, Key(kinds.choice(LogLevel))] = LogLevel.INFO
    log_format: Annotated[LogFormat, Key(kinds.choice(LogFormat))] = LogFormat.AUTO
    drain_timeout_s: Annotated[float, Key(kinds.PAUSE, "drain_timeout")] = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A service that files are uploaded to; its key is not in here (see ``secrets``).

    Attributes:
        base_url: without a trailing slash; for Azure the endpoint, or more of its path.
        api_version: Azure's; empty for the ``/openai/v1`` form of its paths.
        allow_insecure: the key may be sent over plain http to hosts other than loopback.
    """

    name: str
    base_url: Annotated[str, Key(kinds.URL)] = OPENAI_URL
    flavour: Annotated[Flavour, Key(kinds.choice(Flavour))] = Flavour.OPENAI
    api_version: Annotated[str, Key(kinds.API_VERSION)] = ""
    api_key_file: Annotated[Path | None, Key(kinds.OPTIONAL_PATH)] = None
    organization: Annotated[str, Key(kinds.HEADER)] = ""
    project: Annotated[str, Key(kinds.HEADER)] = ""
    ca_file: Annotated[Path | None, Key(kinds.OPTIONAL_PATH)] = None
    allow_insecure: Annotated[bool, Key(kinds.FLAG)] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A watched folder and what becomes of the files in it.

    Attributes:
        ignore: shell patterns of the names that are left alone.
        settle_s: the quiet time that a file written in place must have had.
        expires_after_s: life of the remote file, or None for the service's default.
        mime_type: empty: guessed from the name.
    """

    path: Annotated[Path, Key(kinds.PATH)]
    target: Annotated[str, Key(kinds.NAME)] = "openai"
    purpose: Annotated[str, Key(kinds.PURPOSE)] = "user_data"
    purpose_by_folder: Annotated[bool, Key(kinds.FLAG)] = True
    recursive: Annotated[bool, Key(kinds.FLAG)] = True
    ignore: Annotated[tuple[str, ...], Key(kinds.PATTERNS)] = (
        ".*",
        "*.tmp",
        "*.part",
        "*.partial",
        "*.crdownload",
        "*~",
    )
    settle_s: Annotated[float, Key(kinds.PAUSE, "settle")] = 2.0
    rescan_s: Annotated[float, Key(kinds.DURATION, "rescan")] = 30.0
    after_upload: Annotated[AfterUpload, Key(kinds.choice(AfterUpload))] = AfterUpload.MOVE
    expires_after_s: Annotated[int | None, Key(kinds.LIFE, "expires_after")] = None
    mime_type: Annotated[str, Key(kinds.MIME_TYPE)] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """How much is sent at once, how fast, and when a silent request is given up.

    Attributes:
        part_bytes: None: chosen for each file.
        parts_in_flight: over all files; None: as many as each target's network is worth.
        stall_timeout_s: no byte moved for so long: the request is given up and tried again.
    """

    part_bytes: Annotated[int | None, Key(kinds.PART_SIZE, "part_size")] = None
    parts_in_flight: Annotated[int | None, Key(kinds.PARTS_IN_FLIGHT)] = 4
    files_in_flight: Annotated[int, Key(kinds.integer(1, 256))] = 4
    bandwidth: Annotated[Timetable, Key(kinds.BANDWIDTH)] = UNLIMITED
    stall_timeout_s: Annotated[float, Key(kinds.DURATION, "stall_timeout")] = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How a transient fault is tried again.

    Attributes:
        attempts: of one request, in a row.
        max_wait_s: the longest wait between them.
        defer_max_s: the longest wait of a deferred file.
    """

    attempts: Annotated[int, Key(kinds.integer(1, 100))] = 5
    max_wait_s: Annotated[float, Key(kinds.DURATION, "max_wait")] = 30.0
    defer_max_s: Annotated[float, Key(kinds.DURATION, "defer_max")] = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The journal's memory of what has ended.

    Attributes:
        keep_s: what ended longer ago is forgotten; None: nothing is.
    """

    keep_s: Annotated[float | None, Key(kinds.KEEP, "keep")] = 90.0 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A program that is run when a file has ended and lies where it stays.

    Attributes:
        command: the program and its arguments, as they are; no shell reads them.
        timeout_s: how long one run may take.
        attempts: how often it is run for one file until it says that all went well.
    """

    on: Annotated[HookEvent, Key(kinds.choice(HookEvent))]
    command: Annotated[tuple[str, ...], Key(kinds.COMMAND)]
    timeout_s: Annotated[float, Key(kinds.RUN_TIME, "timeout")] = 30.0
    attempts: Annotated[int, Key(kinds.integer(1, 100))] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All of it; ``source`` is the file it came from, or None."""

    daemon: Daemon
    targets: tuple[Target, ...]
    watches: tuple[Watch, ...]
    transfer: Transfer = Transfer()
    retry: Retry = Retry()
    journal: History = History()
    hooks: tuple[Hook, ...] = ()
    source: Path | None = None
