"""After-care over real folders: names, receipts, moves, removals, and what is never touched."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest

from uploaderd.errors import NameTakenError, SpoolError
from uploaderd.spool import naming
from uploaderd.spool.filing import Filing, Moved

if TYPE_CHECKING:
    from collections.abc import Callable
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


def test_half_a_receipt_from_before_a_crash_is_written_anew(spool: Path, filing: Filing) -> None:
    """And a receipt that is there already leaves no draft of its own behind."""
    (spool / "done").mkdir()
    draft = spool / "done" / os.fsdecode(naming.receipt_draft("f1"))
    for moves in (False, True):
        draft.write_bytes(b"{ha")
        filing.write_receipt(b"done/x", receipt(), owner="f1", moves=moves)
        assert names(spool) == {"done/x.receipt.json"}
        assert (spool / "done/x.receipt.json").read_bytes() == receipt()
    draft.write_bytes(b"{ha")
    with pytest.raises(NameTakenError):
        filing.write_receipt(b"done/x", receipt("f2"), owner="f2")
    assert (spool / "done/x.receipt.json").read_bytes() == receipt()


# --- choosing a name


def test_choose_free(filing: Filing) -> None:
    """Where nothing stands in the way the path is kept."""
    assert filing.choose(b"done", b"batch/x.jsonl") == b"done/batch/x.jsonl"


def test_choose_next(spool: Path, filing: Filing) -> None:
    """A name that is taken, by a file or by a receipt, becomes the next one."""
    (spool / "done").mkdir()
    (spool / "done/x.jsonl").write_text("older")
    assert filing.choose(b"done", b"x.jsonl") == b"done/x~2.jsonl"
    (spool / "done/x~2.jsonl.receipt.json").write_text("older")
    assert filing.choose(b"done", b"x.jsonl") == b"done/x~3.jsonl"
    (spool / "done/x~3.jsonl").symlink_to("nowhere")
    assert filing.choose(b"done", b"x.jsonl") == b"done/x~4.jsonl"


def test_choose_around_a_file_in_the_way(spool: Path, tree: Tree, filing: Filing) -> None:
    """A folder whose name an older file took in done gets another name, and so on below."""
    identity = drop(spool, tree, "batch")
    assert filing.move(b"batch", filing.choose(b"done", b"batch"), identity) is Moved.MOVED
    identity = drop(spool, tree, "batch/x")
    place = filing.choose(b"done", b"batch/x")
    assert place == b"done/batch~2/x"
    filing.write_receipt(place, receipt(), owner="f1")
    assert filing.move(b"batch/x", place, identity) is Moved.MOVED
    assert names(spool) == {"done/batch", "done/batch~2/x", "done/batch~2/x.receipt.json"}


def test_choose_leaves_room(spool: Path, tree: Tree, filing: Filing) -> None:
    """Names at the kernel's limit are cut, so that number and receipt fit, and stay different."""
    for number, name in enumerate(("n" * 255, "n" * 251 + ".ext", "ü" * 127)):
        for _ in range(3):
            identity = drop(spool, tree, name)
            place = filing.choose(b"done", name.encode())
            owner = f"{number}{place!r}"[:60].replace("/", "")
            filing.write_receipt(place, receipt(owner), owner=owner)
            assert filing.move(name.encode(), place, identity) is Moved.MOVED
    assert len(names(spool / "done")) == 18


@pytest.mark.parametrize("kind", ["symlink", "file"])
def test_done_must_be_a_folder(spool: Path, tree: Tree, tmp_path: Path, kind: str) -> None:
    """A done that is a symlink or a file is refused with a hint, never followed or replaced."""
    identity = drop(spool, tree)
    outside = tmp_path / "outside"
    outside.mkdir()
    if kind == "symlink":
        (spool / "done").symlink_to(outside)
    else:
        (spool / "done").write_text("mine")
    filing = Filing(tree)
    acts: list[Callable[[], object]] = [
        lambda: filing.choose(b"done", b"x.jsonl"),
        lambda: filing.write_receipt(b"done/x.jsonl", receipt(), owner="f1"),
        lambda: filing.move(b"x.jsonl", b"done/x.jsonl", identity),
    ]
    for act in acts:
        with pytest.raises(SpoolError, match="symlink or no folder") as caught:
            act()
        assert caught.value.hint
    assert not names(outside)
    assert set(os.listdir(spool)) == {"x.jsonl", "done"}


def test_symlink_below_done_is_not_followed(spool: Path, filing: Filing, tmp_path: Path) -> None:
    """A symlink deeper down is stepped around, and refused if it appears later."""
    (spool / "done").mkdir()
    (spool / "done/batch").symlink_to(tmp_path)
    assert filing.choose(b"done", b"batch/x") == b"done/batch~2/x"
    with pytest.raises(NameTakenError):
        filing.write_receipt(b"done/batch/x", receipt(), owner="f1")
    assert not (tmp_path / "x.receipt.json").exists()


