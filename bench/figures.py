"""What was measured: figures with a goal, the peer they are compared with, and their spread."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


RATIO = "x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a figure should be.

    Attributes:
        at_most: the largest value that meets the goal, or None.
        at_least: the smallest value that does, or None.
    """

    at_most: float | None = None
    at_least: float | None = None

    def met_by(self, value: float) -> bool:
        """Whether that value is within the goal."""
        return (self.at_most is None or value <= self.at_most) and (
            self.at_least is None or value >= self.at_least
        )

    def __str__(self) -> str:
        """As the table shows it."""
        ends = (("≤", self.at_most), ("≥", self.at_least))
        return " ".join(f"{sign} {end:g}" for sign, end in ends if end is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The runs that a figure was taken from."""

    least: float
    median: float
    most: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value.

    Attributes:
        name: ``scenario.what``; docs/benchmarks.md explains each name.
        at: the condition, where one name is measured under several: "100,000 names".
        value: the median of the runs, or None where it could not be measured.
        unit: RATIO for a ratio, else "s", "ms", "MiB", "%", "files/s" and the like.
        bound: the goal, or None where the figure is there to be looked at.
        peer: what it is compared with, and
        peer_value: that one's value in the same run, in ``peer_unit``.
        how: one sentence that says how it was measured.
        note: why there is no value, or what a reader has to know of this run.
    """

    name: str
    value: float | None
    unit: str
    how: str
    at: str = ""
    bound: Bound | None = None
    peer: str = ""
    peer_value: float | None = None
    peer_unit: str = ""
    spread: Spread | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is no goal or no value."""
        if self.bound is None or self.value is None:
            return None
        return self.bound.met_by(self.value)


def spread_of(values: Sequence[float]) -> Spread:
    """Sum up the values of several runs, of which there is one at least."""
    return Spread(least=min(values), median=median(values), most=max(values), runs=len(values))


def of_runs(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    how: str,
    at: str = "",
    at_most: float | None = None,
    at_least: float | None = None,
    note: str = "",
) -> Figure:
    """Make the figure of a value that each run measured once: their median."""
    spread = spread_of(values)
    return Figure(
        name=name,
        value=spread.median,
        unit=unit,
        how=how,
        at=at,
        bound=_bound(at_most, at_least),
        spread=spread,
        note=note,
    )


def ratio(  # noqa: PLR0913 - it has that many sides
    name: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    peer: str,
    peer_unit: str,
    how: str,
    at: str = "",
    at_most: float | None = None,
    at_least: float | None = None,
    note: str = "",
) -> Figure:
    """Make the figure of ours ÷ theirs: the median of each run's own ratio.

    Both were measured in the same runs, so what slows a run down slows both.
    """
    spread = spread_of([our / their for our, their in zip(ours, theirs, strict=True)])
    return Figure(
        name=name,
        value=spread.median,
        unit=RATIO,
        how=how,
        at=at,
        bound=_bound(at_most, at_least),
        peer=peer,
        peer_value=median(theirs),
        peer_unit=peer_unit,
        spread=spread,
        note=note,
    )


def missing(
    name: str,
    unit: str,
    *,
    why: str,
    how: str,
    at: str = "",
    peer: str = "",
    at_most: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """Make the figure of what could not be measured here: it stands in the table and says why."""
    return Figure(
        name=name,
        value=None,
        unit=unit,
        how=how,
        at=at,
        bound=_bound(at_most, at_least),
        peer=peer,
        note=why,
    )


def _bound(at_most: float | None, at_least: float | None) -> Bound | None:
    if at_most is None and at_least is None:
        return None
    return Bound(at_most=at_most, at_least=at_least)
