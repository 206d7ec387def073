"""Whether the service would ever take a file, as far as its documented rules say beforehand.

Only what is certain is refused here; anything else is left to the service (protocol notes,
"Per purpose").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uploaderd.core.reasons import reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uploaderd.core.model import Reason

GIB = 1 << 30
# "8 GB" and "9 GB" are read as binary: a smaller reading would refuse what may be taken.
MAX_BYTES: Mapping[str, int] = {"openai": 8 * GIB, "azure": 9 * GIB}
LIFE_S: Mapping[str, float] = {"openai": 3600.0, "azure": 7200.0}
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
BATCH_MAX_BYTES = 200 * 1_000_000
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")


def purpose_of(path: bytes, purpose: str, *, by_folder: bool) -> str:
    """The purpose of a file: its first folder's name where that is one, else the watch's."""
    first, slash, _ = path.partition(b"/")
    name = first.decode("utf-8", "replace")
    return name if by_folder and slash and name in PURPOSES else purpose


def unfit(path: bytes, size: int, purpose: str, flavour: str) -> Reason | None:
    """Why a file can never succeed as it is, or None."""
    limit = MAX_BYTES[flavour]
    if size == 0:
        return reason("failed.empty")
    if size > limit:
        return reason(
            "failed.too_large",
            detail=f"It has {size} bytes; the service takes at most {limit}.",
        )
    name = path.lower()
    if purpose in {"batch", "fine-tune"} and not name.endswith(b".jsonl"):
        return _rule(f"The purpose {purpose} takes files that end in .jsonl only.")
    if purpose == "batch" and size > BATCH_MAX_BYTES:
        return _rule(f"The purpose batch takes at most 200 MB; this file has {size} bytes.")
    if purpose == "vision" and not name.endswith(tuple(s.encode() for s in IMAGE_SUFFIXES)):
        return _rule(f"The purpose vision takes images only ({', '.join(IMAGE_SUFFIXES)}).")
    return None


def _rule(detail: str) -> Reason:
    return reason("failed.purpose_rule", detail=detail)
