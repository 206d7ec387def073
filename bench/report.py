"""Figures for people, as a table, and for programs, as JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from typing import TYPE_CHECKING

from uploaderd import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.figures import Figure

HEAD = ("figure", "value", "goal", "", "runs", "against")


def table(figures: Sequence[Figure], *, judged: bool = True) -> str:
    """Write one line for each figure.

    Args:
        figures: in the order in which they are to stand.
        judged: False where the sizes were too small for a goal to say anything.
    """
    rows = [HEAD, *(_row(figure, judged=judged) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
             for row in rows]  # fmt: skip
    return "".join(f"{line.rstrip()}\n" for line in lines)


def document(figures: Sequence[Figure], *, quick: bool, runs: int) -> str:
    """Write the JSON document: the machine's outline and the figures."""
    return json.dumps(
        {
            "schema": 1,
            "version": __version__,
            "python": platform.python_version(),
            "kernel": platform.release(),
            "cores": len(os.sched_getaffinity(0)),
            "quick": quick,
            "runs": runs,
            "figures": [
                asdict(figure) | {"met": None if quick else figure.met} for figure in figures
            ],
        },
        indent=1,
        ensure_ascii=False,
    )


def _row(figure: Figure, *, judged: bool) -> tuple[str, ...]:
    name = f"{figure.name} ({figure.at})" if figure.at else figure.name
    met = {True: "met", False: "NOT MET", None: ""}[figure.met] if judged else ""
    value = "-" if figure.value is None else f"{number(figure.value)} {figure.unit}"
    return name, value, str(figure.bound or ""), met, _runs(figure), _against(figure)


def _runs(figure: Figure) -> str:
    spread = figure.spread
    if spread is None or spread.runs == 1:
        return ""
    return f"{number(spread.least)} … {number(spread.most)} of {spread.runs}"


def _against(figure: Figure) -> str:
    words = [figure.peer]
    if figure.peer_value is not None:
        words.append(f"{number(figure.peer_value)} {figure.peer_unit}")
    return "; ".join(filter(None, [": ".join(filter(None, words)), figure.note]))


def number(value: float) -> str:
    """Three figures, or as many as stand before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
