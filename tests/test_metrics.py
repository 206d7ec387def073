"""What is counted, how it is named, and how it is written."""

from __future__ import annotations

import asyncio
import math
import re
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY

from tests.support.exposition import Page, promtool
from uploaderd.core.answers import Call
from uploaderd.core.facts import Facts, SessionNumbers, TargetNumbers, WatchNumbers
from uploaderd.core.gate import Gate, GateState
from uploaderd.core.limits import Limit, Whose
from uploaderd.core.model import Arrival, File, FileState, Identity, Part, PartState
from uploaderd.core.reasons import SENTENCES, reason
from uploaderd.core.report import FlightFacts
from uploaderd.core.values import replace
from uploaderd.journal import Journal
from uploaderd.metrics import Lag, Metrics
from uploaderd.metrics.lag import BOUNDS_S, GRID_S

if TYPE_CHECKING:
    from pathlib import Path

UNITS = ("seconds", "bytes")  # base units; anything else is counted
FLIGHT = FlightFacts(now=1, limit=2, most=4, code="overloaded", why="Halved.")
OTHER_UNITS = re.compile(r"(milli|micro|nano|minute|hour|day|kilo|mega|kib|mib|percent)")


def facts(**changes: object) -> Facts:
    """A daemon at rest, but for these changes."""
    at_rest = Facts(
        state="running",
        drained=True,
        counts={FileState.DONE: 2},
        unfiled=0,
        queued_bytes=0,
        stored_bytes=20,
        resent_bytes=0,
        sessions={"openai": SessionNumbers()},
        arrivals={},
        journal_bytes={"database": 4096, "log": 0},
        parts_in_flight=0,
        parts_in_flight_limit=4,
        limit=Limit(rate_bps=None, why=Whose.CONFIGURED, configured="unlimited"),
        targets=[TargetNumbers(name="openai", gate=Gate(), admits=True, flight=FLIGHT)],
        watches=[WatchNumbers(path="/spool", mode="inotify", folders=1, overflows=0, scans=1)],
        troubles={},
    )
    return replace(at_rest, **changes)  # type: ignore[arg-type]


def page(metrics: Metrics, **changes: object) -> Page:
    """What a scrape is told."""
    return Page(metrics.exposition(facts(**changes)).decode())


def file_in(state: FileState, code: str, **more: object) -> File:
    """A file as a step found or left it."""
    row = File(
        id="f1",
        watch="/spool",
        path=b"a",
        identity=Identity(dev=1, inode=2, size=10, mtime_ns=3, ctime_ns=4),
        arrival=Arrival.RENAMED,
        target="openai",
        purpose="user_data",
        state=state,
        reason=reason(code, detail="No.", restarts=1, place="here"),
        created_s=1.0,
        updated_s=7.0,
        changed_s=1.0,
        owner="here",
    )
    return replace(row, **more)  # type: ignore[arg-type]


def part_in(state: PartState, sent: int) -> Part:
    """A part of ten bytes, of which so many left."""
    return Part(upload="u", number=1, offset=0, length=10, state=state, sent=sent)


# The names


@pytest.fixture
def everything() -> Page:
    """A page on which every family has a series."""
    metrics = Metrics(version="1.2.3")
    metrics.request("openai", "part", "200", 0.2)
    metrics.hook("done", "ok")
    return page(metrics)


def test_the_names_follow_the_conventions(everything: Page) -> None:
    """Prometheus' guide: a prefix, base units at the end, _total for counters and for no other."""
    for name, family in everything.families.items():
        assert name.startswith(("uploaderd_", "process_")), name
        assert not OTHER_UNITS.search(name), name
        for unit in UNITS:
            assert unit not in name.split("_")[:-1], f"{name}: the unit comes last"
        assert family.documentation.endswith((".", "seconds", "bytes", "descriptors")), name
        for sample in family.samples:
            total = sample.name.endswith("_total")
            assert total == (family.type == "counter"), sample.name
            assert not sample.name.endswith("_created"), sample.name
            assert not {"le", "quantile", "job", "instance"} & (
                sample.labels.keys() - ({"le"} if family.type == "histogram" else set())
            ), sample.name


