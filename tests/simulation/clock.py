"""Both clocks of the simulated machine, and the true time that the service lives by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uploaderd.core.model import Now

if TYPE_CHECKING:
    from tests.simulation.loop import SimLoop

EPOCH_S = 1_800_000_000.0


class SimClock:
    """The wall clock may jump, the machine may sleep, and each boot counts from nothing."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._asleep_s = 0.0
        self._ahead_s = 0.0
        self._booted_s = -1000.0
        self._boots = 1
        self.jumped = False

    @property
    def true_s(self) -> float:
        """Unix time as it really is; it runs through a suspend and never jumps."""
        return EPOCH_S + self._loop.time() + self._asleep_s

    def now(self) -> Now:
        """What the process is told."""
        elapsed_s = self._loop.time() + self._asleep_s
        return Now(
            wall_s=EPOCH_S + elapsed_s + self._ahead_s,
            boot_s=elapsed_s - self._booted_s,
            boot_id=f"boot-{self._boots}",
        )

    def jump(self, by_s: float) -> None:
        """Somebody sets the wall clock."""
        self._ahead_s += by_s
        self.jumped = True

    def suspend(self, for_s: float) -> None:
        """The machine sleeps: timers stand still, the clocks go on."""
        self._asleep_s += for_s
        self.jumped = True

    def reboot(self) -> None:
        """The machine starts anew."""
        self._booted_s = self._loop.time() + self._asleep_s
        self._boots += 1
