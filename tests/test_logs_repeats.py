"""Repeats are counted: what a reader of the log sees of what happens again and again."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd import logs
from uploaderd.config import LogFormat, LogLevel
from uploaderd.repeats import LONGEST_S, MOST, WHILE_S, Line, Repeats

if TYPE_CHECKING:
    from collections.abc import Iterator

Told = tuple[str, int]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("uploaderd")
    before = list(root.handlers), ours.level
    yield
    root.handlers[:] = before[0]
    ours.setLevel(before[1])


def line(
    event: str, time_s: float, *, level: int = logging.INFO, ours: bool = True, **fields: object
) -> Line:
    """A line as the handler makes it."""
    return Line(
        time_s=time_s, level=level, logger="uploaderd.x", event=event, fields=fields, ours=ours
    )


def told(lines: list[Line]) -> list[Told]:
    """What was written, with how many each stands for."""
    return [(one.event, one.repeated) for one in lines]


def test_the_first_is_written_at_once_and_the_rest_are_counted() -> None:
    """Nothing is said between, and the last is written with how many it stands for."""
    repeats = Repeats()
    assert told(repeats.take(line("a.b", 0.0, n=1))) == [("a.b", 0)]
    for second in range(1, 50):
        assert repeats.take(line("a.b", float(second), n=1)) == []
    (last,) = repeats.over(WHILE_S)
    assert (last.repeated, last.time_s) == (49, 49.0)


def test_what_comes_when_the_while_is_over_brings_the_count_out_first() -> None:
    """Another event, of whatever kind, shows what was kept back before itself."""
    repeats = Repeats()
    repeats.take(line("a.b", 0.0))
    repeats.take(line("a.b", 1.0))
    assert told(repeats.take(line("c.d", WHILE_S + 1))) == [("a.b", 1), ("c.d", 0)]


def test_what_goes_on_is_said_less_and_less_often() -> None:
    """The waits double up to a quarter of an hour; none of it is ever said twice."""
    repeats = Repeats()
    said = [one for at in range(0, 20_000, 5) for one in repeats.take(line("a.b", float(at)))]
    said += repeats.all()
    assert sum(one.repeated or 1 for one in said) == 4_000
    gaps = [b.time_s - a.time_s for a, b in pairwise(said)]
    assert len(said) < 30
    assert max(gaps) <= LONGEST_S
    assert gaps[1] < gaps[2] < gaps[3]


def test_another_event_about_the_same_subject_ends_the_run() -> None:
    """A target that is shut, open and shut again is told of three times: the last one is true."""
    repeats = Repeats()
    said = []
    for at, event in enumerate(["target.shut", "target.shut", "target.open", "target.shut"]):
        said += repeats.take(line(event, float(at), target="openai"))
    assert told(said) == [
        ("target.shut", 0),
        ("target.shut", 1),
        ("target.open", 0),
        ("target.shut", 0),
    ]


def test_another_subject_ends_nothing() -> None:
    """Two targets, or a target and a file, do not bring out each other's repeats."""
    repeats = Repeats()
    repeats.take(line("target.shut", 0.0, target="one"))
    assert repeats.take(line("target.shut", 1.0, target="one")) == []
    assert told(repeats.take(line("target.open", 2.0, target="two"))) == [("target.open", 0)]
    assert told(repeats.take(line("file.done", 2.0, id="1"))) == [("file.done", 0)]
    assert repeats.take(line("target.shut", 3.0, target="one")) == []


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"part": 1}, {"part": 2}, True),
        ({"text": "no reply in 1.5 s"}, {"text": "no reply in 2.5 s"}, True),
        ({"text": "refused (req_a1)"}, {"text": "refused (req_b2)"}, True),
        ({"text": "id 0123456789abcdef"}, {"text": "id 0123456789abcdee"}, True),
        ({"text": "status 503"}, {"text": "status 401"}, False),
        ({"text": "no room"}, {"text": "no rights"}, False),
        ({"id": "1"}, {"id": "2"}, False),
        ({"path": b"a1234567"}, {"path": b"a7654321"}, False),
        ({}, {"text": "x"}, False),
    ],
)
def test_passing_figures_make_no_other_line(
    first: dict[str, object], second: dict[str, object], same: bool
) -> None:
    """Part numbers, request ids and measures do not; subjects, statuses and words do."""
    repeats = Repeats()
    before, after = line("a.b", 0.0), line("a.b", 1.0)
    repeats.take(replace(before, fields=first))
    assert bool(repeats.take(replace(after, fields=second))) is not same


