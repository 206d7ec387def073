"""Everything the service keeps, in a folder that any process may read.

    STORE/lock                                held while an emulator uses the store
    STORE/uploads/<upload id>/upload.json     the upload
    STORE/uploads/<upload id>/<part id>.json  one stored part
    STORE/uploads/<upload id>/<part id>       its bytes, until the upload ends
    STORE/files/<file id>/meta.json           the file: bytes, md5, filename, purpose, times
    STORE/files/<file id>/content             its bytes
    STORE/incoming/                           bodies that are being read; emptied at start

Each JSON file is replaced whole and each file appears by one rename, so a store outlives the
death of its emulator at any moment. Nothing is synced to the disk: it need not outlive a power
cut.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import aiofiles

from uploaderd.emulator.objects import File, Part, Upload, UploadStatus
from uploaderd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from pathlib import Path

STEP_BYTES = 256 * 1024

_Record = TypeVar("_Record", Upload, Part, File)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A body on disk that is not yet a file: its path, size and md5 in hex."""

    path: Path
    bytes: int
    md5: str


class Draft:
    """A body that is being written: a file in `incoming/`, gone on leaving unless taken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        path.touch()

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[Callable[[bytes | bytearray], Awaitable[None]]]:
        """Open it for appending steps off the event loop; whole once the block has ended."""
        async with aiofiles.open(self.path, "wb") as stream:

            async def write(data: bytes | bytearray) -> None:
                await stream.write(data)
                self.bytes += len(data)

            yield write

    def discard(self) -> None:
        """Drop the bytes, unless somebody has renamed them away."""
        self.path.unlink(missing_ok=True)


class Store:
    """The records in memory and on disk; one emulator at a time may hold a store.

    All methods that change records must be called from one thread. `assemble` and `Draft` touch
    only bytes, and may run in any.
    """

    def __init__(self, root: Path) -> None:
        """Open the store and read what is there; ConfigError if it can't be used."""
        self.root = root
        self.uploads: dict[str, Upload] = {}
        self.parts: dict[str, Part] = {}
        self.parts_of: dict[str, list[Part]] = {}
        self.files: dict[str, File] = {}
        self.stored_bytes: Counter[str] = Counter()  # of all parts of an upload, listed or not
        self.last_number = 0  # of the files
        self._incoming = root / "incoming"
        self._uploads = root / "uploads"
        self._files = root / "files"
        try:
            for folder in (self._uploads, self._files, self._incoming):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"the store {root} cannot be used: {error.strerror}",
                hint="name a folder that may be written to",
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise ConfigError(
                f"the store {root} is in use by another emulator", hint="give each its own"
            ) from error
        for stale in self._incoming.iterdir():
            if stale.is_dir():
                shutil.rmtree(stale)
            else:
                stale.unlink()
        self._load()

    def close(self) -> None:
        """Let go of the store."""
        os.close(self._lock)

    def draft(self) -> Draft:
        """Begin to write a body."""
        return Draft(self._incoming / secrets.token_hex(8))

    def put_upload(self, upload: Upload) -> None:
        """Keep a new upload or a new state of one; an ended one lets go of its parts' bytes."""
        folder = self._uploads / upload.id
        folder.mkdir(exist_ok=True)
        _write(folder / "upload.json", upload)
        self.uploads[upload.id] = upload
        parts = self.parts_of.setdefault(upload.id, [])
        if upload.status is not UploadStatus.PENDING:
            for part in parts:
                self.part_path(part).unlink(missing_ok=True)

    def put_part(self, part: Part, draft: Draft) -> None:
        """Keep a part; its bytes are the draft's."""
        draft.path.rename(self.part_path(part))
        _write(self.part_path(part).with_suffix(".json"), part)
        self.parts[part.id] = part
        self.parts_of[part.upload_id].append(part)
        self.stored_bytes[part.upload_id] += part.bytes

    def put_file(self, file: File, content: Path) -> None:
        """Keep a new file; its bytes are renamed away from `content`."""
        folder = self._incoming / file.id
        folder.mkdir()
        content.rename(folder / "content")
        _write(folder / "meta.json", file)
        folder.rename(self._files / file.id)
        self.files[file.id] = file
        self.last_number = max(self.last_number, file.number)

    def drop_file(self, file_id: str) -> None:
        """Forget a file and its bytes."""
        del self.files[file_id]
        shutil.rmtree(self._files / file_id)

    def part_path(self, part: Part) -> Path:
        """Return where a part's bytes are."""
        return self._uploads / part.upload_id / part.id

    def content_path(self, file: File) -> Path:
        """Return where a file's bytes are."""
        return self._files / file.id / "content"

    def assemble(self, parts: Sequence[Part]) -> Assembled:
        """Join parts in the order given, in steps; blocks, so call it in a thread."""
        target = self._incoming / secrets.token_hex(8)
        digest = hashlib.md5(usedforsecurity=False)
        total = 0
        with memoryview(bytearray(STEP_BYTES)) as step, target.open("wb", buffering=0) as sink:
            for part in parts:
                with self.part_path(part).open("rb", buffering=0) as source:
                    while count := source.readinto(step):
                        digest.update(step[:count])
                        sink.write(step[:count])
                        total += count
        return Assembled(path=target, bytes=total, md5=digest.hexdigest())

    def _load(self) -> None:
        for path in self._files.glob("*/meta.json"):
            file = _read(path, File)
            self.files[file.id] = file
            self.last_number = max(self.last_number, file.number)
        finished = {file.upload_id: file.id for file in self.files.values()}
        for path in self._uploads.glob("*/upload.json"):
            upload = _read(path, Upload)
            parts = (_read(one, Part) for one in path.parent.glob("*.json") if one != path)
            self.parts_of[upload.id] = sorted(parts, key=lambda part: part.number)
            for part in self.parts_of[upload.id]:
                self.parts[part.id] = part
                self.stored_bytes[upload.id] += part.bytes
            self.uploads[upload.id] = upload
            if upload.status is UploadStatus.PENDING and upload.id in finished:
                # The emulator died between the file's appearance and the upload's.
                self.put_upload(
                    replace(upload, status=UploadStatus.COMPLETED, file_id=finished[upload.id])
                )


def md5_of(path: Path) -> str:
    """Return the md5 of a file's bytes in hex; blocks, so call it in a thread."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, _md5).hexdigest()


def _md5() -> Any:  # noqa: ANN401 - hashlib's own type has no public name
    return hashlib.md5(usedforsecurity=False)


def _write(path: Path, record: Upload | Part | File) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(asdict(record), indent=1) + "\n")
    temporary.replace(path)


def _read(path: Path, kind: type[_Record]) -> _Record:
    document = json.loads(path.read_text())
    known = {field.name for field in fields(kind)}
    values = {name: value for name, value in document.items() if name in known}
    if kind is Upload:
        values["status"] = UploadStatus(values["status"])
        values["part_ids"] = tuple(values["part_ids"])
    return kind(**values)


def listed_ids(uploads: Iterable[Upload]) -> set[str]:
    """Return the ids of all parts that some completed upload was made of."""
    return {one for upload in uploads for one in upload.part_ids}
