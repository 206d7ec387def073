"""The scenarios: one module each, whose docstring explains its figures.

A module has ``measure(rig) -> list[Figure]``; figures are named ``scenario.what``, and both names
stand in docs/benchmarks.md.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.figures import Figure
    from bench.rig import Rig

    Measure = Callable[[Rig], list[Figure]]

# In this order they are run and shown; others follow by name.
ORDER = (
    "large",
    "several",
    "small",
    "backlog",
    "latency",
    "waste",
    "lag",
    "startup",
    "network",
    "bandwidth",
)


def names() -> list[str]:
    """Every scenario that there is, in order."""
    there = {module.name for module in pkgutil.iter_modules(__path__)}
    there = {name for name in there if not name.startswith("_")}
    return [name for name in ORDER if name in there] + sorted(there.difference(ORDER))


def about(name: str) -> str:
    """The first line of a scenario's docstring."""
    return (importlib.import_module(f"{__name__}.{name}").__doc__ or "").partition("\n")[0]


def measure_of(name: str) -> Measure:
    """What measures that scenario."""
    measure: Measure = importlib.import_module(f"{__name__}.{name}").measure
    return measure
