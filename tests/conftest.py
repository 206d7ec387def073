"""Settings that all tests share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support.calm import DebugLoops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# How long an example takes is the machine's affair, not the code's.
settings.register_profile("uploaderd", deadline=None)
settings.load_profile("uploaderd")

# Where the daemon's own code runs on the test's loop.
DEBUGGED = {"engine", "control", "client", "spool"}
LOOPS = DebugLoops()


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Let the daemon's own code run in asyncio's debug mode."""
    new = LOOPS.new if item.path.parent.name in DEBUGGED else asyncio.new_event_loop
    return {"loop": new}


@pytest.fixture(autouse=True)
def nothing_of_ours_is_slow(request: pytest.FixtureRequest) -> Iterator[None]:
    """A callback of the daemon's that keeps the loop for long fails the test in which it does."""
    yield
    if request.node.path.parent.name in DEBUGGED:
        slow = LOOPS.stop()
        assert not slow, "\n".join(slow)