# --- receipts


def test_receipt_is_whole(spool: Path, filing: Filing) -> None:
    """A receipt is written with its folders, and nothing else is left there."""
    filing.write_receipt(b"done/a/b/x", receipt(), owner="f1")
    assert names(spool) == {"done/a/b/x.receipt.json"}
    assert (spool / "done/a/b/x.receipt.json").read_bytes() == receipt()


def test_receipt_again(spool: Path, filing: Filing) -> None:
    """Writing our receipt again leaves the first, and clears what a crash left."""
    filing.write_receipt(b"done/x", receipt(), owner="f1")
    (spool / "done/.uploaderd-f1.tmp").write_text('{"half')
    filing.write_receipt(b"done/x", receipt() + b" ", owner="f1")
    assert (spool / "done/x.receipt.json").read_bytes() == receipt()
    assert names(spool) == {"done/x.receipt.json"}


@pytest.mark.parametrize(
    "other", [receipt("f2"), b"", b"no json", b'"f1"', b"[" * 100_000, b'{"id": 1}', b"\xff"]
)
def test_receipt_of_another(spool: Path, filing: Filing, other: bytes) -> None:
    """Whatever else stands at the receipt's name is left alone."""
    (spool / "done").mkdir()
    (spool / "done/x.receipt.json").write_bytes(other)
    with pytest.raises(NameTakenError):
        filing.write_receipt(b"done/x", receipt(), owner="f1")
    filing.withdraw_receipt(b"done/x", owner="f1")
    assert (spool / "done/x.receipt.json").read_bytes() == other
    assert names(spool) == {"done/x.receipt.json"}


def test_receipt_that_is_a_fifo_or_symlink(spool: Path, filing: Filing) -> None:
    """A FIFO or a symlink at the receipt's name is neither waited for nor followed."""
    (spool / "done").mkdir()
    (spool / "real").write_bytes(receipt())
    (spool / "done/x.receipt.json").symlink_to("../real")
    os.mkfifo(spool / "done/y.receipt.json")
    for name in (b"done/x", b"done/y"):
        with pytest.raises(NameTakenError):
            filing.write_receipt(name, receipt(), owner="f1")


def test_withdraw(spool: Path, filing: Filing) -> None:
    """Our receipt can be taken back, once or again, and where nothing ever was."""
    filing.write_receipt(b"done/x", receipt(), owner="f1")
    filing.withdraw_receipt(b"done/x", owner="f1")
    filing.withdraw_receipt(b"done/x", owner="f1")
    filing.withdraw_receipt(b"done/none/y", owner="f1")
    assert names(spool) == set()


# --- moving


def test_move_and_again(spool: Path, tree: Tree, filing: Filing) -> None:
    """A file is moved with its inode, and a second call knows that it was."""
    identity = drop(spool, tree, "batch/x")
    assert filing.move(b"batch/x", b"done/batch/x", identity) is Moved.MOVED
    assert tree.identify(b"done/batch/x").same_bytes(identity)
    assert filing.move(b"batch/x", b"done/batch/x", identity) is Moved.ALREADY
    assert names(spool) == {"done/batch/x"}


def test_move_again_beside_a_new_file(spool: Path, tree: Tree, filing: Filing) -> None:
    """A new file under the old name does not confuse the second call, and stays."""
    identity = drop(spool, tree, "x")
    filing.move(b"x", b"done/x", identity)
    drop(spool, tree, "x", "another")
    assert filing.move(b"x", b"done/x", identity) is Moved.ALREADY
    assert (spool / "x").read_text() == "another"


@pytest.mark.parametrize("change", ["written", "replaced", "gone", "folder gone"])
def test_only_that_content_is_moved(spool: Path, tree: Tree, filing: Filing, change: str) -> None:
    """A file that changed, was replaced or went away is left as it is."""
    identity = drop(spool, tree, "a/x")
    if change == "written":
        os.truncate(spool / "a/x", 3)
    elif change == "replaced":
        (spool / "a/new").write_text("content")
        (spool / "a/new").rename(spool / "a/x")
    else:
        (spool / "a/x").unlink()
        if change == "folder gone":
            (spool / "a").rmdir()
    before = names(spool)
    expected = Moved.SOURCE_CHANGED if change == "written" else Moved.SOURCE_GONE
    assert filing.move(b"a/x", b"done/a/x", identity) is expected
    assert filing.remove(b"a/x", identity) is expected
    assert names(spool) == before


