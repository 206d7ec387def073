"""``status`` for a person at a terminal: one screen, never wider than the terminal.

Each line is a style and a text that fits; whoever shows it may colour it or not. What is narrow
loses columns, the least important first, and a long list its end, with how to see the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from uploaderd.cli import advice, fit, screen, voice
from uploaderd.cli.moments import short
from uploaderd.config.units import human_bytes, human_rate
from uploaderd.core.flight import Why

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uploaderd.control.documents import Row, Status

Style = Literal["title", "head", "text", "dim", "good", "warn", "bad", "act"]

ACTIVE_SHOWN: Final = 8
GROUPS_SHOWN: Final = 6
WIDE: Final = 72
MIDDLE: Final = 52
_INDENT: Final = "  "
_ACT: Final = "→ "


class Line(NamedTuple):
    """One line that fits."""

    style: Style
    text: str


def lines(
    status: Status, groups: Sequence[screen.Group], now: float, *, columns: int
) -> list[Line]:
    """Everything on one screen."""
    found = head(status, now, columns=columns)
    if status.active:
        found += [Line("text", ""), *sending(status.active, now, columns=columns)]
    return found + below(status, groups, now, columns=columns)


def below(
    status: Status, groups: Sequence[screen.Group], now: float, *, columns: int
) -> list[Line]:
    """What needs a person and what waits, each with a blank line before it."""
    found: list[Line] = []
    for section in (person(status, groups, now, columns), waiting(status, groups, now, columns)):
        if section:
            found += [Line("text", ""), *section]
    return found


def head(status: Status, now: float, *, columns: int) -> list[Line]:
    """What it is, how many, how much."""
    style: Style = "warn" if status.state == "paused" else "title"
    first = fit.wrap(voice.shown(screen.headline(status, now)), columns, lines=2)
    found = [Line(style, line) for line in first]
    for text in (screen.counts(status), screen.volume(status)):
        found += [
            Line("text", _INDENT + line)
            for line in fit.wrap(voice.shown(text), columns - len(_INDENT), lines=3)
        ]
    held_back = screen.limited(status, now)
    if held_back:
        text = fit.cut(voice.shown(held_back), columns - len(_INDENT))
        found.append(Line("dim", _INDENT + text))
    for watch in status.watches:
        if watch.mode == "polling":
            why = f": {watch.why}" if watch.why else ""
            text = voice.shown(f"{watch.path} is polled{why}")
            found.append(Line("dim", _INDENT + fit.cut(text, columns - len(_INDENT))))
    for one in status.targets:
        # What is as configured, or rests, is no news.
        if one.parts_in_flight.now and one.parts_in_flight.code != Why.CONFIGURED:
            text = voice.shown(f"{one.name}: {screen.flight(one)}")
            found.append(Line("dim", _INDENT + fit.cut(text, columns - len(_INDENT))))
    return found


def sending(rows: Sequence[Row], now: float, *, columns: int) -> list[Line]:
    """A table of the files in flight."""
    titles = ("DONE", "OF", "RATE", "LEFT", "SESSION")
    widths = (4, 10, 12, 8, 8)
    if columns < MIDDLE:
        keep: tuple[int, ...] = (0, 3)
    elif columns < WIDE:
        keep = (0, 2, 3)
    else:
        keep = (0, 1, 2, 3, 4)
    longest = max(fit.width(screen.below(row)) for row in rows[:ACTIVE_SHOWN])
    room = columns - len(_INDENT) - sum(widths[n] + 1 for n in keep)
    room = max(min(room, longest), 8)
    found = [
        Line(
            "head",
            fit.cut(
                fit.pad("SENDING", room + len(_INDENT))
                + "".join(" " + fit.pad(titles[n], widths[n], right=True) for n in keep),
                columns,
            ),
        )
    ]
    for row in rows[:ACTIVE_SHOWN]:
        cells = (
            f"{row.percent}%",
            human_bytes(row.bytes),
            human_rate(row.rate_bps) if row.rate_bps >= 1 else "-",
            (short(row.eta_s) if row.eta_s is not None else "-")
            if row.state == "uploading"
            else "ending",
            screen.session(row, now) or "-",
        )
        name = fit.pad(fit.tail(screen.below(row), room), room)
        text = "".join(" " + fit.pad(cells[n], widths[n], right=True) for n in keep)
        found.append(Line("text", fit.cut(_INDENT + name + text, columns)))
    more = len(rows) - ACTIVE_SHOWN
    if more > 0:
        said = f"and {more} more: uploaderd list --state uploading,completing"
        found.append(Line("dim", fit.cut(_INDENT + said, columns)))
    return found


def person(status: Status, groups: Sequence[screen.Group], now: float, columns: int) -> list[Line]:
    """What is wrong and what to do."""
    found: list[Line] = []
    if status.state == "paused":
        found += _item("warn", "paused: no request is begun", "uploaderd resume", columns)
    if status.trouble:
        found += _item("bad", status.trouble, "see the daemon's log, and: uploaderd check", columns)
    for one in status.targets:
        said = screen.target(one, now)
        if said and one.state not in screen.SLOWED:
            found += _item("bad", said, advice.for_target(one.state), columns)
    mine = [group for group in groups if group.state in screen.ENDED_BADLY]
    for group in mine[:GROUPS_SHOWN]:
        name = screen.members(group, screen.below(group.row))
        text = f"{group.many} {group.state}: {name}: {group.row.reason.text}"
        style: Style = "warn" if group.code == "held.operator" else "bad"
        found += _item(style, text, screen.acts(group), columns)
    found += _rest(mine, columns)
    return [Line("head", "NEEDS A PERSON"), *found] if found else []


def waiting(status: Status, groups: Sequence[screen.Group], now: float, columns: int) -> list[Line]:
    """What goes on by itself, and why it does not yet."""
    found: list[Line] = []
    for one in status.targets:
        said = screen.target(one, now)
        if said and one.state in screen.SLOWED:
            found += _item("warn", said, "", columns)
    mine = [group for group in groups if group.state in screen.WAITING]
    for group in mine[:GROUPS_SHOWN]:
        text = f"{group.many} {group.state}{screen.until(group, now)}: {group.row.reason.text}"
        found += _item("text", text, "", columns)
    found += _rest(mine, columns)
    return [Line("head", "WAITING"), *found] if found else []


def _item(style: Style, text: str, act: str, columns: int) -> list[Line]:
    room = columns - len(_INDENT)
    said = fit.wrap(voice.shown(text), room, lines=2, indent=2)
    todo = fit.wrap(_ACT + voice.shown(act), room - 2, lines=9, indent=2) if act else []
    return [
        *(Line(style, _INDENT + line) for line in said),
        *(Line("act", _INDENT + "  " + line) for line in todo),
    ]


def _rest(groups: Sequence[screen.Group], columns: int) -> list[Line]:
    left = groups[GROUPS_SHOWN:]
    if not left:
        return []
    states = ",".join(dict.fromkeys(group.state for group in left))
    said = f"and {len(left)} more reasons: uploaderd list --state {states}"
    return [Line("dim", fit.cut(_INDENT + said, columns))]
