"""What must hold at the end of the demo, checked against the bytes that the service holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from uploaderd.config.units import human_bytes
from uploaderd.demo.stage import FILES_IN_FLIGHT, PART_BYTES, PARTS_IN_FLIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from uploaderd.control.documents import Row
    from uploaderd.demo.data import Source
    from uploaderd.demo.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that must hold."""

    what: str
    found: str
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """One file: what was dropped and what the service holds of it."""

    source: Source
    file_id: str
    md5: str

    @property
    def same(self) -> bool:
        """Every byte arrived."""
        return self.md5 == self.source.md5


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """All of it."""

    files: tuple[Arrived, ...]
    facts: tuple[Fact, ...]


def prove(
    stage: Stage,
    sources: Sequence[Source],
    before: Sequence[Row],
    after: Sequence[Row],
    *,
    clean_stop: bool,
) -> Proof:
    """Check everything.

    Args:
        stage: where it was played.
        sources: what was dropped.
        before: the files as the daemon told of them just before it was killed.
        after: the same at the end.
        clean_stop: the second daemon drained and ended with exit code 0.
    """
    state = stage.emulator_state()
    ids = {row.path: row.file_id or "" for row in after}
    files = tuple(
        Arrived(
            source=source,
            file_id=ids.get(str(stage.spool / source.name), ""),
            md5=_stored_md5(stage, ids.get(str(stage.spool / source.name), "")),
        )
        for source in sources
    )
    same = sum(one.same for one in files)
    once = {file["id"] for file in state["files"]}
    facts = (
        Fact(
            what="the service's bytes have the md5 of the source",
            found=f"{same} of {len(sources)} files",
            holds=same == len(sources),
        ),
        Fact(
            what="each file is there exactly once",
            found=f"{len(state['files'])} files at the service for {len(sources)} dropped",
            holds=len(state["files"]) == len(sources) and once == {one.file_id for one in files},
        ),
        _uploads(state, len(sources)),
        _resent(state, sources),
        _taken_over(state, before, after),
        _receipts(stage, files),
        _spool(stage),
        Fact(
            what="the daemon stops cleanly",
            found="exit code 0" if clean_stop else "another exit code",
            holds=clean_stop,
        ),
    )
    return Proof(files=files, facts=facts)


def _stored_md5(stage: Stage, file_id: str) -> str:
    path = stage.store / "files" / file_id / "content"
    if not file_id or not path.is_file():
        return "missing"
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _uploads(state: dict[str, Any], count: int) -> Fact:
    """One upload a file; those whose creation the kill cut off may be left over, and end."""
    completed = sum(upload["status"] == "completed" for upload in state["uploads"])
    others = len(state["uploads"]) - completed
    return Fact(
        what="one upload was completed for each file",
        found=f"{completed} completed" + (f", {others} cut off by the kill" if others else ""),
        holds=completed == count and others <= FILES_IN_FLIGHT,
    )


def _resent(state: dict[str, Any], sources: Sequence[Source]) -> Fact:
    bound = PARTS_IN_FLIGHT * PART_BYTES
    twice = state["bytes_received"] - sum(source.size for source in sources)
    return Fact(
        what=f"bytes sent twice are within the parts in flight, {human_bytes(bound)}",
        found=human_bytes(max(twice, 0)) if twice >= 0 else f"{-twice} bytes are missing",
        holds=0 <= twice <= bound,
    )


def _taken_over(state: dict[str, Any], before: Sequence[Row], after: Sequence[Row]) -> Fact:
    """Parts that were stored before the kill belong to uploads that were completed after it."""
    ends = {row.id: row.upload_id for row in after}
    cut = [row for row in before if row.state != "done" and row.parts.stored]
    kept = [row for row in cut if ends.get(row.id) == row.upload_id]
    parts = sum(row.parts.stored for row in kept)
    requests = {upload["id"]: upload["part_requests"] for upload in state["uploads"]}
    again = sum(max(requests.get(row.upload_id, 0) - row.parts.total, 0) for row in kept)
    return Fact(
        what="stored parts were taken over from the journal",
        found=f"{parts} parts of {len(kept)} files; {again} parts were sent again",
        holds=parts > 0 and len(kept) == len(cut) and again <= PARTS_IN_FLIGHT,
    )


def _receipts(stage: Stage, files: Sequence[Arrived]) -> Fact:
    good = sum(_receipt_is_right(stage.spool / "done", one) for one in files)
    return Fact(
        what="each file is in done/ with its receipt",
        found=f"{good} of {len(files)}",
        holds=good == len(files),
    )


def _receipt_is_right(done: Path, one: Arrived) -> bool:
    moved = done / one.source.name
    receipt = moved.with_name(moved.name + ".receipt.json")
    try:
        document = json.loads(receipt.read_text())
        size = moved.stat().st_size
    except (OSError, ValueError):
        return False
    said = (document.get("outcome"), document.get("file_id"), document.get("md5"))
    return size == one.source.size and said == ("uploaded", one.file_id, one.source.md5)


def _spool(stage: Stage) -> Fact:
    left = [
        path
        for path in stage.spool.rglob("*")
        if path.is_file() and path.relative_to(stage.spool).parts[0] != "done"
    ]
    return Fact(
        what="the spool is empty",
        found=f"{len(left)} files left" if left else "nothing left",
        holds=not left,
    )


def files_table(proof: Proof, *, wide: bool) -> Table:
    """Show file by file what was dropped and what arrived; a narrow terminal sees less md5."""
    digits = 32 if wide else 10
    table = Table(title="what the service holds", title_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("md5 of the source", no_wrap=True)
    table.add_column("at the service", no_wrap=True)
    table.add_column("", no_wrap=True)
    for one in proof.files:
        mark = "same" if one.same else "DIFFERS"
        size = human_bytes(one.source.size)
        table.add_row(str(one.source.name), size, one.source.md5[:digits], one.md5[:digits], mark)
    return table


def facts_table(proof: Proof) -> Table:
    """Show what must hold and whether it does."""
    table = Table(title="the proof", title_justify="left")
    table.add_column("must hold")
    table.add_column("found")
    table.add_column("", no_wrap=True)
    for fact in proof.facts:
        table.add_row(fact.what, fact.found, "holds" if fact.holds else "DOES NOT HOLD")
    return table