def test_at_debug_every_figure_counts() -> None:
    """A developer sees each part; only what is equal in all fields is counted."""
    repeats = Repeats()
    debug = logging.DEBUG
    assert len(repeats.take(line("part.stored", 0.0, level=debug, id="1", part=1))) == 1
    assert len(repeats.take(line("part.stored", 1.0, level=debug, id="1", part=2))) == 1
    assert repeats.take(line("part.stored", 1.0, level=debug, id="1", part=2)) == []


def test_another_level_is_another_line() -> None:
    """A warning is not lost among the notes of the same name."""
    repeats = Repeats()
    repeats.take(line("a.b", 0.0))
    assert len(repeats.take(line("a.b", 0.0, level=logging.WARNING))) == 1


def test_a_clock_that_is_set_back_brings_it_out() -> None:
    """Then nobody knows how long ago the first one was: it begins anew."""
    repeats = Repeats()
    repeats.take(line("a.b", 5_000.0))
    repeats.take(line("a.b", 5_001.0))
    assert told(repeats.take(line("a.b", 10.0))) == [("a.b", 1), ("a.b", 0)]


EVENTS = st.sampled_from(["a.b", "a.c", "d.e"])
STEPS = st.lists(st.tuples(EVENTS, st.integers(0, 3), st.floats(-50, 400)), max_size=80)


@given(STEPS)
def test_none_is_lost_or_said_twice(steps: list[tuple[str, int, float]]) -> None:
    """Whatever comes when, the lines and their counts add up, first and last of each are there."""
    repeats, now_s, said = Repeats(), 1_000.0, []
    given_: list[tuple[str, int, float]] = []
    for event, who, by_s in steps:
        now_s += by_s
        given_.append((event, who, now_s))
        said += repeats.take(line(event, now_s, id=who))
    said += repeats.all()
    assert sum(one.repeated or 1 for one in said) == len(given_)
    for kind in {step[:2] for step in given_}:
        times = [at for *what, at in given_ if tuple(what) == kind]
        shown = [one.time_s for one in said if (one.event, one.fields["id"]) == kind]
        assert (shown[0], shown[-1]) == (times[0], times[-1])


def test_memory_is_bounded_and_a_flood_hides_no_repeat() -> None:
    """Ten thousand files that are done push out nothing that is being counted."""
    repeats = Repeats()
    repeats.take(line("loop.trouble", 0.0))
    repeats.take(line("loop.trouble", 0.0))
    for number in range(10_000):
        assert len(repeats.take(line("file.done", 1.0, id=number))) == 1
    assert len(repeats._runs) <= MOST
    assert len(repeats._topics) <= MOST
    assert repeats.take(line("loop.trouble", 2.0)) == []
    assert told(repeats.all()) == [("loop.trouble", 2)]


def test_a_flood_of_repeats_is_bounded_too() -> None:
    """More runs than are remembered bring out the oldest; the sum stays right."""
    repeats = Repeats()
    said = []
    for number in range(1_000):
        said += repeats.take(line("a.b", 0.0, id=number))
        said += repeats.take(line("a.b", 0.0, id=number))
    assert len(repeats._runs) <= MOST
    said += repeats.all()
    assert sum(one.repeated or 1 for one in said) == 2_000


