"""What is so at the moment, as families of gauges."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from uploaderd.core.facts import SessionNumbers
from uploaderd.core.flight import Why
from uploaderd.core.gate import GateState
from uploaderd.core.limits import Whose
from uploaderd.core.model import FileState
from uploaderd.core.reasons import TARGET_TROUBLE
from uploaderd.metrics.lag import BOUNDS_S, GRID_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.core import Metric

    from uploaderd.core.facts import Facts
    from uploaderd.core.limits import Limit
    from uploaderd.metrics.lag import Lag

MODES = ("inotify", "polling")
STATES = ("running", "paused", "draining")
# Why a target is shut: each trouble that holds its files, and an outage.
SHUT_BY = (
    *sorted(code.removeprefix("held.") for code in TARGET_TROUBLE - {"held.target"}),
    "outage",
)
KINDS = ("journal", "journal_damaged", "watch", "watching", "filing", "other")


def families(facts: Facts) -> Iterator[Metric]:
    """Every family that is read at the scrape."""
    yield from _daemon(facts)
    yield from _bandwidth(facts.limit)
    yield from _targets(facts)
    yield from _watches(facts)
    size = GaugeMetricFamily(
        "uploaderd_journal_size_bytes",
        "Size of the journal on disk: its database and its write-ahead log.",
        labels=["part"],
    )
    for part, count in sorted(facts.journal_bytes.items()):
        size.add_metric([part], count)
    yield size
    yield from _files(facts)
    if facts.sessions is not None:
        yield from _sessions(facts, facts.sessions)


def lateness(lag: Lag) -> Metric:
    """By how much the loop was late."""
    up_to = list(accumulate(lag.counts))
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    return HistogramMetricFamily(
        "uploaderd_event_loop_lag_seconds",
        f"Seconds by which the event loop was late, at moments {GRID_S:g} s apart.",
        buckets=list(zip(bounds, up_to, strict=True)),
        sum_value=lag.total_s,
    )


def _daemon(facts: Facts) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "uploaderd_state", "What the daemon does: 1 for the state it is in.", labels=["state"]
    )
    for name in STATES:
        state.add_metric([name], name == facts.state)
    yield state
    yield GaugeMetricFamily(
        "uploaderd_healthy",
        "1 while nothing is wrong with the surroundings, which is when /healthz says so.",
        value=not any(facts.troubles.values()),
    )
    troubles = GaugeMetricFamily(
        "uploaderd_troubles",
        "How many things are wrong with the surroundings now, by kind; status says which.",
        labels=["kind"],
    )
    for kind in KINDS:
        troubles.add_metric([kind], facts.troubles.get(kind, 0))
    yield troubles
    yield GaugeMetricFamily(
        "uploaderd_drained",
        "1 while all that was dropped has ended or waits for a person.",
        value=facts.drained,
    )
    yield GaugeMetricFamily(
        "uploaderd_parts_in_flight", "Parts that are being sent now.", value=facts.parts_in_flight
    )
    yield GaugeMetricFamily(
        "uploaderd_parts_in_flight_limit",
        "How many parts may be sent at the same time, over all targets, at best.",
        value=facts.parts_in_flight_limit,
    )


def _bandwidth(limit: Limit) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "uploaderd_bandwidth_limit_bytes",
        "Bytes of parts that may leave each second now, over all targets; +Inf without a limit.",
        value=math.inf if limit.rate_bps is None else limit.rate_bps,
    )
    source = GaugeMetricFamily(
        "uploaderd_bandwidth_limit_source",
        "By whose word the bandwidth is limited, or not: 1 for the one that is in force.",
        labels=["source"],
    )
    for whose in Whose:
        source.add_metric([whose.value], whose is limit.why)
    yield source


def _targets(facts: Facts) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "uploaderd_target_state",
        "Whether a target takes requests: 1 for the state its gate is in.",
        labels=["target", "state"],
    )
    why = GaugeMetricFamily(
        "uploaderd_target_shut",
        "1 for the reason for which a target is shut, or is being probed.",
        labels=["target", "reason"],
    )
    for target in facts.targets:
        now = target.gate.state
        if now is GateState.LIMITED and target.admits:  # the pause that was asked for is over
            now = GateState.OPEN
        for each in GateState:
            state.add_metric([target.name, each.value], each is now)
        shut = now in {GateState.SHUT, GateState.PROBING}
        for code in SHUT_BY:
            why.add_metric([target.name, code], shut and code == target.gate.code)
        strange = shut and target.gate.code not in SHUT_BY
        why.add_metric([target.name, "other"], strange)
    yield state
    yield why
    yield from _flights(facts)


def _flights(facts: Facts) -> Iterator[Metric]:
    flying = GaugeMetricFamily(
        "uploaderd_target_parts_in_flight",
        "Parts that are being sent to a target now.",
        labels=["target"],
    )
    limit = GaugeMetricFamily(
        "uploaderd_target_parts_in_flight_limit",
        "How many parts may be sent to a target at the same time, as things are.",
        labels=["target"],
    )
    why = GaugeMetricFamily(
        "uploaderd_target_parts_in_flight_reason",
        "Why that limit is what it is: 1 for the reason.",
        labels=["target", "reason"],
    )
    for target in facts.targets:
        flight = target.flight
        flying.add_metric([target.name], flight.now)
        limit.add_metric([target.name], flight.limit)
        for reason in Why:
            why.add_metric([target.name, reason.value], reason.value == flight.code)
    yield from (flying, limit, why)


def _watches(facts: Facts) -> Iterator[Metric]:
    mode = GaugeMetricFamily(
        "uploaderd_watch_mode",
        "How changes in a watched folder are noticed: 1 for the mode in use.",
        labels=["watch", "mode"],
    )
    folders = GaugeMetricFamily(
        "uploaderd_watch_folders",
        "Folders that the kernel watches for a watch, each of which counts against its limit.",
        labels=["watch"],
    )
    overflows = CounterMetricFamily(
        "uploaderd_watch_overflows",
        "How often the kernel's queue overflowed, so that all was scanned anew, since the start.",
        labels=["watch"],
    )
    scans = CounterMetricFamily(
        "uploaderd_watch_scans", "Full scans of a watch since the start.", labels=["watch"]
    )
    for watch in facts.watches:
        for each in MODES:
            mode.add_metric([watch.path, each], each == watch.mode)
        folders.add_metric([watch.path], watch.folders)
        overflows.add_metric([watch.path], watch.overflows)
        scans.add_metric([watch.path], watch.scans)
    yield from (mode, folders, overflows, scans)


def _files(facts: Facts) -> Iterator[Metric]:
    files = GaugeMetricFamily("uploaderd_files", "Files in the journal by state.", labels=["state"])
    for state in FileState:
        files.add_metric([state.value], facts.counts.get(state, 0))
    yield files
    yield GaugeMetricFamily(
        "uploaderd_unfiled_files",
        "Ended files whose receipt or move is still to be done.",
        value=facts.unfiled,
    )
    for name, words, value in (
        (
            "queued",
            "Bytes of the files in the journal that are still to be stored.",
            facts.queued_bytes,
        ),
        ("journal_stored", "Bytes that arrived of all files in the journal.", facts.stored_bytes),
        (
            "journal_resent",
            "Bytes sent twice, of all files in the journal.",
            facts.resent_bytes,
        ),
    ):
        yield GaugeMetricFamily(f"uploaderd_{name}_bytes", words, value=value)


def _sessions(facts: Facts, sessions: Mapping[str, SessionNumbers]) -> Iterator[Metric]:
    number = GaugeMetricFamily(
        "uploaderd_open_sessions", "Sessions that are being filled.", labels=["target"]
    )
    late = GaugeMetricFamily(
        "uploaderd_late_sessions",
        "Open sessions that cannot be filled in time at the measured rate.",
        labels=["target"],
    )
    nearest = GaugeMetricFamily(
        "uploaderd_nearest_deadline_seconds",
        "Seconds until the first of the open sessions ends; +Inf where none is open.",
        labels=["target"],
    )
    for target in facts.targets:
        numbers = sessions.get(target.name, SessionNumbers())
        number.add_metric([target.name], numbers.open)
        late.add_metric([target.name], numbers.late)
        nearest.add_metric(
            [target.name], math.inf if numbers.nearest_s is None else numbers.nearest_s
        )
    yield from (number, late, nearest)
