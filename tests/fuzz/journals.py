"""Journals to be hurt, and what opening one that was hurt may come to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.fuzz.kit import is_sentence
from uploaderd.core import events
from uploaderd.core.lifecycle import decide
from uploaderd.core.model import Arrival, File, FileState, Identity, Now, Part, Upload, UploadState
from uploaderd.core.plan import ranges
from uploaderd.core.reasons import reason
from uploaderd.core.selection import Selection
from uploaderd.errors import JournalError
from uploaderd.journal import DamagedError, Journal

if TYPE_CHECKING:
    from pathlib import Path

NAME = "journal.sqlite3"
WATCH = "/spool"
NOW = Now(wall_s=2_000.0, boot_s=50.0, boot_id="boot")
STAMP = "20260102T030405Z"
SENTENCE = 600

Image = dict[str, bytes]  # by the end of the file's name
Ids = dict[tuple[str, int], tuple[bytes | None, str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A journal as the kill of a daemon leaves it, and the part ids that it ever held."""

    image: Image
    ids: Ids
    thorough_bytes: int


def make(folder: Path, *, closed: bool, thorough_bytes: int) -> Original:
    """Keep files in every stage of their way; ``closed`` leaves nothing in the log."""
    journal = Journal(folder / NAME)
    journal.open()
    journal.watch([WATCH])
    for number, stage in enumerate(("settling", "queued", "sending", "asked", "filed", "failed")):
        _go(journal, f"file{number}", stage)
        if number == 3 and not closed:  # what comes after this is in the log alone
            journal.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ids: Ids = {
        (part.upload, part.number): (part.digest, part.part_id)
        for number in range(6)
        for part in journal.parts(f"upload{number}")
        if part.part_id is not None
    }
    assert len(ids) == 7
    if closed:
        journal.close()
    image = {
        path.name.removeprefix(NAME): path.read_bytes()
        for path in folder.iterdir()
        if path.name.startswith(NAME)
    }
    journal.close()
    assert sorted(image) == ([""] if closed else ["", "-shm", "-wal"])
    return Original(image=image, ids=ids, thorough_bytes=thorough_bytes)


def _go(journal: Journal, name: str, stage: str) -> None:
    file = File(
        id=name,
        watch=WATCH,
        path=name.encode(),
        identity=Identity(dev=1, inode=2**64 - int(name[-1]) - 1, size=25, mtime_ns=4, ctime_ns=5),
        arrival=Arrival.FOUND,
        target="openai",
        purpose="user_data",
        state=FileState.SETTLING,
        reason=reason("settling.seen"),
        created_s=1_000.0,
        updated_s=1_000.0,
        changed_s=1_000.0,
        owner="here",
        due_s=1_000.0,
    )
    journal.intake(WATCH, {file.path: None}, lambda _existing, _path, _others: file)
    if stage == "settling":
        return
    if stage == "failed":
        _step(journal, file, events.Refused(reason=reason("failed.empty")))
        return
    file = _step(
        journal, file, events.Settled(identity=file.identity, target="openai", purpose="user_data")
    )
    if stage == "queued":
        return
    file = _step(journal, file, events.Admitted())
    file, parts = _open(journal, file)
    for part in parts[: 1 if stage == "sending" else 3]:
        request = f"request-{part.upload}-{part.number}"
        gone = journal.part_leaves(file.id, part, request, 1_600.0)
        digest, part_id = bytes([part.number]) * 16, f"part_{name}_{part.number}"
        journal.part_stored(file.id, gone, request, part_id=part_id, digest=digest, sent=10)
    if stage == "sending":
        journal.part_leaves(file.id, parts[1], f"request-{parts[1].upload}-2", 1_601.0)
        return
    file = _step(journal, file, events.Assembled(md5="0" * 32))
    if stage == "asked":
        return
    done = events.Completed(remote_file=f"file-{name}", result='{"id": "file"}')
    file = _step(journal, file, done)
    file = _step(journal, file, events.FilingAs(filed_as=b"done/" + file.path))
    _step(journal, file, events.Filed(place="done/x"))


