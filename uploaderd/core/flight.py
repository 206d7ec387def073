"""How many parts may be sent to a target at the same time: found by trying, cut when it hurts.

A number in the configuration is used as it is, and only trouble takes away from it. ``auto`` looks
for its own: it tries more and keeps them only where the target then took more bytes a second, so
that a slow or limited link is not flooded; now and then it tries fewer, and leaves it at that where
they carry as much. Trouble (429, 503, a stall, a broken connection) halves either; what was had
before comes back one by one while all is calm, and the number that hurt comes back last.

The transitions, by what happens:

| mood | a round was measured | time passes in calm | trouble |
|---|---|---|---|
| ``STEADY`` | it is remembered; when it is time, ``MORE`` or ``FEWER`` | - | ``BACK`` |
| ``MORE`` | it paid: ``MORE`` still; else ``STEADY`` with as many as paid | - | ``BACK`` |
| ``FEWER`` | as much: ``STEADY`` with them; else ``STEADY`` as before | - | ``BACK`` |
| ``BACK`` | - | one more; at the old number ``STEADY`` | ``BACK``, half again |

Nothing of this happens for a number but the last row and the last column. Times are seconds of any
steady clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from uploaderd.core.values import replace

AUTO_START = 4
AUTO_MOST = 32  # memory is parts times steps, and a service counts connections too
AUTO_LEAST = 2  # with one alone the link is idle between two parts
PAYS_WELL = 0.3  # of what as many more could bring at best: then try twice as many
PAYS = 0.2  # of that: it is worth a few more
SLIGHT = 0.1  # less than that is noise
COSTS = 0.15  # of what as many fewer could cost at worst: no more is to be lost
RISING = 1.1  # from one round to the next: the rate has not settled yet
TRIAL_ROUNDS = 8  # a trial ends then in any case
TRIAL_S = 120.0  # after that its rates are not compared any more
SOON_S = 0.1
TRY_S = 10.0  # between two trials; twice as long after each that brought nothing
TRY_MAX_S = 60.0
CHANGED = 1.5  # the link carries so much more or less than it did: it is another link
CALM_S = 1.0  # for one more part after trouble
WARY_S = 4.0  # before the number that hurt is had again; twice as long each time it hurts
WARY_MAX_S = 60.0
FORGIVEN_S = 120.0  # without trouble: then it is forgotten


class Mood(StrEnum):
    """What it does; see the table above."""

    STEADY = "steady"
    MORE = "more"
    FEWER = "fewer"
    BACK = "back"


class Why(StrEnum):
    """Why it is the number that it is; stable words."""

    CONFIGURED = "configured"
    UNMEASURED = "unmeasured"
    TRYING_MORE = "trying_more"
    PAID = "more_pays"
    ENOUGH = "enough"
    TRYING_FEWER = "trying_fewer"
    FEWER_DO = "fewer_do"
    BANDWIDTH = "bandwidth"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    BROKEN = "broken"
    GROWING = "growing"


SENTENCES = {
    Why.CONFIGURED: "As configured.",
    Why.UNMEASURED: "To begin with; the link is still to be measured.",
    Why.TRYING_MORE: "Trying whether more parts carry more.",
    Why.PAID: "More parts carried more.",
    Why.ENOUGH: "More parts carried no more.",
    Why.TRYING_FEWER: "Trying whether fewer parts carry as much.",
    Why.FEWER_DO: "Fewer parts carry as much.",
    Why.BANDWIDTH: "The configured bandwidth is used up; more parts could carry no more.",
    Why.RATE_LIMITED: "Halved: the service answered that it gets too many requests (429).",
    Why.OVERLOADED: "Halved: the service answered that it has too much to do (502, 503 or 504).",
    Why.BROKEN: "Halved: a connection stalled or broke.",
    Why.GROWING: "Growing again, part by part, after trouble.",
}
FROZEN = "It stays so while the pause lasts that the service asked for."
TROUBLES = frozenset({Why.RATE_LIMITED, Why.OVERLOADED, Why.BROKEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """How many parts may fly, and what led to it.

    Attributes:
        limit: so many may fly now.
        most: never more than this.
        auto: it finds its own number; else ``most`` is the number.
        good: the number that a trial is compared with, or that is to be had again after trouble.
        good_bps: what the link carried with it, in bytes a second; 0 while unknown.
        last_bps: the last round of this trial.
        rounds: how many rounds this trial has had.
        since_s: when the limit or the mood last changed.
        try_s: how long it stays as it is before the next trial.
        fewer_next: the next trial is with fewer.
        hurt: the number with which the last trouble came, or None.
        cut_s: when the last trouble halved it.
        wary_s: how long the number that hurt is kept away.
    """

    limit: int
    most: int
    auto: bool
    mood: Mood = Mood.STEADY
    why: Why = Why.UNMEASURED
    good: int
    good_bps: float = 0.0
    last_bps: float = 0.0
    rounds: int = 0
    since_s: float = -math.inf
    try_s: float = 0.0
    fewer_next: bool = False
    hurt: int | None = None
    cut_s: float = -math.inf
    wary_s: float = WARY_S

    @classmethod
    def begun(cls, places: int | None) -> Flight:
        """How it begins: with all of a configured number, or with a few (None: auto)."""
        if places is None:
            return cls(limit=AUTO_START, most=AUTO_MOST, auto=True, good=AUTO_START)
        return cls(limit=places, most=places, auto=False, good=places, why=Why.CONFIGURED)

    def resized(self, places: int | None) -> Flight:
        """Another configuration; what was learnt stays where it says the same as before."""
        same = self.auto if places is None else not self.auto and self.most == places
        return self if same else Flight.begun(places)

    def measured(self, bps: float, now_s: float, *, bound: bool = False) -> Flight:
        """A round ended in which all places were used all the time.

        Args:
            bps: what the link carried then, in bytes a second.
            now_s: now.
            bound: the configured bandwidth let no more through.
        """
        if not self.auto or self.mood is Mood.BACK or bps <= 0:
            return self
        trial = self.mood is not Mood.STEADY
        if bound:
            flight = replace(self, why=Why.BANDWIDTH, good_bps=0.0)
            return _kept(flight, self.good, now_s) if trial else flight
        if trial and now_s - self.since_s > TRIAL_S:
            return _kept(replace(self, good_bps=0.0), self.good, now_s)
        flight = replace(self, rounds=self.rounds + 1, last_bps=bps)
        return _judged(flight, bps, self.last_bps, now_s)

    @property
    def hasty(self) -> bool:
        """Whether numbers are far apart that are compared: then less will tell."""
        return self.try_s == 0.0 or (self.mood is Mood.MORE and self.limit >= 2 * self.good)

    def calm(self, now_s: float) -> Flight:
        """Bytes move, all places are used, and nothing is wrong: what was cut comes back."""
        if self.mood is not Mood.BACK:
            return self
        hurts = self.hurt is not None and self.limit + 1 >= self.hurt
        if now_s - self.since_s < (self.wary_s if hurts else CALM_S):
            return self
        limit = min(self.limit + 1, self.good)
        if limit < self.good:
            hurt = None if hurts else self.hurt
            return replace(self, limit=limit, why=Why.GROWING, hurt=hurt, since_s=now_s)
        why = Why.UNMEASURED if self.auto else Why.CONFIGURED
        return replace(
            self, limit=limit, mood=Mood.STEADY, why=why, since_s=now_s,
            rounds=0, good_bps=0.0, try_s=TRY_S,
        )  # fmt: skip

    def troubled(self, why: Why, began_s: float, now_s: float) -> Flight:
        """A request came to grief: half as many, once for all that had left by then.

        Args:
            why: one of ``TROUBLES``.
            began_s: when that request began.
            now_s: now.
        """
        if began_s <= self.cut_s:
            return self
        forgiven = now_s - self.cut_s > FORGIVEN_S
        wary_s = WARY_S if forgiven else min(2 * self.wary_s, WARY_MAX_S)
        return replace(
            self,
            limit=max(self.limit // 2, 1),
            mood=Mood.BACK,
            why=why,
            hurt=self.limit,
            wary_s=wary_s,
            since_s=now_s,
            cut_s=now_s,
            rounds=0,
        )

    def delayed(self, now_s: float) -> Flight:
        """Nothing may be sent for now: neither calm nor trouble nor a trial counts."""
        return replace(self, since_s=now_s, rounds=0)


def _judged(flight: Flight, bps: float, before_bps: float, now_s: float) -> Flight:
    """What a round says, with the one before it."""
    if flight.mood is Mood.MORE:
        return _tried_more(flight, bps, before_bps, now_s)
    if flight.mood is Mood.FEWER:
        return _tried_fewer(flight, bps, now_s)
    return _at_rest(flight, bps, now_s)


def _at_rest(flight: Flight, bps: float, now_s: float) -> Flight:
    """Remember what the link carries; when it is time, try another number."""
    known = flight.good_bps
    steady = replace(flight, good_bps=(known + bps) / 2 if known else bps)
    if known and bps > known * CHANGED:
        return replace(steady, good_bps=bps, try_s=0.0, fewer_next=False)
    if known and bps < known / CHANGED:
        return replace(steady, good_bps=bps, try_s=TRY_S, fewer_next=True)
    if flight.why is Why.BANDWIDTH:
        steady = replace(steady, why=Why.ENOUGH, since_s=now_s)
    if now_s - steady.since_s < flight.try_s:
        return steady
    if flight.fewer_next and flight.limit > AUTO_LEAST:
        fewer = flight.limit - _little(flight.limit)
        return _trying(steady, fewer, Mood.FEWER, now_s)
    if flight.limit < flight.most:
        # What was never tried may be far away; what was tried often is near.
        step = flight.limit if flight.try_s == 0.0 else _little(flight.limit)
        return _trying(steady, min(flight.limit + step, flight.most), Mood.MORE, now_s)
    return replace(steady, fewer_next=True, since_s=now_s)


def _trying(flight: Flight, limit: int, mood: Mood, now_s: float) -> Flight:
    why = Why.TRYING_MORE if mood is Mood.MORE else Why.TRYING_FEWER
    return replace(
        flight, good=flight.limit, limit=limit, mood=mood, why=why,
        since_s=now_s, rounds=0, last_bps=0.0,
    )  # fmt: skip


def _tried_more(flight: Flight, bps: float, before_bps: float, now_s: float) -> Flight:
    share = (bps / flight.good_bps - 1) / (flight.limit / flight.good - 1)
    gentle = flight.limit < 2 * flight.good
    if share >= (PAYS if gentle else PAYS_WELL):
        kept = replace(flight, good=flight.limit, good_bps=bps, why=Why.PAID, try_s=TRY_S)
        step = flight.limit if share >= PAYS_WELL else _little(flight.limit)
        if flight.limit < flight.most:
            return _trying(kept, min(flight.limit + step, flight.most), Mood.MORE, now_s)
        return _kept(kept, flight.limit, now_s)
    if bps >= RISING * before_bps and flight.rounds < TRIAL_ROUNDS:
        return flight
    # Up to where the link was full it carried more with each: so many are worth their while.
    paid = math.ceil(share * (flight.limit - flight.good)) if share > SLIGHT else 0
    if not paid:
        settled = replace(flight, try_s=min(max(2 * flight.try_s, TRY_S), TRY_MAX_S))
    else:
        settled = replace(flight, good_bps=0.0, try_s=TRY_S if gentle else SOON_S)
    settled = replace(settled, why=Why.ENOUGH, fewer_next=gentle or not paid)
    return _kept(settled, flight.good + paid, now_s)


def _little(parts: int) -> int:
    """What is tried where much is known."""
    return max(parts // 4, 1)


def _tried_fewer(flight: Flight, bps: float, now_s: float) -> Flight:
    share = (1 - bps / flight.good_bps) / (1 - flight.limit / flight.good)
    if share < COSTS:
        kept = replace(flight, why=Why.FEWER_DO, good_bps=bps, try_s=TRY_S, fewer_next=True)
        return _kept(kept, flight.limit, now_s)
    try_s = min(max(2 * flight.try_s, TRY_S), TRY_MAX_S)
    settled = replace(flight, why=Why.PAID, try_s=try_s, fewer_next=False)
    return _kept(settled, flight.good, now_s)


def _kept(flight: Flight, limit: int, now_s: float) -> Flight:
    return replace(
        flight, limit=limit, good=limit, mood=Mood.STEADY, since_s=now_s, rounds=0, last_bps=0.0
    )
