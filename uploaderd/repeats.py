"""The same line again and again is written once, and then counted.

The first one is written at once. Those that follow within a while are kept back; when the while is
over, the last of them is written with ``repeated``: how many it stands for, itself among them. As
long as it goes on each while is twice as long as the one before, up to a quarter of an hour.

Another event of the same family about the same subject (``target.open`` after ``target.shut``)
ends a run at once, so that what the log says last is how things stand. Time is what the records
say; nothing here has a clock or a thread.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

WHILE_S: Final = 60.0
LONGEST_S: Final = 900.0
MOST: Final = 256  # runs that are remembered at a time

# Whom an event is about, and what tells two otherwise equal ones apart without meaning anything.
_SUBJECTS: Final = ("id", "target", "watch", "subject", "upload", "path")
_VOLATILE: Final = frozenset({"part", "seconds", "bytes", "pid", "traceback"})
# Ids and measures in a sentence; a status or an errno, which has less digits, is a cause.
_PASSING: Final = re.compile(r"\breq_\w+|\b(?=[a-f]*\d)[0-9a-f]{6,}\b|\d+\.\d+|\d{4,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is to be written, as told: no key is in it any more.

    Attributes:
        time_s: the wall time of the event.
        ours: whether it is an event with fields, not the sentence of another library.
        repeated: how many it stands for, itself among them; 0 for a line of its own.
    """

    time_s: float
    level: int
    logger: str
    event: str
    fields: Mapping[str, object]
    ours: bool = True
    repeated: int = 0


@dataclass(slots=True, kw_only=True)
class _Run:
    """One line and what followed it: ``last`` is what was kept back, or None."""

    topic: tuple[object, ...]
    since_s: float
    while_s: float
    last: Line | None = None
    count: int = 0

    @property
    def until_s(self) -> float:
        return self.since_s + self.while_s


class Repeats:
    """Decides for each line what is written now, itself or what was kept back before it.

    Args:
        while_s: for how long repeats are kept back at first, in seconds.
    """

    def __init__(self, while_s: float = WHILE_S) -> None:
        self._while_s = while_s
        self._runs: dict[object, _Run] = {}
        self._topics: dict[object, tuple[str, dict[object, None]]] = {}
        self._next_s = inf  # no while is over before

    def take(self, line: Line) -> list[Line]:
        """Give what is to be written now, in order."""
        written = self.over(line.time_s)
        topic, key = _topic(line), _key(line)
        run = self._runs.get(key)
        if run is not None and line.time_s >= run.since_s:
            run.count += 1
            run.last = line
            return written
        if run is not None:  # the clock was set back: nobody knows how long ago the first one was
            written += self._end(key)
        event, keys = self._topics.get(topic, (line.event, {}))
        if event != line.event:
            for one in list(keys):
                written += self._end(one)
        if len(self._runs) >= MOST:
            written += self._end(self._least())
        self._runs[key] = run = _Run(topic=topic, since_s=line.time_s, while_s=self._while_s)
        self._topics.setdefault(topic, (line.event, {}))[1][key] = None
        self._next_s = min(self._next_s, run.until_s)
        return [*written, line]

    def over(self, time_s: float) -> list[Line]:
        """Give what was kept back in runs whose while is over at this wall time."""
        written: list[Line] = []
        if time_s < self._next_s:
            return written
        for key, run in list(self._runs.items()):
            if run.until_s > time_s:
                continue
            if run.last is None:
                self._end(key)
                continue
            written.append(_counted(run))
            run.since_s, run.while_s = time_s, min(2 * run.while_s, LONGEST_S)
            run.last, run.count = None, 0
        self._next_s = min((run.until_s for run in self._runs.values()), default=inf)
        return written

    def all(self) -> list[Line]:
        """Give all that was kept back, and begin anew."""
        return [line for key in list(self._runs) for line in self._end(key)]

    @property
    def due_s(self) -> float | None:
        """The wall time at which something kept back has to be written, or None."""
        return min((r.until_s for r in self._runs.values() if r.last is not None), default=None)

    def _least(self) -> object:
        """The oldest run that keeps nothing back, or the oldest of all."""
        quiet = (key for key, run in self._runs.items() if run.last is None)
        return next(quiet, next(iter(self._runs)))

    def _end(self, key: object) -> list[Line]:
        run = self._runs.pop(key)
        keys = self._topics[run.topic][1]
        keys.pop(key, None)
        if not keys:
            del self._topics[run.topic]
        return [] if run.last is None else [_counted(run)]


def _counted(run: _Run) -> Line:
    if run.last is None:
        raise AssertionError
    return replace(run.last, repeated=run.count)


def _topic(line: Line) -> tuple[object, ...]:
    """The family of the event and whom it is about."""
    about = (_plain(line.fields.get(name)) for name in _SUBJECTS)
    family = line.event.partition(".")[0] if line.ours else _key(line)
    return (family, *about)


def _key(line: Line) -> object:
    """What two lines have in common that are one and the same; at debug every figure counts."""
    if line.level <= logging.DEBUG:
        fields = tuple((name, _plain(value)) for name, value in line.fields.items())
        return line.level, line.logger, line.event, fields
    if not line.ours:
        return line.level, line.logger, _PASSING.sub("#", line.event)
    fields = tuple(
        (name, _plain(value) if name in _SUBJECTS else _PASSING.sub("#", str(value)))
        for name, value in line.fields.items()
        if name not in _VOLATILE
    )
    return line.level, line.logger, line.event, fields


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, (str, bytes, int, float)) else str(value)
