"""How a bad file is refused: in which words, and with nothing secret in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from uploaderd import config
from uploaderd.config import keys
from uploaderd.errors import ConfigError, Exit

if TYPE_CHECKING:
    from uploaderd.config import Config

ENV = {"STATE_DIRECTORY": "/var/lib/uploaderd", "RUNTIME_DIRECTORY": "/run/uploaderd"}
MINIMAL = '[[watch]]\npath = "/var/spool/uploaderd"\n'
HOOK = '[[hook]]\non = "done"\ncommand = ["x"]\n'


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
    ("text", "path", "found", "allowed"),
    [
        ("", "watch", "no watch", "at least one [[watch]]"),
        ("watch = []", "watch", "no watch", "at least one [[watch]]"),
        ("watch = 3", "watch", "the integer 3", "an array of tables"),
        ('watch = ["/a"]', "watch[0]", 'the string "/a"', "a table"),
        ("[[watch]]", "watch[0].path", "nothing", "an absolute path"),
        ("[[watch]]\npath = 3", "watch[0].path", "the integer 3", "an absolute path"),
        ('[[watch]]\npath = ""', "watch[0].path", "an empty string", "an absolute path"),
        ('[[watch]]\npath = "/a/../b"', "watch[0].path", '"/a/../b"', "an absolute path"),
        ('[[watch]]\npath = "/a\\u0000b"', "watch[0].path", '"/a\\u0000b"', "an absolute path"),
        (MINIMAL + 'purpose = ""', "watch[0].purpose", "an empty string", "a purpose"),
        (MINIMAL + "purpose = 1979-05-27", "watch[0].purpose", "a date or time", "a purpose"),
        (MINIMAL + "recursive = 1", "watch[0].recursive", "the integer 1", "true or false"),
        (MINIMAL + 'recursive = "no"', "watch[0].recursive", 'string "no"', "true or false"),
        (MINIMAL + 'ignore = "*.tmp"', "watch[0].ignore", 'string "*.tmp"', "an array"),
        (MINIMAL + 'ignore = ["a/b"]', "watch[0].ignore", "an array", "an array of names"),
        (MINIMAL + "ignore = [1]", "watch[0].ignore", "an array", "an array of names"),
        (MINIMAL + 'ignore = [""]', "watch[0].ignore", "an array", "an array of names"),
        (MINIMAL + "settle = 2", "watch[0].settle", "the integer 2", "a duration"),
        (MINIMAL + 'settle = "10"', "watch[0].settle", 'the string "10"', "a duration"),
        (MINIMAL + 'rescan = "0s"', "watch[0].rescan", 'the string "0s"', "a duration"),
        (MINIMAL + 'settle = "31d"', "watch[0].settle", 'the string "31d"', "a duration"),
        (MINIMAL + 'rescan = "31d"', "watch[0].rescan", 'the string "31d"', "a duration"),
        (MINIMAL + 'after_upload = "mvoe"', "watch[0].after_upload", '"mvoe"', '"move", "delete"'),
        (MINIMAL + 'expires_after = "59m"', "watch[0].expires_after", '"59m"', 'from "1h"'),
        (MINIMAL + 'expires_after = "31d"', "watch[0].expires_after", '"31d"', 'to "30d"'),
        (MINIMAL + 'expires_after = "1h5ms"', "watch[0].expires_after", '"1h5ms"', "whole seconds"),
        (MINIMAL + 'mime_type = "pdf"', "watch[0].mime_type", '"pdf"', "application/pdf"),
        (MINIMAL + 'target = "no"', "watch[0].target", 'the string "no"', '"openai"'),
        ('[daemon]\nsocket_mode = "0999"', "daemon.socket_mode", '"0999"', "octal"),
        ("[daemon]\nsocket_mode = 660", "daemon.socket_mode", "the integer 660", "octal"),
        ('[daemon]\nlog_level = "INFO"', "daemon.log_level", '"INFO"', '"info"'),
        ("[daemon]\nlog_format = nan", "daemon.log_format", "the number nan", '"auto"'),
        ('[daemon]\nsocket = "run/x"', "daemon.socket", '"run/x"', "an absolute path"),
        ("daemon = []", "daemon", "an array", "a table"),
        ('transfer = "fast"', "transfer", 'the string "fast"', "a table"),
        ('[transfer]\npart_size = "512KiB"', "transfer.part_size", '"512KiB"', "1MiB"),
        ('[transfer]\npart_size = "65MiB"', "transfer.part_size", '"65MiB"', "64MiB"),
        ("[transfer]\npart_size = 8388608", "transfer.part_size", "integer 8388608", "auto"),
        ('[journal]\nkeep = ""', "journal.keep", "an empty string", '"forever", or a duration'),
        ('[journal]\nkeep = "23h"', "journal.keep", '"23h"', 'from "1d"'),
        ("[journal]\nkeep = false", "journal.keep", "false", '"forever"'),
        ("hook = {}", "hook", "a table", "an array of tables"),
        ("[[hook]]", "hook[0].on", "nothing", '"done", "failed"'),
        ('[[hook]]\non = "done"', "hook[0].command", "nothing", "an array of a program"),
        (f'{HOOK}\n[[hook]]\non = "held"', "hook[1].command", "nothing", "an array of a program"),
        ('[[hook]]\non = "held"\ncommand = ["x"]', "hook[0].on", '"held"', '"done", "failed"'),
        ('[[hook]]\non = "done"\ncommand = "x y"', "hook[0].command", '"x y"', "an array"),
        ('[[hook]]\non = "done"\ncommand = []', "hook[0].command", "an array", "an array"),
        ('[[hook]]\non = "done"\ncommand = ["./x"]', "hook[0].command", "an array", "an array"),
        ('[[hook]]\non = "done"\ncommand = [1]', "hook[0].command", "an array", "an array"),
        (f'{HOOK}timeout = "0s"', "hook[0].timeout", '"0s"', 'from "100ms"'),
        (f"{HOOK}attempts = 0", "hook[0].attempts", "integer 0", "1 to 100"),
        (HOOK + HOOK, "hook[1].command", "the command of hook[0]", "another command"),
        (HOOK * 17, "hook", "17 hooks", "at most 16"),
        ("[transfer]\nparts_in_flight = 0", "transfer.parts_in_flight", "integer 0", "1 to 64"),
        ("[transfer]\nparts_in_flight = 65", "transfer.parts_in_flight", "65", "1 to 64"),
        ("[transfer]\nparts_in_flight = true", "transfer.parts_in_flight", "true", "1 to 64"),
        ("[transfer]\nparts_in_flight = 4.0", "transfer.parts_in_flight", "number 4", "1 to 64"),
        ('[transfer]\nparts_in_flight = "4"', "transfer.parts_in_flight", '"4"', '"auto", or an'),
        ("[transfer]\nfiles_in_flight = 257", "transfer.files_in_flight", "257", "1 to 256"),
        ('[transfer]\nbandwidth = "10MiB"', "transfer.bandwidth", '"10MiB"', "10MiB/s"),
        ("[retry]\nattempts = 0", "retry.attempts", "the integer 0", "from 1"),
        (f"[retry]\nattempts = 0x{'f' * 9000}", "retry.attempts", "a huge integer", "from 1"),
        ('[retry]\nmax_wait = "-1s"', "retry.max_wait", '"-1s"', "a duration"),
        ("targets = 1", "targets", "the integer 1", "a table"),
        ("[targets]\nopenai = 1", "targets.openai", "the integer 1", "a table"),
        ('[targets."a b"]', 'targets."a b"', "this name", "1 to 64 visible characters"),
        ('[targets.x]\nflavour = "azur"', "targets.x.flavour", '"azur"', '"openai", "azure"'),
        ('[targets.x]\nbase_url = "ftp://h/v1"', "targets.x.base_url", '"ftp://h', "http or https"),
        ('[targets.x]\nbase_url = "https://"', "targets.x.base_url", '"https://"', "http or https"),
        ('[targets.x]\nbase_url = "https://h:0/"', "targets.x.base_url", "h:0", "http or https"),
        ('[targets.x]\nbase_url = "https://h:99999/"', "targets.x.base_url", "h:99", "http or"),
        ('[targets.x]\nbase_url = "https://[::1/"', "targets.x.base_url", "[::1", "http or https"),
        (
            '[targets.x]\nbase_url = "https://h/v1?a=b"',
            "targets.x.base_url",
            "a=b",
            "without query",
        ),
        ('[targets.x]\nbase_url = "https://h/v1#a"', "targets.x.base_url", "v1#a", "without query"),
        ("[targets.x]\nbase_url = 'https://h\\x/'", "targets.x.base_url", r"h\\x", "http or https"),
        ('[targets."a\u202eb"]', r'targets."a\u202eb"', "this name", "visible characters"),
        (MINIMAL + 'purpose = "\u202ex"', "watch[0].purpose", r'"\u202ex"', "a purpose"),
        ('[targets.x]\nbase_url = "https://h/ v1"', "targets.x.base_url", "h/ v1", "http or https"),
        ('[targets.x]\norganization = "a\\nb"', "targets.x.organization", '"a\\nb"', "visible"),
        ('[targets.x]\napi_version = "1"', "targets.x.api_version", '"1"', 'unless flavour is "az'),
        ('[targets.x]\nca_file = "ca.pem"', "targets.x.ca_file", '"ca.pem"', "empty, or an absol"),
        ('[targets.x]\nflavour = "azure"', "targets.x.base_url", "api.openai.com", "azure"),
        (
            '[targets.x]\nflavour = "azure"\nbase_url = "https://x.openai.azure.com/v1"',
            "targets.x.base_url",
            "x.openai.azure.com/v1",
            "the endpoint",
        ),
    ],
)
def test_refusal_names_everything(text: str, path: str, found: str, allowed: str) -> None:
    """A refusal names the file, the key's full path, what was found and what is allowed."""
    message, _ = refusal(text if "watch" in text or not text else text + "\n" + MINIMAL)
    head, _, rest = message.partition(": found ")
    assert head == f"c.toml: {path}"
    told_found, _, told_allowed = rest.partition("; allowed: ")
    assert found in told_found
    assert allowed in told_allowed


