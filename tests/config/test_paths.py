"""Where the configuration, the state and the socket are found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest

from uploaderd import config
from uploaderd.errors import ConfigError

if TYPE_CHECKING:
    from uploaderd.config import Config

ENV = {"STATE_DIRECTORY": "/var/lib/uploaderd", "RUNTIME_DIRECTORY": "/run/uploaderd"}
MINIMAL = '[[watch]]\npath = "/var/spool/uploaderd"\n'


def parse(text: str, env: dict[str, str] | None = None) -> Config:
    """Parse as the file ``c.toml`` would be, under systemd's folders."""
    return config.parse(text, source="c.toml", env=ENV if env is None else env)


def test_state_directory_may_be_a_list() -> None:
    """Of systemd's colon-separated folders the first one is taken."""
    env = {"STATE_DIRECTORY": "/one:/two", "RUNTIME_DIRECTORY": "/three:/four"}
    daemon = parse(MINIMAL, env).daemon
    assert (daemon.state_dir, daemon.socket) == (Path("/one"), Path("/three/status.sock"))


def test_without_systemd_the_users_folders() -> None:
    """Without systemd's variables the state is where platformdirs says."""
    assert parse(MINIMAL, {}).daemon.state_dir == platformdirs.user_state_path("uploaderd")
    assert parse(MINIMAL, {}).daemon.socket.name == "status.sock"


def write(path: Path, content: str | bytes = MINIMAL) -> Path:
    """A file at ``path``, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_load_names_its_source(tmp_path: Path) -> None:
    """A loaded configuration knows its file, which may begin with a byte order mark."""
    file = write(tmp_path / "c.toml", "\ufeff" + MINIMAL)
    assert config.load(file, ENV).source == file
    assert config.redacted(config.load(file, ENV))["source"] == str(file)


def test_load_order(tmp_path: Path) -> None:
    """--config wins over $UPLOADERD_CONFIG, and that over $CONFIGURATION_DIRECTORY."""
    insisted = write(tmp_path / "a.toml")
    named = write(tmp_path / "b.toml")
    given_by_systemd = write(tmp_path / "etc" / "config.toml")
    env = {**ENV, "CONFIGURATION_DIRECTORY": f"{tmp_path / 'etc'}:/nowhere"}
    assert config.load(None, env).source == given_by_systemd
    env["UPLOADERD_CONFIG"] = str(named)
    assert config.load(None, env).source == named
    assert config.load(insisted, env).source == insisted


LOAD = """
import os, sys
from uploaderd import config, errors
try:
    print(config.load(None, os.environ).source)
except errors.ConfigError as exc:
    print(exc, exc.hint, sep="\\n")
"""


def load_elsewhere(home: Path) -> list[str]:
    """What a process with that folder of the user's configurations prints."""
    env = {**os.environ, "XDG_CONFIG_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("UPLOADERD_CONFIG", "CONFIGURATION_DIRECTORY"):
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", LOAD], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_load_users_folder(tmp_path: Path) -> None:
    """Unless it is told of a file, it looks into the user's configuration folder."""
    file = write(tmp_path / "uploaderd" / "config.toml")
    assert load_elsewhere(tmp_path) == [str(file)]


@pytest.mark.skipif(Path("/etc/uploaderd/config.toml").exists(), reason="there is one here")
def test_load_nothing_anywhere(tmp_path: Path) -> None:
    """Without any file the refusal lists where it looked and says how little one needs."""
    message, hint = load_elsewhere(tmp_path)
    assert f"{tmp_path}/uploaderd/config.toml, /etc/uploaderd/config.toml" in message
    assert "[[watch]]" in hint


@pytest.mark.parametrize("by_option", [True, False])
def test_load_missing(tmp_path: Path, *, by_option: bool) -> None:
    """A file that was asked for and is missing is not replaced by another one."""
    file = tmp_path / "none.toml"
    env = {**ENV, "CONFIGURATION_DIRECTORY": str(write(tmp_path / "config.toml").parent)}
    if not by_option:
        env["UPLOADERD_CONFIG"] = str(file)
    with pytest.raises(ConfigError, match="No such file") as caught:
        config.load(file if by_option else None, env)
    assert str(file) in str(caught.value)
    assert ("--config" if by_option else "$UPLOADERD_CONFIG") in str(caught.value)


def test_load_unreadable(tmp_path: Path) -> None:
    """A file that is there and cannot be read is named, and nothing else is tried."""
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ConfigError, match=r"config\.toml: .* cannot be read: Is a directory"):
        config.load(None, {**ENV, "CONFIGURATION_DIRECTORY": str(tmp_path)})


def test_load_not_utf8(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are refused with their line."""
    file = write(tmp_path / "c.toml", b'[[watch]]\npath = "/sp\xe4l"\n')
    with pytest.raises(ConfigError, match=r"c\.toml: line 2 is not UTF-8"):
        config.load(file, ENV)


def test_load_own_file_in_a_watch(tmp_path: Path) -> None:
    """The configuration's own file must not lie in a watched folder."""
    file = write(tmp_path / "c.toml", f'[[watch]]\npath = "{tmp_path}"\n')
    with pytest.raises(ConfigError, match="this file"):
        config.load(file, ENV)
