"""``status --watch`` through a pipe: a line for each change of a file, as they happen.

Each change comes once, over restarts of the daemon too. What is said about the daemon itself goes
to standard error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uploaderd.cli import screen, voice
from uploaderd.cli.common import boot_s
from uploaderd.control.documents import Change, Status, read
from uploaderd.control.listener import Listener

if TYPE_CHECKING:
    from uploaderd.control.client import Client
    from uploaderd.control.wire import Event

TICK_S: Final = 5.0


def watch(client: Client) -> None:
    """Say how it stands, then each change, until Ctrl-C."""
    said, away, state = False, False, ""
    with Listener(client.socket, clock=boot_s) as listener:
        while True:
            for event in listener.poll(TICK_S):
                if event.kind in {"status", "progress"}:
                    status = read(event.data.encode(), Status)
                    if not said:
                        voice.out(screen.summary(status))
                        said = True
                    elif status.state != state:
                        voice.note(f"the daemon is {status.state}")
                    state = status.state
                else:
                    _tell(event)
            if listener.away and not away:
                voice.note(f"{listener.away}; waiting for the daemon to come back")
            elif away and not listener.away:
                voice.note("the daemon is back")
            away = bool(listener.away)


def _tell(event: Event) -> None:
    match event.kind:
        case "file":
            change = read(event.data.encode(), Change)
            voice.out(line(change))
        case "reset":
            voice.warning("some changes were missed; see: uploaderd list")
        case _:
            pass


def line(change: Change) -> str:
    """One change in one line: when, what it is now, which file, why."""
    return voice.shown(
        f"{change.at} {change.state:<10} {change.path or change.id}: {change.text} [{change.code}]"
    )
