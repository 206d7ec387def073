"""Scenes that are played at the same time: most of each one's time is spent on waiting.

results = pytest.fixture(scope="module")(played(SCENES))

@pytest.mark.parametrize("name", SCENES)
def test_scene(results: Results, name: str) -> None:
    results[name].result(timeout=SCENE_S)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCENE_S = 240.0
AT_ONCE = 6

Scene = Callable[[Path], Awaitable[None]]  # is given its own folder
Results = dict[str, "Future[None]"]


def played(scenes: Mapping[str, Scene]) -> Callable[..., Iterator[Results]]:
    """A fixture's function that plays the scenes of the selected tests, each in its own folder."""

    def results(
        request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Results]:
        """Play them in a thread; a test waits for its own."""
        names = {item.name for item in request.session.items if item.path == request.path}
        chosen = [name for name in scenes if any(f"[{name}]" in one for one in names)]
        folder = tmp_path_factory.mktemp("scenes")
        futures: Results = {name: Future() for name in chosen}
        loop = asyncio.new_event_loop()

        async def one(name: str, places: asyncio.Semaphore) -> None:
            async with places:
                own = folder / name.replace(" ", "-")
                own.mkdir()
                try:
                    async with asyncio.timeout(SCENE_S):
                        await scenes[name](own)
                except (Exception, pytest.skip.Exception) as error:  # noqa: BLE001 - handed over
                    futures[name].set_exception(error)
                except BaseException as error:
                    futures[name].set_exception(error)
                    raise
                else:
                    futures[name].set_result(None)

        async def all_of_them() -> None:
            places = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for name in chosen:
                    group.create_task(one(name, places))

        task = loop.create_task(all_of_them())

        def run() -> None:
            try:
                loop.run_until_complete(asyncio.wait([task]))
            finally:
                loop.close()

        thread = threading.Thread(target=run, name="scenes")
        thread.start()
        try:
            yield futures
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
            thread.join()

    return results
