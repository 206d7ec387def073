"""The names that after-care gives."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.spool import naming


@pytest.mark.parametrize(
    ("name", "second"),
    [
        (b"name.ext", b"name~2.ext"),
        (b"name", b"name~2"),
        (b"archive.tar.gz", b"archive.tar~2.gz"),
        (b".profile", b".profile~2"),
        (b"..x", b"..x~2"),
        (b"trailing.", b"trailing~2."),
        (b"x.receipt.json", b"x.receipt~2.json"),
        (b"a." + b"e" * 60, b"a." + b"e" * 60 + b"~2"),
        (b"\xff\n.b", b"\xff\n~2.b"),
    ],
)
def test_second_name(name: bytes, second: bytes) -> None:
    """The newcomer's number stands before the extension."""
    assert list(islice(naming.candidates(name), 2)) == [name, second]


@given(
    name=st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name),
    limit=st.integers(80, 255),
)
def test_names_fit_and_differ(name: bytes, limit: int) -> None:
    """Every candidate leaves room for the receipt's suffix, and no two are alike."""
    found = list(islice(naming.candidates(name, limit=limit, room=len(naming.RECEIPT)), 120))
    assert len(set(found)) == len(found)
    assert all(0 < len(candidate) <= limit - len(naming.RECEIPT) for candidate in found)
    if len(name) <= limit - len(naming.RECEIPT):
        assert found[0] == name


def test_cut_at_a_character() -> None:
    """A UTF-8 name that must be cut stays UTF-8."""
    for filler in ("", "a", "aa", "aaa"):
        name = (filler + "💾" * 62).encode()
        for candidate in islice(naming.candidates(name, room=13), 12):
            candidate.decode("utf-8")


def test_hidden_names_tell_files_apart() -> None:
    """The name aside follows from the name and the inode, and is one of ours."""
    assert naming.aside(b"a", 1) == naming.aside(b"a", 1)
    assert len({naming.aside(b"a", 1), naming.aside(b"a", 2), naming.aside(b"b", 1)}) == 3
    for name in (
        naming.aside(b"a" * 255, 1),
        naming.copying(b"a" * 255),
        naming.receipt_draft("f"),
    ):
        assert name.startswith(naming.OURS)
        assert len(name) <= 255


@given(st.binary(min_size=1, max_size=255), st.integers(0, 2**64 - 1), st.integers(60, 255))
def test_a_hidden_name_tells_the_own_name(name: bytes, inode: int, limit: int) -> None:
    """It is told whole or not at all, and only together with the inode."""
    hidden = naming.aside(name, inode, limit=limit)
    assert len(hidden) <= limit
    assert naming.is_aside(hidden)
    told = naming.set_aside(hidden, inode)
    assert told in {name, None}
    cut = not hidden.endswith(name)
    assert (told is None) == (cut or name in {b".", b".."})
    assert naming.set_aside(hidden, inode ^ 1) is None
