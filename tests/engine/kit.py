"""An engine at hand: real journal, folder and loop; the clock and the service's answers are set."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

import xxhash

from tests.support.waiting import wait_until
from uploaderd.client.replies import RemoteFile, RemoteUpload
from uploaderd.config import Retry, Transfer, Watch
from uploaderd.core.events import Admitted, Ambiguous, Assembled
from uploaderd.core.model import Arrival, File, FileState, Now, Upload, UploadState
from uploaderd.core.plan import ranges
from uploaderd.core.reasons import reason
from uploaderd.core.values import replace
from uploaderd.engine.context import Context, Place, Service
from uploaderd.engine.engine import Engine
from uploaderd.journal import Journal
from uploaderd.source import Md5Pass
from uploaderd.spool.filing import Filing
from uploaderd.spool.tree import Tree
from uploaderd.spool.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from uploaderd.client import Client
    from uploaderd.source import PartBody

P = ParamSpec("P")
T = TypeVar("T")

LIFE_S = 3_600.0
NOBODY_UID = 65_534
CONTENT = b"abc"


class Disk:
    """An offload without threads that counts the readings of whole files."""

    def __init__(self) -> None:
        self.readings = 0

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it here."""
        await asyncio.sleep(0)
        self.readings += getattr(function, "__func__", None) is Md5Pass.advance
        return function(*args, **kwargs)


class SetClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.wall_s, self.boot_s = 1_000_000.0, 1_000.0

    def now(self) -> Now:
        """As it was set."""
        return Now(wall_s=self.wall_s, boot_s=self.boot_s, boot_id="boot")

    def forward(self, by_s: float) -> None:
        """Let time pass."""
        self.wall_s, self.boot_s = self.wall_s + by_s, self.boot_s + by_s


@dataclass
class Answers:
    """A service that says what it was told to say; else all goes well.

    Attributes:
        asked: the calls, in order, each with what it was about.
        errors: what a call is answered with.
        held: a call waits for this before it is answered.
        meanwhile: what happens while a call is under way.
    """

    asked: list[tuple[str, str]] = field(default_factory=list)
    errors: dict[str, Exception] = field(default_factory=dict)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    meanwhile: Callable[[], None] = lambda: None

    def count(self, call: str) -> int:
        """How often this was asked."""
        return sum(name == call for name, _ in self.asked)

    async def _answer(self, call: str, about: str) -> None:
        self.asked.append((call, about))
        if call in self.held:
            await self.held[call].wait()
        self.meanwhile()
        if call in self.errors:
            raise self.errors[call]

    async def create(self, spec: object, **_: object) -> RemoteUpload:
        """Open a session."""
        await self._answer("create", str(spec))
        made = f"upload-{len(self.asked)}"
        return RemoteUpload(id=made, created_at=None, expires_at=None, status="pending")

    async def add_part(self, upload: str, body: PartBody, **_: object) -> str:
        """Take a part."""
        await self._answer("part", upload)
        async for _step in body:
            pass
        return f"part-{len(self.asked)}"

    async def complete(self, upload: str, *_: object, **__: object) -> RemoteFile:
        """Make a file."""
        await self._answer("complete", upload)
        return RemoteFile(
            id=f"file-{len(self.asked)}",
            bytes=None,
            created_at=None,
            filename="",
            purpose="",
            document={},
        )

    async def cancel(self, upload: str, **_: object) -> None:
        """End a session."""
        await self._answer("cancel", upload)

    async def list_files(self, purpose: str, **_: object) -> list[RemoteFile]:
        """Tell of no file."""
        await self._answer("list", purpose)
        return []


