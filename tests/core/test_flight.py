"""How many parts fly: histories of links, of trouble and of pauses, in literal numbers."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.core.flight import (
    AUTO_LEAST,
    AUTO_MOST,
    AUTO_START,
    CALM_S,
    FORGIVEN_S,
    SENTENCES,
    TROUBLES,
    TRY_MAX_S,
    WARY_MAX_S,
    WARY_S,
    Flight,
    Mood,
    Why,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ROUND_S = 0.4


def over(
    carries: Callable[[int], float],
    *,
    for_s: float,
    noise: float = 0.0,
    seed: int = 1,
    flight: Flight | None = None,
    from_s: float = 0.0,
) -> tuple[Flight, list[tuple[int, float]]]:
    """Go over a link that carries so much with so many parts; return each round's of both."""
    chance = random.Random(seed)
    flight = flight or Flight.begun(None)
    rounds = []
    for number in range(int(for_s / ROUND_S)):
        bps = carries(flight.limit) * (1 + chance.uniform(-noise, noise))
        rounds.append((flight.limit, bps))
        flight = flight.measured(bps, from_s + (number + 1) * ROUND_S)
    return flight, rounds


def knee(each: float, total: float) -> Callable[[int], float]:
    """A link on which a connection carries ``each``, and all together no more than ``total``."""
    return lambda parts: min(parts * each, total)


