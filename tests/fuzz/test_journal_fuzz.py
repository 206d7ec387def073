"""Journals cut off at every kind of length and with flipped bits.

Opening one ends in one of four ways: it is read, and shows no part id that it did not hold; it is
set aside and begun anew, at the start or at the next one; it is refused in a sentence. Nothing
else comes out, no error of SQLite's and no hang.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.journals import Image, Original, Ward, flipped, make, replaced
from tests.fuzz.kit import TIMES, effort
from uploaderd.journal.inspection import THOROUGH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096
FRAME = 24 + PAGE
HEADER = 100
LOG_HEADER = 32


@pytest.fixture(scope="module", params=["closed", "killed", "too big to look through"])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Original:
    """A journal that was closed, one whose daemon was killed, with its log, and a big one."""
    return make(
        tmp_path_factory.mktemp("original"),
        closed=request.param != "killed",
        thorough_bytes=THOROUGH_BYTES if request.param != "too big to look through" else 0,
    )


@pytest.fixture
def ward(original: Original) -> Iterator[Ward]:
    """Where it is hurt and opened, in memory if possible; what came of it is printed."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        made = Ward(Path(folder), original)
        yield made
    print(dict(made.outcomes))  # noqa: T201 - the figures, with pytest -s


def test_whole(original: Original, ward: Ward) -> None:
    """One that nobody hurt is opened, or all else here would prove nothing."""
    assert ward.admit(original.image) == "opened"


def pages_in(log: bytes) -> set[int]:
    """The pages that a log holds a copy of (sqlite.org/fileformat2.html, "WAL Frame Header")."""
    frames = range(LOG_HEADER, len(log), FRAME)
    return {int.from_bytes(log[start : start + 4], "big") for start in frames}


def pages_that_differ(before: bytes, after: bytes) -> set[int]:
    """The pages whose bytes are others; SQLite reads zeros behind the end of a file."""
    return {
        start // PAGE + 1
        for start in range(0, len(before), PAGE)
        if before[start : start + PAGE] != after[start : start + PAGE]
    }


def test_cut_off(original: Original, ward: Ward) -> None:
    """At the edges of pages, and of the log's frames, one byte before and one behind each."""
    logged = pages_in(original.image.get("-wal", b""))
    for end, content in original.image.items():
        step, first = (FRAME, LOG_HEADER) if end == "-wal" else (PAGE, 0)
        edges = [0, HEADER, LOG_HEADER, *range(first, len(content), step)]
        if end != "" and TIMES == 1:  # a log has hundreds
            edges = edges[:8] + edges[8::10]
        lengths = {edge + by for edge in edges for by in (-1, 0, 1)}
        for length in sorted(lengths & set(range(len(content)))):
            outcome = ward.admit(replaced(original.image, end, content[:length]))
            lost = pages_that_differ(content, content[:length].ljust(len(content), b"\0"))
            if end == "" and original.thorough_bytes and not lost <= logged:
                assert outcome == "set aside", length


def test_bits_of_the_header(original: Original, ward: Ward) -> None:
    """Each bit of the first hundred bytes, and of the log's header."""
    for end, size in (("", HEADER), ("-wal", LOG_HEADER)):
        if end in original.image:
            for offset in range(size):
                for bit in range(8) if TIMES > 1 else (offset % 8,):
                    ward.admit(flipped(original.image, end, offset, bit))


def test_bits_of_part_ids(original: Original, ward: Ward) -> None:
    """Each place where an id is kept; SQLite itself takes such a text as it is."""
    for end, content in original.image.items():
        for _, part_id in original.ids.values():
            word = str(part_id).encode()
            start = content.find(word)
            while start >= 0:
                ward.admit(flipped(original.image, end, start + len(word) - 1, 0))
                start = content.find(word, start + 1)


HURTS = st.tuples(
    st.sampled_from(["bit", "bit", "bit", "zeros", "noise", "page", "cut"]),
    st.integers(min_value=0, max_value=2**32),
    st.integers(min_value=0, max_value=2**32),
)


def hurt_by(image: Image, end: str, kind: str, where: int, how: int) -> Image:
    """Do one kind of harm to one of the files."""
    content = image[end]
    at = where % max(len(content), 1)
    length = min(1 + how % 64, len(content) - at)
    match kind:
        case "bit" if content:
            return flipped(image, end, at, how % 8)
        case "zeros":
            changed = content[:at] + bytes(length) + content[at + length :]
        case "noise":
            noise = random.Random(how).randbytes(length)
            changed = content[:at] + noise + content[at + length :]
        case "page":
            to = at // PAGE * PAGE
            source = how % max(len(content) // PAGE, 1) * PAGE
            changed = content[:to] + content[source : source + PAGE] + content[to + PAGE :]
        case _:
            changed = content[:at]
    return replaced(image, end, changed)


def test_any_harm(original: Original, ward: Ward) -> None:
    """Flipped bits, zeros, noise, pages in the wrong place, lost ends, one to three at a time."""
    ends = sorted(original.image)

    @effort(100)
    @given(st.lists(st.tuples(st.sampled_from(ends), HURTS), min_size=1, max_size=3))
    def attempt(hurts: list[tuple[str, tuple[str, int, int]]]) -> None:
        image = original.image
        for end, (kind, where, how) in hurts:
            image = hurt_by(image, end, kind, where, how)
        ward.admit(image)

    attempt()
