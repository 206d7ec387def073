"""Which of the service's files is ours, after the reply to ``complete`` was lost.

There is no way to ask for an upload's outcome but the list of files (protocol notes, fact 7), and
no filter by name. So a file is ours if its name, purpose and size agree, it is not older than our
upload, and nobody else is known to own it. More than one such file is never guessed between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

SLACK_S = 1.0  # the service stamps whole seconds, so its own two stamps may differ by one

LOOKS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0)
"""The waits before each look at the list, in seconds; 60.5 s altogether, since a list may lag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One file of the service's list.

    Attributes:
        bytes: its size, or None where the service does not say (protocol notes, "Objects").
        created_at: Unix seconds by the service's clock, or None where it does not say.
    """

    id: str
    filename: str
    bytes: int | None
    created_at: float | None
    purpose: str


@dataclass(frozen=True, slots=True)
class Found:
    """Exactly one file fits: it is ours."""

    id: str


@dataclass(frozen=True, slots=True)
class Absent:
    """No file fits, yet: look again, or begin anew once looking has ended."""


@dataclass(frozen=True, slots=True)
class Several:
    """More than one file fits: a person must choose. The ids are sorted."""

    ids: tuple[str, ...]


Judgement = Found | Absent | Several


def judge(
    candidates: Sequence[Candidate],
    *,
    filename: str,
    size: int,
    purpose: str,
    created_from_s: float | None,
    known: Collection[str],
) -> Judgement:
    """Say which candidate is the file that our ``complete`` made, if it did.

    A size or a stamp that the service left out excludes nothing. There is no upper end to the
    window: the file is made at ``complete``, which may come an hour after the upload's creation.

    Args:
        candidates: what the list holds; the same id twice counts once.
        filename: the name that the upload was created with.
        size: the bytes that it was created with.
        purpose: the purpose that it was created with.
        created_from_s: the upload's ``created_at`` by the *service's* clock, or None: no window.
        known: ids that belong to other files of ours.
    """
    earliest = None if created_from_s is None else created_from_s - SLACK_S
    fits = sorted(
        {
            candidate.id
            for candidate in candidates
            if candidate.id not in known
            and candidate.filename == filename
            and candidate.purpose == purpose
            and candidate.bytes in {None, size}
            and (
                earliest is None or candidate.created_at is None or candidate.created_at >= earliest
            )
        }
    )
    match fits:
        case []:
            return Absent()
        case [only]:
            return Found(only)
        case _:
            return Several(tuple(fits))


def next_look_s(looks: int) -> float | None:
    """The wait in seconds before the next look after ``looks`` of them; None: stop looking."""
    return LOOKS_S[looks] if 0 <= looks < len(LOOKS_S) else None
