"""The configuration file: its keys, its defaults and its example."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from pathlib import Path

import pytest

from uploaderd import config
from uploaderd.config import AfterUpload, Config, Flavour, HookEvent, LogFormat, LogLevel, keys
from uploaderd.config.units import UNLIMITED
from uploaderd.core.timetable import Timetable
from uploaderd.errors import ConfigError, Exit

ENV = {"STATE_DIRECTORY": "/var/lib/uploaderd", "RUNTIME_DIRECTORY": "/run/uploaderd"}
MINIMAL = '[[watch]]\npath = "/var/spool/uploaderd"\n'
EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def parse(text: str, env: dict[str, str] | None = None) -> Config:
    """Parse as the file ``c.toml`` would be, under systemd's folders."""
    return config.parse(text, source="c.toml", env=ENV if env is None else env)


def refusal(text: str, env: dict[str, str] | None = None) -> tuple[str, str]:
    """The message and the hint that a text is refused with."""
    with pytest.raises(ConfigError) as caught:
        parse(text, env)
    assert caught.value.exit_code is Exit.CONFIG
    return str(caught.value), caught.value.hint


def test_defaults() -> None:
    """One watch with a path is enough, and all else is the contract's default."""
    c = parse(MINIMAL)
    assert c.source is None
    assert c.daemon.state_dir == Path("/var/lib/uploaderd")
    assert c.daemon.socket == Path("/run/uploaderd/status.sock")
    assert c.daemon.socket_mode == 0o660
    assert (c.daemon.log_level, c.daemon.log_format) == (LogLevel.INFO, LogFormat.AUTO)
    assert c.daemon.drain_timeout_s == 20
    (target,) = c.targets
    assert (target.name, target.base_url) == ("openai", "https://api.openai.com/v1")
    assert (target.flavour, target.api_version) == (Flavour.OPENAI, "")
    assert (target.api_key_file, target.ca_file, target.allow_insecure) == (None, None, False)
    assert (target.organization, target.project) == ("", "")
    (watch,) = c.watches
    assert (watch.path, watch.target) == (Path("/var/spool/uploaderd"), "openai")
    assert (watch.purpose, watch.purpose_by_folder, watch.recursive) == ("user_data", True, True)
    assert watch.ignore == (".*", "*.tmp", "*.part", "*.partial", "*.crdownload", "*~")
    assert (watch.settle_s, watch.rescan_s) == (2, 30)
    assert (watch.after_upload, watch.expires_after_s) == (AfterUpload.MOVE, None)
    assert watch.mime_type == ""
    assert (c.transfer.part_bytes, c.transfer.parts_in_flight) == (None, 4)
    assert (c.transfer.files_in_flight, c.transfer.bandwidth) == (4, UNLIMITED)
    assert c.transfer.stall_timeout_s == 60
    assert (c.retry.attempts, c.retry.max_wait_s, c.retry.defer_max_s) == (5, 30, 900)
    assert c.journal.keep_s == 90 * 86_400
    assert c.hooks == ()
    hook = parse(MINIMAL + '[[hook]]\non = "done"\ncommand = ["true"]\n').hooks[0]
    assert (hook.timeout_s, hook.attempts) == (30, 10)


@pytest.mark.parametrize(
    "env", [{}, ENV, {"OPENAI_BASE_URL": "https://api.openai.com/v1"}], ids=["bare", "unit", "url"]
)
def test_example_is_the_defaults(env: dict[str, str]) -> None:
    """The example holds nothing but defaults, whatever the surroundings are."""
    assert parse(EXAMPLE.read_text(), env) == parse(MINIMAL, env)


def test_example_holds_every_key() -> None:
    """No key is missing in the example; one set by the surroundings stands there as a comment."""
    text = EXAMPLE.read_text()
    written = tomllib.loads(re.sub(r"(?m)^# (\w+ = |\[\[hook\]\]$)", r"\1", text))
    written["targets"] = written["targets"]["openai"]
    for several in ("watch", "hook"):
        (written[several],) = written[several]
    assert {name: set(table) for name, table in written.items()} == {
        name: set(keys.keys_of(section)) for name, section in config.SECTIONS.items()
    }


def test_example_explains_every_key() -> None:
    """Each key in the example stands right below a comment of its own."""
    lines = EXAMPLE.read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"(# )?\w+ = ", line):
            assert above.startswith("# "), line
            assert not re.match(r"# \w+ = ", above), line


