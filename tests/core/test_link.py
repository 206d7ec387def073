"""What is measured of a target's network, and what is made of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from uploaderd.core.flight import AUTO_START, CALM_S, Why
from uploaderd.core.link import Link
from uploaderd.core.meter import (
    LEARNT_BYTES,
    LEARNT_S,
    ROUND_S,
    ROUND_STEPS,
    SETTLE_S,
    Rounds,
    Work,
)

STEP = 256 * 1024


def free() -> bool:
    """No bandwidth is configured."""
    return False


def send(link: Link, bps: float, *, from_s: float, for_s: float) -> float:
    """Let bytes leave in steps at a rate, with all places in use; return when it ended."""
    now_s = from_s
    while now_s < from_s + for_s:
        link.flying = link.flight.limit
        now_s += STEP / bps
        link.moved(STEP, now_s, admits=True, bound=free)
    return now_s


def test_a_round_has_time_and_bytes_enough() -> None:
    """Of few steps one more or less would decide, and so would a moment."""
    rounds, now_s, ended = Rounds(), 0.0, []
    for _ in range(100):
        now_s += 0.01
        bps = rounds.add(STEP, now_s, places=4, full=True)
        if bps is not None:
            ended.append((round(now_s, 2), round(bps)))
    assert ended[0] == (round(0.01 + SETTLE_S + ROUND_S, 2), 100 * STEP)
    slow, now_s = Rounds(), 0.0
    for _ in range(ROUND_STEPS + 1):  # one of them while it settles
        assert slow.add(STEP, now_s, places=4, full=True) is None
        now_s += 1.0
    assert slow.add(STEP, now_s, places=4, full=True) == STEP
    found = [
        slow.add(STEP, now_s + second, places=4, full=True, hasty=True)
        for second in range(1, ROUND_STEPS // 2 + 1)
    ]
    assert found == [*[None] * (ROUND_STEPS // 2 - 1), STEP]


def test_a_round_with_free_places_says_nothing() -> None:
    """A link that nobody fills cannot be measured; a moment between two parts does no harm."""
    rounds = Rounds()
    for tenth in range(100):
        assert rounds.add(STEP, tenth / 10, places=4, full=tenth % 2 == 0) is None
    rounds = Rounds()
    found = [rounds.add(STEP, n / 100, places=4, full=n % 20 != 1) for n in range(100)]
    assert [bps for bps in found if bps is not None]


def test_what_one_connection_carries_is_learnt_of_parts_that_arrived() -> None:
    """Each counts from its request to its reply; a little of it says nothing."""
    work = Work()
    work.add(4_000, LEARNT_S - 1)
    assert work.rate_bps() is None
    work.add(1_000, 1.0)
    assert work.rate_bps() == 5_000 / LEARNT_S
    for _ in range(100):
        work.add(100, 10.0)
    assert work.rate_bps() == pytest.approx(10.0, rel=0.5)
    fast = Work()
    fast.add(LEARNT_BYTES, 0.5)
    assert fast.rate_bps() == 2 * LEARNT_BYTES


def test_the_parts_of_a_new_session_are_ten_seconds_work() -> None:
    """Once that is known; before, the file's size decides."""
    link = Link(4)
    assert link.part_bytes(1 << 33) == 16 << 20
    link.stored(5 << 20, 100.0, 105.0)
    assert link.part_bytes(1 << 33) == 10 << 20
    assert link.facts(105.0, admits=True).connection_bps == 1 << 20


def test_there_is_room_for_as_many_as_may_fly() -> None:
    """And for one more when the limit has grown."""
    link, room = Link(2), []
    for flying, places in ((1, 2), (2, 2), (2, 3), (3, 3), (3, 2)):
        link.flying = flying
        link.resize(places)
        room.append(link.has_room)
    assert room == [True, False, True, False, False]


def test_an_automatic_link_grows_by_what_it_carries() -> None:
    """Here a connection carries 1 MB a second, whatever the others do."""
    link, now_s = Link(None), 0.0
    assert link.flight.limit == AUTO_START
    while now_s < 20.0:
        now_s = send(link, link.flight.limit * 1e6, from_s=now_s, for_s=0.1)
    assert link.flight.good == link.flight.most


def test_while_a_pause_lasts_neither_growth_nor_trouble_counts() -> None:
    """429 with Retry-After: halved once, then nothing until the pause is over."""
    link = Link(8)
    link.flying = 8
    link.troubled(Why.RATE_LIMITED, 10.0, 11.0, wait_s=30.0)
    assert link.flight.limit == 4
    facts = link.facts(12.0, admits=True)
    assert (facts.code, facts.frozen) == ("rate_limited", True)
    assert "(429)" in facts.why
    assert "pause" in facts.why
    link.troubled(Why.RATE_LIMITED, 12.0, 13.0, wait_s=30.0)  # it left in spite of the pause
    send(link, 10e6, from_s=20.0, for_s=20.0)
    assert link.flight.limit == 4
    assert link.facts(42.0, admits=True).frozen
    send(link, 10e6, from_s=43.0, for_s=CALM_S + 0.5)
    assert link.flight.limit == 5
    facts = link.facts(45.0, admits=True)
    assert (facts.code, facts.frozen) == ("growing", False)


def test_while_the_gate_is_closed_nothing_grows() -> None:
    """Whoever closed it."""
    link = Link(8)
    link.troubled(Why.BROKEN, 1.0, 2.0)
    link.flying = 4
    for second in range(3, 60):
        link.moved(STEP, float(second), admits=False, bound=free)
    assert link.flight.limit == 4
    assert link.facts(60.0, admits=False).frozen
    send(link, 10e6, from_s=59.0, for_s=CALM_S + 0.5)
    assert link.flight.limit == 5


def test_what_fills_the_buffers_of_new_connections_does_not_count() -> None:
    """A link that carries 4 MB/s in all takes some megabytes at once when eight parts fly."""
    link, now_s = Link(None), 0.0
    while link.flight.limit == AUTO_START:
        now_s = send(link, 4e6, from_s=now_s, for_s=0.1)
    assert link.flight.limit == 2 * AUTO_START
    link.flying = link.flight.limit
    for _ in range(64):
        link.moved(STEP, now_s + 0.01, admits=True, bound=free)
    send(link, 4e6, from_s=now_s + 0.01, for_s=5.0)
    assert link.flight.limit == AUTO_START


def test_what_moved_while_it_grew_again_does_not_count_either() -> None:
    """After trouble the link is measured anew, with all of the number that it is measured for."""
    link = Link(None)
    link.flight = replace(link.flight, limit=16, good=16).troubled(Why.BROKEN, 0.0, 0.1)
    now_s = 0.1
    while link.flight.limit < 16:
        now_s = send(link, 1e6 * link.flight.limit, from_s=now_s, for_s=0.05)
    while not link.flight.good_bps:
        now_s = send(link, 16e6, from_s=now_s, for_s=0.05)
    assert link.flight.good_bps >= 15.9e6
