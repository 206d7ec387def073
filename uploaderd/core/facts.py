"""What the daemon is doing at one moment, in numbers: what a scrape is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from uploaderd.core.gate import Gate
    from uploaderd.core.limits import Limit
    from uploaderd.core.model import FileState
    from uploaderd.core.report import FlightFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionNumbers:
    """The sessions of one target that are being filled.

    Attributes:
        open: how many there are.
        late: how many of them cannot be filled in time at the measured rate.
        nearest_s: seconds until the first of them ends, or None where there is none.
    """

    open: int = 0
    late: int = 0
    nearest_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetNumbers:
    """One target."""

    name: str
    gate: Gate
    admits: bool
    flight: FlightFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchNumbers:
    """One watched folder.

    Attributes:
        path: the folder, as text.
        mode: how changes are noticed.
        folders: how many folders the kernel watches for it.
        overflows: how often the kernel's queue overflowed.
        scans: how many full scans came to their end.
    """

    path: str
    mode: str
    folders: int
    overflows: int
    scans: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that is read when somebody asks, and not counted on the way.

    Attributes:
        state: running, paused or draining.
        counts: how many files are in each state.
        unfiled: how many ended files wait for their after-care.
        queued_bytes: still to be stored.
        stored_bytes: of files that arrived, and of parts of those on their way.
        resent_bytes: that were sent twice.
        sessions: the open sessions by target, or None while the journal does not answer.
        arrivals: the wall time at which a file last arrived, by target, as the journal has it.
        journal_bytes: the sizes of the database and of its log, where they are there.
        limit: of the bandwidth.
        troubles: how many things are wrong with the surroundings, by kind.
    """

    state: str
    drained: bool
    counts: Mapping[FileState, int]
    unfiled: int
    queued_bytes: int
    stored_bytes: int
    resent_bytes: int
    sessions: Mapping[str, SessionNumbers] | None
    arrivals: Mapping[str, float]
    journal_bytes: Mapping[str, int]
    parts_in_flight: int
    parts_in_flight_limit: int
    limit: Limit
    targets: Sequence[TargetNumbers]
    watches: Sequence[WatchNumbers]
    troubles: Mapping[str, int]
