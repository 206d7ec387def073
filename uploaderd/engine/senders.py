"""Who may send next: parts in flight are bounded over all files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from uploaderd.core.meter import Goodput
from uploaderd.core.schedule import pick

if TYPE_CHECKING:
    from uploaderd.core.model import Now
    from uploaderd.core.schedule import Candidate
    from uploaderd.seams import Clock


class Sender(Protocol):
    """A file in flight, as far as places are concerned."""

    def candidate(self, now: Now) -> Candidate | None:
        """What is needed to choose, or None if there is nothing to send now."""
        ...

    def send_next(self) -> None:
        """Start the next part; its place is counted already and is released when it ends."""
        ...


class Senders:
    """Gives free places to the file whose session ends first; synchronous, so nothing slips in."""

    def __init__(self, clock: Clock, places: int) -> None:
        self._clock = clock
        self._places = places
        self._runs: dict[str, Sender] = {}
        self.goodput = Goodput()
        self.in_flight = 0
        self.stopped = False
        self.paused = False

    def add(self, file_id: str, run: Sender) -> None:
        """Let a file compete for places."""
        self._runs[file_id] = run
        self.pump()

    def remove(self, file_id: str) -> None:
        """Let a file go; its parts in flight give their places back by themselves."""
        self._runs.pop(file_id, None)
        self.pump()

    def resize(self, places: int) -> None:
        """Let so many parts fly from now on; those that fly already come to their end."""
        self._places = places
        self.pump()

    def pump(self) -> None:
        """Fill the free places; called after everything that may have freed or filled one."""
        while not (self.stopped or self.paused) and self.in_flight < self._places:
            now = self._clock.now()
            candidates = [run.candidate(now) for run in list(self._runs.values())]
            chosen = pick(candidate for candidate in candidates if candidate is not None)
            if chosen is None:
                return
            if self.in_flight == 0:
                self.goodput.begin(now.boot_s)
            self.in_flight += 1
            self._runs[chosen].send_next()

    def release(self) -> None:
        """Give one place back."""
        self.in_flight -= 1
        if self.in_flight == 0:
            self.goodput.end(self._clock.now().boot_s)
        self.pump()