def test_a_page_is_small(everything: Page) -> None:
    """One target and one watch are a few hundred series, none of them for a file or an upload."""
    assert sum(len(rows) for rows in everything.samples.values()) < 400


def test_promtool_finds_nothing(everything: Page, tmp_path: Path) -> None:
    """``promtool check metrics`` has not a word to say."""
    promtool("check", "metrics", folder=tmp_path, stdin=everything.text)


def test_the_default_registry_stays_empty_of_us() -> None:
    """Two of a kind live in one process, and none of them where others count."""
    first, second = Metrics(version="1"), Metrics(version="1")
    first.sent("openai", 5)
    assert page(second).value("uploaderd_sent_bytes_total") == 0
    assert not [f for f in REGISTRY.collect() if f.name.startswith("uploaderd")]


# What is counted


def test_every_reason_begins_at_nought() -> None:
    """A series that begins at 1 was never seen to rise, so the first failure would not alert."""
    seen = page(Metrics(version="1"))
    for code in SENTENCES:
        state = code.partition(".")[0]
        name = "uploaderd_file_transitions_total"
        assert seen.value(name, state=state, reason=code) == 0


def test_every_call_begins_at_nought() -> None:
    """The same for the requests of each target that is configured."""
    seen = page(Metrics(version="1"))
    for call in Call:
        assert seen.value("uploaderd_requests_total", target="openai", call=call) == 0
        assert seen.value("uploaderd_request_duration_seconds_count", call=call) == 0


def test_a_request_counts_by_its_status_and_lasts_if_it_was_answered() -> None:
    """How long nothing came says nothing of how fast the service answers."""
    metrics = Metrics(version="1")
    metrics.request("openai", "part", "200", 0.2)
    metrics.request("openai", "part", "503", 0.3)
    metrics.request("openai", "part", "no_reply", 60.0)
    metrics.request("openai", "part", "given_up", 60.0)
    seen = page(metrics)
    for status in ("200", "503", "no_reply", "given_up"):
        assert seen.value("uploaderd_requests_total", call="part", status=status) == 1
    assert seen.value("uploaderd_request_duration_seconds_count", call="part") == 2
    assert seen.value("uploaderd_request_duration_seconds_sum", call="part") == 0.5


def test_a_step_of_a_file_counts_once() -> None:
    """A new file and each change of state or reason; what only moves a timer does not."""
    metrics = Metrics(version="1")
    seen = file_in(FileState.SETTLING, "settling.seen")
    held = file_in(FileState.HELD, "held.auth")
    metrics.file(None, seen)
    metrics.file(seen, seen)
    metrics.file(seen, held)
    metrics.file(held, file_in(FileState.QUEUED, "queued.again", restarts=1))
    now = page(metrics)
    name = "uploaderd_file_transitions_total"
    assert now.value(name, reason="settling.seen") == 1
    assert now.value(name, state="held") == 1
    assert now.value("uploaderd_session_restarts_total", target="openai") == 1


def test_the_last_upload_is_when_a_file_arrived() -> None:
    """Not when it was filed, and not a file that failed."""
    metrics = Metrics(version="1")
    name = "uploaderd_last_upload_timestamp_seconds"
    assert page(metrics).value(name) == 0
    sent = file_in(FileState.COMPLETING, "completing.sent")
    there = file_in(FileState.DONE, "done.filing", finished_s=6.5)
    metrics.file(sent, file_in(FileState.FAILED, "failed.empty", finished_s=5.0))
    assert page(metrics).value(name) == 0
    metrics.file(sent, there)
    metrics.file(there, file_in(FileState.DONE, "done.uploaded", finished_s=9.0))
    assert page(metrics).value(name) == 6.5
    assert page(metrics, arrivals={"openai": 6.0}).value(name) == 6.5
    assert page(metrics, arrivals={"openai": 7.0}).value(name) == 7.0
    assert page(metrics).value(name) == 7.0


def test_a_hook_counts_by_how_it_ended() -> None:
    """Each outcome begins at 0."""
    metrics, name = Metrics(version="1"), "uploaderd_hook_runs_total"
    assert page(metrics).value(name, on="failed", outcome="timeout") == 0
    metrics.hook("failed", "timeout")
    assert page(metrics).value(name, on="failed", outcome="timeout") == 1
    assert page(metrics).value(name) == 1


