"""What the configuration's values must not be together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from uploaderd import config
from uploaderd.errors import ConfigError, Exit

if TYPE_CHECKING:
    from uploaderd.config import Config

ENV = {"STATE_DIRECTORY": "/var/lib/uploaderd", "RUNTIME_DIRECTORY": "/run/uploaderd"}
MINIMAL = '[[watch]]\npath = "/var/spool/uploaderd"\n'


def parse(text: str, env: dict[str, str] | None = None) -> Config:
    """Parse as the file ``c.toml`` would be, under systemd's folders."""
    return config.parse(text, source="c.toml", env=ENV if env is None else env)


def refusal(text: str, env: dict[str, str] | None = None) -> tuple[str, str]:
    """The message and the hint that a text is refused with."""
    with pytest.raises(ConfigError) as caught:
        parse(text, env)
    assert caught.value.exit_code is Exit.CONFIG
    return str(caught.value), caught.value.hint


@pytest.mark.parametrize(
    ("url", "is_refused"),
    [
        ("http://gateway.example/v1", True),
        ("http://10.0.0.1/v1", True),
        ("http://127.0.0.1.example/v1", True),
        ("http://localhost.example/v1", True),
        ("http://0.0.0.0/v1", True),
        ("http://localhost:8080/v1", False),
        ("http://127.0.0.1:8080/v1", False),
        ("http://127.8.8.8/v1", False),
        ("http://[::1]:8080/v1", False),
        ("HTTP://LOCALHOST/v1", False),
        ("https://gateway.example/v1", False),
    ],
)
def test_key_in_the_clear(url: str, *, is_refused: bool) -> None:
    """Plain http to anything but loopback is refused, unless that is asked for."""
    text = f'{MINIMAL}[targets.x]\nbase_url = "{url}"\n'
    if is_refused:
        message, hint = refusal(text)
        assert message.startswith("c.toml: targets.x.base_url: ")
        assert "allow_insecure" in hint
        text += "allow_insecure = true\n"
    assert parse(text).targets[0].base_url == url


@pytest.mark.parametrize("version", ["", "2025-04-01-preview"])
@pytest.mark.parametrize(
    "url",
    [
        "https://x.openai.azure.com",
        "https://x.openai.azure.com/openai",
        "https://x.services.ai.azure.com/openai/v1",
        "https://gateway.example/any/path",
    ],
)
def test_azures_addresses(url: str, version: str) -> None:
    """Azure's endpoint may go on to its v1 base, and a gateway in front of it may have any path."""
    text = f'[targets.x]\nflavour = "azure"\nbase_url = "{url}/"\napi_version = "{version}"\n'
    (target,) = parse(MINIMAL + text).targets
    assert (target.base_url, target.api_version) == (url, version)


@pytest.mark.parametrize(
    ("one", "two", "is_refused"),
    [
        ("/a", "/a", True),
        ("/a/", "/a/.", True),
        ("/a", "/a/b", True),
        ("/a/b/c", "/a", True),
        ("/", "/a", True),
        ("/a", "/ab", False),
        ("/a/b", "/a/c", False),
    ],
)
def test_overlapping_watches(one: str, two: str, *, is_refused: bool) -> None:
    """Two watches that would take the same file are refused, and both are named."""
    text = f'[[watch]]\npath = "{one}"\n[[watch]]\npath = "{two}"\n'
    if is_refused:
        message, _ = refusal(text)
        assert message.startswith("c.toml: watch[1].path: ")
        assert "watch[0]" in message
        assert f'"{os.path.normpath(one)}"' in message
    else:
        assert [str(watch.path) for watch in parse(text).watches] == [one, two]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('[daemon]\nstate_dir = "/spool/state"', "daemon.state_dir"),
        ('[daemon]\nstate_dir = "/spool"', "daemon.state_dir"),
        ('[daemon]\nsocket = "/spool/x.sock"', "daemon.socket"),
        ('[targets.x]\napi_key_file = "/spool/key"', "targets.x.api_key_file"),
        ('[targets.x]\nca_file = "/spool/ca.pem"', "targets.x.ca_file"),
    ],
)
def test_own_files_in_a_watch(text: str, name: str) -> None:
    """The daemon's own files are not to be uploaded: above all not the key."""
    message, hint = refusal(text + '\n[[watch]]\npath = "/spool"\n')
    assert message.startswith("c.toml: watch[0].path: ")
    assert name in message
    assert "uploaded" in hint


@pytest.mark.parametrize(("size", "is_refused"), [(107, False), (108, True)])
def test_socket_path_too_long(size: int, *, is_refused: bool) -> None:
    """A socket's path is at most 107 bytes, whoever chose it; bytes, not characters."""
    path = "/ä" + "x" * (size - 3)
    folder = path.removesuffix("x" * 12)
    texts = [(f'[daemon]\nsocket = "{path}"\n', ENV)]
    texts.append(("", {**ENV, "RUNTIME_DIRECTORY": folder}))
    for text, env in texts:
        if is_refused:
            message, hint = refusal(text + MINIMAL, env)
            assert message.startswith("c.toml: daemon.socket: found a path of 108 bytes")
            assert "shorter daemon.socket" in hint
        else:
            assert len(os.fsencode(parse(text + MINIMAL, env).daemon.socket)) == size
