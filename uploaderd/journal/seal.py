"""A short digest over what makes a stored part: SQLite has no checksum for what it keeps."""

from __future__ import annotations

import hashlib

SEAL_BYTES = 8


def part_seal(
    upload: str, number: int, offset: int, length: int, digest: bytes | None, part_id: str | None
) -> bytes:
    """Digest a part's place, content and id; the same on every machine and Python."""
    facts = ascii((upload, number, offset, length, digest, part_id)).encode("ascii")
    return hashlib.blake2b(facts, digest_size=SEAL_BYTES).digest()