@pytest.mark.parametrize(
    ("text", "path", "hint"),
    [
        ("[target.openai]", "target", "did you mean targets?"),
        ("[[watches]]", "watches", "did you mean watch?"),
        ("[daemon]\nlog_levle = 1", "daemon.log_levle", "did you mean log_level?"),
        ("[targets.x]\nflavor = 1", "targets.x.flavor", "did you mean flavour?"),
        (MINIMAL + "prupose = 1", "watch[0].prupose", "did you mean purpose?"),
        ("[daemon]\nattempts = 1", "daemon.attempts", "attempts belongs into [retry]"),
        ("ignore = []", "ignore", "ignore belongs into [[watch]]"),
        ('[transfer]\n"a.b" = 1', 'transfer."a.b"', ""),
    ],
)
def test_unknown_key(text: str, path: str, hint: str) -> None:
    """An unknown key is refused with the nearest known one or the section it belongs into."""
    message, told = refusal(text)
    assert message.startswith(f"c.toml: {path}: found an unknown key; allowed: ")
    assert told == hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('[[watch]]\npath = "spool"', "begin with /"),
        ('[watch]\npath = "/a"', "[[watch]]"),
        ("[daemon]\nsocket_mode = 660\n" + MINIMAL, "put it in quotes"),
        (MINIMAL + 'after_upload = "moved"', 'did you mean "move"?'),
        (MINIMAL + 'settle = "10"', "a number and a unit"),
        (MINIMAL + "[targets.a]\n[targets.b]", "each watch names one"),
        (MINIMAL + 'target = "on"\n[targets.one]\n[targets.two]', 'did you mean "one"?'),
        (MINIMAL + '[targets.a]\nbase_url = "https://u:p@h/"', "does not belong"),
    ],
)
def test_hint(text: str, hint: str) -> None:
    """A refusal says what to do where that is not plain from what is allowed."""
    assert hint in refusal(text)[1]


