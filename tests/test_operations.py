"""The operator's documents are true: their tables are the code's."""

from __future__ import annotations

import re
from pathlib import Path

from uploaderd.core.model import FileState
from uploaderd.core.reasons import SENTENCES
from uploaderd.errors import Exit

DOCS = Path(__file__).parent.parent / "docs"


def rows(heading: str) -> list[list[str]]:
    """The rows of all tables of one section of operations.md, without their heads."""
    text = (DOCS / "operations.md").read_text("utf-8")
    section = re.split(r"^## ", text.partition(f"\n## {heading}\n")[2], flags=re.MULTILINE)[0]
    lines = re.findall(r"^\| (`.+|\d.+) \|$", section, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def test_every_reason_code_says_what_it_means_and_what_to_do() -> None:
    """No code is missing, none is told of that is not there, none twice."""
    told = rows("What each reason means")
    codes = [row[0].strip("`") for row in told]
    assert sorted(codes) == sorted(SENTENCES)
    assert all(len(row) == 3 and all(row) for row in told)
    assert {code.partition(".")[0] for code in codes} == set(FileState)


def test_every_exit_code_is_told_of() -> None:
    """In order, with what it means."""
    told = rows("Exit codes")
    assert [int(row[0]) for row in told] == [code.value for code in Exit]


def test_every_document_is_in_the_index_and_every_link_leads_somewhere() -> None:
    """Links are relative and their files are there."""
    index = (DOCS / "README.md").read_text("utf-8")
    for document in sorted(DOCS.glob("*.md")):
        if document.name != "README.md":
            assert f"({document.name})" in index, document.name
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
            assert (DOCS / target).exists(), f"{document.name}: {target}"
