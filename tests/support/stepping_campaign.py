"""Many plays of one story, a few at a time, each with a fate of its own."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from tests.support.stepping_scenes import Played, Story, play

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from tests.support.stepping_forks import ForkServer
    from tests.support.stepping_scenes import Death

    Judge = Callable[[Sequence[Death], Played], None]


class Campaign:
    """Plays a story again and again, with each fork server one play at a time.

    Attributes:
        kills: how many deaths there were.
        plays: how often the story was played.
    """

    def __init__(self, story: Story, root: Path, servers: Sequence[ForkServer]) -> None:
        self.kills = 0
        self.plays = 0
        self._story = story
        self._servers = servers
        self._root = root

    async def run(
        self,
        fates: Iterable[Sequence[Death]],
        judge: Judge | None = None,
        *,
        whole: bool = False,
    ) -> bool:
        """Play each fate up to one that is outlived, its first death never having come, or all.

        Return whether one was outlived.
        """
        waiting = iter(fates)
        ended = asyncio.Event()
        workers = [
            self._work(waiting, server, ended, judge, whole=whole) for server in self._servers
        ]
        # None is cancelled: a play that was begun ends, and leaves its fork server free.
        ends = await asyncio.gather(*workers, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return ended.is_set()

    async def _work(
        self,
        waiting: Iterator[Sequence[Death]],
        server: ForkServer,
        ended: asyncio.Event,
        judge: Judge | None,
        *,
        whole: bool,
    ) -> None:
        for fate in waiting:
            self.plays += 1
            root = self._root / str(self.plays)
            root.mkdir()
            try:
                played = await play(self._story, fate, root, server)
                if judge is not None:
                    judge(fate, played)
            except Exception as error:
                error.add_note(f"--- the story {self._story.name!r}, killed {list(fate)}")
                ended.set()
                raise
            shutil.rmtree(root)
            self.kills += sum(played.died)
            if not (played.died[0] or whole):
                ended.set()
            if ended.is_set():
                return