@pytest.mark.parametrize(("written", "held"), [('"auto"', None), ("1", 1), ("64", 64)])
def test_parts_in_flight_may_be_left_to_the_daemon(written: str, held: int | None) -> None:
    """And what is in effect is shown as it would be written."""
    transfer = parse(f"{MINIMAL}[transfer]\nparts_in_flight = {written}").transfer
    assert transfer.parts_in_flight == held
    assert keys.show_section(transfer)["parts_in_flight"] == ("auto" if held is None else held)


def test_no_key_is_ever_shown() -> None:
    """A key or password that strayed into the file is in no message and no hint."""
    stray = "sk-proj-abcdef0123456789"
    for text in [
        f'{MINIMAL}[targets.x]\napi_key = "{stray}"',
        f'{MINIMAL}[targets.x]\napi_key_file = "{stray}"',
        f'{MINIMAL}[targets.x]\nflavour = "{stray}"',
        f'{MINIMAL}[targets.x]\n"{stray}" = 1',
        f'{MINIMAL}[targets.x]\nbase_url = "https://me:{stray}@h/v1"',
        f'{MINIMAL}ignore = ["{stray}/"]',
        f"{MINIMAL}purpose = {stray}",
        f"{MINIMAL}{stray} = 1\n{stray} = 2",
        f'{MINIMAL}[targets.x]\nbase_url = "https://h:{stray}/v1"',
    ]:
        message, hint = refusal(text)
        assert "abcdef" not in message + hint
    assert "api_key_file" in refusal(f'{MINIMAL}[targets.x]\napi_key = "{stray}"')[1]
    message, hint = refusal(f'{MINIMAL}[targets.x]\nbase_url = "https://me:hush@h/v1"')
    assert "hush" not in message + hint


