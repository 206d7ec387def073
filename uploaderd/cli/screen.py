"""What ``status`` knows and says; nothing here colours, waits or knows a terminal.

``gather`` asks what waits and why; ``plain`` says all of it in lines that programs can grep.
``panel`` says the same to a person at a terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from uploaderd.cli import advice, moments, voice
from uploaderd.config.units import human_bytes, human_rate
from uploaderd.core.report import rfc3339
from uploaderd.core.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uploaderd.control.client import Client
    from uploaderd.control.documents import Bandwidth, Row, Status, TargetRow

WAITING: Final = ("uncertain", "deferred", "queued", "settling")
# What needs a person; failures of long ago are not news.
ENDED_BADLY: Final = ("held", "failed")
SAMPLE: Final = 50
DAY_S: Final = 86_400.0
CAUSES: Final = 3  # sentences that one code may be told with
OPEN: Final = frozenset({"ok", "open", "ready"})
SLOWED: Final = frozenset({"rate_limited", "probing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Files of one state that have one reason; ``row`` is the newest of them.

    Attributes:
        count: how many there are; at least so many where ``more``.
        until: when the first of them goes on, if that is known.
        more: whether the daemon has more files in this state than were looked at.
    """

    state: str
    code: str
    count: int
    row: Row
    until: str | None = None
    more: bool = False

    @property
    def many(self) -> str:
        """How many, as a person reads it."""
        return f"{self.count}{'+' if self.more else ''}"


def gather(client: Client, status: Status, now: float) -> list[Group]:
    """Ask what waits and what needs a person, and group it by its reason."""
    found: list[Group] = []
    yesterday = rfc3339(now - DAY_S)
    for state in (*ENDED_BADLY, *WAITING):
        total = status.counts.get(state, 0)
        if not total:
            continue
        rows = [
            row
            for row, _ in zip(
                client.rows(Selection(states=(state,)), limit=SAMPLE), range(SAMPLE), strict=False
            )
            if state != "failed" or row.updated_at >= yesterday
        ]
        kinds = _kinds(rows)
        more = total > SAMPLE
        for members in kinds:
            alone = len(kinds) == 1 and state != "failed"
            found.append(
                Group(
                    state=state,
                    code=members[0].reason.code,
                    count=total if alone else len(members),
                    more=more and not alone,
                    row=members[0],
                    until=min(filter(None, (one.reason.until for one in members)), default=None),
                )
            )
    return found


def _kinds(rows: Sequence[Row]) -> list[list[Row]]:
    """Put together what is so for one cause: one sentence, or one code where sentences abound."""
    codes: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        codes.setdefault(row.reason.code, {}).setdefault(row.reason.text, []).append(row)
    kinds = []
    for texts in codes.values():
        few = len(texts) <= CAUSES
        kinds += list(texts.values()) if few else [[row for rows in texts.values() for row in rows]]
    return kinds


def below(row: Row) -> str:
    """A path below its watch."""
    return voice.shown(row.path.removeprefix(row.watch.rstrip("/") + "/"))


def headline(status: Status, now: float) -> str:
    """Say in one line whether it works."""
    began = moments.seconds(status.started_at)
    up = f", up {moments.short(now - began)}" if began is not None and now > began else ""
    return f"uploaderd {status.version} is {status.state}, pid {status.pid}{up}"


def counts(status: Status) -> str:
    """Say how many files are in which state."""
    found = [f"{count} {state}" for state, count in status.counts.items() if count]
    return ", ".join(found) or "no files yet"


def volume(status: Status) -> str:
    """Say how many bytes are there and there, how fast, and for how long still."""
    text = f"{human_bytes(status.bytes.stored)} stored, {human_bytes(status.bytes.queued)} to go"
    # The rate fades slowly; with nothing on its way it says nothing.
    if status.rate_bps >= 1 and (status.bytes.queued or status.active):
        text += f", {human_rate(status.rate_bps)}"
        if status.bytes.queued:
            left = max(status.bytes.queued - moving(status), 0)
            text += f", {moments.short(left / status.rate_bps)} left"
    if status.bytes.resent:
        text += f", {human_bytes(status.bytes.resent)} sent twice"
    return text


def limit(bandwidth: Bandwidth, now: float) -> str:
    """Say what the bandwidth is limited to, by whose word, and for how long still."""
    rate = bandwidth.limit_bps
    text = "not limited" if rate is None else f"limited to {human_rate(rate)}"
    match bandwidth.why:
        case "operator":
            return f"{text} by the operator; give it back with: uploaderd limit config"
        case "timetable":
            rest = moments.left(bandwidth.until, now)
            lasts = "" if rest is None else f", for {moments.short(rest)}"
            return f"{text} by the timetable{lasts}"
        case _:
            return text if rate is None else f"{text} by the configuration"


