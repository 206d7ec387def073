"""Long work on the loop is done in turns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uploaderd.core.selection import Selection
from uploaderd.engine.turns import TURN, in_turns
from uploaderd.engine.view import EngineView

if TYPE_CHECKING:
    from tests.engine.kit import Rig


class Ticking:
    """Counts the rounds of the loop in which somebody else had a turn."""

    def __init__(self) -> None:
        self.turns = 0
        self._task = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0)

    def stop(self) -> int:
        """End it; say how many there were."""
        self._task.cancel()
        return self.turns


async def test_others_have_their_turn_between() -> None:
    """Of 1,000 rows each is made once, in order, and others come in between each few of them."""
    others = Ticking()
    made = await in_turns(lambda row: (row, others.turns), range(1000))
    others.stop()
    assert [row for row, _ in made] == list(range(1000))
    for start in range(0, 1000 - TURN, TURN):
        assert made[start + TURN][1] > made[start][1]


async def test_a_few_rows_are_made_at_once() -> None:
    """What takes no time waits for nobody; nothing at all makes nothing."""
    others = Ticking()
    assert await in_turns(str, [1, 2]) == ["1", "2"]
    assert await in_turns(str, []) == []
    assert others.stop() == 0


async def test_a_page_of_many_files_is_made_in_turns(rig: Rig) -> None:
    """Whoever lists 400 files keeps no upload from the loop for as long as that takes."""
    for number in range(400):
        rig.put(f"{number}.txt")
    view = EngineView(rig.engine, version="1")
    turns = []
    for limit in (1, 1000):
        others = Ticking()
        page: Any = await view.files(Selection(), limit=limit, after=None)
        turns.append(others.stop())
        assert len(page["files"]) == min(limit, 400)
    assert turns[1] - turns[0] >= 400 // TURN - 1
