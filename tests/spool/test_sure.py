"""After-care makes sure of the file that it moves or removes, and of the folder it goes to."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.spool.flipping import FOLDER, flipper
from tests.spool.outside import Outside
from tests.support import figures
from uploaderd.core.values import replace
from uploaderd.errors import SpoolError
from uploaderd.spool import naming
from uploaderd.spool.filing import Filing, Moved

if TYPE_CHECKING:
    from pathlib import Path

    from uploaderd.core.model import Identity
    from uploaderd.spool.tree import Tree


@pytest.fixture
def filing(tree: Tree) -> Filing:
    """After-care for the folder."""
    return Filing(tree)


def receipt(owner: str = "f1") -> bytes:
    """A receipt of that owner."""
    return json.dumps({"schema": 1, "id": owner, "outcome": "uploaded"}).encode()


def drop(spool: Path, tree: Tree, name: str = "x.jsonl", content: str = "content") -> Identity:
    """Put a file into the spool and say what it is."""
    path = spool / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return tree.identify(os.fsencode(name))


def names(folder: Path) -> set[str]:
    """All files below a folder, by their paths."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def rewrite(path: Path, content: str) -> None:
    """Write other bytes of the same length and put the mtime back."""
    times = path.stat()
    path.write_text(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def md5(content: str) -> str:
    """The md5 of a text, in hex."""
    return hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("act", ["move", "remove"])
@pytest.mark.parametrize("waits", [False, True], ids=["", "set aside already"])
def test_a_time_put_back_hides_no_change(
    spool: Path, tree: Tree, filing: Filing, act: str, *, waits: bool
) -> None:
    """Another content with the old size and mtime is neither moved nor removed: md5 decides."""
    identity = drop(spool, tree, "x", "content")
    rewrite(spool / "x", "CONTENT")
    if waits:
        (spool / "x").rename(spool / os.fsdecode(naming.aside(b"x", identity.inode)))
    if act == "move":
        outcome = filing.move(b"x", b"done/x", identity, md5=md5("content"))
    else:
        outcome = filing.remove(b"x", identity, md5=md5("content"))
    assert outcome is Moved.SOURCE_CHANGED
    assert names(spool) == {"x"}
    assert (spool / "x").read_text() == "CONTENT"


def test_the_same_content_with_another_ctime_is_moved(
    spool: Path, tree: Tree, filing: Filing
) -> None:
    """Permissions, links and a rename change the ctime and not the content."""
    identity = drop(spool, tree, "x", "content")
    (spool / "x").chmod(0o600)
    os.link(spool / "x", spool / "other")
    assert filing.move(b"x", b"done/x", identity, md5=md5("content")) is Moved.MOVED


@pytest.mark.parametrize("act", ["move", "remove"])
def test_what_is_open_for_writing_waits(spool: Path, tree: Tree, filing: Filing, act: str) -> None:
    """Whoever has it open could still write into it; it keeps its name until it is closed."""
    identity = drop(spool, tree, "x")

    def done() -> Moved:
        if act == "move":
            return filing.move(b"x", b"done/x", identity)
        return filing.remove(b"x", identity)

    with (spool / "x").open("ab"):
        with pytest.raises(SpoolError, match="open for writing") as caught:
            done()
        assert caught.value.hint
        assert names(spool) == {"x"}
    assert done() is Moved.MOVED


def test_a_folder_is_never_taken_for_a_file(spool: Path, tree: Tree, filing: Filing) -> None:
    """Not even one that got the name and the inode number of a FIFO that was refused."""
    os.mkfifo(spool / "x")
    fifo = tree.identify(b"x")
    (spool / "x").unlink()
    (spool / "x").mkdir()
    inode = (spool / "x").stat().st_ino
    (spool / "x/inner").write_text("to be uploaded")
    same = replace(fifo, inode=inode)
    assert filing.move(b"x", b"failed/x", same) is Moved.SOURCE_CHANGED
    assert (spool / "x/inner").exists()


@pytest.mark.parametrize("what", ["done", "done/box"])
def test_folders_swapped_while_files_are_moved(
    spool: Path, tree: Tree, filing: Filing, tmp_path: Path, what: str
) -> None:
    """done/ or a folder below it flips with a symlink to the outside; nothing ever gets there."""
    with Outside(tmp_path) as outside:
        (spool / "done/box").mkdir(parents=True)
        (spool / "other").symlink_to(outside.inner)
        moved = number = 0
        with flipper(spool / what, spool / "other", outside.inner, FOLDER) as flips:
            while number < 150 or not moved:
                number += 1
                path = b"box/%d" % number
                identity = drop(spool, tree, path.decode())
                try:
                    place = filing.choose(b"done", path)
                    filing.write_receipt(place, receipt(), owner="f1")
                    moved += filing.move(path, place, identity) is Moved.MOVED
                except SpoolError:
                    assert (spool / path.decode()).exists()
    assert flips.count > 50
    figures.report("folders swapped while files are moved", what=what, flips=flips.count)
