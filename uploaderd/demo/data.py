"""The demo's files: pseudo-random, the same each time, valid for their purposes."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB: Final = 2**20
_LINE_BYTES: Final = 48 * 1024
_SMALL: Final = 8

_FILES: Final[tuple[tuple[str, int], ...]] = (
    ("batch/requests.jsonl", 24 * MIB),
    ("batch/evening/requests.jsonl", 6 * MIB),
    ("fine-tune/train.jsonl", 28 * MIB),
    ("user_data/corpus.bin", 64 * MIB),
    ("user_data/2031/05/recording.bin", 90 * MIB + 12_345),
    ("archive.bin", 40 * MIB + 1),
    *((f"user_data/notes/note-{n}.txt", 1 + n * n * 7_777) for n in range(_SMALL)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file of the demo.

    Attributes:
        name: its path below the folder of sources, and below the watch.
    """

    name: Path
    size: int
    md5: str


def make(folder: Path) -> list[Source]:
    """Write all files; the small ones last, as they would arrive."""
    return [_write(folder, Path(name), size) for name, size in _FILES]


def _write(folder: Path, name: Path, size: int) -> Source:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.md5(usedforsecurity=False)
    written = 0
    with path.open("wb") as stream:
        for block in _blocks(name, size):
            stream.write(block)
            digest.update(block)
            written += len(block)
    return Source(name=name, size=written, md5=digest.hexdigest())


def _blocks(name: Path, size: int) -> Iterator[bytes]:
    if name.suffix == ".jsonl":
        yield from _lines(name, size)
        return
    for offset in range(0, size, MIB):
        yield _noise(name, offset, min(MIB, size - offset))


def _lines(name: Path, size: int) -> Iterator[bytes]:
    """Lines of a batch or of a fine-tuning set, until about ``size`` bytes are there."""
    written = number = 0
    while written < size:
        noise = base64.b64encode(_noise(name, number, _LINE_BYTES)).decode()
        if name.parts[0] == "batch":
            record: dict[str, object] = {
                "custom_id": f"request-{number}",
                "method": "POST",
                "url": "/v1/responses",
                "body": {"model": "demo", "input": noise},
            }
        else:
            said = [{"role": "user", "content": noise}, {"role": "assistant", "content": "noise"}]
            record = {"messages": said}
        line = json.dumps(record).encode() + b"\n"
        yield line
        written += len(line)
        number += 1


def _noise(name: Path, number: int, size: int) -> bytes:
    return hashlib.shake_128(f"{name}:{number}".encode()).digest(size)
