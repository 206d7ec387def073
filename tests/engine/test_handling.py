"""Watches and kinds do not stand in each other's way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from tests.engine.kit import Disk, rigged
from tests.support.waiting import wait_until
from uploaderd.core.model import FileState
from uploaderd.engine.handling import LOOKS
from uploaderd.engine.settling import find_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from uploaderd.spool.tree import Tree

P = ParamSpec("P")
T = TypeVar("T")


class Silent(Disk):
    """A disk of which one folder does not answer.

    Attributes:
        asked: it was.
        answers: set, it does.
    """

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self.asked = False
        self.answers = asyncio.Event()
        self._tree = tree

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it, at once or once the folder answers."""
        if function == find_all and args[0] is self._tree:
            self.asked = True
            await self.answers.wait()
        return await super().__call__(function, *args, **kwargs)


async def test_a_watch_that_does_not_answer_keeps_no_other_waiting(tmp_path: Path) -> None:
    """Files of another watch are looked at, and those that only waited go on."""
    with rigged(tmp_path) as rig:
        (tmp_path / "other").mkdir()
        healthy = rig.watch(tmp_path / "other")
        rig.ctx.disk = disk = Silent(rig.place.tree)
        names = [f"hung{number}" for number in range(2 * LOOKS)]  # more than a page of them
        for name in names:
            rig.put(name, FileState.SETTLING, "settling.seen", due_s=rig.ctx.wall_s)
        rig.put("waits", FileState.DEFERRED, "deferred.network", due_s=rig.ctx.wall_s + 1.0)
        async with rig.at_work() as engine:
            await engine._due()
            await wait_until(lambda: disk.asked, what="the look at the silent folder")
            rig.place, rig.root = healthy, tmp_path / "other"
            rig.put("seen", FileState.SETTLING, "settling.seen", due_s=rig.ctx.wall_s)
            rig.clock.forward(2.0)
            await engine._due()
            went_on = {"seen": FileState.SETTLING, "waits": FileState.DEFERRED}
            await wait_until(
                lambda: all(rig.at(path).state is not was for path, was in went_on.items()),
                what="the other files",
            )
            assert all(rig.at(name).state is FileState.SETTLING for name in names)
            disk.answers.set()
            await wait_until(
                lambda: rig.at("hung0").state is not FileState.SETTLING, what="the silent folder"
            )