def test_a_librarys_sentence_is_counted_as_well() -> None:
    """What asyncio says at each accept is said once."""
    repeats = Repeats()
    repeats.take(line("accept failed on fd 12345", 0.0, ours=False))
    assert repeats.take(line("accept failed on fd 54321", 1.0, ours=False)) == []
    assert len(repeats.take(line("something else", 1.0, ours=False))) == 1


# Through the log itself


def configured(form: LogFormat) -> io.StringIO:
    """The log on a fresh stream."""
    stream = io.StringIO()
    logs.configure(LogLevel.INFO, form, stream=stream, env={})
    return stream


def test_the_count_is_a_field_in_text_and_a_number_in_json() -> None:
    """``repeated=n`` and ``"repeated": n``; a field of that name gets out of its way."""
    for form in (LogFormat.TEXT, LogFormat.JSON):
        stream = configured(form)
        for number in range(3):
            logs.get("uploaderd.test").info("a.b", repeated="mine", part=number)
        logs.configure(LogLevel.INFO, form, stream=io.StringIO(), env={})
        first, last = stream.getvalue().splitlines()
        if form is LogFormat.TEXT:
            assert first.endswith("a.b repeated_=mine part=0")
            assert last.endswith("a.b repeated_=mine part=2 repeated=2")
        else:
            assert "repeated" not in json.loads(first)
            shown = json.loads(last)
            assert (shown["repeated"], shown["repeated_"], shown["part"]) == (2, "mine", 2)


def test_the_end_of_the_process_brings_it_out() -> None:
    """A daemon that ends, with or without an error, leaves nothing unsaid."""
    script = """
import sys
from uploaderd import logs
from uploaderd.config import LogFormat, LogLevel
logs.configure(LogLevel.INFO, LogFormat.TEXT, env={})
for _ in range(5):
    logs.get("uploaderd.test").info("a.b")
raise SystemExit(3)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert ended.returncode == 3
    first, last = ended.stderr.decode().splitlines()
    assert first.endswith("a.b")
    assert last.endswith("a.b repeated=4")


async def test_the_loop_brings_it_out_when_nothing_else_is_said() -> None:
    """A count does not wait for the next event: the running loop writes it in time."""
    stream = configured(LogFormat.TEXT)
    (handler,) = [h for h in logging.getLogger().handlers if isinstance(h, logs._Handler)]
    handler._repeats = Repeats(while_s=0.2)
    for _ in range(3):
        logs.get("uploaderd.test").info("a.b")
    assert stream.getvalue().endswith("a.b\n")
    async with asyncio.timeout(30):
        while stream.getvalue().count("\n") < 2:
            await asyncio.sleep(0.01)
    assert stream.getvalue().endswith("a.b repeated=2\n")


async def test_what_is_due_sooner_does_not_wait_for_what_is_due_later() -> None:
    """A run that has gone on for long does not keep a young one back."""
    stream = configured(LogFormat.TEXT)
    (handler,) = [h for h in logging.getLogger().handlers if isinstance(h, logs._Handler)]
    log = logs.get("uploaderd.test")
    for while_s, event in ((LONGEST_S, "old.one"), (0.2, "young.one")):
        handler._repeats._while_s = while_s
        log.info(event)
        log.info(event)
    async with asyncio.timeout(30):
        while stream.getvalue().count("\n") < 3:
            await asyncio.sleep(0.01)
    assert stream.getvalue().endswith("young.one repeated=1\n")


async def test_what_is_said_in_another_thread_is_counted_too() -> None:
    """There is no loop there; the next line or the end brings it out, and nothing is mixed."""
    stream = configured(LogFormat.JSON)
    log = logs.get("uploaderd.test")

    def speak() -> None:
        for number in range(500):
            log.info("a.b", part=number)

    await asyncio.gather(*(asyncio.to_thread(speak) for _ in range(4)))
    logs.configure(LogLevel.INFO, LogFormat.JSON, stream=io.StringIO(), env={})
    said = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert sum(one.get("repeated", 1) for one in said) == 2_000