LINKS = {
    "fast": knee(30e6, 30e6),
    "slow": knee(2e6, 2e6),
    "long": knee(1e6, 20e6),
    "very long": knee(0.2e6, 1e9),
    "limited": knee(3e6, 8e6),
}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_it_comes_within_a_tenth_of_the_best_number(name: str, noise: float) -> None:
    """Over a minute, its beginning and all its trials included."""
    carries = LINKS[name]
    best = max(carries(parts) for parts in range(1, AUTO_MOST + 1))
    _, rounds = over(carries, for_s=60.0, noise=noise)
    assert sum(carries(parts) for parts, _ in rounds) / len(rounds) >= 0.9 * best


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_where_each_part_brings_a_little_less_it_goes_on_for_long(noise: float) -> None:
    """Until one in four more brings less than one in twenty."""

    def carries(parts: int) -> float:
        return 20e6 * parts / (parts + 6)

    _, rounds = over(carries, for_s=120.0, noise=noise)
    late = [carries(parts) for parts, _ in rounds[len(rounds) // 2 :]]
    assert sum(late) / len(late) >= 0.75 * carries(AUTO_MOST)


@pytest.mark.parametrize("name", ["fast", "slow", "limited"])
def test_a_link_that_is_full_is_not_flooded(name: str) -> None:
    """More that bring nothing are taken away again, and fewer are found to do."""
    flight, rounds = over(LINKS[name], for_s=300.0)
    assert max(parts for parts, _ in rounds) == 2 * AUTO_START  # once, to see
    assert flight.good <= AUTO_START
    late = [parts for parts, _ in rounds[len(rounds) // 2 :]]
    assert sum(late) / len(late) <= AUTO_START


def test_trials_become_rare_where_they_bring_nothing() -> None:
    """It settles: between two of them it stays as it is for up to a minute."""
    flight = Flight.begun(None)
    changes, at_s = [], 0.0
    while at_s < 900.0:
        at_s += ROUND_S
        after = flight.measured(LINKS["slow"](flight.limit), at_s)
        if after.mood in {Mood.MORE, Mood.FEWER} and flight.mood is Mood.STEADY:
            changes.append(at_s)
        flight = after
    pauses = [later - sooner for sooner, later in pairwise(changes)]
    assert max(pauses) >= TRY_MAX_S
    assert len(changes) <= 900 / TRY_MAX_S + 10


def test_on_a_long_link_the_number_doubles_while_that_pays() -> None:
    """From four: eight, sixteen, and no further than the link has room for."""
    _, rounds = over(LINKS["long"], for_s=20.0)
    parts = list(dict.fromkeys(parts for parts, _ in rounds))
    assert parts[:4] == [4, 8, 16, 32]
    assert parts[4] in {20, 21}  # so many brought something
    assert rounds[-1][0] >= 19


def test_a_link_that_grows_and_shrinks_is_followed() -> None:
    """Another network carries another number: it is found within two minutes."""
    flight, _ = over(knee(1e6, 4e6), for_s=60.0)
    assert flight.good <= 5
    flight, _ = over(knee(1e6, 30e6), for_s=120.0, flight=flight, from_s=60.0)
    assert flight.good >= 24
    flight, _ = over(knee(1e6, 6e6), for_s=120.0, flight=flight, from_s=180.0)
    assert flight.good <= 12


def test_a_round_in_which_nothing_moved_says_nothing() -> None:
    """There is nothing to compare with then."""
    flight = Flight.begun(None)
    assert flight.measured(0.0, 0.4) is flight


def test_only_numbers_far_apart_are_compared_in_haste() -> None:
    """Doubling shows in half as many bytes; a part more or less does not."""
    flight = Flight.begun(None)
    assert flight.hasty
    flight = flight.measured(2e6, 0.4)
    assert flight.hasty
    flight = flight.measured(2e6, 0.8).measured(2e6, 1.2)
    assert (flight.mood, flight.hasty) == (Mood.STEADY, False)
    flight = flight.measured(2e6, 30.0)
    assert (flight.mood, flight.hasty) == (Mood.FEWER, False)


def test_that_more_bring_nothing_is_believed_of_two_rounds() -> None:
    """On a long link new connections take a while; that they do pay is believed at once."""
    flight = Flight.begun(None).measured(2e6, 0.4)
    assert (flight.mood, flight.limit) == (Mood.MORE, 8)
    flight = flight.measured(2e6, 0.8)
    assert (flight.mood, flight.limit) == (Mood.MORE, 8)
    flight = flight.measured(2e6, 1.2)
    assert (flight.mood, flight.limit, flight.why) == (Mood.STEADY, 4, Why.ENOUGH)
    flight = Flight.begun(None).measured(2e6, 0.4).measured(4e6, 0.8)
    assert (flight.mood, flight.limit, flight.good) == (Mood.MORE, 16, 8)


def test_a_rate_that_still_rises_is_waited_for() -> None:
    """On a long link new connections take some round trips to come up to speed."""
    flight = Flight.begun(None).measured(4e6, 0.4)
    for number, bps in enumerate((4e6, 4.5e6, 5.0e6)):
        flight = flight.measured(bps, 1.2 + number * ROUND_S)
        assert (flight.mood, flight.limit) == (Mood.MORE, 8)
    flight = flight.measured(7e6, 2.4)
    assert (flight.good, flight.why) == (8, Why.TRYING_MORE)


def test_a_configured_number_is_what_it_is() -> None:
    """Nothing is tried with it, whatever the link carries."""
    flight = Flight.begun(6)
    assert (flight.limit, flight.most, flight.why) == (6, 6, Why.CONFIGURED)
    after, _ = over(LINKS["very long"], for_s=60.0, flight=flight)
    assert after == flight


def test_where_the_bandwidth_is_used_up_nothing_is_tried() -> None:
    """It settles and does not flap; when the limit is gone the trials go on."""
    flight = Flight.begun(None)
    for number in range(500):
        flight = flight.measured(1e6 + number, number * ROUND_S, bound=True)
        assert flight.limit == AUTO_START
    assert flight.why is Why.BANDWIDTH
    flight, _ = over(LINKS["long"], for_s=60.0, flight=flight, from_s=200.0)
    assert flight.good >= 16


def test_a_trial_that_meets_the_bandwidth_is_broken_off() -> None:
    """The number that was had before is had again."""
    flight = Flight.begun(None).measured(4e6, 0.4)
    assert flight.limit == 8
    flight = flight.measured(5e6, 1.2, bound=True)
    assert (flight.limit, flight.mood, flight.why) == (4, Mood.STEADY, Why.BANDWIDTH)


def test_rates_of_another_day_are_not_compared() -> None:
    """A trial that could not be decided for two minutes is given up."""
    flight = Flight.begun(None).measured(4e6, 0.4)
    flight = flight.measured(8e6, 400.0)
    assert (flight.limit, flight.mood, flight.good_bps) == (4, Mood.STEADY, 0.0)


@pytest.mark.parametrize("why", sorted(TROUBLES))
def test_trouble_halves_and_calm_gives_back(why: Why) -> None:
    """8 → 4, one more each second, and the eighth, which hurt, after a longer while."""
    flight = Flight.begun(8).troubled(why, 10.0, 11.0)
    assert (flight.limit, flight.why, flight.mood) == (4, why, Mood.BACK)
    seen = []
    at_s = 11.0
    while flight.mood is Mood.BACK:
        at_s += 0.1
        after = flight.calm(at_s)
        if after.limit != flight.limit:
            seen.append((after.limit, round(at_s - 11.0)))
        flight = after
    assert seen == [(5, 1), (6, 2), (7, 3), (8, round(3 + WARY_S))]
    assert (flight.limit, flight.why) == (8, Why.CONFIGURED)


def test_one_blow_counts_once() -> None:
    """Of all that had left when it came, one alone halves; what left after that, again."""
    flight = Flight.begun(8)
    for number in range(8):
        flight = flight.troubled(Why.RATE_LIMITED, 1.0 + number / 10, 2.0 + number / 10)
    assert flight.limit == 4
    flight = flight.troubled(Why.RATE_LIMITED, 3.0, 3.5)
    assert flight.limit == 2


def test_it_never_falls_below_one_part() -> None:
    """Whatever comes."""
    flight = Flight.begun(5)
    for number in range(1, 9):
        flight = flight.troubled(Why.BROKEN, number - 0.5, float(number))
    assert flight.limit == 1


def test_the_number_that_hurts_again_is_kept_away_longer() -> None:
    """4, 8, 16 … seconds, up to a minute; after two calm minutes it is forgotten."""
    flight, at_s, waits = Flight.begun(2), 0.0, []
    for _ in range(7):
        at_s += 1.0
        flight = flight.troubled(Why.RATE_LIMITED, at_s, at_s)
        began_s = at_s
        while flight.limit < 2:
            at_s += 0.5
            flight = flight.calm(at_s)
        waits.append(at_s - began_s)
    assert waits[:4] == [WARY_S, 2 * WARY_S, 4 * WARY_S, 8 * WARY_S]
    assert max(waits) == WARY_MAX_S
    at_s += FORGIVEN_S
    assert flight.troubled(Why.RATE_LIMITED, at_s, at_s + 1).wary_s == WARY_S


def test_after_trouble_auto_goes_back_to_what_was_good() -> None:
    """Not to what a trial was at, and it measures anew from there."""
    flight = Flight.begun(None).measured(4e6, 0.4)
    assert flight.limit == 8
    flight = flight.troubled(Why.OVERLOADED, 1.0, 1.1)
    assert (flight.limit, flight.good) == (4, 4)
    flight = flight.calm(1.1 + CALM_S)
    assert (flight.limit, flight.mood, flight.why) == (4, Mood.STEADY, Why.UNMEASURED)


def test_nothing_counts_while_nothing_may_be_sent() -> None:
    """After a pause of ten minutes the calm begins anew."""
    flight = Flight.begun(8).troubled(Why.RATE_LIMITED, 1.0, 2.0).delayed(600.0)
    assert flight.calm(600.0 + CALM_S / 2).limit == 4
    assert flight.calm(600.0 + CALM_S).limit == 5


def test_another_configuration_begins_anew_only_where_it_differs() -> None:
    """What was learnt outlives a reload that says the same."""
    learnt, _ = over(LINKS["long"], for_s=20.0)
    assert learnt.resized(None) is learnt
    assert learnt.resized(3) == Flight.begun(3)
    cut = Flight.begun(8).troubled(Why.BROKEN, 1.0, 2.0)
    assert cut.resized(8) is cut
    assert cut.resized(4).limit == 4


def test_each_reason_is_a_sentence() -> None:
    """For status."""
    assert SENTENCES.keys() == set(Why)
    assert all(text.endswith(".") for text in SENTENCES.values())


STEPS = st.one_of(
    st.tuples(st.just("measured"), st.floats(0.0, 1e10), st.booleans()),
    st.tuples(st.just("calm")),
    st.tuples(st.just("troubled"), st.sampled_from(sorted(TROUBLES)), st.floats(0.0, 100.0)),
    st.tuples(st.just("delayed")),
)


@given(
    st.one_of(st.none(), st.integers(1, 64)),
    st.lists(st.tuples(st.floats(0.0, 30.0), STEPS), max_size=60),
)
def test_whatever_happens_the_limit_is_within_its_bounds(
    places: int | None, history: list[tuple[float, tuple[object, ...]]]
) -> None:
    """At least one, at most what is configured; only trouble halves, and only calm gives back."""
    flight, now_s = Flight.begun(places), 0.0
    most = AUTO_MOST if places is None else places
    for wait_s, (step, *words) in history:
        now_s += wait_s
        before = flight
        match step, words:
            case "measured", [float(bps), bool(bound)]:
                flight = flight.measured(bps, now_s, bound=bound)
                if places is not None or before.mood is Mood.BACK:
                    assert flight == before
                assert flight.limit >= min(AUTO_LEAST - 1, before.limit)
            case "calm", []:
                flight = flight.calm(now_s)
                assert flight.limit - before.limit in {0, 1}
            case "troubled", [Why() as why, float(ago_s)]:
                flight = flight.troubled(why, now_s - ago_s, now_s)
                assert flight.limit in {before.limit, max(before.limit // 2, 1)}
            case _:
                flight = flight.delayed(now_s)
                assert flight.limit == before.limit
        assert 1 <= flight.limit <= most
        assert 1 <= flight.good <= most
        assert flight.why in SENTENCES


@given(st.integers(1, 64), st.lists(st.floats(0.1, 60.0), max_size=8))
def test_after_any_trouble_all_comes_back(places: int, waits: list[float]) -> None:
    """Within some minutes of calm a configured number is whole again."""
    flight, now_s = Flight.begun(places), 0.0
    for wait_s in waits:
        now_s += wait_s
        flight = flight.troubled(Why.BROKEN, now_s, now_s)
    for _ in range(int(2 * WARY_MAX_S + 64 * CALM_S) * 2):
        now_s += 0.5
        flight = flight.calm(now_s)
    assert replace(flight, limit=places) == flight
    assert flight.why is Why.CONFIGURED
