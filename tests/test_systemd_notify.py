"""systemd hears READY, STATUS and STOPPING; its absence harms nobody."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from uploaderd.systemd import notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    told.stopping()
    assert [listener.recv(100) for _ in range(3)] == [
        b"READY=1",
        b"STATUS=3 files to go",
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
