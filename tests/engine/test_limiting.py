"""Who waits for bandwidth: in turn, by the limit of now, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.simulation.loop import SimLoop
from uploaderd.config.units import parse_timetable
from uploaderd.core.limits import Whose
from uploaderd.core.model import Now
from uploaderd.core.timetable import Timetable
from uploaderd.engine.limiting import Limiter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

MIB = 1 << 20
STEP = 256 * 1024
HOUR = 3_600.0


@dataclass
class World:
    """A limiter in virtual time, and who got how much when.

    Attributes:
        table: what is configured.
        week_s: at which second of the local week the time begins.
    """

    loop: SimLoop
    table: Timetable
    week_s: float = 0.0

    def __post_init__(self) -> None:
        """Nothing has left yet."""
        self.got: list[tuple[float, int, int]] = []
        self.limiter = Limiter(self, self.at, lambda: self.table)

    def now(self) -> Now:
        """Both clocks are the loop's."""
        return Now(wall_s=self.loop.time(), boot_s=self.loop.time(), boot_id="boot")

    def at(self, wall_s: float) -> float:
        """The second of the local week."""
        return self.week_s + wall_s

    async def send(self, who: int, most: int = STEP) -> None:
        """Take as much as there is, for ever."""
        while True:
            count = await self.limiter.take(most)
            self.got.append((self.loop.time(), who, count))
            await asyncio.sleep(0.001)

    def total(self, from_s: float = 0.0, to_s: float = 1e9) -> int:
        """Bytes that left in a stretch of time."""
        return sum(count for at_s, _, count in self.got if from_s <= at_s < to_s)

    def run(self, seconds: float, *then: Callable[[], None], senders: int = 4) -> None:
        """Let so many send, and do one thing after each ``seconds``."""

        async def all_of_it() -> None:
            tasks = [self.loop.create_task(self.send(who)) for who in range(senders)]
            await asyncio.sleep(seconds)
            for act in then:
                act()
                await asyncio.sleep(seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.play(all_of_it())

    def play(self, story: Coroutine[None, None, None]) -> None:
        """Run it to its end."""
        self.loop.run_until_complete(story)


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    """Virtual time."""
    made = SimLoop()
    asyncio.set_event_loop(made)
    yield made
    asyncio.set_event_loop(None)
    made.close()


@pytest.mark.parametrize("senders", [1, 4, 64])
@pytest.mark.parametrize("rate", [10 * 1024, 512 * 1024, 5 * MIB, 50 * MIB])
def test_all_together_keep_the_rate_evenly_and_in_turn(
    loop: SimLoop, rate: int, senders: int
) -> None:
    """Each tenth of a second has its tenth, and of two that send none gets a grant more."""
    world = World(loop, Timetable(((0, rate),)))
    world.run(10.0, senders=senders)
    assert world.total(0, 10) == pytest.approx(rate * 10, rel=0.02)
    tenths = [world.total(n / 10, n / 10 + 0.1) for n in range(100)]
    assert max(tenths) <= rate * 0.1 + max(1024, rate * 0.052)
    grants = Counter(who for _, who, _ in world.got)
    assert max(grants.values()) - min(grants.values()) <= 1


def test_a_raise_wakes_those_who_wait(loop: SimLoop) -> None:
    """Of sixty-four at 10 KiB/s each would wait for seconds; without a limit none does."""
    world = World(loop, Timetable(((0, 10 * 1024),)))

    def lift() -> None:
        world.table = Timetable()
        world.limiter.changed()

    world.run(1.0, lift, senders=64)
    after = {who for at_s, who, _ in world.got if 1.0 <= at_s < 1.01}
    assert len(after) == 64


def test_a_limit_that_changed_is_noticed_without_being_told(loop: SimLoop) -> None:
    """Within half a second, even by those who wait for longer."""
    world = World(loop, Timetable(((0, 1),)))

    def lift() -> None:
        world.table = Timetable(((0, MIB),))

    world.run(2.0, lift, senders=2)
    assert world.total(2.5, 4.0) == pytest.approx(1.5 * MIB, rel=0.05)


def test_a_cut_holds_from_the_next_grant_on(loop: SimLoop) -> None:
    """Senders that went without a limit keep it at once, with no burst and no gap."""
    world = World(loop, Timetable())

    def cut() -> None:
        world.limiter.say(Timetable(((0, 64 * 1024),)))

    world.run(0.5, cut, lambda: None, lambda: None, senders=8)
    assert world.total(0, 0.5) > 100 * MIB
    assert world.total(0.501, 1.5) == pytest.approx(64 * 1024, rel=0.1)


def test_the_timetable_changes_while_they_wait(loop: SimLoop) -> None:
    """At eight in the morning, to the second; before that and after it each has its own."""
    table = parse_timetable("Mon-08:00,2MiB/s Mon-09:00,1MiB/s")
    world = World(loop, table, week_s=8 * HOUR - 10 + HOUR)
    world.run(10.0, lambda: None)
    assert world.total(0, 10) == pytest.approx(20 * MIB, rel=0.02)
    assert world.total(10.5, 20) == pytest.approx(9.5 * MIB, rel=0.02)


def test_who_is_cancelled_keeps_nobody_waiting(loop: SimLoop) -> None:
    """Sixty parts that are cut off while they wait leave no hole."""
    world = World(loop, Timetable(((0, 64 * 1024),)))

    async def story() -> None:
        gone = [loop.create_task(world.send(who)) for who in range(60)]
        await asyncio.sleep(0)
        stays = loop.create_task(world.send(99))
        await asyncio.sleep(0.001)
        for task in gone:
            task.cancel()
        await asyncio.sleep(2.0)
        stays.cancel()
        await asyncio.gather(stays, *gone, return_exceptions=True)

    world.play(story())
    own = sum(count for at_s, who, count in world.got if who == 99 and at_s < 1.0)
    assert own >= 0.85 * 64 * 1024


def test_after_a_rest_it_begins_evenly(loop: SimLoop) -> None:
    """A minute without anything to send saves nothing up."""
    world = World(loop, Timetable(((0, MIB),)))

    async def story() -> None:
        for _ in range(2):
            tasks = [loop.create_task(world.send(who)) for who in range(4)]
            await asyncio.sleep(2.0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(60.0)

    world.play(story())
    assert world.total(62.0, 62.2) <= 0.3 * MIB
    assert world.total(62.0, 64.0) == pytest.approx(2 * MIB, rel=0.05)


def test_what_is_in_force_says_by_whose_word_and_until_when(loop: SimLoop) -> None:
    """The configuration's, the timetable's until it changes, the operator's until he says so."""
    world = World(loop, Timetable())
    limit = world.limiter.limit
    assert (limit.rate_bps, limit.why, limit.until_s) == (None, Whose.CONFIGURED, None)
    world.table = parse_timetable("08:00,2MiB/s 18:00,unlimited")
    limit = world.limiter.limit
    assert (limit.rate_bps, limit.why) == (None, Whose.TIMETABLE)
    assert limit.until_s == pytest.approx(8 * HOUR, abs=1)
    assert limit.configured == "08:00,2MiB/s 18:00,unlimited"
    world.limiter.say(Timetable(((0, 5),)))
    limit = world.limiter.limit
    assert (limit.rate_bps, limit.why, limit.until_s) == (5, Whose.OPERATOR, None)
    assert limit.configured == "08:00,2MiB/s 18:00,unlimited"
    world.limiter.say(None)
    assert world.limiter.limit.why is Whose.TIMETABLE
