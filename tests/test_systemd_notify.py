"""What systemd hears and hands over: datagrams, the watchdog's time, the status socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import ROOT
from uploaderd.systemd import listening, notifier, watchdog_s

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OURS = str(os.getpid())


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Give an unbound datagram socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        yield sock


def test_messages_reach_a_socket_with_a_path(listener: socket.socket, tmp_path: Path) -> None:
    """Each message is one datagram in sd_notify's form."""
    path = str(tmp_path / "notify")
    listener.bind(path)
    told = notifier({"NOTIFY_SOCKET": path})
    told.ready()
    told.status("3 files\nto go")
    told.watchdog()
    told.reloading(1_234_567)
    told.extend_timeout(2.5)
    told.stopping()
    assert [listener.recv(100) for _ in range(6)] == [
        b"READY=1",
        b"STATUS=3 files to go",
        b"WATCHDOG=1",
        b"RELOADING=1\nMONOTONIC_USEC=1234567",
        b"EXTEND_TIMEOUT_USEC=2500000",
        b"STOPPING=1",
    ]


def test_messages_reach_an_abstract_socket(listener: socket.socket) -> None:
    """A leading @ means the abstract name space."""
    name = f"uploaderd-test-{os.getpid()}"
    listener.bind("\0" + name)
    notifier({"NOTIFY_SOCKET": "@" + name}).ready()
    assert listener.recv(100) == b"READY=1"


@pytest.mark.parametrize("env", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:9"}])
def test_without_a_manager_nothing_is_sent(env: dict[str, str]) -> None:
    """Outside systemd, or where its address is of an unknown kind, nothing happens."""
    told = notifier(env)
    assert told.address is None
    told.ready()


def test_a_dead_manager_harms_nobody(tmp_path: Path) -> None:
    """A socket that nobody holds is no error."""
    notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": OURS}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ""}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_PID": OURS}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_told_twice_in_its_time(
    env: dict[str, str], expected: float | None
) -> None:
    """Half of the manager's time, and only where it is this process that is watched."""
    assert watchdog_s(env) == expected


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "0", "LISTEN_PID": OURS},
        {"LISTEN_FDS": "-1", "LISTEN_PID": OURS},
    ],
)
def test_what_is_meant_for_another_process_is_not_taken(env: dict[str, str]) -> None:
    """Inherited variables, or none, hand nothing over; no descriptor is looked at."""
    assert listening(env) is None


def take(made: str, *, count: int = 1) -> str:
    """Let a process of its own take over what the code ``made`` puts at descriptor 3 and up."""
    code = f"""
import os, socket, sys
made = {made}
made = made if isinstance(made, list) else [made]
kept = [os.dup2(os.dup(one if isinstance(one, int) else one.fileno()), 100 + n)
        for n, one in enumerate(made)]
for n, descriptor in enumerate(kept):
    os.dup2(descriptor, 3 + n)
from uploaderd.errors import ConfigError
from uploaderd.systemd import listening
names = ":".join(f"n{{n}}" for n in range({count}))
env = {{"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "{count}", "LISTEN_FDNAMES": names}}
try:
    sock = listening(env)
except ConfigError as error:
    print(f"refused: {{error}}; {{error.hint}}")
else:
    print(sock.fileno(), sock.getblocking(), sock.get_inheritable(), sock.getsockname())
"""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, check=True)
    return run.stdout.decode().strip()


BOUND = """(lambda s: (s.bind({path!r}), s.listen(), s)[-1])(socket.socket(socket.AF_UNIX))"""


def test_the_status_socket_is_taken_over(tmp_path: Path) -> None:
    """The descriptor itself is used; it does not block and no child inherits it."""
    path = str(tmp_path / "s")
    assert take(BOUND.format(path=path)) == f"3 False False {path}"


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ("os.open('/dev/null', os.O_RDWR)", "n0 is no socket"),
        ("(lambda s: (s.listen(), s)[-1])(socket.socket(socket.AF_INET))", "is no Unix socket"),
        ("socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)", "is no stream socket"),
        ("socket.socketpair()[0]", "Accept=yes is not for this daemon"),
    ],
)
def test_anything_else_is_refused(made: str, why: str) -> None:
    """A socket unit that hands over another thing is told so, with what to write."""
    said = take(made)
    assert said.startswith("refused: what systemd handed over as status socket")
    assert why in said
    assert "ListenStream=" in said


def test_a_descriptor_that_is_not_there_is_refused() -> None:
    """A manager that promised more than it gave is no traceback."""
    assert "cannot be used: Bad file descriptor" in take("[]")


def test_two_sockets_are_refused(tmp_path: Path) -> None:
    """Nobody could tell which one counts; both names are said."""
    made = ", ".join(BOUND.format(path=str(tmp_path / name)) for name in ("a", "b"))
    assert "handed over 2 sockets (n0, n1)" in take(f"[{made}]", count=2)
