"""The loop stands aside for a moment while another thread has much to do with the interpreter."""

from __future__ import annotations

import threading
from contextlib import suppress

MOST_S = 0.004  # far below what anybody notices, and enough for a group of the journal's statements


class Aside:
    """A wait of the loop's thread until another has done the part that needs the interpreter.

    A thread gives the interpreter's lock away at each SQL statement and wants it back a few
    microseconds later. If the loop takes it meanwhile, both change places hundreds of times for
    each file, and the changes cost more than the work. The wait is short, whatever happens: a
    disk that does not answer never holds up the loop for longer than that a group.

    Args:
        most_s: the longest wait, in seconds.
    """

    def __init__(self, most_s: float = MOST_S) -> None:
        self._most_s = most_s
        self._busy = threading.Lock()

    def begin(self) -> None:
        """Something is about to be handed over; what was said before counts no more."""
        self._busy.acquire(blocking=False)

    def wait(self) -> None:
        """Stand aside until it is over, though not for long; for the loop's thread."""
        self._busy.acquire(timeout=self._most_s)

    def over(self) -> None:
        """What is left needs no interpreter, such as a sync; any thread may say so, also twice."""
        with suppress(RuntimeError):
            self._busy.release()
