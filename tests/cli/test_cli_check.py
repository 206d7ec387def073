"""``check``: what is wrong around the configuration is found before the daemon finds it."""

from __future__ import annotations

import json
import os
import socket
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.cli.cli_helpers import FakeView, call, daemon, write_config
from uploaderd.cli.surroundings import file_system

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-test-very-secret-key-0123456789"


async def test_all_is_well(tmp_path: Path) -> None:
    """A good configuration is 0, shown as it takes effect, and holds no key."""
    config = write_config(tmp_path)
    said = await call("check", "--config", config, home=tmp_path, OPENAI_API_KEY=KEY)
    assert (said.code, said.err) == (0, "")
    assert KEY not in said.out
    for words in ("can be watched and filed", "has a key", "is free", "watches are needed"):
        assert words in said.out
    effective = tomllib.loads(said.out[said.out.index("# the effective") :])
    assert effective["watch"][0]["path"] == f"{tmp_path}/spool"
    assert effective["transfer"]["parts_in_flight"] == 4
    assert effective["targets"]["openai"]["flavour"] == "openai"
    assert not (tmp_path / "state").exists()


async def test_json_is_one_document(tmp_path: Path) -> None:
    """Programs get the same findings."""
    config = write_config(tmp_path)
    said = await call("check", "--json", "--config", config, home=tmp_path)
    document = json.loads(said.out)
    assert said.code == 78
    assert document["ok"] is False
    assert [one["topic"] for one in document["findings"] if one["level"] == "error"] == ["key"]
    assert "no API key" in said.err


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("no-spool", "the watched folder {0}/spool does not exist"),
        ("file-spool", "the watched folder {0}/spool is not a folder"),
        ("done-symlink", "{0}/spool/done is a symlink"),
        ("failed-file", "{0}/spool/failed is not a folder"),
        ("state-file", "the state folder {0}/state cannot be used"),
        ("socket-file", "{0}/s.sock exists and is not a socket"),
    ],
)
async def test_what_is_wrong_is_78_with_a_sentence(tmp_path: Path, spoil: str, words: str) -> None:
    """Each obstacle is named, with what to do, and nothing is changed."""
    config = write_config(tmp_path)
    spool = tmp_path / "spool"
    if spoil in {"no-spool", "file-spool"}:
        spool.rmdir()
    for name, path in (
        ("file-spool", spool),
        ("failed-file", spool / "failed"),
        ("state-file", tmp_path / "state"),
        ("socket-file", tmp_path / "s.sock"),
    ):
        if spoil == name:
            path.write_text("x")
    if spoil == "done-symlink":
        (spool / "done").symlink_to(tmp_path)
    said = await call("check", "--config", config, home=tmp_path, OPENAI_API_KEY=KEY)
    assert said.code == 78
    assert f"uploaderd: error: {words.format(tmp_path)}" in said.err
    assert "uploaderd: hint: " in said.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_missing_permissions_are_found(tmp_path: Path) -> None:
    """A folder that this user may not write to is an error."""
    config = write_config(tmp_path)
    (tmp_path / "spool").chmod(0o500)
    said = await call("check", "--config", config, home=tmp_path, OPENAI_API_KEY=KEY)
    (tmp_path / "spool").chmod(0o700)
    assert said.code == 78
    assert "may not be written to" in said.err


async def test_the_sockets_state_is_told(tmp_path: Path) -> None:
    """A living daemon by its pid, a stale socket as stale; both are fine."""
    config = write_config(tmp_path)
    words = ("check", "--config", config)
    async with daemon(FakeView(), tmp_path / "s.sock"):
        alive = await call(*words, home=tmp_path, OPENAI_API_KEY=KEY)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s.sock"))
    stale = await call(*words, home=tmp_path, OPENAI_API_KEY=KEY)
    assert (alive.code, stale.code) == (0, 0)
    assert "pid 4711" in alive.out
    assert "is stale" in stale.out


async def test_a_key_that_everyone_can_read_is_a_warning(tmp_path: Path) -> None:
    """The key's file is warned of, its content never shown."""
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o644)
    config = write_config(tmp_path, more=f'[targets.openai]\napi_key_file = "{key}"')
    said = await call("check", "--config", config, home=tmp_path)
    assert said.code == 0
    assert f"warning  key      {key}" in said.out
    assert KEY not in said.out + said.err


def test_the_file_system_is_named(tmp_path: Path) -> None:
    """The kernel's own name of the file system is found, also behind a deep path."""
    assert file_system(tmp_path / "does" / "not" / "exist") == file_system(tmp_path) != "unknown"
    assert file_system(tmp_path.__class__("/proc/self")) == "proc"


async def test_a_hook_that_cannot_be_run_is_warned_of(tmp_path: Path) -> None:
    """Missing or forbidden, by its path or by its name; files arrive without it, so it is 0."""
    config = write_config(tmp_path)
    good, bad = tmp_path / "good", tmp_path / "bad"
    for program, mode in ((good, 0o755), (bad, 0o644)):
        program.write_text("#!/bin/sh\n")
        program.chmod(mode)
    hooks = [str(good), str(bad), f"{tmp_path}/none", "sh", "no-such-program"]
    with config.open("a") as file:
        file.writelines(f'\n[[hook]]\non = "done"\ncommand = ["{name}"]\n' for name in hooks)
    said = await call("check", "--json", "--config", config, home=tmp_path, OPENAI_API_KEY=KEY)
    assert said.code == 0
    found = [one for one in json.loads(said.out)["findings"] if one["topic"] == "hook"]
    assert [one["level"] for one in found] == ["ok", "warning", "warning", "ok", "warning"]
    assert f"{bad} may not be run by this user" in found[1]["text"]
    assert f"there is no program {tmp_path}/none" in found[2]["text"]
    assert all(one["hint"] for one in found if one["level"] == "warning")
