"""Long work on the event loop, done in turns with whatever else is due there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
M = TypeVar("M")

TURN = 50  # rows, each of which takes some ten microseconds


async def in_turns(make: Callable[[T], M], rows: Sequence[T]) -> list[M]:
    """Make something of each row; a page of 1,000 keeps nothing that is on the wire waiting."""
    made: list[M] = []
    for start in range(0, len(rows), TURN):
        if start:
            await asyncio.sleep(0)
        made += map(make, rows[start : start + TURN])
    return made