def test_syntax_error_names_the_place() -> None:
    """What is not TOML is refused with its line and column."""
    message, hint = refusal("[daemon]\nlog_level = info\n")
    assert message.startswith("c.toml: this is not TOML: ")
    assert "line 2, column" in message
    assert "quotes" in hint


@pytest.mark.parametrize("text", ["x = " + "[" * 100_000, "x = " + "9" * 5000])
def test_hostile_toml(text: str) -> None:
    """Text that makes the TOML parser give up is refused like any other."""
    assert refusal(text)[0].startswith("c.toml: this is not TOML: ")


KEYS = [key for section in config.SECTIONS.values() for key in keys.keys_of(section)]
VALUES = st.one_of(
    st.text(max_size=12).map(json.dumps),
    st.sampled_from(['"2s"', '"8MiB"', '"/a"', '"~x/b"', '"https://[h"', '"0660"', '""', '"::"']),
    st.sampled_from(["true", "nan", "-inf", "1979-05-27T07:32:00Z", "07:32:00", "[]", "{}"]),
    st.integers(-(10**20), 10**20).map(str),
    st.lists(st.text(max_size=4).map(json.dumps), max_size=3).map(lambda v: f"[{', '.join(v)}]"),
)
HEADS = st.sampled_from(
    ["[daemon]", "[targets.a]", "[targets]", '[targets." "]', "[[watch]]", "[watch]", "[transfer]"]
)
LINES = st.one_of(HEADS, st.builds("{} = {}".format, st.sampled_from(KEYS), VALUES), st.just("x"))


@given(
    st.text()
    | st.builds("{}{}".format, st.sampled_from(["", MINIMAL]), st.lists(LINES).map("\n".join))
)
@example('[[watch]]\npath = "/a"\n[targets.a]\nbase_url = "http://[v1.x]"')
@example('[[watch]]\npath = "/a"\n[targets.a]\nbase_url = "http://[fe80::1%lo]/"')
def test_any_text(text: str) -> None:
    """Any text gives a configuration or a refusal of one printable line that names the file."""
    try:
        c = parse(text)
    except ConfigError as exc:
        refused = exc
    else:
        assert parse(text) == c
        json.dumps(config.redacted(c))
        return
    assert str(refused).startswith("c.toml: ")
    assert (str(refused) + refused.hint).isprintable()
