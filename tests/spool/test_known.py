"""What a full scan passes over, and all that makes it tell a name again."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.waiting import wait_until
from uploaderd.core.model import Identity
from uploaderd.core.values import replace
from uploaderd.offload import Threads
from uploaderd.spool import walk
from uploaderd.spool.known import Known
from uploaderd.spool.lookout import Mode
from uploaderd.spool.tree import Tree
from uploaderd.spool.watcher import NAMES_PER_S, Watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from uploaderd.spool.lookout import Sighting

HERE = Identity(dev=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
NUMBER = st.integers(min_value=0, max_value=2**63)


class Scanned:
    """A folder that is scanned again and again, where all that is told is dealt with."""

    def __init__(self, root: Path) -> None:
        self.root, self.tree, self.known = root, Tree(root), Known()

    def scan(self) -> Iterator[walk.Seen]:
        """One scan, name by name."""
        way = walk.Walk(
            self.tree.folder,
            recursive=True,
            ignored=lambda path: path.endswith(b".tmp"),
            enter=None,
            trouble=None,
            known=self.known,
        )
        return (seen for seen in way.run(b"") if seen is not None)

    def told(self) -> list[bytes]:
        """Scan, deal with what is told, and return it."""
        seen = list(self.scan())
        with self.known.opinion() as opinion:
            for one in seen:
                opinion.keep(one.path, one.identity)
        return sorted(one.path for one in seen)


@pytest.fixture
def scanned(tmp_path: Path) -> Iterator[Scanned]:
    """Three files in two folders that are dealt with."""
    for name in ("a", "b", "in/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"content")
    made = Scanned(tmp_path)
    assert made.told() == [b"a", b"b", b"in/c"]
    yield made
    made.tree.close()


def test_what_is_dealt_with_is_passed_over(scanned: Scanned) -> None:
    """As long as nothing changes, nothing is told; what is ignored is not told either."""
    assert scanned.told() == []
    (scanned.root / "x.tmp").write_bytes(b"half")
    assert scanned.told() == []


def rewrite(root: Path) -> None:
    """Write other bytes of the same length and set the old mtime again."""
    old = (root / "a").stat()
    (root / "a").write_bytes(b"CONTENT")
    os.utime(root / "a", ns=(old.st_atime_ns, old.st_mtime_ns))


def replace_it(root: Path) -> None:
    """Put another file of that size and mtime under the name."""
    old = (root / "a").stat()
    (root / "a2").write_bytes(b"CONTENT")
    os.utime(root / "a2", ns=(old.st_atime_ns, old.st_mtime_ns))
    (root / "a2").rename(root / "a")


def link_it(root: Path) -> None:
    """Put a symlink under the name."""
    (root / "a").unlink()
    (root / "a").symlink_to("b")


CHANGES: dict[str, tuple[Callable[[Path], object], list[bytes]]] = {
    "grown": (lambda root: (root / "a").write_bytes(b"more content"), [b"a"]),
    "rewritten": (rewrite, [b"a"]),
    "permissions": (lambda root: (root / "a").chmod(0o600), [b"a"]),
    "another inode": (replace_it, [b"a"]),
    "another link": (lambda root: (root / "link").hardlink_to(root / "a"), [b"a", b"link"]),
    "renamed": (lambda root: (root / "a").rename(root / "in" / "a"), [b"in/a"]),
    "folder renamed": (lambda root: (root / "in").rename(root / "out"), [b"out/c"]),
    "a symlink now": (link_it, [b"a"]),
    "new": (lambda root: (root / "in" / "new").write_bytes(b"new"), [b"in/new"]),
    "gone": (lambda root: (root / "a").unlink(), []),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_not_as_it_was_is_told(scanned: Scanned, change: str) -> None:
    """Each change that a name can go through is told by the next scan, once, and nothing else."""
    make, names = CHANGES[change]
    make(scanned.root)
    assert scanned.told() == names
    assert scanned.told() == []


def test_what_is_doubted_is_told_again(scanned: Scanned) -> None:
    """However it stands there; once it is dealt with anew it is passed over."""
    scanned.known.doubt(b"in/c")
    scanned.known.doubt(b"never seen")
    assert scanned.told() == [b"in/c"]
    assert scanned.told() == []


def test_what_is_doubted_while_it_is_judged_is_not_passed_over(scanned: Scanned) -> None:
    """A row that ends while a batch is on its way may be the very one that it speaks of."""
    there = scanned.tree.identify(b"a")
    with scanned.known.opinion() as opinion:
        scanned.known.doubt(b"a")
        opinion.keep(b"a", there)
    assert scanned.told() == [b"a"]
    with scanned.known.opinion() as opinion:
        scanned.known.clear()
        opinion.keep(b"a", there)
    assert scanned.told() == [b"a", b"b", b"in/c"]


def test_a_scan_that_breaks_off_leaves_nothing_out(scanned: Scanned) -> None:
    """What it had told and nobody dealt with, and what it had not come to, is told by the next."""
    scanned.known.clear()
    half = scanned.scan()
    next(half)
    del half
    assert scanned.told() == [b"a", b"b", b"in/c"]


def test_a_long_way_over_known_names_is_interrupted(tmp_path: Path) -> None:
    """So that events are read meanwhile, and a stop does not wait for a million names."""
    names = walk.SLICE * 2 + 10
    for number in range(names):
        (tmp_path / str(number)).touch()
    made = Scanned(tmp_path)
    assert len(made.told()) == names
    way = walk.Walk(
        made.tree.folder,
        recursive=True,
        ignored=lambda _: False,
        enter=None,
        trouble=None,
        known=made.known,
    )
    assert list(way.run(b"")) == [None, None]
    assert way.passed == names
    made.tree.close()


@given(st.dictionaries(st.binary(min_size=1).filter(lambda b: b"\0" not in b), NUMBER, max_size=50))
def test_only_the_very_identity_is_held(names: dict[bytes, int]) -> None:
    """A name is held with exactly the identity that was kept last, whatever it and others are."""
    known = Known()
    with known.opinion() as opinion:
        for name, inode in names.items():
            opinion.keep(name, HERE)
            opinion.keep(name, replace(HERE, inode=inode))
    assert known.count == len(names)
    for name, inode in names.items():
        there = replace(HERE, inode=inode)
        assert known.holds(name, there)
        for field in ("dev", "inode", "size", "mtime_ns", "ctime_ns"):
            assert not known.holds(name, replace(there, **{field: getattr(there, field) + 1}))
        known.doubt(name)
        assert not known.holds(name, there)
    assert known.count == 0


def test_a_name_takes_a_few_bytes_and_gives_them_back() -> None:
    """Tens of bytes a name; names that came and went leave nothing behind."""
    known, names = Known(), 60_000
    for turn in range(3):
        with known.opinion() as opinion:
            for number in range(names):
                opinion.keep(b"%d/%d" % (turn, number), HERE)
        assert known.count == names
        size = sum(keys.itemsize * 2 * len(keys) for keys, _ in known._segments)
        assert size / names <= 64
        for number in range(names):
            known.doubt(b"%d/%d" % (turn, number))
        assert known.count == 0


def test_names_that_were_taken_away_are_not_kept_for_ever() -> None:
    """Where far more is known than a full scan met, the next one begins anew."""
    known = Known()
    with known.opinion() as opinion:
        for number in range(10_000):
            opinion.keep(b"%d" % number, HERE)
    known.scanned(1_000)
    assert known.count == 10_000
    known.scanned(500)
    assert known.count == 0


# The watcher


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watcher]:
    """A watcher of a folder with two files."""
    root = tmp_path / "spool"
    root.mkdir()
    for name in ("a", "b"):
        (root / name).write_bytes(b"content")
    tree = Tree(root)
    with Threads("disk", 2) as disk:
        yield Watcher(
            tree,
            ignore=(),
            recursive=True,
            rescan_s=3600.0,
            offload=disk,
            report=lambda *_: None,
        )
    tree.close()


async def full_scan(watcher: Watcher, batches: AsyncIterator[list[Sighting]]) -> list[bytes]:
    """What is told until a full scan ends; all of it is dealt with."""
    told: list[Sighting] = []
    async with asyncio.timeout(20):
        async for batch in batches:
            if not batch:
                break
            told += batch
    with watcher.known.opinion() as opinion:
        for one in told:
            if one.seen is not None:
                opinion.keep(one.path, one.seen)
    return sorted(one.path for one in told)


async def test_a_rescan_tells_only_what_is_not_known(watched: Watcher) -> None:
    """Asked for or by its time; one that is called anew tells everything again."""
    async with aclosing(watched.sightings()) as batches:
        assert await full_scan(watched, batches) == [b"a", b"b"]
        await watched.rescan_now()
        assert await full_scan(watched, batches) == []
        watched.known.doubt(b"b")
        await watched.rescan_now()
        assert await full_scan(watched, batches) == [b"b"]
    async with aclosing(watched.sightings()) as batches:
        assert await full_scan(watched, batches) == [b"a", b"b"]


async def test_another_folder_under_the_watchs_name_is_told_whole(watched: Watcher) -> None:
    """Also where it is the old one that comes back: rows may have ended meanwhile."""
    root = watched._tree.root
    async with aclosing(watched.sightings()) as batches:
        assert await full_scan(watched, batches) == [b"a", b"b"]
        root.rename(root.with_name("away"))
        lost = asyncio.ensure_future(anext(batches))
        await wait_until(lambda: not watched.known.count, what="all to be doubted")
        root.with_name("away").rename(root)
        await watched.rescan_now()
        told = [one.path for one in await lost]
        assert sorted(told + await full_scan(watched, batches)) == [b"a", b"b"]


async def test_big_folders_are_left_to_inotify_for_longer(watched: Watcher) -> None:
    """A scan takes its share of a core and no more; where nothing else tells, it comes in time."""
    watched.mode = Mode.INOTIFY
    watched._rescan_s = 30.0
    assert watched._pause_s(1_000) == 30.0
    assert watched._pause_s(1_000_000) == 1_000_000 / NAMES_PER_S
    watched.mode = Mode.POLLING
    assert watched._pause_s(1_000_000) == 30.0