def limited(status: Status, now: float) -> str:
    """The same; empty where nothing limits it and nobody said so."""
    bandwidth = status.bandwidth
    free = bandwidth.limit_bps is None and bandwidth.why == "configured"
    return "" if free else limit(bandwidth, now)


def moving(status: Status) -> int:
    """How many bytes of parts that are on their way have left already."""
    return sum(row.bytes_moving for row in status.active)


def session(row: Row, now: float) -> str:
    """Say for how long a file's session still lives."""
    rest = moments.left(row.expires_at, now)
    return "" if rest is None else moments.short(rest)


def pace(row: Row) -> str:
    """Say how fast one file goes, and for how long still."""
    if row.state != "uploading" or row.rate_bps < 1:
        return "" if row.state == "uploading" else row.state
    left = "" if row.eta_s is None else f", {moments.short(row.eta_s)} left"
    return f"{human_rate(row.rate_bps)}{left}"


def target(row: TargetRow, now: float) -> str:
    """Say what a target suffers from; empty while it takes requests."""
    if row.state in OPEN:
        return ""
    wait = moments.until(row.until, now)
    match row.state:
        case "rate_limited":
            return f"target {row.name} asked for a pause" + (f", goes on {wait}" if wait else "")
        case "probing":
            return f"target {row.name} is being probed"
        case _:
            probed = f", probed again {wait}" if wait else ""
            return f"target {row.name} takes nothing ({row.state}){probed}"


def flight(row: TargetRow) -> str:
    """Say how many parts fly to a target, and why no more; empty where nobody knows."""
    flying = row.parts_in_flight
    if not flying.limit:
        return ""
    most = f", {flying.most} at best" if flying.limit < flying.most else ""
    return f"{flying.now} of {flying.limit} parts in flight{most}: {flying.why}"


def members(group: Group, name: str) -> str:
    """Name the newest of a group, and say how many more there are."""
    more = group.count - 1
    return f"{name} and {more}{'+' if group.more else ''} more" if more > 0 else name


def until(group: Group, now: float) -> str:
    """Say when the first of a group goes on, if that is known."""
    wait = moments.until(group.until, now)
    first = "the first " if group.count > 1 else ""
    return f" ({first}{wait})" if wait else ""


def acts(group: Group) -> str:
    """Say what to do about a group; empty where nothing need be done."""
    if group.state not in ENDED_BADLY:
        return ""
    return advice.for_files(group.code, count=group.count, file_id=group.row.id)


def plain(status: Status, groups: Sequence[Group], now: float) -> list[str]:
    """Everything, a fact a line, each with its whole path; for pipes and programs."""
    lines = [
        headline(status, now),
        f"files: {counts(status)}",
        f"bytes: {volume(status)}",
    ]
    held_back = limited(status, now)
    lines += [f"bandwidth: {held_back}"] if held_back else []
    if status.state == "paused":
        lines += ["paused: no request is begun", "  do: uploaderd resume"]
    for watch in status.watches:
        lines.append(f"watch: {watch.path}: {watch.mode}" + (f": {watch.why}" if watch.why else ""))
    for one in status.targets:
        said = target(one, now)
        act = advice.for_target(one.state)
        lines.append(f"target: {said.removeprefix('target ') or f'{one.name} is {one.state}'}")
        lines += [f"  do: {act}"] if said and act else []
        flying = flight(one)
        lines += [f"parts: {one.name}: {flying}"] if flying else []
    if status.trouble:
        lines += [f"trouble: {status.trouble}", "  do: see the daemon's log, and: uploaderd check"]
    for row in status.active:
        hour = session(row, now)
        facts = [f"{row.percent}% of {human_bytes(row.bytes)}", pace(row)]
        facts += [f"its session lives {hour} more"] if hour else []
        lines.append(f"{row.state}: {row.path}: {', '.join(filter(None, facts))}")
    for group in groups:
        name = members(group, group.row.path)
        lines.append(
            f"{group.state}: {name}: {group.row.reason.text} [{group.code}]{until(group, now)}"
        )
        act = acts(group)
        lines += [f"  do: {act}"] if act else []
    return [voice.shown(line) for line in lines]


def summary(status: Status) -> str:
    """Everything in one line, for logs."""
    return voice.shown(f"{status.state}: {counts(status)}; {volume(status)}")
