"""What ``status`` says, as plain lines; nothing here asks, colours or waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from uploaderd.cli import voice
from uploaderd.clock import SystemClock
from uploaderd.config.units import human_bytes, human_duration, human_rate
from uploaderd.core.report import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uploaderd.control.client import Client, Row, Status

WAITING: Final = ("held", "uncertain", "deferred", "settling", "queued", "failed")
SHOWN: Final = 5
DAY_S: Final = 86_400.0
OPEN: Final = frozenset({"ok", "open", "ready"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Some of the files in one state that is not a good end, and how many there are."""

    state: str
    count: int
    rows: Sequence[Row]


def waiting(client: Client, status: Status) -> list[Waiting]:
    """Ask for a few files of each state in which files wait, or ended badly since yesterday."""
    found = []
    yesterday = rfc3339(SystemClock().now().wall_s - DAY_S)
    for state in WAITING:
        count = status.counts.get(state, 0)
        if not count:
            continue
        rows = [
            row
            for row, _ in zip(client.rows(state=state, limit=SHOWN), range(SHOWN), strict=False)
            if state != "failed" or row.updated_at >= yesterday
        ]
        if rows:
            found.append(Waiting(state=state, count=count, rows=rows))
    return found


def percent(row: Row) -> int:
    """How much of a file is stored."""
    if row.state == "done":
        return 100
    return 100 * row.bytes_stored // row.bytes if row.bytes else 0


def headline(status: Status) -> str:
    """Say in one line whether it works."""
    return f"uploaderd {status.version} is {status.state}, pid {status.pid}"


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
            text += f", {human_duration(status.bytes.queued / status.rate_bps)} left"
    if status.bytes.resent:
        text += f", {human_bytes(status.bytes.resent)} sent twice"
    return text


def pace(row: Row) -> str:
    """Say how fast one file goes, and for how long still."""
    if row.state != "uploading" or row.rate_bps < 1:
        return "" if row.state == "uploading" else row.state
    left = "" if row.eta_s is None else f", {human_duration(row.eta_s)} left"
    return f"{human_rate(row.rate_bps)}{left}"


def troubles(status: Status) -> list[str]:
    """Say what is not as it should be with the daemon, its targets and its watches."""
    lines = [f"trouble: {voice.shown(status.trouble)}"] if status.trouble else []
    for target in status.targets:
        if target.state not in OPEN:
            until = f" until {target.until}" if target.until else ""
            lines.append(f"target {voice.shown(target.name)}: {target.state}{until}")
    for watch in status.watches:
        why = f" ({voice.shown(watch.why)})" if watch.why else ""
        lines.append(f"watch {voice.shown(watch.path)}: {watch.mode}{why}")
    return lines


def reasons(groups: Sequence[Waiting]) -> list[str]:
    """Say what waits, and why."""
    lines = []
    for group in groups:
        lines += [
            f"{group.state}: {voice.shown(row.path)}: {voice.shown(row.reason.text)}"
            + (f" (until {row.reason.until})" if row.reason.until else "")
            for row in group.rows
        ]
        more = group.count - len(group.rows)
        if more > 0:
            lines.append(
                f"{group.state}: and {more} more; see: uploaderd list --state {group.state}"
            )
    return lines


def screen(status: Status, groups: Sequence[Waiting]) -> list[str]:
    """Everything on one screen."""
    lines = [headline(status), f"  {counts(status)}", f"  {volume(status)}"]
    lines += [f"  {line}" for line in troubles(status)]
    if status.active:
        lines += ["", "active:"]
        for row in status.active:
            line = f"  {percent(row):>3}%  {voice.shown(row.path)}  {human_bytes(row.bytes)}"
            lines.append(f"{line}  {pace(row)}".rstrip())
    if groups:
        lines += ["", "waiting or failed:"]
        lines += [f"  {line}" for line in reasons(groups)]
    return lines


def summary(status: Status) -> str:
    """Everything in one line, for pipes and logs."""
    return f"{status.state}: {counts(status)}; {volume(status)}"