def test_what_was_sent_twice_counts_once() -> None:
    """Known part by part while it is sent; the journal adds the rest with the file's next step."""
    metrics = Metrics(version="1")
    queued = file_in(FileState.QUEUED, "queued.slot", bytes_resent=100)  # before this process
    begun = file_in(FileState.UPLOADING, "uploading.parts", bytes_resent=100, upload="u")
    metrics.file(queued, begun)
    metrics.part(begun, part_in(PartState.IN_FLIGHT, 0), part_in(PartState.AMBIGUOUS, 4))
    metrics.part(begun, part_in(PartState.IN_FLIGHT, 4), part_in(PartState.AMBIGUOUS, 11))
    name = "uploaderd_resent_bytes_total"
    assert page(metrics).value(name) == 1
    metrics.part(begun, part_in(PartState.IN_FLIGHT, 11), part_in(PartState.STORED, 21))
    assert page(metrics).value(name) == 11
    assert page(metrics).value("uploaderd_stored_bytes_total") == 10
    # Its session is given up: the ten bytes that were stored will be sent once more, which the
    # journal knows when the file is next read.
    metrics.file(begun, file_in(FileState.QUEUED, "queued.again", bytes_resent=111, restarts=1))
    again = file_in(FileState.QUEUED, "queued.again", bytes_resent=121, restarts=1)
    for _ in range(2):
        metrics.file(again, file_in(FileState.UPLOADING, "uploading.parts", bytes_resent=121))
        assert page(metrics).value(name) == 21


def test_each_commit_of_the_journal_is_measured(tmp_path: Path) -> None:
    """One observation a transaction, and none for a question."""
    metrics = Metrics(version="1")
    journal = Journal(tmp_path / "journal.sqlite3")
    journal.open()
    journal.measure = metrics.commit
    name = "uploaderd_journal_commit_duration_seconds_count"
    for n in range(3):
        journal.set_setting("paused", str(n))
    assert journal.setting("paused") == "2"
    journal.close()
    assert page(metrics).value(name) == 3


def test_who_is_due_while_the_loop_works_waits_until_it_is_done() -> None:
    """Of a hundred moments in a second of work the first was late by a second, the last by none."""
    now_s = 100.0
    lag = Lag(clock=lambda: now_s)
    lag.rested(now_s)
    lag.worked(now_s + 1.0 + GRID_S / 2)
    assert sum(lag.counts) == 101
    assert dict(zip(BOUNDS_S, lag.counts, strict=False))[0.5] == 25
    assert lag.total_s == pytest.approx(50.5, rel=0.02)


def test_who_is_due_while_the_loop_waits_is_served_at_once() -> None:
    """An hour of waiting is 360,000 moments without any lag, counted in one step."""
    lag = Lag(clock=lambda: 0.0)
    lag.rested(3600.0)
    assert lag.counts[0] == sum(lag.counts) == pytest.approx(360_000, abs=2)
    assert lag.total_s == 0.0


def test_a_process_that_was_stopped_for_a_week_counts_that_once() -> None:
    """And not sixty million moments of it, which would hold up the loop again."""
    lag = Lag(clock=lambda: 0.0)
    lag.worked(7 * 86_400.0)
    assert lag.counts[-1] == 1
    assert sum(lag.counts) == pytest.approx(BOUNDS_S[-1] / GRID_S, abs=3)


def test_a_loop_that_is_held_up_is_late_and_one_that_waits_is_not() -> None:
    """What blocks a real loop is seen as lag of that length; its own sleep is none."""
    lag = Lag()

    async def block() -> None:
        await asyncio.sleep(0.1)
        time.sleep(0.4)  # that is the point
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lag.new_loop) as runner:
        runner.run(block())
    blocked = [n for n, up_to in zip(lag.counts, BOUNDS_S, strict=False) if 0.1 < up_to <= 10]
    assert sum(blocked) >= 29
    assert lag.counts[0] >= 8
    seen = page(Metrics(version="1", lag=lag))
    assert seen.value("uploaderd_event_loop_lag_seconds_count") == sum(lag.counts)
    assert seen.value("uploaderd_event_loop_lag_seconds_sum") == pytest.approx(lag.total_s)
    assert seen.value("uploaderd_event_loop_lag_seconds_bucket", le="0.001") == lag.counts[0]


