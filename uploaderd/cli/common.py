"""What the commands share: their options, and the way to the configuration and the daemon.

Whoever lists commands or asks for help needs neither of the two: they are imported on the way.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from uploaderd.cli import voice
from uploaderd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from uploaderd.config import Config
    from uploaderd.control.client import Client

F = TypeVar("F", bound="Callable[..., Any]")

SYSTEM_SOCKET = Path("/run/uploaderd/status.sock")
PATH = click.Path(path_type=Path)


def config_option(command: F) -> F:
    """Add ``--config``."""
    return click.option(
        "--config", type=PATH, metavar="FILE", help="The configuration file, if not a usual one."
    )(command)


def socket_option(command: F) -> F:
    """Add ``--socket``."""
    return click.option("--socket", type=PATH, metavar="PATH", help="The daemon's status socket.")(
        command
    )


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on standard output."
    )(command)


def example(line: str) -> str:
    """Make a command's epilogue, which click must not wrap."""
    return f"\b\nExample:\n  {line}"


def load(config: Path | None) -> Config:
    """Read the configuration."""
    from uploaderd.config import load as read  # noqa: PLC0415 - not every command needs it

    return read(config, os.environ)


def has_config() -> bool:
    """Whether there is a configuration in one of the usual places."""
    from uploaderd.config import paths  # noqa: PLC0415 - see above

    try:
        paths.find_config(None, os.environ)
    except ConfigError as error:
        return error.__cause__ is not None or bool(os.environ.get("UPLOADERD_CONFIG"))
    return True


def client(config: Path | None, socket_path: Path | None) -> Client:
    """Find the daemon: ``--socket``, else the configuration's, else one of the usual places.

    Raises:
        ConfigError: there is no configuration, and nobody answers in the usual places.
    """
    from uploaderd.control.client import Client  # noqa: PLC0415 - see above

    if socket_path is not None:
        return Client(socket_path)
    from uploaderd.config import paths  # noqa: PLC0415 - see above

    usual = Path(paths.default_socket(os.environ)[0])
    try:
        configured = load(config).daemon.socket
    except ConfigError as error:
        answering = next(filter(answers, (*_named(config), usual, SYSTEM_SOCKET)), None)
        if answering is None:
            raise
        if config is not None or has_config():  # a daemon goes on with the one that it has read
            voice.warning(f"{error}; the daemon on {answering} is asked all the same")
        return Client(answering)
    # Only the service manager tells the daemon its runtime folder; a person's shell has none.
    if configured == usual and not answers(usual) and answers(SYSTEM_SOCKET):
        return Client(SYSTEM_SOCKET)
    return Client(configured)


def _named(config: Path | None) -> list[Path]:
    """The socket that a configuration names which is refused for another reason."""
    import tomllib  # noqa: PLC0415 - only where something is wrong

    from uploaderd.config import paths  # noqa: PLC0415 - see above

    try:
        _, text = paths.find_config(config, os.environ)
        document = tomllib.loads(text.decode("utf-8"))
    except (ConfigError, ValueError):
        return []
    daemon = document.get("daemon")
    named = daemon.get("socket") if isinstance(daemon, dict) else None
    return [Path(named)] if isinstance(named, str) and named.startswith("/") else []


def answers(path: Path) -> bool:
    """Whether somebody listens on the socket at ``path``."""
    import socket  # noqa: PLC0415 - see above

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except BlockingIOError:  # somebody who has a queue
            return True
        except OSError:
            return False
    return True


def boot_s() -> float:
    """Read the clock that runs through a suspend and never jumps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
