"""Figures: ratios within a run, goals, spread, and how they are written."""

from __future__ import annotations

import json

import pytest

from bench.figures import Bound, Figure, missing, of_runs, ratio
from bench.report import document, number, table

HOW = "Somehow."


def a_ratio(ours: list[float], theirs: list[float], **more: float) -> Figure:
    """A figure of CPU beside a peer's."""
    return ratio("a.cpu", ours, theirs, peer="peer", peer_unit="s", how=HOW, **more)  # type: ignore[arg-type]


def test_a_ratio_is_the_median_of_each_runs_own() -> None:
    """A run that was slow for both counts as any other; the peer's value is its median."""
    figure = a_ratio([2.0, 30.0, 3.0], [1.0, 10.0, 2.0])
    assert figure.value == 2.0  # not 3.0 / 2.0, nor the means' ratio
    assert (figure.peer_value, figure.peer_unit, figure.unit) == (2.0, "s", "x")


def test_runs_are_compared_in_pairs_only() -> None:
    """A peer that is missing in one run cannot shift the others."""
    with pytest.raises(ValueError, match="shorter"):
        a_ratio([1.0, 2.0], [1.0])


def test_the_spread_holds_the_least_the_median_and_the_most() -> None:
    """Of an even number of runs the median lies between the two in the middle."""
    spread = of_runs("a.b", [4.0, 1.0, 2.0, 9.0], "s", how=HOW).spread
    assert spread is not None
    assert (spread.least, spread.median, spread.most, spread.runs) == (1.0, 3.0, 9.0, 4)


@pytest.mark.parametrize(
    ("bound", "value", "met"),
    [
        (Bound(at_most=1.05), 1.05, True),
        (Bound(at_most=1.05), 1.051, False),
        (Bound(at_least=4.0), 4.0, True),
        (Bound(at_least=4.0), 3.9, False),
        (Bound(at_least=0.97, at_most=1.03), 1.0, True),
        (Bound(at_least=0.97, at_most=1.03), 0.9, False),
        (Bound(at_least=0.97, at_most=1.03), 1.1, False),
    ],
    ids=str,
)
def test_a_goal_is_met_up_to_its_very_value(bound: Bound, value: float, *, met: bool) -> None:
    """On either side, and between two."""
    figure = Figure(name="a.b", value=value, unit="x", how=HOW, bound=bound)
    assert figure.met is met


def test_without_a_goal_or_a_value_nothing_is_met_or_missed() -> None:
    """What is there to be looked at is not judged, nor what could not be measured."""
    assert of_runs("a.b", [1.0], "s", how=HOW).met is None
    assert missing("a.b", "x", why="curl is not installed", how=HOW, at_most=1.0).met is None


def test_the_table_has_a_line_for_each_figure_with_its_goal_and_its_peer() -> None:
    """What was missed is told apart from what was met, and what is missing says why."""
    figures = [
        a_ratio([1.0, 1.0, 1.2], [1.0, 1.0, 1.0], at_most=1.05),
        a_ratio([2.0], [1.0], at_most=1.05),
        of_runs("a.b", [12345.0], "files/s", how=HOW, at="1,000 names"),
        missing("a.c", "x", why="curl is not installed", how=HOW, peer="curl", at_most=1.0),
    ]
    head, met, missed, plain, gone = table(figures).splitlines()
    assert head.split() == ["figure", "value", "goal", "runs", "against"]
    assert met.split("  ")[0] == "a.cpu"
    assert " met " in met
    assert "1 … 1.2 of 3" in met
    assert "peer: 1 s" in met
    assert "NOT MET" in missed
    assert "a.b (1,000 names)  12,345 files/s" in plain
    assert "-" in gone
    assert gone.endswith("curl; curl is not installed")
    assert "NOT MET" not in gone
    assert "MET" not in table(figures, judged=False).upper()


def test_the_document_holds_each_figure_whole_and_judges_no_quick_one() -> None:
    """A program reads from it what the table shows, and whether goals mean anything."""
    figures = [a_ratio([2.0], [1.0], at_most=1.05)]
    full = json.loads(document(figures, quick=False, runs=1))
    (figure,) = full["figures"]
    assert (figure["name"], figure["value"], figure["met"]) == ("a.cpu", 2.0, False)
    assert figure["bound"] == {"at_most": 1.05, "at_least": None}
    assert figure["spread"] == {"least": 2.0, "median": 2.0, "most": 2.0, "runs": 1}
    quick = json.loads(document(figures, quick=True, runs=1))
    assert quick["quick"] is True
    assert quick["figures"][0]["met"] is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1.0, "1"), (59.17, "59.2"), (123.4, "123"), (1e6, "1,000,000")],
)
def test_numbers_have_three_figures(value: float, text: str) -> None:
    """More would promise what a measurement cannot."""
    assert number(value) == text
