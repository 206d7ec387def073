"""A daemon one of whose steps waits for a file before it is taken.

    python -m tests.support.hindered --config FILE --step Md5Pass.advance --until FLAG

So a test sees what goes on without that step. Everything else is the daemon itself.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from tests.support.doomed import steps_of
from uploaderd import app, config
from uploaderd.offload import Threads

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

POLL_S = 0.02
LONGEST_S = 60.0


class HinderedThreads(Threads):
    """Threads in which one function waits."""

    def __init__(self, step: str, flag: Path, name: str, count: int) -> None:
        super().__init__(name, count)
        self._step, self._flag = step, flag

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it, at once or when it may."""

        def late() -> T:
            began_s = time.monotonic()
            while not self._flag.exists() and time.monotonic() - began_s < LONGEST_S:
                time.sleep(POLL_S)
            return function(*args, **kwargs)

        if self._step in steps_of(function, args):
            return await super().__call__(late)
        return await super().__call__(function, *args, **kwargs)


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--step", required=True)
    parser.add_argument("--until", type=Path, required=True)
    words = parser.parse_args()
    seams = app.Seams(threads=partial(HinderedThreads, words.step, words.until))
    asyncio.run(app.run(config.load(words.config, os.environ), os.environ, seams))


if __name__ == "__main__":
    main()