def test_every_key_read() -> None:
    """Each key reaches its own field, in the unit that the field's name says."""
    c = parse("""
        [daemon]
        state_dir = "/s"
        socket = "/r/x.sock"
        socket_mode = "600"
        log_level = "debug"
        log_format = "json"
        drain_timeout = "1m30s"
        [targets.one]
        base_url = "http://127.0.0.1:8080/v1/"
        api_key_file = "/etc/key"
        organization = "org-1"
        project = "proj_1"
        ca_file = "/etc/ca.pem"
        [targets.two]
        flavour = "azure"
        base_url = "https://x.openai.azure.com/openai"
        api_version = "2025-04-01-preview"
        allow_insecure = true
        [[watch]]
        path = "/a"
        target = "two"
        purpose = "batch"
        purpose_by_folder = false
        recursive = false
        ignore = []
        settle = "500ms"
        rescan = "1h"
        after_upload = "keep"
        expires_after = "30d"
        mime_type = "text/plain; charset=utf-8"
        [[watch]]
        path = "/b"
        target = "one"
        after_upload = "delete"
        [transfer]
        part_size = "8MiB"
        parts_in_flight = 64
        files_in_flight = 256
        bandwidth = "08:00,2MiB/s 18:00,unlimited"
        stall_timeout = "5s"
        [retry]
        attempts = 1
        max_wait = "1s"
        defer_max = "2h"
        [journal]
        keep = "1d"
        [[hook]]
        on = "failed"
        command = ["/bin/mail", "a b", ""]
        timeout = "1m"
        attempts = 3
        [[hook]]
        on = "done"
        command = ["notify"]
    """)
    assert c == Config(
        daemon=config.Daemon(
            state_dir=Path("/s"),
            socket=Path("/r/x.sock"),
            socket_mode=0o600,
            log_level=LogLevel.DEBUG,
            log_format=LogFormat.JSON,
            drain_timeout_s=90,
        ),
        targets=(
            config.Target(
                name="one",
                base_url="http://127.0.0.1:8080/v1",
                api_key_file=Path("/etc/key"),
                organization="org-1",
                project="proj_1",
                ca_file=Path("/etc/ca.pem"),
            ),
            config.Target(
                name="two",
                flavour=Flavour.AZURE,
                base_url="https://x.openai.azure.com/openai",
                api_version="2025-04-01-preview",
                allow_insecure=True,
            ),
        ),
        watches=(
            config.Watch(
                path=Path("/a"),
                target="two",
                purpose="batch",
                purpose_by_folder=False,
                recursive=False,
                ignore=(),
                settle_s=0.5,
                rescan_s=3600,
                after_upload=AfterUpload.KEEP,
                expires_after_s=2_592_000,
                mime_type="text/plain; charset=utf-8",
            ),
            config.Watch(path=Path("/b"), target="one", after_upload=AfterUpload.DELETE),
        ),
        transfer=config.Transfer(
            part_bytes=8 * 2**20,
            parts_in_flight=64,
            files_in_flight=256,
            bandwidth=Timetable(((8 * 3600, 2 * 2**20), (18 * 3600, None))),
            stall_timeout_s=5,
        ),
        retry=config.Retry(attempts=1, max_wait_s=1, defer_max_s=7200),
        journal=config.History(keep_s=86_400),
        hooks=(
            config.Hook(
                on=HookEvent.FAILED, command=("/bin/mail", "a b", ""), timeout_s=60, attempts=3
            ),
            config.Hook(on=HookEvent.DONE, command=("notify",)),
        ),
    )


HOOKED = f"""{MINIMAL}
[[hook]]
on = "done"
command = ["/bin/x", "a'b\\u0022"]
[journal]
keep = "forever"
"""


@pytest.mark.parametrize(
    "text", [MINIMAL, EXAMPLE.read_text(), HOOKED], ids=["minimal", "example", "hooked"]
)
def test_redacted_reads_back(text: str) -> None:
    """The effective configuration is JSON, in the file's own form, and means the same."""
    shown = json.loads(json.dumps(config.redacted(parse(text))))
    assert shown.pop("source") is None
    # For what stands in it, JSON's strings, numbers and arrays are TOML's too.
    lines = []
    for name in ("daemon", "transfer", "retry", "journal"):
        lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in shown[name].items())]
    for name, table in shown["targets"].items():
        lines += [f"[targets.{name}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    for name in ("watch", "hook"):
        for table in shown[name]:
            lines += [f"[[{name}]]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    assert parse("\n".join(lines)) == parse(text)


def test_environment_fills_targets() -> None:
    """What a target does not say is taken from OpenAI's own variables, and the file wins."""
    env = {
        **ENV,
        "OPENAI_BASE_URL": "https://gateway.example/v1",
        "OPENAI_ORG_ID": "org-env",
        "OPENAI_PROJECT_ID": "",
    }
    (target,) = parse(MINIMAL + '[targets.x]\norganization = "org-file"\n', env).targets
    assert target.base_url == "https://gateway.example/v1"
    assert (target.organization, target.project) == ("org-file", "")
    assert parse(MINIMAL, env).targets[0].organization == "org-env"
    empty = {**ENV, "OPENAI_BASE_URL": ""}
    assert parse(MINIMAL, empty).targets[0].base_url == "https://api.openai.com/v1"


def test_environment_is_checked_too() -> None:
    """A bad variable is refused like a bad key, and is named."""
    message, _ = refusal(MINIMAL, {**ENV, "OPENAI_BASE_URL": "gateway.example"})
    assert "targets.openai.base_url (from $OPENAI_BASE_URL): found" in message
    assert '"gateway.example"' in message


def test_home_is_expanded() -> None:
    """A path may begin with the home folder."""
    assert parse('[[watch]]\npath = "~/spool"').watches[0].path == Path("~/spool").expanduser()


def test_the_only_target_is_the_default() -> None:
    """A watch need not name the only target, whatever it is called."""
    assert parse(MINIMAL + "[targets.mine]\n").watches[0].target == "mine"
