"""What a seed chooses before anything happens: settings, the service's rules, faults and deaths."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal

Trouble = Literal["outage", "auth", "quota", "limit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time in which something is wrong, in virtual seconds."""

    what: str
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How this service answers what its documentation leaves open."""

    life_s: float = 3600.0
    complete_twice: int = 200
    after_end: int = 400
    after_expiry: int = 404
    orphans_counted: bool = False
    list_lag_s: float = 0.0
    bytes_null: bool = False
    created_missing: bool = False
    nonsense_expiry: bool = False
    page: int = 1000
    skew_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often a request meets which fate; the rest goes well."""

    unsent: float = 0.0
    lost_before: float = 0.0
    lost_after: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    late_reply: float = 0.0
    wrong_before: float = 0.0
    wrong_after: float = 0.0
    broken_off: float = 0.0


FATES = tuple(Faults.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """The end of one run of the process.

    Attributes:
        steps: it dies at this step of its own; None: ``at_s`` decides.
        power: the machine loses its power with it, and boots anew.
        drained: it is asked to stop, and drains first.
    """

    steps: int | None
    at_s: float
    power: bool = False
    drained: bool = False
    down_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All of it; a test may write one by hand."""

    seed: int
    after_upload: Literal["move", "delete", "keep"] = "move"
    inotify: bool = True
    queue_limit: int = 100
    event_loss: float = 0.0
    leases: bool = True
    settle_s: float = 2.0
    rescan_s: float = 30.0
    part_bytes: int = 100
    parts_in_flight: int | None = 4
    files_in_flight: int = 4
    attempts: int = 3
    max_wait_s: float = 5.0
    defer_max_s: float = 30.0
    stall_s: float = 10.0
    latency_s: float = 0.05
    slow_disk: float = 0.0
    producers: int = 6
    one_name: bool = False
    one_size: bool = False
    action_s: float = 60.0
    rules: Rules = field(default_factory=Rules)
    faults: Faults = field(default_factory=Faults)
    windows: tuple[Window, ...] = ()
    jumps: tuple[tuple[float, float], ...] = ()
    suspends: tuple[tuple[float, float], ...] = ()
    deaths: tuple[Death, ...] = ()
    completes_lost: float = 0.0
    recover_twice: float = 0.3
    bit_rot: float = 0.0
    operator: int = 0
    limits: int = 0
    meddling: float = 0.0
    keep_s: float | None = None
    hooks: bool = False


def with_aftercare(seed: int) -> Scenario:
    """The scenario of a seed, with hooks, and with a journal that forgets within seconds."""
    keep_s = Random(f"aftercare {seed}").choice((1.0, 10.0, 60.0))
    return replace(scenario_of(seed), keep_s=keep_s, hooks=True)


def with_auto(seed: int) -> Scenario:
    """The scenario of a seed, with a number of parts in flight that nobody set."""
    return replace(scenario_of(seed), parts_in_flight=None)


def with_limits(seed: int) -> Scenario:
    """The scenario of a seed, with an operator who limits the bandwidth again and again."""
    return replace(scenario_of(seed), limits=4)


def scenario_of(seed: int) -> Scenario:
    """Draw everything from the seed; each kind of trouble is absent in many of them."""
    rng = Random(f"scenario {seed}")
    action_s = rng.choice((15.0, 40.0, 90.0, 180.0))
    return Scenario(
        seed=seed,
        after_upload=rng.choices(("move", "delete", "keep"), (6, 2, 2))[0],
        inotify=rng.random() < 0.75,
        queue_limit=rng.choice((3, 20, 1000)),
        event_loss=rng.choice((0.0, 0.0, 0.05, 0.3)),
        leases=rng.random() < 0.75,
        settle_s=rng.choice((0.5, 2.0, 4.0)),
        rescan_s=rng.choice((5.0, 10.0, 30.0)),
        part_bytes=rng.choice((20, 50, 100, 300)),
        parts_in_flight=rng.choice((1, 2, 4, 8)),
        files_in_flight=rng.choice((1, 2, 4)),
        attempts=rng.choice((1, 2, 3, 5)),
        max_wait_s=rng.choice((2.0, 8.0)),
        defer_max_s=rng.choice((10.0, 40.0)),
        stall_s=rng.choice((3.0, 10.0, 30.0)),
        latency_s=rng.choice((0.01, 0.1, 0.7)),
        slow_disk=rng.choice((0.0, 0.0, 0.02)),
        producers=rng.choice((1, 2, 4, 7, 10)),
        one_name=rng.random() < 0.3,
        one_size=rng.random() < 0.3,
        action_s=action_s,
        rules=_rules(rng),
        faults=_faults(rng),
        windows=_windows(rng, action_s),
        jumps=_jumps(rng, action_s),
        suspends=_suspends(rng, action_s),
        deaths=_deaths(rng, action_s),
        completes_lost=rng.choice((0.0, 0.0, 0.0, 0.5, 1.0)),
        bit_rot=rng.choice((0.0, 0.8)),
        operator=rng.choice((0, 0, 0, 2, 5)),
        meddling=rng.choice((0.0, 0.0, 0.02, 0.1)),
    )


def _rules(rng: Random) -> Rules:
    return Rules(
        life_s=rng.choice((40.0, 120.0, 600.0, 3600.0, 3600.0)),
        complete_twice=rng.choice((200, 400, 404, 409)),
        after_end=rng.choice((400, 404, 409)),
        after_expiry=rng.choice((400, 404, 410)),
        orphans_counted=rng.random() < 0.4,
        list_lag_s=rng.choice((0.0, 0.0, 1.0, 5.0)),
        bytes_null=rng.random() < 0.3,
        created_missing=rng.random() < 0.15,
        nonsense_expiry=rng.random() < 0.15,
        page=rng.choice((1, 3, 1000)),
        skew_s=rng.choice((0.0, 0.0, -900.0, 900.0)),
    )


def _faults(rng: Random) -> Faults:
    rate = rng.choice((0.0, 0.0, 0.03, 0.1, 0.3))
    if not rate:
        return Faults()
    chosen = rng.sample(FATES, rng.randint(1, len(FATES)))
    return Faults(**{name: rate * rng.random() for name in chosen})


def _windows(rng: Random, action_s: float) -> tuple[Window, ...]:
    found = []
    for what in ("outage", "auth", "quota", "limit", "journal", "spool"):
        if rng.random() < 0.12:
            begin_s = rng.uniform(0.0, action_s)
            length_s = rng.choice((1.0, 10.0, 60.0)) * rng.random()
            found.append(Window(what=what, begin_s=begin_s, end_s=begin_s + length_s))
    return tuple(found)


def _jumps(rng: Random, action_s: float) -> tuple[tuple[float, float], ...]:
    count = rng.choice((0, 0, 0, 0, 1, 3))
    sizes = (-86_400.0, -3_600.0, -30.0, 30.0, 3_600.0, 86_400.0)
    return tuple((rng.uniform(0.0, action_s), rng.choice(sizes)) for _ in range(count))


def _suspends(rng: Random, action_s: float) -> tuple[tuple[float, float], ...]:
    count = rng.choice((0, 0, 0, 0, 0, 1, 2))
    return tuple(
        (rng.uniform(0.0, action_s), rng.choice((20.0, 600.0, 4_000.0))) for _ in range(count)
    )


def _deaths(rng: Random, action_s: float) -> tuple[Death, ...]:
    deaths = []
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        by_step = rng.random() < 0.75
        deaths.append(
            Death(
                steps=int(10 ** rng.uniform(0.5, 3.0)) if by_step else None,
                at_s=rng.uniform(1.0, action_s),
                power=rng.random() < 0.4,
                drained=not by_step and rng.random() < 0.4,
                down_s=rng.choice((0.1, 3.0, 60.0)) * rng.random(),
            )
        )
    return tuple(deaths)