def _open(journal: Journal, file: File) -> tuple[File, list[Part]]:
    upload = Upload(
        key=f"upload{file.id[-1]}",
        file=file.id,
        target="openai",
        state=UploadState.CREATING,
        filename=file.id,
        purpose="user_data",
        size=25,
        part_bytes=10,
        created_s=1_500.0,
        created_boot_s=40.0,
        boot_id="boot",
        life_s=3_600.0,
    )
    file = journal.begin_upload(file, upload, f"create-{file.id}")
    _, parts = journal.upload_opened(
        upload,
        f"create-{file.id}",
        remote_id=f"upload_{file.id}",
        server_created_s=1_501.0,
        life_s=3_600.0,
        ranges=ranges(25, 10),
    )
    return file, parts


def _step(journal: Journal, file: File, event: events.Event) -> File:
    return journal.record(file, decide(file, event, NOW), type(event).__name__.lower())


class Ward:
    """Opens hurt journals as a daemon does, and counts how that ended."""

    def __init__(self, folder: Path, original: Original) -> None:
        self.outcomes: Counter[str] = Counter()
        self._folder = folder
        self._original = original

    def admit(self, hurt: Image) -> str:
        """Put a journal there and open it; AssertionError where that ends as it must not."""
        for path in self._folder.iterdir():
            path.unlink()
        for end, content in hurt.items():
            (self._folder / f"{NAME}{end}").write_bytes(content)
        outcome = self._start()
        self.outcomes[outcome] += 1
        return outcome

    def _start(self) -> str:
        journal = Journal(self._folder / NAME, thorough_bytes=self._original.thorough_bytes)
        try:
            try:
                journal.open()
            except DamagedError as error:
                self._sentence(error)
                return self._set_aside(journal)
            except JournalError as error:
                self._sentence(error)
                return "refused"
            try:
                self._work(journal)
            except DamagedError as error:
                self._sentence(error)
                return self._found_late(journal)
            return "opened"
        finally:
            journal.close()

    def _set_aside(self, journal: Journal) -> str:
        before = {path.name for path in self._folder.iterdir()} - {f"{NAME}.suspect"}
        kept = journal.set_aside(STAMP)
        after = {path.name for path in self._folder.iterdir()}
        assert {name.replace(NAME, kept.name) for name in before} == after, "nothing is thrown away"
        journal.open()
        assert self._work(journal) == 0, "the new one is empty"
        return "set aside"

    def _found_late(self, journal: Journal) -> str:
        """Damage that shows in the middle of work: the next start must know it."""
        journal.suspect()
        journal.close()
        try:
            journal.open()
        except DamagedError as error:
            self._sentence(error)
        else:
            raise AssertionError("the next start does not find what ended this one")
        self._set_aside(journal)
        return "set aside, found late"

    def _work(self, journal: Journal) -> int:
        """Take over and read all that a daemon reads; return how many files there are."""
        journal.watch([WATCH])
        files = [sight.file for sight in journal.page(Selection(), limit=100, after=None)]
        uploads = [file.upload for file in files if file.upload is not None]
        self._check(part for key in uploads for part in journal.parts(key))
        journal.recover(9_999.0)
        for file in journal.interrupted():
            if file.upload is not None:
                self._check(journal.take_up(file.id, file.upload)[1])
        journal.due(9_999.0, 100)
        journal.queued(100)
        journal.cancelling(100, ["openai"])
        journal.counts()
        for file in files:
            journal.history(file.id)
            journal.requests(file.id)
        return len(files)

    def _check(self, parts: object) -> None:
        for part in parts:  # type: ignore[attr-defined]
            if part.part_id is not None:
                known = self._original.ids.get((part.upload, part.number))
                assert known == (part.digest, part.part_id), "an invented part id"

    @staticmethod
    def _sentence(error: JournalError) -> None:
        assert is_sentence(str(error), limit=SENTENCE), str(error)
        assert is_sentence(error.hint, limit=SENTENCE), error.hint


def flipped(image: Image, end: str, offset: int, bit: int) -> Image:
    """The same with one bit turned over."""
    content = bytearray(image[end])
    content[offset] ^= 1 << bit
    return replaced(image, end, bytes(content))


def replaced(image: Image, end: str, content: bytes) -> Image:
    """The same with another content of one file."""
    return image | {end: content}


__all__ = ["Image", "Original", "Ward", "flipped", "make", "replaced"]
