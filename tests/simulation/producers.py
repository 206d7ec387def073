"""Programs that use the spool: each drops, rewrites, renames or removes files in its own way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from tests.simulation.disk import Disk, Inode
    from tests.simulation.scenario import Scenario

NAMES = (
    b"a.jsonl",
    b"b.txt",
    b"c.bin",
    b"batch/d.jsonl",
    b"batch/e.txt",  # refused by the purpose's rule
    b"sub/a.jsonl",
    b"sub/f",
    b"vision/g.png",
)
TWINS = (b"a.jsonl", b"a.jsonl", b"sub/a.jsonl", b"other/a.jsonl")  # one name at the service


class Producers:
    """All of them; each is one coroutine that lives as long as the action lasts."""

    def __init__(self, scenario: Scenario, disk: Disk, rng: Random) -> None:
        self._scenario = scenario
        self._disk = disk
        self._rng = rng
        self._temporary = 0
        self._shared = rng.randbytes(77)
        self._writing: list[Inode] = []

    async def one(self) -> None:
        """Do something, wait, and perhaps do another thing."""
        rng = self._rng
        ways: list[tuple[int, Callable[[bytes], Awaitable[None]]]] = [
            (8, self._rename_into_place),
            (4, self._write_in_place),
            (2, self._open_and_close),
            (3, self._change),
            (2, self._rewrite),
            (2, self._fidget),
            (1, self._grow),
            (1, self._truncate),
            (2, self._replace),
            (2, self._remove),
            (2, self._rename),
            (1, self._drop_the_same),
            (1, self._empty),
            (1, self._make_unreadable),
        ]
        await asyncio.sleep(rng.random() * self._scenario.action_s / 2)
        for _ in range(rng.choice((1, 1, 2, 4))):
            way = rng.choices([w for _, w in ways], [n for n, _ in ways])[0]
            await way(self._name())
            await asyncio.sleep(rng.choice((0.0, 0.3, 3.0, 20.0)) * rng.random())

    def meddle(self, path: bytes) -> None:
        """Use the moment between two steps of the daemon's own."""
        if self._scenario.meddling and self._rng.random() < self._scenario.meddling:
            inode = self._disk.paths.get(path)
            if inode is None or self._rng.random() < 0.5:
                self.put(path, self._content())
            elif self._rng.random() < 0.5:
                self._overwrite(inode, self._content(len(inode.data)), mtime_ns=None)
            else:
                self._disk.unlink(path)

    def _name(self) -> bytes:
        return self._rng.choice(TWINS if self._scenario.one_name else NAMES)

    def _content(self, size: int | None = None) -> bytes:
        part = self._scenario.part_bytes
        if size is None:
            size = 3 * part if self._scenario.one_size else self._rng.randint(8, 6 * part)
        return self._rng.randbytes(size)

    def put(self, path: bytes, content: bytes) -> None:
        """Write under a name that is passed over, and rename."""
        self._temporary += 1
        inner, slash, name = path.rpartition(b"/")
        draft = inner + slash + b".%s.%d" % (name, self._temporary)
        inode = self._disk.make(draft)
        self._disk.write(inode, content)
        self._disk.close(inode)
        self._disk.dropped(content)
        self._disk.rename(draft, path)

    def _overwrite(self, inode: Inode, content: bytes, *, mtime_ns: int | None) -> None:
        """Rewrite at one moment what lies there."""
        path = self._disk.path_of(inode)
        if path not in self._theirs() or self._disk.open(path) is None:
            return  # whoever opens it does so by its name, and that has gone
        self._disk.write(inode, content, mtime_ns=mtime_ns)
        self._disk.dropped(content)
        self._disk.close(inode)

    def _theirs(self) -> list[bytes]:
        """The paths that producers still care about."""
        return [
            path
            for path in self._disk.paths
            if not path.startswith((b"done/", b"failed/"))
            and not path.rpartition(b"/")[2].startswith(b".")
        ]

    def _some(self) -> Inode | None:
        paths = self._theirs()
        return self._disk.paths[self._rng.choice(paths)] if paths else None

    async def _rename_into_place(self, path: bytes) -> None:
        self.put(path, self._content())

    async def _write_in_place(self, path: bytes) -> None:
        """Over a time, with pauses that may be longer than the quiet time."""
        content = self._content()
        inode = self._disk.make(path)
        self._writing.append(inode)
        written = 0
        while written < len(content):
            await asyncio.sleep(self._rng.choice((0.01, 0.5, 3.0)) * self._rng.random())
            written = min(written + self._rng.randint(1, len(content)), len(content))
            self._disk.write(inode, content[:written])
        self._disk.dropped(content)
        self._writing.remove(inode)
        self._disk.close(inode)

    async def _open_and_close(self, path: bytes) -> None:
        """As scanners and SMB do: many short openings, each with some more."""
        content = self._content()
        inode = self._disk.make(path)
        self._disk.close(inode)
        for end in [*sorted(self._rng.sample(range(1, len(content)), 3)), len(content)]:
            await asyncio.sleep(self._scenario.settle_s * self._rng.random() * 1.3)
            self._overwrite(inode, content[:end], mtime_ns=None)

    async def _change(self, _: bytes) -> None:
        """Rewrite with as many bytes; half of the time its mtime is put back."""
        inode = self._some()
        if inode is not None and inode not in self._writing:
            back = inode.mtime_ns if self._rng.random() < 0.5 else None
            self._overwrite(inode, self._content(len(inode.data)), mtime_ns=back)

    async def _rewrite(self, _: bytes) -> None:
        """In place and over a time, while it may be on its way already."""
        inode = self._some()
        if inode is None or inode in self._writing:
            return
        path = self._disk.path_of(inode)
        if path is None or self._disk.open(path) is None:
            return
        content, mtime_ns = self._content(len(inode.data)), inode.mtime_ns
        self._writing.append(inode)
        for end in (len(content) // 3, len(content) // 2, len(content)):
            put_back = mtime_ns if self._rng.random() < 0.5 else None
            self._disk.write(inode, content[:end] + inode.data[end:], mtime_ns=put_back)
            await asyncio.sleep(self._rng.choice((0.01, 0.5, 3.0)) * self._rng.random())
        self._disk.dropped(content)
        self._writing.remove(inode)
        self._disk.close(inode)

    async def _fidget(self, _: bytes) -> None:
        """Rewrite one file a few times in a row; its size and its mtime always stay the same."""
        inode = self._some()
        if inode is None or inode in self._writing:
            return
        for _again in range(self._rng.randint(2, 6)):
            content = self._content(len(inode.data))
            self._overwrite(inode, content, mtime_ns=inode.mtime_ns)
            await asyncio.sleep(self._rng.choice((0.2, 1.0, 4.0)) * self._rng.random())

    async def _grow(self, _: bytes) -> None:
        inode = self._some()
        if inode is not None and inode not in self._writing:
            self._overwrite(inode, inode.data + self._content(), mtime_ns=None)

    async def _truncate(self, _: bytes) -> None:
        inode = self._some()
        if inode is not None and inode not in self._writing and len(inode.data) > 8:
            self._overwrite(inode, inode.data[: len(inode.data) // 2], mtime_ns=None)

    async def _replace(self, _: bytes) -> None:
        """Another file is renamed over one that is there."""
        paths = self._theirs()
        if paths:
            self.put(self._rng.choice(paths), self._content())

    async def _remove(self, _: bytes) -> None:
        paths = self._theirs()
        if paths:
            self._disk.unlink(self._rng.choice(paths))

    async def _rename(self, path: bytes) -> None:
        """Within the spool; half of the time the name stays and the folder changes."""
        paths = self._theirs()
        if not paths:
            return
        source = self._rng.choice(paths)
        to = path if self._rng.random() < 0.5 else b"sub/" + source.rpartition(b"/")[2]
        if to != source:
            self._disk.rename(source, to)

    async def _drop_the_same(self, path: bytes) -> None:
        """The same content again, under the same or another name."""
        self.put(path, self._shared)
        if self._rng.random() < 0.7:
            await asyncio.sleep(self._rng.choice((0.0, 5.0)) * self._rng.random())
            self.put(self._name(), self._shared)

    async def _empty(self, path: bytes) -> None:
        self.put(path, b"")

    async def _make_unreadable(self, _: bytes) -> None:
        paths = self._theirs()
        if not paths:
            return
        inode = self._disk.paths[self._rng.choice(paths)]
        self._permit(inode, readable=False)
        await asyncio.sleep(10.0 * self._rng.random())
        self._permit(inode, readable=True)

    def _permit(self, inode: Inode, *, readable: bool) -> None:
        path = self._disk.path_of(inode)
        if path is not None:
            self._disk.permit(path, readable=readable)
        else:
            inode.readable = readable
