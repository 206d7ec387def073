"""Where things are unless the configuration says so: its own file, the state, the socket.

systemd's variables win, then the user's folders as platformdirs knows them; the latter asks the
process's own environment.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from uploaderd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

APP = "uploaderd"
CONFIG_NAME = "config.toml"
SOCKET_NAME = "status.sock"
SYSTEM_CONFIG = Path("/etc") / APP / CONFIG_NAME
_MAX_BYTES = 2**22  # far above any configuration; a device file has no end
SUN_PATH_BYTES = 107  # Linux's sun_path, less the final NUL


def _first(env: Mapping[str, str], name: str) -> str:
    """The first of systemd's colon-separated folders, or an empty string."""
    return env.get(name, "").split(":")[0]


def default_state_dir(env: Mapping[str, str]) -> tuple[str, str]:
    """The folder of the journal, and where that comes from."""
    if folder := _first(env, "STATE_DIRECTORY"):
        return folder, "$STATE_DIRECTORY"
    return str(platformdirs.user_state_path(APP)), "the user's state folder"


def default_socket(env: Mapping[str, str]) -> tuple[str, str]:
    """The status socket's path, and where that comes from."""
    if folder := _first(env, "RUNTIME_DIRECTORY"):
        return f"{folder}/{SOCKET_NAME}", "$RUNTIME_DIRECTORY"
    try:
        with warnings.catch_warnings():
            # Without a session there is no $XDG_RUNTIME_DIR; the fallback is what we want then.
            warnings.simplefilter("ignore")
            folder = str(platformdirs.user_runtime_path(APP))
    except PermissionError as exc:
        raise ConfigError(
            f"there is no safe folder for the status socket: {exc.strerror or exc}",
            hint="set daemon.socket in the configuration",
        ) from exc
    return f"{folder}/{SOCKET_NAME}", "the user's runtime folder"


def find_config(path: Path | None, env: Mapping[str, str]) -> tuple[Path, bytes]:
    """The configuration file that counts, and what is in it.

    Args:
        path: the one that the caller insists on, or None.
        env: the environment's variables.

    Raises:
        ConfigError: it cannot be read, or there is none.
    """
    if path is not None:
        return _read(path, "--config")
    if named := env.get("UPLOADERD_CONFIG"):
        return _read(Path(named), "$UPLOADERD_CONFIG")
    candidates = [platformdirs.user_config_path(APP) / CONFIG_NAME, SYSTEM_CONFIG]
    if folder := _first(env, "CONFIGURATION_DIRECTORY"):
        candidates.insert(0, Path(folder) / CONFIG_NAME)
    for candidate in candidates:
        try:
            return _read(candidate, "")
        except ConfigError as exc:
            if not isinstance(exc.__cause__, (FileNotFoundError, NotADirectoryError)):
                raise
    looked = ", ".join(map(str, candidates))
    raise ConfigError(
        f"there is no configuration file; looked for {looked}",
        hint="write one with two lines, [[watch]] and path = ..., or name a file with --config",
    )


def _read(path: Path, named_by: str) -> tuple[Path, bytes]:
    """A file's absolute path and its bytes; raises ``ConfigError``."""
    said = f" (named by {named_by})" if named_by else ""
    try:
        file = path.absolute()
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        why = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
        raise ConfigError(
            f"{path}{said}: the configuration cannot be read: {why}",
            hint="check the path and its permissions; config.example.toml is one to start from",
        ) from exc
    if len(content) > _MAX_BYTES:
        raise ConfigError(
            f"{path}{said}: this is too long for a configuration",
            hint=f"it holds more than {_MAX_BYTES} bytes; is it the right file?",
        )
    return file, content
