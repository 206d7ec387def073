"""What a watchdog is told: it is fed by work that gets on, and by nothing else."""

from __future__ import annotations

import pytest

from tests.engine.kit import SetClock
from uploaderd.engine.pulse import LATE_S, Pulse


@pytest.fixture
def clock() -> SetClock:
    """A clock that is set by hand."""
    return SetClock()


def beats(
    pulse: Pulse, *, moving: bool = False, asking: bool = False, kept: float | None = None
) -> bool:
    """Ask, with nothing under way unless said."""
    return pulse.beats(moving=moving, asking=asking, kept_since_s=kept)


def test_a_loop_that_waits_has_a_timer_pending(clock: SetClock) -> None:
    """However long it waits; only one that is not heard of after that is late."""
    pulse = Pulse(lambda: clock.boot_s)
    pulse.waiting("due", 1_000.0)
    clock.forward(1_000.0 + LATE_S)
    assert beats(pulse)
    clock.forward(0.1)
    assert not beats(pulse)


def test_a_step_that_never_ends_is_no_work(clock: SetClock) -> None:
    """Unless bytes move, or a request is under way, whose own timer will end it."""
    pulse = Pulse(lambda: clock.boot_s)
    pulse.waiting("admission", 5_000.0)
    pulse.working("due")
    clock.forward(LATE_S + 0.1)
    assert not beats(pulse)
    assert beats(pulse, moving=True)
    assert beats(pulse, asking=True)


def test_a_journal_that_does_not_come_back_is_no_work(clock: SetClock) -> None:
    """A request that is under way excuses nothing then: its outcome could not be kept."""
    pulse = Pulse(lambda: clock.boot_s)
    pulse.waiting("due", 5_000.0)
    since = clock.now().boot_s
    assert beats(pulse, kept=since)
    clock.forward(LATE_S + 0.1)
    assert not beats(pulse, kept=since, asking=True)
    assert beats(pulse, kept=clock.now().boot_s)


def test_nothing_to_do_is_well(clock: SetClock) -> None:
    """Before its loops have begun there is nothing to be late with."""
    assert beats(Pulse(lambda: clock.boot_s))
