"""What is counted as it happens."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from uploaderd.core.answers import Call
from uploaderd.core.model import FileState, PartState
from uploaderd.core.reasons import SENTENCES
from uploaderd.metrics.families import families, lateness
from uploaderd.metrics.lag import Lag

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from prometheus_client.core import Metric
    from prometheus_client.metrics import MetricWrapperBase

    from uploaderd.core.facts import Facts
    from uploaderd.core.model import File, Part

M = TypeVar("M", bound="MetricWrapperBase")
# A part may take minutes, a create some ten milliseconds.
REQUEST_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
COMMIT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
AT_WORK = frozenset({FileState.UPLOADING, FileState.COMPLETING, FileState.UNCERTAIN})
HOOK_OUTCOMES = ("ok", "failed", "timeout", "missing")
# What a request ended with where no status was seen.
NO_REPLY, GIVEN_UP = "no_reply", "given_up"


class Metrics:
    """Counts since the start of the process, and says all numbers when asked.

    Every method may be called from any thread, and none blocks but ``exposition``.

    Args:
        version: the daemon's.
        lag: of the loop that it runs on, if somebody looks at that.
    """

    def __init__(self, *, version: str, lag: Lag | None = None) -> None:
        self._lag = lag or Lag()
        self._registry = registry = CollectorRegistry()
        self._known: set[str] = set()
        self._children: dict[tuple[MetricWrapperBase, tuple[str, ...]], Any] = {}
        self._resent_of: dict[str, int] = {}
        self._last_s: dict[str, float] = {}
        info = Gauge(
            "uploaderd_build_info",
            "Always 1; the labels say what runs.",
            ["version", "python"],
            registry=registry,
        )
        info.labels(version, platform.python_version()).set(1)
        self._requests = Counter(
            "uploaderd_requests",
            "Requests that ended since the start, by the HTTP status of the reply;"
            f" {NO_REPLY} where none came, {GIVEN_UP} where the daemon broke it off.",
            ["target", "call", "status"],
            registry=registry,
        )
        self._duration = Histogram(
            "uploaderd_request_duration_seconds",
            "Seconds from the beginning of a request to the end of its reply, where one came;"
            " for a part this holds the time that its bytes took, bandwidth limit included.",
            ["target", "call"],
            buckets=REQUEST_S,
            registry=registry,
        )
        self._retries = Counter(
            "uploaderd_request_retries",
            "Requests that were tried once more in a row, since the start.",
            ["target"],
            registry=registry,
        )
        self._sent = Counter(
            "uploaderd_sent_bytes",
            "Bytes of parts that left since the start, those of failed requests included.",
            ["target"],
            registry=registry,
        )
        self._stored = Counter(
            "uploaderd_stored_bytes",
            "Bytes of parts that the service took since the start.",
            ["target"],
            registry=registry,
        )
        self._resent = Counter(
            "uploaderd_resent_bytes",
            "Bytes that were sent twice, as far as was found out since the start.",
            ["target"],
            registry=registry,
        )
        self._moves = Counter(
            "uploaderd_file_transitions",
            "Files that came into a state for a reason, since the start.",
            ["state", "reason"],
            registry=registry,
        )
        self._restarts = Counter(
            "uploaderd_session_restarts",
            "Files whose session was given up and begun anew, since the start.",
            ["target"],
            registry=registry,
        )
        self._last = Gauge(
            "uploaderd_last_upload_timestamp_seconds",
            "Unix time at which a file last arrived, as the journal has it; 0 if none is known.",
            ["target"],
            registry=registry,
        )
        self._hooks = Counter(
            "uploaderd_hook_runs",
            "Runs of the commands under [[hook]] that ended since the start.",
            ["on", "outcome"],
            registry=registry,
        )
        self._commits = Histogram(
            "uploaderd_journal_commit_duration_seconds",
            "Seconds that a commit of the journal took, which is how long its disk takes to sync.",
            buckets=COMMIT_S,
            registry=registry,
        )
        for on in (FileState.DONE, FileState.FAILED):
            for outcome in HOOK_OUTCOMES:
                self._hooks.labels(on.value, outcome)
        for code in SENTENCES:
            self._moves.labels(code.partition(".")[0], code)
        ProcessCollector(registry=registry)

    # What the engine tells (``Tally``)

    def retried(self, target: str) -> None:
        """A request is about to be tried once more."""
        self._of(self._retries, target).inc()

    def sent(self, target: str, count: int) -> None:
        """So many bytes of a part left."""
        self._of(self._sent, target).inc(count)

    def part(self, file: File, before: Part, after: Part) -> None:
        """The outcome of a part's request was journalled."""
        if after.state is PartState.STORED:
            self._of(self._stored, file.target).inc(after.length)
        fresh = min(after.sent, after.length) - min(before.sent, after.length)
        again = after.sent - before.sent - fresh
        if again > 0:
            self._of(self._resent, file.target).inc(again)
            known = self._resent_of.get(file.id, file.bytes_resent)
            self._resent_of[file.id] = known + again

    def file(self, before: File | None, after: File) -> None:
        """A file's step was journalled; ``before`` is None for one that is new.

        What was sent twice is known part by part, and the rest of it (sessions that were given
        up, parts whose fate nobody knows) with the file's next step.
        """
        target = after.target
        if before is None:
            self._of(self._moves, after.state.value, after.reason.code).inc()
            return
        if (before.state, before.reason.code) != (after.state, after.reason.code):
            self._of(self._moves, after.state.value, after.reason.code).inc()
            if after.state is FileState.DONE and before.state is not FileState.DONE:
                self._arrived(target, after.finished_s or after.updated_s)
        if after.restarts > before.restarts:
            self._of(self._restarts, target).inc(after.restarts - before.restarts)
        again = after.bytes_resent - self._resent_of.pop(after.id, before.bytes_resent)
        if again > 0:
            self._of(self._resent, target).inc(again)
        # The journal adds what a session took that is given up once the row is written.
        given_up = after.state is FileState.QUEUED and before.upload is not None
        if after.state in AT_WORK or given_up:
            self._resent_of[after.id] = after.bytes_resent

    def hook(self, on: str, outcome: str) -> None:
        """A hook's command ended."""
        self._of(self._hooks, on, outcome).inc()

    # What the adapters are handed

    def request(self, target: str, call: str, status: str, seconds: float) -> None:
        """A request ended, with an HTTP status, ``NO_REPLY`` or ``GIVEN_UP``."""
        self._of(self._requests, target, call, status).inc()
        if status not in {NO_REPLY, GIVEN_UP}:
            self._of(self._duration, target, call).observe(seconds)

    def commit(self) -> AbstractContextManager[object]:
        """Measure one commit of the journal."""
        return self._commits.time()

    # What a scrape is given

    def exposition(self, facts: Facts) -> bytes:
        """All numbers in Prometheus' text form, version 0.0.4; reads /proc, so not in the loop."""
        for target in facts.targets:
            self._begin(target.name)
            self._arrived(target.name, facts.arrivals.get(target.name, 0.0))
        return generate_latest(_Page(self._registry, facts, self._lag))

    def _of(self, metric: M, *labels: str) -> M:
        """Return a metric's child for these labels; its own way there is a lock and checks."""
        child: M | None = self._children.get((metric, labels))
        if child is None:
            child = self._children[metric, labels] = metric.labels(*labels)
        return child

    def _arrived(self, target: str, at_s: float) -> None:
        if at_s > self._last_s.get(target, 0.0):
            self._last_s[target] = at_s
            self._last.labels(target).set(at_s)

    def _begin(self, target: str) -> None:
        """Let a target's counters begin at 0: what begins at 1 was never seen to rise."""
        if target in self._known:
            return
        self._known.add(target)
        for counter in (self._retries, self._sent, self._stored, self._resent, self._restarts):
            counter.labels(target)
        self._last.labels(target)
        for call in Call:
            self._duration.labels(target, call.value)
            for status in ("200", NO_REPLY, GIVEN_UP):
                self._requests.labels(target, call.value, status)


class _Page:
    """What was counted and what is so, in one exposition."""

    def __init__(self, registry: CollectorRegistry, facts: Facts, lag: Lag) -> None:
        self._registry = registry
        self._facts = facts
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        """Every family; when a counter was made tells nothing, as all were at the start."""
        for family in self._registry.collect():
            family.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield family
        yield from families(self._facts)
        yield lateness(self._lag)