def test_permissions_do_not_matter(spool: Path, tree: Tree, filing: Filing) -> None:
    """A change of permissions is no change of content."""
    identity = drop(spool, tree, "x")
    (spool / "x").chmod(0o600)
    assert filing.move(b"x", b"done/x", identity) is Moved.MOVED


def test_nothing_is_overwritten(spool: Path, tree: Tree, filing: Filing) -> None:
    """What stands at the destination, even with like size and time, is never replaced."""
    identity = drop(spool, tree, "x", "content")
    (spool / "done").mkdir()
    (spool / "done/x").write_text("CONTENT")
    os.utime(spool / "done/x", ns=(identity.mtime_ns, identity.mtime_ns))
    with pytest.raises(NameTakenError):
        filing.move(b"x", b"done/x", identity)
    assert (spool / "x").read_text() == "content"
    assert (spool / "done/x").read_text() == "CONTENT"
    assert names(spool) == {"x", "done/x"}


@pytest.mark.parametrize("kind", ["symlink", "dangling", "fifo"])
def test_moves_what_is_not_regular(spool: Path, tree: Tree, filing: Filing, kind: str) -> None:
    """A refused symlink or FIFO is itself moved to failed, neither followed nor opened."""
    (spool / "target").write_text("x")
    if kind == "fifo":
        os.mkfifo(spool / "odd")
    else:
        (spool / "odd").symlink_to("target" if kind == "symlink" else "nowhere")
    identity = tree.identify(b"odd")
    assert filing.move(b"odd", b"failed/odd", identity) is Moved.MOVED
    assert filing.move(b"odd", b"failed/odd", identity) is Moved.ALREADY
    assert tree.identify(b"failed/odd").inode == identity.inode
    assert names(spool) == {"target", "failed/odd"}


def test_remove(spool: Path, tree: Tree, filing: Filing) -> None:
    """A removed file is gone, and the second call finds nothing to do."""
    identity = drop(spool, tree, "x")
    assert filing.remove(b"x", identity) is Moved.MOVED
    assert filing.remove(b"x", identity) is Moved.SOURCE_GONE
    assert names(spool) == set()


def test_finds_the_file_set_aside(spool: Path, tree: Tree, filing: Filing) -> None:
    """After a crash the file that waits under its hidden name is moved on."""
    identity = drop(spool, tree, "x")
    aside = spool / os.fsdecode(naming.aside(b"x", identity.inode))
    (spool / "x").rename(aside)
    assert filing.move(b"x", b"done/x", identity) is Moved.MOVED
    assert names(spool) == {"done/x"}


def test_gives_back_what_was_caught(spool: Path, tree: Tree, filing: Filing) -> None:
    """A newcomer that was caught by mistake before a crash gets its name back, or the next."""
    identity = drop(spool, tree, "x.txt")
    aside = spool / os.fsdecode(naming.aside(b"x.txt", identity.inode))
    (spool / "x.txt").rename(spool.parent / "kept")  # so that its inode is not given again
    aside.write_text("newcomer")
    assert filing.remove(b"x.txt", identity) is Moved.SOURCE_GONE
    assert (spool / "x.txt").read_text() == "newcomer"
    aside.write_text("one more")
    assert filing.move(b"x.txt", b"done/x.txt", identity) is Moved.SOURCE_GONE
    assert (spool / "x~2.txt").read_text() == "one more"
    assert names(spool) == {"x.txt", "x~2.txt"}


@pytest.mark.parametrize("act", ["move", "remove"])
def test_never_takes_a_newcomer(spool: Path, tree: Tree, filing: Filing, act: str) -> None:
    """While a producer keeps renaming new files over the name, none of them is lost."""
    path = spool / "x"
    done = threading.Event()
    made = 0

    def produce() -> None:
        nonlocal made
        while not done.is_set():
            (spool / "x.tmp").write_text(f"new {made}")
            os.rename(spool / "x.tmp", path)
            made += 1

    outcomes = set()
    path.write_text("first")
    thread = threading.Thread(target=produce)
    thread.start()
    try:
        for number in range(1500):
            try:
                identity = tree.identify(b"x")
            except SpoolError:
                continue
            place = b"done/%d" % number
            outcome = (
                filing.move(b"x", place, identity)
                if act == "move"
                else filing.remove(b"x", identity)
            )
            outcomes.add(outcome)
            if outcome is Moved.MOVED and act == "move":
                assert tree.identify(place).same_bytes(identity)
            elif act == "move":
                assert not (spool / os.fsdecode(place)).exists()
    finally:
        done.set()
        thread.join()
    assert Moved.MOVED in outcomes
    assert not [name for name in names(spool) if ".uploaderd" in name]
