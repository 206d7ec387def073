"""A file that was set aside and forgotten gets its name back, and only then."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from uploaderd.core.model import Arrival
from uploaderd.spool import naming
from uploaderd.spool.filing import Filing, Moved
from uploaderd.spool.ignore import Ignore
from uploaderd.spool.lookout import Lookout, Sighting

if TYPE_CHECKING:
    from pathlib import Path

    from uploaderd.core.model import Identity
    from uploaderd.spool.tree import Tree

Told = list[tuple[str, dict[str, object]]]


def set_aside(tree: Tree, spool: Path, path: bytes, content: str = "content") -> Identity:
    """Leave a file as a crash in the midst of filing leaves it."""
    own = spool / os.fsdecode(path)
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(content)
    identity = tree.identify(path)
    own.rename(hidden(spool, path, identity))
    return identity


def hidden(spool: Path, path: bytes, identity: Identity) -> Path:
    """Where a file waits."""
    folder, _, name = path.rpartition(b"/")
    return spool / os.fsdecode(folder) / os.fsdecode(naming.aside(name, identity.inode))


class Scans:
    """A lookout that is asked for one full scan after another."""

    def __init__(self, tree: Tree, *, recursive: bool = True) -> None:
        self._lookout = Lookout(tree, ignored=Ignore([".*", "*.tmp"]), recursive=recursive)

    def scan(self) -> tuple[list[Sighting], Told]:
        """One full scan, with the events that it brings about."""
        seen: list[Sighting] = []
        told: Told = []
        self._lookout.due = True
        while True:
            turn = self._lookout.turn()
            seen += turn.batch
            told += turn.told
            if turn.idle and not turn.batch:
                return seen, [(event, facts) for event, facts in told if event == "spool.astray"]

    def close(self) -> None:
        """End."""
        self._lookout.close()


def names(folder: Path) -> set[str]:
    """All files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("path", [b"x.txt", b"a/b/\xff\n~.tar.gz", b"n" * 200])
def test_it_gets_its_name_back_and_is_found(spool: Path, tree: Tree, path: bytes) -> None:
    """The first full scan frees it; then it is a file that was renamed into place."""
    set_aside(tree, spool, path)
    scans = Scans(tree)
    seen, told = scans.scan()
    assert names(spool) == {os.fsdecode(path)}
    assert {(one.path, one.arrival) for one in seen if one.seen} == {(path, Arrival.RENAMED)}
    assert told == []
    scans.close()


def test_a_newcomer_keeps_the_name(spool: Path, tree: Tree) -> None:
    """While its name is taken it waits, which is told once; it never becomes another name."""
    set_aside(tree, spool, b"x", "older")
    (spool / "x").write_text("newer")
    scans = Scans(tree)
    _, told = scans.scan()
    assert [facts["path"] for _, facts in told] == ["x"]
    assert scans.scan()[1] == []
    assert (spool / "x").read_text() == "newer"
    assert len(names(spool)) == 2
    (spool / "x").unlink()
    scans.scan()
    assert names(spool) == {"x"}
    assert (spool / "x").read_text() == "older"
    scans.close()


def test_what_is_in_hand_is_left_alone(spool: Path, tree: Tree) -> None:
    """A scan never takes a file out of the hands of whoever files it."""
    set_aside(tree, spool, b"a/x")
    scans = Scans(tree)
    before = names(spool)
    with tree.claims.hold(b"a/x"), tree.claims.hold(b"a/x"):
        scans.scan()
        assert names(spool) == before
    scans.scan()
    assert names(spool) == {"a/x"}
    scans.close()


@pytest.mark.parametrize("act", ["move", "remove"])
def test_filing_goes_on_with_what_was_given_back(spool: Path, tree: Tree, act: str) -> None:
    """A journal that does know it finds it under its own name, as if nothing had happened."""
    identity = set_aside(tree, spool, b"x")
    scans = Scans(tree)
    scans.scan()
    filing = Filing(tree)
    if act == "move":
        assert filing.move(b"x", b"done/x", identity) is Moved.MOVED
        assert names(spool) == {"done/x"}
    else:
        assert filing.remove(b"x", identity) is Moved.MOVED
        assert names(spool) == set()
    scans.close()


def test_a_finished_copy_is_not_made_twice(spool: Path, tree: Tree) -> None:
    """A crash between a copy to another file system and its end: given back, it is still known."""
    identity = set_aside(tree, spool, b"x")
    (spool / "done").mkdir()
    (spool / "done/x").write_text("content")
    os.utime(spool / "done/x", ns=(identity.mtime_ns, identity.mtime_ns))
    scans = Scans(tree)
    scans.scan()
    assert names(spool) == {"x", "done/x"}
    assert Filing(tree).move(b"x", b"done/x", identity) is Moved.ALREADY
    assert names(spool) == {"done/x"}
    scans.close()


def test_a_name_that_was_cut_is_told(spool: Path, tree: Tree) -> None:
    """One so long that it did not fit beside the mark is not guessed: a person is told, once."""
    identity = set_aside(tree, spool, b"n" * 255)
    scans = Scans(tree)
    _, told = scans.scan()
    ((_, facts),) = told
    assert facts["hidden"] == hidden(spool, b"n" * 255, identity).name
    assert "by hand" in str(facts["why"])
    assert scans.scan()[1] == []
    assert names(spool) == {hidden(spool, b"n" * 255, identity).name}
    scans.close()


@pytest.mark.parametrize(
    "own", [b"done", b"failed", b".hidden", b"x.tmp", b".uploaderd-x.taken-y", b".", b".."]
)
def test_a_forged_name_leads_nowhere(spool: Path, tree: Tree, own: bytes) -> None:
    """Nothing gets a name that no file of the spool can have had."""
    (spool / "x").write_text("x")
    inode = tree.identify(b"x").inode
    forged = spool / os.fsdecode(naming.aside(own, inode))
    (spool / "x").rename(forged)
    scans = Scans(tree)
    _, told = scans.scan()
    assert len(told) == 1
    assert names(spool) == {forged.name}
    scans.close()
