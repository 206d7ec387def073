"""The names that after-care gives: ``name~2.ext`` for a newcomer, and our own hidden ones."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

RECEIPT = b".receipt.json"
OURS = b".uploaderd-"  # what the daemon keeps in the spool for a moment; never taken for a file
NAME_MAX = 255
_ASIDE = b".taken-"
_LONGEST_EXTENSION = 32


def candidates(name: bytes, *, limit: int = NAME_MAX, room: int = 0) -> Iterator[bytes]:
    """Yield ``name``, ``name~2``, ``name~3`` and so on, endlessly, before the extension.

    Args:
        name: one name, no path.
        limit: the longest name that the file system takes, in bytes.
        room: how many of those bytes must stay free for a suffix; the stem is cut for it.
    """
    stem, extension = _split(name)
    number = 1
    while True:
        mark = b"" if number == 1 else b"~%d" % number
        longest = max(limit - room - len(mark) - len(extension), 1)
        yield _cut(stem, longest) + mark + extension
        number += 1


def aside(name: bytes, inode: int, *, limit: int = NAME_MAX) -> bytes:
    """Return the hidden name that a file waits under, next to its own, while it is checked.

    It follows from the file's name and inode alone, so that after a crash it is found again, and
    a file that was caught by mistake is told from the right one. It ends in the file's own name,
    as far as ``limit`` has room, so that even without a journal the file gets that back.
    """
    head = OURS + _digest(name, inode) + _ASIDE
    return head + _cut(name, max(limit - len(head), 1))


def is_aside(name: bytes) -> bool:
    """True for a name that ``aside`` may have made."""
    return name.startswith(OURS) and _ASIDE in name


def set_aside(name: bytes, inode: int) -> bytes | None:
    """Return the own name of the file that waits under ``name``.

    None if the hidden name had no room for all of it, or is not of our making.
    """
    own = name.partition(_ASIDE)[2]
    whole = own not in {b"", b".", b".."} and aside(own, inode, limit=len(name)) == name
    return own if whole else None


def copying(name: bytes) -> bytes:
    """Return the hidden name of a copy towards ``name`` that is not yet whole."""
    return OURS + _digest(name, 0) + b".copy"


def receipt_draft(owner: str) -> bytes:
    """Return the hidden name of a receipt that is not yet whole."""
    return OURS + owner.encode("utf-8", "surrogateescape") + b".tmp"


def _digest(name: bytes, inode: int) -> bytes:
    mixed = hashlib.blake2b(name + b"\0%d" % inode, digest_size=12)
    return mixed.hexdigest().encode("ascii")


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Split off the extension; a leading dot begins none, nor does what is too long to be one."""
    at = name.rfind(b".")
    if name[:at].strip(b".") and at > 0 and len(name) - at <= _LONGEST_EXTENSION:
        return name[:at], name[at:]
    return name, b""


def _cut(stem: bytes, longest: int) -> bytes:
    """Shorten a stem, at a character's border if it is UTF-8."""
    if len(stem) <= longest:
        return stem
    end = longest
    while end > max(longest - 3, 1) and stem[end] & 0xC0 == 0x80:  # noqa: PLR2004 - UTF-8 bits
        end -= 1
    return stem[:end]
