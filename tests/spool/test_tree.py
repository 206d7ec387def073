"""Safe access below a watched folder: real links, FIFOs, devices, writers and swapped folders."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from asyncinotify import Inotify, Mask

from tests.spool.flipping import FILE, flipper
from uploaderd.core.settle import Writers
from uploaderd.errors import (
    ChangedError,
    GoneError,
    NotRegularError,
    SpoolError,
    UnreadableError,
)
from uploaderd.spool.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Child = Callable[[str], subprocess.Popen[str]]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="making a device needs root")
not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


def test_looks_at_a_file(spool: Path, tree: Tree) -> None:
    """A look tells a file's identity, and that nobody writes it."""
    (spool / "a").mkdir()
    (spool / "a/b").write_text("content")
    look = tree.look(b"a/b")
    status = (spool / "a/b").stat()
    assert (look.identity.inode, look.identity.size) == (status.st_ino, 7)
    assert look.identity.ctime_ns == status.st_ctime_ns
    assert look.writers is Writers.NONE
    assert tree.identify(b"a/b") == look.identity


def test_sees_another_process_writing(spool: Path, tree: Tree, child: Child) -> None:
    """While another process has the file open for writing the kernel says so, and no longer."""
    path = spool / "file"
    process = child(
        f"f = open({str(path)!r}, 'wb'); f.write(b'half'); f.flush(); print('ready', flush=True)\n"
        "input(); f.close(); print('closed', flush=True); input()"
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert tree.look(b"file").writers is Writers.OPEN
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "closed\n"
    assert tree.look(b"file").writers is Writers.NONE


def test_readers_are_no_writers(spool: Path, tree: Tree) -> None:
    """Our own open descriptors, and anybody's for reading, do not count as writers."""
    (spool / "file").write_text("x")
    fd = tree.open_fd(b"file")
    try:
        assert tree.look(b"file").writers is Writers.NONE
    finally:
        os.close(fd)


def test_write_lease_counts_as_writing(spool: Path, tree: Tree, child: Child) -> None:
    """A file under another's write lease, as smbd takes, is being written; nobody waits for it."""
    path = spool / "file"
    path.write_text("x")
    child(
        "import fcntl, os, signal\n"
        "signal.signal(signal.SIGIO, signal.SIG_IGN)\n"
        f"fd = os.open({str(path)!r}, os.O_RDWR)\n"
        "fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
        "print('ready', flush=True); input()"
    )
    look = tree.look(b"file")
    assert look.writers is Writers.OPEN
    assert look.identity.size == 1
    with pytest.raises(ChangedError):
        tree.open_fd(b"file")


@as_root
def test_foreign_owner_is_unknown(spool: Path, child: Child) -> None:
    """Of another user's file the kernel does not tell who writes it, and nobody pretends."""
    spool.chmod(0o777)
    (spool / "file").write_text("x")
    process = child(
        "import os\n"
        "from pathlib import Path\n"
        "from uploaderd.spool.tree import Tree\n"
        f"os.chdir({str(spool)!r}); os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print('ready', flush=True)\n"
        "print(Tree(Path('.')).look(b'file').writers, flush=True)\n"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "unknown\n"


def test_looking_does_not_kill(spool: Path, child: Child) -> None:
    """A writer who comes in the middle of a look breaks its lease, and that signal kills nobody."""
    path = spool / "file"
    path.write_text("x")
    process = child(
        "from pathlib import Path\n"
        "from uploaderd.spool.tree import Tree\n"
        f"tree = Tree(Path({str(spool)!r})); tree.open()\n"
        "print('ready', flush=True)\n"
        "for _ in range(20000): tree.look(b'file')\n"
        "print('alive', flush=True)\n"
    )
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            os.close(os.open(path, os.O_WRONLY))

    thread = threading.Thread(target=write)
    thread.start()
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "alive\n"
    finally:
        done.set()
        thread.join()
    assert process.wait(10) == 0


@pytest.mark.parametrize("name", [b"symlink", b"dangling", b"fifo", b"socket"])
def test_refuses_what_is_not_regular(spool: Path, tree: Tree, name: bytes) -> None:
    """Symlinks, FIFOs and sockets are refused without opening, yet can be identified."""
    (spool / "target").write_text("secret")
    (spool / "symlink").symlink_to("target")
    (spool / "dangling").symlink_to("nowhere")
    os.mkfifo(spool / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(spool)
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
    with pytest.raises(NotRegularError):
        tree.look(name)
    with pytest.raises(NotRegularError):
        tree.open_fd(name)
    assert tree.identify(name).inode == os.lstat(spool / os.fsdecode(name)).st_ino


def test_a_folder_in_its_place_is_gone(spool: Path, tree: Tree) -> None:
    """A folder that took a file's name is no bad file: what is in it is found on its own."""
    (spool / "x").mkdir()
    for act in (tree.look, tree.open_fd, tree.identify):
        with pytest.raises(GoneError):
            act(b"x")


def test_a_fifo_swapped_in_is_not_opened(spool: Path, tree: Tree) -> None:
    """However often a file and a FIFO trade places, the FIFO is never opened."""
    (spool / "x").write_text("x")
    os.mkfifo(spool / "y")
    with Inotify(sync_timeout=0) as openings:
        openings.add_watch(spool / "y", Mask.OPEN)
        with flipper(spool / "x", spool / "y", "", FILE) as flips:
            for _ in range(30_000):
                with contextlib.suppress(NotRegularError):
                    os.close(tree.open_fd(b"x"))
        assert openings.sync_get() is None
    assert flips.count > 100


@as_root
def test_refuses_a_device(spool: Path, tree: Tree) -> None:
    """A device is refused; to open one could do something."""
    try:
        os.mknod(spool / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices may be made here")
    with pytest.raises(NotRegularError, match="a device"):
        tree.look(b"null")


def test_missing_is_gone(tree: Tree) -> None:
    """What is not there is gone, whichever part of its path is missing."""
    for path in (b"no", b"no/such/file", b"x" * 300):
        with pytest.raises(GoneError):
            tree.look(path)
        with pytest.raises(GoneError):
            tree.identify(path)


@pytest.mark.parametrize("path", [b"", b"/etc/passwd", b"..", b"a/../../b", b".", b"a//b", b"a\0b"])
def test_refuses_paths_that_leave(tree: Tree, path: bytes) -> None:
    """A path that could lead out of the watch is refused before the kernel sees it."""
    with pytest.raises(SpoolError, match="not a path below"):
        tree.look(path)


def test_folder_swapped_for_a_symlink(spool: Path, tree: Tree, tmp_path: Path) -> None:
    """A folder on the way that became a symlink leads nowhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("secret")
    (spool / "folder").symlink_to(outside)
    for act in (tree.look, tree.open_fd, tree.identify):
        with pytest.raises(GoneError):
            act(b"folder/file")


def test_swapping_under_the_look(spool: Path, tree: Tree, tmp_path: Path) -> None:
    """However often a folder and a symlink trade places meanwhile, nothing outside is reached."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("secret")
    (spool / "folder").mkdir()
    (spool / "folder/file").write_text("mine")
    (spool / "link").symlink_to(outside)
    inside = (spool / "folder/file").stat().st_ino
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            os.rename(spool / "folder", spool / "aside")
            os.rename(spool / "link", spool / "folder")
            os.rename(spool / "folder", spool / "link")
            os.rename(spool / "aside", spool / "folder")

    thread = threading.Thread(target=swap)
    thread.start()
    found = missed = 0
    try:
        for _ in range(5000):
            try:
                assert tree.look(b"folder/file").identity.inode == inside
                found += 1
            except GoneError:
                missed += 1
    finally:
        done.set()
        thread.join()
    assert found
    assert missed


def test_names_of_any_bytes(spool: Path, tree: Tree) -> None:
    """Names with new lines, quotes and bytes that are no UTF-8 are reached like any other."""
    for name in (b"new\nline", b"quo'te\"", b"\xff\xfe", "ü".encode(), b" ", b"-rf", b"*"):
        path = os.path.join(os.fsencode(spool), name)
        with open(path, "wb") as file:
            file.write(b"x")
        assert tree.look(name).identity.size == 1
        with pytest.raises(GoneError) as caught:
            tree.look(name + b"?")
        assert str(caught.value).isprintable()


def test_deeper_than_path_max(spool: Path, tree: Tree) -> None:
    """A file 3000 folders down, far beyond PATH_MAX, is reached."""
    fd = os.open(spool, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir(b"deep", dir_fd=fd)
        below = os.open(b"deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open(b"file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    path = b"/".join([b"deep"] * 3000 + [b"file"])
    assert tree.look(path).identity.size == 0
    assert [seen.path for seen in tree.walk(recursive=True, ignored=lambda _: False)] == [path]
    subprocess.run(["rm", "-rf", spool / "deep"], check=True)


@not_as_root
def test_unreadable_file(spool: Path, tree: Tree) -> None:
    """A file without permission is unreadable, with a hint."""
    (spool / "file").write_text("x")
    (spool / "file").chmod(0)
    with pytest.raises(UnreadableError) as caught:
        tree.look(b"file")
    assert caught.value.hint


def test_root_may_be_a_symlink(spool: Path, tmp_path: Path) -> None:
    """The administrator may name the watch by a symlink; below it none is followed."""
    (spool / "file").write_text("x")
    link = tmp_path / "link"
    link.symlink_to(spool)
    tree = Tree(link)
    tree.open()
    assert tree.look(b"file").identity.size == 1
    tree.close()


def test_root_must_be_a_folder(tmp_path: Path) -> None:
    """A watch that is missing or no folder is refused with a sentence and a hint."""
    (tmp_path / "file").write_text("x")
    for name, words in (("missing", "is not there"), ("file", "is not a folder")):
        with pytest.raises(SpoolError, match=words) as caught:
            Tree(tmp_path / name).open()
        assert caught.value.hint
        assert not isinstance(caught.value, GoneError)


def test_vanished_root_is_not_a_gone_file(spool: Path, tree: Tree) -> None:
    """When the whole folder vanishes its files are not taken for deleted; it is found again."""
    (spool / "file").write_text("x")
    tree.look(b"file")
    (spool / "file").unlink()
    spool.rmdir()
    with pytest.raises(SpoolError, match="is not there") as caught:
        tree.look(b"file")
    assert not isinstance(caught.value, GoneError)
    spool.mkdir()
    with pytest.raises(GoneError):
        tree.look(b"file")
    (spool / "file").write_text("new")
    assert tree.look(b"file").identity.size == 3


def test_replaced_root_is_taken_up(spool: Path, tree: Tree, tmp_path: Path) -> None:
    """Another folder put in the watch's place is used at the next miss, and open tells of it."""
    first = tree.open()
    assert tree.open() == first
    spool.rename(tmp_path / "old")
    spool.mkdir()
    (spool / "file").write_text("x")
    assert tree.look(b"file").identity.size == 1
    assert tree.open() != first


def test_close_under_use(spool: Path, tree: Tree) -> None:
    """Closing in one thread never breaks an access in another."""
    (spool / "file").write_text("x")
    done = threading.Event()

    def close() -> None:
        while not done.is_set():
            tree.close()

    thread = threading.Thread(target=close)
    thread.start()
    try:
        for _ in range(2000):
            assert tree.look(b"file").identity.size == 1
    finally:
        done.set()
        thread.join()


def test_leaves_no_descriptors(spool: Path, tree: Tree) -> None:
    """No access, good or bad, leaves a descriptor open."""
    (spool / "a").mkdir()
    (spool / "a/file").write_text("x")
    (spool / "a/link").symlink_to("file")
    before = len(os.listdir("/proc/self/fd"))
    for path in (b"a/file", b"a/link", b"a", b"a/none", b"none/none"):
        for act in (tree.look, tree.identify):
            try:
                act(path)
            except SpoolError:
                continue
    walk = tree.walk(recursive=True, ignored=lambda _: False)
    next(walk)
    del walk
    assert len(os.listdir("/proc/self/fd")) == before