@cache
def empty_journal() -> bytes:
    """A journal in which nothing is yet; to make it takes many syncs, to copy it none."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.sqlite3")
        journal.open()
        journal.close()
        return journal.path.read_bytes()


class Rig:
    """An engine with two targets, openai and other, and a watched folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "spool"
        self.root.mkdir(mode=0o777)
        self.root.chmod(0o777)
        self.journal = Journal(folder / "journal.sqlite3")
        self.journal.path.write_bytes(empty_journal())
        self.journal.open()
        self.journal.connection.execute("PRAGMA synchronous = OFF")  # no power fails here
        self.clock, self.disk = SetClock(), Disk()
        self.client, self.other = Answers(), Answers()
        names = {"openai": self.client, "other": self.other}
        self.ctx = Context(
            journal=self.journal,
            keep=Disk(),
            disk=self.disk,
            clock=self.clock,
            chance=lambda: 0.0,
            new_id=map(str, iter(range(1_000_000))).__next__,
            week_s=lambda _: 0.0,
            owner="here",
            places={},
            services={
                name: Service(name=name, flavour="openai", client=cast("Client", client))
                for name, client in names.items()
            },
            transfer=Transfer(files_in_flight=2, parts_in_flight=1),
            retry=Retry(attempts=2),
        )
        self.ctx.go.set()
        self.place = self.watch(self.root)
        self.service = self.ctx.services["openai"]
        self.engine = Engine(self.ctx)

    def watch(self, folder: Path) -> Place:
        """Watch one more folder."""
        tree = Tree(folder)
        tree.open()
        watcher = Watcher(
            tree,
            ignore=(),
            recursive=True,
            rescan_s=60.0,
            offload=self.disk,
            report=lambda *_: None,
        )
        place = Place(
            name=str(folder),
            settings=Watch(path=folder),
            tree=tree,
            watcher=watcher,
            filing=Filing(tree),
        )
        self.ctx.places[place.name] = place
        self.journal.watch(list(self.ctx.places))
        return place

    def put(
        self,
        path: str,
        state: FileState = FileState.QUEUED,
        code: str = "queued.slot",
        *,
        content: bytes = CONTENT,
        size: int | None = None,
        target: str = "openai",
        due_s: float | None = None,
    ) -> File:
        """Make a file and its row; ``size`` is what the row says where it is not the truth."""
        (self.root / path).parent.mkdir(exist_ok=True)
        (self.root / path).write_bytes(content)
        name, now_s = os.fsencode(path), self.ctx.wall_s
        identity = self.place.tree.identify(name)
        file = File(
            id=path.replace("/", "_"),
            watch=self.place.name,
            path=name,
            identity=identity if size is None else replace(identity, size=size),
            arrival=Arrival.RENAMED,
            target=target,
            purpose="user_data",
            state=state,
            reason=reason(code, detail="No."),
            created_s=now_s,
            updated_s=now_s,
            changed_s=now_s,
            owner="here",
            due_s=due_s,
        )
        return self.journal.intake(self.place.name, {name: file.identity}, lambda *_: file)[0]

    def session(self, file: File, *, stored: bool = False) -> File:
        """Give a file a session with one part, which is ``stored`` already or not."""
        now, size = self.clock.now(), file.identity.size
        upload = Upload(
            key=f"key-{file.id}",
            file=file.id,
            target=file.target,
            state=UploadState.CREATING,
            filename=os.fsdecode(file.path).rpartition("/")[2],
            purpose=file.purpose,
            size=size,
            part_bytes=size,
            created_s=now.wall_s,
            created_boot_s=now.boot_s,
            boot_id=now.boot_id,
            life_s=LIFE_S,
        )
        file = self.journal.begin_upload(file, upload, f"create-{file.id}")
        _, [part] = self.journal.upload_opened(
            upload,
            f"create-{file.id}",
            remote_id=f"remote-{file.id}",
            server_created_s=None,
            life_s=LIFE_S,
            ranges=ranges(size, size),
        )
        if stored:
            content = (self.root / os.fsdecode(file.path)).read_bytes()
            request, digest = f"part-{file.id}", xxhash.xxh3_128(content).digest()
            part = self.journal.part_leaves(file.id, part, request, now.wall_s)
            self.journal.part_stored(
                file.id, part, request, part_id=f"part-{file.id}", digest=digest, sent=size
            )
        return self.at(file.id)

    async def uncertain(self, path: str, *, due_s: float) -> File:
        """Make a file whose complete may have been acted upon."""
        file = self.session(self.put(path), stored=True)
        md5 = hashlib.md5((self.root / path).read_bytes(), usedforsecurity=False).hexdigest()
        for event in (Admitted(), Assembled(md5=md5), Ambiguous(due_s=due_s)):
            file = await self.ctx.apply(file, event)
        return file

    def at(self, path: str) -> File:
        """The file that was made at ``path``, as the journal has it."""
        found = self.journal.file(path.replace("/", "_"))
        assert found is not None
        return found

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[Engine]:
        """Let the engine start tasks; the loops are stepped by hand."""
        async with asyncio.TaskGroup() as group:
            self.engine._group = group
            yield self.engine
            for task in list(self.engine.tasks.values()):
                task.cancel()

    async def turn(self) -> None:
        """One step of each loop, and what it started among the files that are due."""
        await self.engine._due()
        await wait_until(lambda: not self.engine.handling.busy, what="the handlers' end")
        await self.engine._admit()

    async def idle(self) -> None:
        """Wait until no file is in flight."""
        await wait_until(lambda: not self.engine.transfers, what="the transfers' end")


@contextmanager
def rigged(folder: Path) -> Iterator[Rig]:
    """A rig, and its end."""
    rig = Rig(folder)
    yield rig
    for place in rig.ctx.places.values():
        place.tree.close()
    rig.journal.close()


async def soon() -> None:
    """Let all that is ready run, as far as it goes without a wait."""
    for _ in range(100):
        await asyncio.sleep(0)


@contextmanager
def without_rights() -> Iterator[None]:
    """Be somebody whom permissions bind, as root is not."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY_UID)
    try:
        yield
    finally:
        os.seteuid(before)
