"""Walking a tree: everything once, nothing followed, few descriptors, no early end."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from uploaderd.errors import GoneError
from uploaderd.spool.ignore import Ignore
from uploaderd.spool.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from uploaderd.errors import SpoolError
    from uploaderd.spool.tree import Tree


def nothing(_path: bytes) -> bool:
    """Ignore nothing."""
    return False


def paths(
    tree: Tree, *, recursive: bool = True, ignored: Callable[[bytes], bool] = nothing
) -> set[bytes]:
    """All that one walk brings; nothing may come twice."""
    found = [seen.path for seen in tree.walk(recursive=recursive, ignored=ignored)]
    assert len(found) == len(set(found))
    return set(found)


def test_finds_everything_but_folders(spool: Path, tree: Tree, tmp_path: Path) -> None:
    """Files of all kinds and depths are found once; a symlink to a folder is not entered."""
    (spool / "a/b").mkdir(parents=True)
    (spool / "empty").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("x")
    (spool / "link").symlink_to(tmp_path / "outside")
    (spool / "a/loop").symlink_to(spool)
    os.mkfifo(spool / "a/fifo")
    for name in ("top", "a/one", "a/b/two"):
        (spool / name).write_text(name)
    assert paths(tree) == {b"top", b"a/one", b"a/b/two", b"link", b"a/loop", b"a/fifo"}
    assert paths(tree, recursive=False) == {b"top", b"link"}


def test_identity_is_of_the_thing_itself(spool: Path, tree: Tree) -> None:
    """What was seen of a symlink is the symlink."""
    (spool / "link").symlink_to("/etc/passwd")
    (seen,) = tree.walk(recursive=True, ignored=nothing)
    assert seen.identity == tree.identify(b"link")


def test_ignored_folders_are_not_entered(spool: Path, tree: Tree) -> None:
    """Ignored names, all in ignored folders, and the top-level done and failed are left out."""
    for name in (
        "keep/x", "keep/.hidden", ".git/config", "down.part", "done/x", "failed/y", "keep/done/z"
    ):  # fmt: skip
        (spool / name).parent.mkdir(exist_ok=True)
        (spool / name).write_text("x")
    assert paths(tree, ignored=Ignore((".*", "*.part"))) == {b"keep/x", b"keep/done/z"}


def test_wide_and_deep_with_few_descriptors(spool: Path, tree: Tree) -> None:
    """A comb of 300 levels is walked whole with a bounded number of open folders."""
    wanted: set[bytes] = set()
    fd, path = os.open(spool, os.O_RDONLY), b""
    for _ in range(300):
        for side in (b"left", b"right"):
            os.mkdir(side, dir_fd=fd)
            os.close(os.open(side + b"/file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            wanted.add(path + side + b"/file")
        os.mkdir(b"m", dir_fd=fd)
        below = os.open(b"m", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd, path = below, path + b"m/"
    os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    found: set[bytes] = set()
    most = 0
    for seen in tree.walk(recursive=True, ignored=nothing):
        found.add(seen.path)
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
    assert found == wanted
    assert most < 50
    assert len(os.listdir("/proc/self/fd")) == before


def test_folder_is_told_before_it_is_read(spool: Path, tree: Tree) -> None:
    """Each folder is entered once, with its own descriptor, before any of its files is seen."""
    (spool / "a/b").mkdir(parents=True)
    (spool / "a/b/file").write_text("x")
    entered: dict[bytes, int] = {}
    walk = tree.walk(
        recursive=True,
        ignored=nothing,
        enter=lambda path, fd: entered.update({path: os.fstat(fd).st_ino}),
    )
    assert next(walk).path == b"a/b/file"
    assert entered == {
        b"": spool.stat().st_ino,
        b"a": (spool / "a").stat().st_ino,
        b"a/b": (spool / "a/b").stat().st_ino,
    }


def test_starts_below(spool: Path, tree: Tree) -> None:
    """A walk may begin at a sub-folder; its paths still count from the watch."""
    (spool / "a/b").mkdir(parents=True)
    (spool / "a/b/file").write_text("x")
    (spool / "other").write_text("x")
    found = [seen.path for seen in tree.walk(recursive=True, ignored=nothing, start=b"a")]
    assert found == [b"a/b/file"]
    with pytest.raises(GoneError):
        list(tree.walk(recursive=True, ignored=nothing, start=b"none"))


def test_folder_that_goes_is_told_and_passed(spool: Path, tree: Tree) -> None:
    """A folder that vanishes, or becomes a symlink, under the walk does not end it."""
    for name in ("gone", "link", "stay"):
        (spool / name).mkdir()
        (spool / name / "file").write_text("x")
    (spool / "first").write_text("x")
    told: list[SpoolError] = []
    walk = tree.walk(
        recursive=True, ignored=nothing, trouble=lambda _path, error: told.append(error)
    )
    assert next(walk).path == b"first"
    shutil.rmtree(spool / "gone")
    shutil.rmtree(spool / "link")
    (spool / "link").symlink_to("/etc")
    assert [seen.path for seen in walk] == [b"stay/file"]
    assert len(told) == 2
    assert all(isinstance(error, GoneError) for error in told)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_unreadable_folder_is_told_and_passed(spool: Path, tree: Tree) -> None:
    """A folder without permission is told, and the rest is walked."""
    for name in ("closed", "open"):
        (spool / name).mkdir()
        (spool / name / "file").write_text("x")
    (spool / "closed").chmod(0)
    told: list[bytes] = []
    walk = tree.walk(
        recursive=True, ignored=nothing, trouble=lambda path, _error: told.append(path)
    )
    assert [seen.path for seen in walk] == [b"open/file"]
    assert told == [b"closed"]
    (spool / "closed").chmod(0o700)


def test_streams(spool: Path, tree: Tree) -> None:
    """The first file comes before the last of many was read."""
    for number in range(3000):
        (spool / str(number)).touch()
    walk = tree.walk(recursive=True, ignored=nothing)
    next(walk)
    (spool / "zzz").touch()
    assert 2999 <= sum(1 for _ in walk) <= 3000


def test_two_walks_at_once(spool: Path, tree: Tree) -> None:
    """Two walks do not take entries from each other."""
    for number in range(1500):
        (spool / str(number)).touch()
    first = tree.walk(recursive=True, ignored=nothing)
    second = tree.walk(recursive=True, ignored=nothing)
    pairs = list(zip(first, second, strict=True))
    assert len(pairs) == 1500


SIDES = ("b", "c", "d", "e")


def fork(folder: Path, depth: int) -> None:
    """Nest folders "a", each with others beside it, some of which are visited later."""
    here = os.getcwd()
    os.chdir(folder)
    try:
        for level in range(depth):
            for name in ("a", *(f"{side}{level}" for side in SIDES)):
                os.mkdir(name)
                Path(name, "file").touch()
            os.chdir("a")
    finally:
        os.chdir(here)


def test_the_way_back_is_short(spool: Path, tree: Tree) -> None:
    """Coming back up a deep tree costs a step a folder, not a way down from the top each."""
    fork(spool, 200)
    asked: list[bytes] = []

    def opened(path: bytes) -> int:
        asked.append(path)
        return tree.folder(path)

    walk = Walk(opened, recursive=True, ignored=nothing, enter=None, trouble=None)
    assert len(list(walk.run(b""))) == 200 * 5
    assert asked == [b""]
    shutil.rmtree(spool / "a")


def test_the_way_back_does_not_lead_out(spool: Path, tree: Tree, tmp_path: Path) -> None:
    """A folder that is moved out while it is read: the walk goes on in the spool, not above it."""
    fork(spool, 100)
    moved = b"/".join([b"a"] * 60)
    outside = tmp_path / "outside"
    for level in range(100):
        for side in SIDES:
            (outside / f"{side}{level}").mkdir(parents=True)
            (outside / f"{side}{level}" / "secret").touch()
    deepest = b"/".join([b"a"] * 100) + b"/file"
    found: set[bytes] = set()
    for seen in tree.walk(recursive=True, ignored=nothing):
        found.add(seen.path)
        if seen.path == deepest:
            (spool / os.fsdecode(moved)).rename(outside / "a")
    assert b"secret" not in {path.rpartition(b"/")[2] for path in found}
    assert {
        b"/".join([*[b"a"] * level, b"%s%d" % (side.encode(), level), b"file"])
        for level in range(60)
        for side in SIDES
    } <= found
    shutil.rmtree(outside)
    shutil.rmtree(spool / "a")
