"""A daemon that counts its effects and kills itself with SIGKILL right before or after the kth.

    python -m tests.support.stepping --config FILE --kill-at 17 --when after --tally FILE

An effect is whatever outlives the process, by number and not by name: each transaction of the
journal, at its COMMIT; each call to the kernel that changes something below the spool or syncs it;
each request of the client. Those that run in threads are seen through the interpreter's own
profiling hook, so nothing of the daemon is replaced, and an effect that is added later is counted
without being named here. The tally gets a line for each effect that was reached.

``--of NAME`` counts only effects whose line in the tally begins so. ``--when recovered`` ends it
before the first effect that is no part of taking over what an earlier run left.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from tests.support.doomed import Doom, DoomedClient, steps_of
from uploaderd import app, config
from uploaderd.journal.store import Store
from uploaderd.journal.together import Together
from uploaderd.offload import Threads
from uploaderd.spool import carrying, renaming

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

P = ParamSpec("P")
T = TypeVar("T")

COMMITS = frozenset(
    {Store.transaction.__wrapped__.__code__, Together._commit.__code__}  # type: ignore[attr-defined]
)
CHANGES = frozenset(
    {
        *(os.mkdir, os.rmdir, os.unlink, os.remove, os.rename, os.replace, os.link, os.symlink),
        *(os.write, os.pwrite, os.truncate, os.ftruncate, os.utime, os.chmod, os.fsync),
    }
)
CHANGING = frozenset(  # what the hook cannot see by itself: a C library's call, an open's flags
    {renaming._renameat2.__code__, carrying._create.__code__}
)
RECOVERY = ("Store.open", "Questions.watch", "Journal.recover ", "Journal.record:recovered")


class Steps(Doom):
    """Counts effects and ends the process at the kth."""

    def __init__(self, kill_at: int, when: str, of: str, tally: Path | None) -> None:
        self._recovered = when == "recovered"
        super().__init__(of, "before" if self._recovered else when, kill_at)
        self._tally = -1
        if tally is not None:
            self._tally = os.open(tally, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def strikes(self, step: str) -> bool:
        """Count an effect and say whether it is the chosen one."""
        with self._lock:
            if self._tally >= 0:
                os.write(self._tally, f"{step}\n".encode())
            if self._recovered:
                return not step.startswith(RECOVERY)
            self._left -= step.startswith(self._at)
            return self._left == 0 and step.startswith(self._at)


class Hook:
    """The profiling hook of one call in one thread."""

    def __init__(self, steps: Steps, inside: str) -> None:
        self._steps = steps
        self._inside = inside
        self._struck = False
        self._committing = False

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:  # noqa: ANN401 - setprofile's
        """Count what is an effect; the interpreter calls this around each call."""
        name = self._effect(frame, event, arg)
        if not name:
            return
        if event in {"call", "c_call"}:
            self._struck = self._steps.strikes(f"{self._inside} {name}")
            self._steps.before(struck=self._struck)
        else:
            self._steps.after(struck=self._struck)
            self._struck = False
            self._committing = False

    def _effect(self, frame: FrameType, event: str, arg: Any) -> str:  # noqa: ANN401 - the same
        if event in {"call", "return"}:
            return frame.f_code.co_name if frame.f_code in CHANGING else ""
        if arg in CHANGES:
            return str(getattr(arg, "__name__", ""))
        if frame.f_code not in COMMITS or getattr(arg, "__name__", "") != "execute":
            return ""
        if event == "c_call":  # BEGIN finds no transaction; COMMIT, or ROLLBACK, ends one
            self._committing = bool(arg.__self__.in_transaction)
        return "COMMIT" if self._committing else ""


class SteppedThreads(Threads):
    """Threads whose effects are counted."""

    def __init__(self, steps: Steps, name: str, count: int) -> None:
        super().__init__(name, count)
        self._steps = steps

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it, up to the end."""
        name = " + ".join(steps_of(function, args))

        def watched() -> T:
            sys.setprofile(Hook(self._steps, name))
            try:
                return function(*args, **kwargs)
            finally:
                sys.setprofile(None)

        return await super().__call__(watched)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--when", choices=("before", "after", "recovered"), default="before")
    parser.add_argument("--of", default="")
    parser.add_argument("--tally", type=Path)
    words = parser.parse_args(arguments)
    steps = Steps(words.kill_at, words.when, words.of, words.tally)
    seams = app.Seams(threads=partial(SteppedThreads, steps), client=partial(DoomedClient, steps))
    asyncio.run(app.run(config.load(words.config, os.environ), os.environ, seams))


if __name__ == "__main__":
    main()
