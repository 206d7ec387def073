"""Which names a watch leaves alone."""

from __future__ import annotations

import pytest

from uploaderd.spool.ignore import Ignore

DEFAULT = (".*", "*.tmp", "*.part", "*.partial", "*.crdownload", "*~")


@pytest.mark.parametrize(
    "path",
    [b".hidden", b"a/.hidden", b"x.tmp", b"a.b/x.part", b"back~", b"\xff.tmp", b"new\nline.tmp"],
)
def test_ignores(path: bytes) -> None:
    """A pattern is held against the last name, whatever bytes it is made of."""
    assert Ignore(DEFAULT)(path)


@pytest.mark.parametrize("path", [b"x", b"x.tmp.gz", b"tmp", b"\xff", b"x.TMP", b"a~/x"])
def test_takes(path: bytes) -> None:
    """What no pattern matches is taken; case matters."""
    assert not Ignore(DEFAULT)(path)


def test_own_folders_at_the_top_only() -> None:
    """The watch's own done and failed are left out; a folder of that name below is not."""
    ignore = Ignore(())
    assert ignore(b"done")
    assert ignore(b"failed")
    assert not ignore(b"a/done")
    assert not ignore(b"done.txt")


def test_no_patterns_ignore_nothing_but_ours() -> None:
    """Without patterns hidden files are taken, the daemon's own hidden names never."""
    ignore = Ignore(())
    assert not ignore(b".hidden")
    assert ignore(b"a/.uploaderd-0.taken")


def test_classes_and_newlines() -> None:
    """Shell classes work, and a new line in a name hides nothing."""
    ignore = Ignore(("[0-9]*.bak", "?"))
    assert ignore(b"1\n2.bak")
    assert ignore(b"\n")
    assert not ignore(b"a.bak")