# What is so at the moment


def test_without_a_session_the_deadline_is_infinitely_far() -> None:
    """A comparison with any number of seconds is false then, and the series is there."""
    name = "uploaderd_nearest_deadline_seconds"
    assert page(Metrics(version="1")).value(name, target="openai") == math.inf
    near = {"openai": SessionNumbers(open=2, late=1, nearest_s=61.5)}
    seen = page(Metrics(version="1"), sessions=near)
    assert seen.value(name, target="openai") == 61.5
    assert seen.value("uploaderd_open_sessions") == 2
    assert seen.value("uploaderd_late_sessions") == 1


def test_what_the_journal_does_not_tell_is_left_out() -> None:
    """A number that is not known is not made up."""
    seen = page(Metrics(version="1"), sessions=None, troubles={"journal": 1})
    assert "uploaderd_nearest_deadline_seconds" not in seen.families
    assert seen.value("uploaderd_healthy") == 0
    assert seen.value("uploaderd_troubles", kind="journal") == 1
    assert seen.value("uploaderd_files", state="done") == 2


@pytest.mark.parametrize(
    ("gate", "admits", "state", "why"),
    [
        (Gate(), True, "ok", None),
        (Gate(state=GateState.LIMITED, until_s=9.0), False, "rate_limited", None),
        (Gate(state=GateState.LIMITED, until_s=9.0), True, "ok", None),
        (Gate(state=GateState.SHUT, code="quota"), False, "shut", "quota"),
        (Gate(state=GateState.PROBING, code="outage"), True, "probing", "outage"),
        (Gate(state=GateState.SHUT, code="of tomorrow"), False, "shut", "other"),
    ],
)
def test_a_target_is_in_one_state(gate: Gate, admits: bool, state: str, why: str | None) -> None:
    """And it is shut for one reason; a pause that is over is no pause."""
    target = TargetNumbers(name="t", gate=gate, admits=admits, flight=FLIGHT)
    seen = page(Metrics(version="1"), targets=[target])
    assert seen.ones("uploaderd_target_state", "state") == [state]
    assert seen.ones("uploaderd_target_shut", "reason") == ([] if why is None else [why])


def test_a_target_has_one_limit_and_one_reason_for_it() -> None:
    """Beside how many there are now."""
    seen = page(Metrics(version="1"))
    assert seen.value("uploaderd_target_parts_in_flight", target="openai") == 1
    assert seen.value("uploaderd_target_parts_in_flight_limit", target="openai") == 2
    assert seen.ones("uploaderd_target_parts_in_flight_reason", "reason") == ["overloaded"]


@pytest.mark.parametrize("rate_bps", [None, 5 << 20])
@pytest.mark.parametrize("whose", Whose)
def test_the_limit_of_bandwidth_and_by_whose_word(rate_bps: int | None, whose: Whose) -> None:
    """Without a limit it is infinite; one source is in force."""
    limit = Limit(rate_bps=rate_bps, why=whose, configured="unlimited")
    seen = page(Metrics(version="1"), limit=limit)
    expected = math.inf if rate_bps is None else rate_bps
    assert seen.value("uploaderd_bandwidth_limit_bytes") == expected
    assert seen.ones("uploaderd_bandwidth_limit_source", "source") == [whose.value]


@pytest.mark.parametrize("state", ["running", "paused", "draining"])
def test_the_daemon_is_in_one_state(state: str) -> None:
    """As its status says."""
    assert page(Metrics(version="1"), state=state).ones("uploaderd_state", "state") == [state]


def test_a_folder_may_be_called_anything() -> None:
    """Quotes, backslashes, line breaks and bytes that are no UTF-8 leave the page whole."""
    path = '/a "b" \\udcff\\ \n ü'
    watch = WatchNumbers(path=path, mode="polling", folders=0, overflows=3, scans=4)
    seen = page(Metrics(version="1"), watches=[watch])
    assert seen.value("uploaderd_watch_overflows_total", watch=path) == 3
    assert seen.value("uploaderd_watch_scans_total", watch=path) == 4
    assert seen.ones("uploaderd_watch_mode", "mode") == ["polling"]
