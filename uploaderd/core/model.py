"""The nouns: file, identity, upload, part, reason; each a frozen value."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class FileState(StrEnum):
    """Where a file stands (contract, "A file's states")."""

    SETTLING = "settling"
    QUEUED = "queued"
    UPLOADING = "uploading"
    COMPLETING = "completing"
    DONE = "done"
    DEFERRED = "deferred"
    UNCERTAIN = "uncertain"
    HELD = "held"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({FileState.DONE, FileState.FAILED, FileState.CANCELLED})
UNDRAINED = frozenset(
    {
        FileState.SETTLING,
        FileState.QUEUED,
        FileState.UPLOADING,
        FileState.COMPLETING,
        FileState.UNCERTAIN,
        FileState.DEFERRED,
    }
)


class Flavour(StrEnum):
    """Whose dialect of the Uploads API a target speaks."""

    OPENAI = "openai"
    AZURE = "azure"


class UploadState(StrEnum):
    """Where one of the service's sessions stands, as far as the journal knows.

    ``CREATING`` has no remote id yet; one that was refused or never answered ends as ``LOST``.
    ``CANCELLING`` is the journalled intent of a cancel that is still to be answered.
    """

    CREATING = "creating"
    OPEN = "open"
    COMPLETING = "completing"
    COMPLETED = "completed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    LOST = "lost"


class PartState(StrEnum):
    """Where a part stands; ``AMBIGUOUS`` was sent and never answered."""

    PLANNED = "planned"
    IN_FLIGHT = "in_flight"
    AMBIGUOUS = "ambiguous"
    STORED = "stored"


class Filing(StrEnum):
    """After-care of an ended file: its receipt and its move out of the spool."""

    NONE = "none"
    PENDING = "pending"
    FILED = "filed"


class Arrival(StrEnum):
    """How a file came to its name; one renamed into place needs no quiet time."""

    RENAMED = "renamed"
    WRITTEN = "written"
    FOUND = "found"


class Now(Struct, frozen=True, kw_only=True):
    """One reading of both clocks.

    Attributes:
        wall_s: Unix time, for people and for the service's own stamps.
        boot_s: CLOCK_BOOTTIME, which runs through a suspend and never jumps.
        boot_id: the boot that ``boot_s`` belongs to; readings of two boots do not compare.
    """

    wall_s: float
    boot_s: float
    boot_id: str


class Identity(Struct, frozen=True, kw_only=True):
    """What tells one content of one file from another without reading it."""

    dev: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def same_bytes(self, other: Identity) -> bool:
        """True if only a rename or a change of permissions (ctime) lies between the two."""
        return (self.dev, self.inode, self.size, self.mtime_ns) == (
            other.dev,
            other.inode,
            other.size,
            other.mtime_ns,
        )


class Reason(Struct, frozen=True, kw_only=True):
    """Why a file is where it is: a stable dotted code and a sentence that says what is next.

    Attributes:
        until_s: the wall time at which it will change by itself, or None.
    """

    code: str
    text: str
    until_s: float | None = None


class File(Struct, frozen=True, kw_only=True):
    """One spool file with its fate; a row of the journal.

    Attributes:
        watch: the watch's folder, as configured.
        path: the file's path below the watch, in the file system's own bytes.
        changed_s: the wall time at which it was last seen to change.
        due_s: the wall time at which the engine must look at it again, or None.
        upload: the local key of the session in use, or None.
        deferrals: how often in a row it was deferred, or looked for at the service while
            uncertain; sets the next wait.
        restarts: how many sessions were begun anew.
        attempts: how often it was taken up to be uploaded.
        result: the service's File object as JSON text, once known.
        filed_as: the path below the watch that it was, or is being, moved to.
        owner: who works on it; several machines may share one journal later.
        version: counts the transitions; a write that expects another one is refused.
    """

    id: str
    watch: str
    path: bytes
    identity: Identity
    arrival: Arrival
    target: str
    purpose: str
    state: FileState
    reason: Reason
    created_s: float
    updated_s: float
    changed_s: float
    owner: str
    due_s: float | None = None
    upload: str | None = None
    remote_file: str | None = None
    md5: str | None = None
    result: str | None = None
    attempts: int = 0
    deferrals: int = 0
    restarts: int = 0
    bytes_sent: int = 0
    bytes_resent: int = 0
    started_s: float | None = None
    finished_s: float | None = None
    filing: Filing = Filing.NONE
    filed_as: bytes | None = None
    version: int = 1


class Upload(Struct, frozen=True, kw_only=True):
    """One session of the service, which lives ``life_s`` from its creation.

    Attributes:
        key: the journal's own id of it, known before the service's.
        created_s: wall time just before ``create`` left; the life counts from here.
        created_boot_s: the same moment on CLOCK_BOOTTIME of ``boot_id``.
        server_created_s: the service's own stamp, or None; the window for reconciling.
        complete_sent: a ``complete`` left at least once, so the file may exist.
    """

    key: str
    file: str
    target: str
    state: UploadState
    filename: str
    purpose: str
    size: int
    part_bytes: int
    created_s: float
    created_boot_s: float
    boot_id: str
    life_s: float
    remote_id: str | None = None
    server_created_s: float | None = None
    complete_sent: bool = False


class Part(Struct, frozen=True, kw_only=True):
    """A byte range of a file, sent in one request.

    Attributes:
        digest: xxh3_128 of the bytes that the stored part was sent with, or None.
        sends: how often a request for it left.
        sent: bytes of it that left, over all requests.
    """

    upload: str
    number: int
    offset: int
    length: int
    state: PartState = PartState.PLANNED
    digest: bytes | None = None
    part_id: str | None = None
    sends: int = 0
    sent: int = 0
