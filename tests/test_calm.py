"""What counts as slow in a test: the daemon's own work, not waiting and not the test's work."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.calm import DebugLoops
from tests.support.watched import SLOW_CPU_S

if TYPE_CHECKING:
    from collections.abc import Coroutine

SOURCE = """
import time
async def work(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
async def wait(seconds):
    time.sleep(seconds)
"""


def coroutine_of(file: str, name: str, seconds: float) -> Coroutine[Any, Any, None]:
    """A coroutine that comes from a file of this name."""
    names: dict[str, Any] = {}
    exec(compile(SOURCE, file, "exec"), names)  # noqa: S102 - our own text
    made: Coroutine[Any, Any, None] = names[name](seconds)
    return made


def slow(file: str, name: str) -> list[str]:
    """What is called slow of such a coroutine."""
    loops = DebugLoops()
    with asyncio.Runner(loop_factory=loops.new) as runner:

        async def aside() -> None:
            await asyncio.create_task(coroutine_of(file, name, 1.5 * SLOW_CPU_S))

        runner.run(aside())
    return loops.stop()


def test_long_work_of_ours_is_slow() -> None:
    """It kept the loop, whatever else the machine did."""
    (line,) = slow("/somewhere/uploaderd/engine/new.py", "work")
    assert "new.py" in line


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("/somewhere/uploaderd/engine/new.py", "wait"),
        ("/somewhere/uploaderd/emulator/new.py", "work"),
        ("/somewhere/uploaderd/tests/new.py", "work"),
        ("/usr/lib/python3/new.py", "work"),
    ],
    ids=["no-processor", "emulator", "test", "library"],
)
def test_what_is_not_ours_is_not_slow(file: str, name: str) -> None:
    """Somebody who gets no processor looks the same to the clock as somebody who uses it."""
    began_s = time.monotonic()
    assert slow(file, name) == []
    assert time.monotonic() - began_s >= SLOW_CPU_S
