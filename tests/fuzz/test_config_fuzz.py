"""A configuration of any bytes is read to values within their ranges, or refused in a sentence."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.kit import effort, is_sentence
from uploaderd.config import SECTIONS, Config, load, redacted
from uploaderd.config.keys import keys_of
from uploaderd.config.secrets import find_key
from uploaderd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLE = (Path(__file__).parents[2] / "config.example.toml").read_text("utf-8")
MARKER = "sk-proj-0123456789MARKERabcdef"  # what no text may show
PLAIN = "plainMARKERvalue"  # the same, without a key's shape
DAY_S = 86_400
MIB = 2**20

# Literals as they stand in a TOML file: of each type, at and beyond the bounds, and broken ones.
ODD = (
    *("0", "1", "-1", "64", "65", "256", "100", "101", "9" * 18, "9" * 30, "9" * 5000),
    *("0x" + "f" * 5000, "0o777", "0b1", "1_000", "+5", "01", "1e3", "1e999", "nan", "-inf"),
    *("true", "false", "True", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "1979-13-99"),
    *(
        '""',
        "''",
        '" "',
        '"\\u0000"',
        '"\\u001b[31m"',
        '"\\u2028"',
        '"\\U0001F4A9"',
        '"\\ud800"',
    ),
    *('"/"', '"//x"', '"/a/../b"', '"~"', '"~nobody-here/x"', '"~/x"', '"rel"', '"/\\u0000"'),
    *('"/' + "x" * 300 + '"', '"/' + "é" * 60 + '"', '"/var/spool/uploaderd/x"', '"/a\\nb"'),
    *(
        '"0s"',
        '"1ms"',
        '"30d"',
        '"30d1ms"',
        '"0.0001s"',
        '"1h30m"',
        '"1m1h"',
        '"999999999999d"',
    ),
    *(
        '"1MiB"',
        '"64MiB"',
        '"65MiB"',
        '"1.5MiB"',
        '"1B"',
        '"999999999999999TB"',
        '"auto"',
        '"-1"',
    ),
    *('"Mon-08:00,2MiB/s 18:00,unlimited"', '"Mon-Fri-08:00,1MB/s"', '"off"'),
    *('"unlimited"', '"10MiB/s"', '"0B/s"', '"08:00,2MiB/s 18:00,unlimited"', '"24:00,1MB/s"'),
    *('","', '"00:00,unlimited"', '"08:00,1MB/s 08:00,2MB/s"', '"0660"', '"0999"', '"777"'),
    *(
        '"https://x"',
        '"http://x"',
        '"http://127.0.0.1:1/v1/"',
        '"https://[::1"',
        '"https://x:0"',
    ),
    *('"https://x:99999"', '"https://x:no"', '"https://:1"', '"ftp://x"', '"https://x?q"'),
    *('"https://a.openai.azure.com"', '"https://a.openai.azure.com/x"', '"azure"', '"openai"'),
    *(
        f'"https://user:{PLAIN}@host/"',
        f'"https://{PLAIN}@host"',
        '"HTTPS://X"',
        '"https://x\\\\y"',
    ),
    *(f'"{MARKER}"', f'["{MARKER}"]', f'{{ key = "{MARKER}" }}', '"move"', '"keep"', '"mvoe"'),
    *(
        "[]",
        '["*"]',
        '["["]',
        '["[z-a]"]',
        '["a/b"]',
        "[1]",
        '[""]',
        "[[]]",
        '["' + "*a" * 99 + '"]',
        *(
            '["/bin/true"]',
            '["x", ""]',
            '["./x"]',
            '["x", "\\u0000"]',
            '["x", 1]',
            '["' + "w" * 5000 + '"]',
        ),
        "[" + '"w", ' * 65 + "]",
        *('"forever"', '"90d"', '"3650d"', '"3651d"', '"done"', '"failed"'),
    ),
    *(
        "{}",
        "{ a = 1 }",
        "[" * 3000,
        "[" * 3000 + "]" * 3000,
        '"unclosed',
        "'''x'''",
        '"""\n"""',
    ),
    *(
        '"batch"',
        '"a b"',
        '"' + "p" * 65 + '"',
        '"application/pdf"',
        '"text/plain; charset=utf-8"',
    ),
    *('"é/ü"', '"a/b; c"', '"debug"', '"json"', '"2025-04-01-preview"', '"x y"', "", "=", "#"),
)
LITERALS = st.sampled_from(ODD)
TEXTS = st.text(max_size=30).map(lambda text: json.dumps(text, ensure_ascii=False))
KEYS = st.sampled_from(
    [
        *sorted(set(re.findall(r"(?m)^(?:# )?(\w+) = ", EXAMPLE))),
        *("api_key", "key", "pathh", "Path", '""', '"a.b"', '"\\n"', "a.b.c", f'"{MARKER}"'),
        *("x" * 2000, ".".join("x" * 300), "é", "1", "path.x"),
    ]
)
HEADERS = st.sampled_from(
    [
        *("[daemon]", "[targets.openai]", "[[watch]]", "[transfer]", "[retry]", "[targets]"),
        *("[journal]", "[[hook]]", "[hook]", '[[hook]]\non = "done"\ncommand = ["x"]'),
        *("[watch]", "[[daemon]]", "[targets.other]", '[targets."a b"]', '[targets.""]', "[x]"),
        *(f'[targets."{MARKER}"]', '[targets."é"]', "[targets." + "n" * 65 + "]", "[", "[]", "[[x"),
    ]
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Sections and keys, as a rule known ones, with any literals."""
    lines = []
    for header in draw(st.lists(HEADERS, max_size=6)):
        lines.append(header)
        pairs = st.lists(st.tuples(KEYS, LITERALS | TEXTS), max_size=4)
        lines += [f"{key} = {literal}" for key, literal in draw(pairs)]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


@st.composite
def examples(draw: st.DrawFn) -> bytes:
    """The example with up to four lines spoilt, and perhaps a few bytes."""
    lines = EXAMPLE.splitlines()
    keys = [n for n, line in enumerate(lines) if re.match(r"(# )?\w+ = ", line)]
    for _ in range(draw(st.integers(1, 4))):
        n = draw(st.sampled_from(keys))
        name, _, value = lines[n].removeprefix("# ").partition(" = ")
        match draw(st.sampled_from(["value", "value", "value", "key", "twice", "gone", "header"])):
            case "value":
                lines[n] = f"{name} = {draw(LITERALS | TEXTS)}"
            case "key":
                lines[n] = f"{draw(KEYS)} = {value}"
            case "twice":
                lines[n] = f"{name} = {value}\n{name} = {value}"
            case "gone":
                lines[n] = ""
            case _:
                lines[n] = draw(HEADERS)
    raw = "\n".join(lines).encode("utf-8", "surrogatepass")
    at = draw(st.integers(0, len(raw)))
    more = draw(st.sampled_from([b"", b"", b"", b"\0", b"\xff", b"\r", b"\x1b", b"\xed\xa0\x80"]))
    return raw[:at] + more + raw[at:]


ENVIRONMENTS = st.fixed_dictionaries(
    {"OPENAI_API_KEY": st.just(MARKER)},
    optional={
        name: st.sampled_from(
            ["", "x", "/x", "https://x", "http://x", "a b", "/" + "y" * 200, "\udcff", "/\udcff:/b"]
        )
        for name in (
            *("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"),
            *("STATE_DIRECTORY", "RUNTIME_DIRECTORY"),
        )
    },
)


def holds(file: Path, content: bytes, env: Mapping[str, str]) -> Config | None:
    """Read a configuration; assert that it is within its ranges, or that the refusal is good."""
    file.write_bytes(content)
    try:
        found = load(file, env)
    except ConfigError as error:
        refused(error, file, content)
        return None
    ranges(found)
    frozen(found)
    again = file.with_name("again.toml")
    again.write_text(as_toml(redacted(found)), "utf-8")
    second = load(again, env)
    assert dataclasses.replace(second, source=found.source) == found, "it can be written again"
    return found


def refused(error: ConfigError, file: Path, content: bytes) -> None:
    """Assert that a refusal names the file, the key, what was found and what is allowed."""
    text = str(error)
    assert is_sentence(text, limit=1500), text[:3000]
    assert error.hint == "" or is_sentence(error.hint, limit=500), error.hint[:3000]
    assert text.startswith(f"{file}: "), text
    said = text.removeprefix(f"{file}: ")
    pattern = r"this is not TOML: .+|line \d+ is not UTF-8|\S.*: found .+; allowed: .+"
    assert re.fullmatch(pattern, said), said
    for secret in (MARKER, PLAIN):
        assert secret not in text + error.hint, (text, error.hint, content)


def ranges(found: Config) -> None:
    """Assert what the contract promises of each value."""
    daemon, transfer, retry = found.daemon, found.transfer, found.retry
    for path in (daemon.state_dir, daemon.socket, *(watch.path for watch in found.watches)):
        assert path.is_absolute()
        assert ".." not in path.parts
        assert "\0" not in str(path)
    assert len(str(daemon.socket).encode("utf-8", "surrogateescape")) <= 107
    assert 0 <= daemon.socket_mode <= 0o777
    assert 0 <= daemon.drain_timeout_s <= 30 * DAY_S
    assert transfer.part_bytes is None or MIB <= transfer.part_bytes <= 64 * MIB
    assert transfer.parts_in_flight is None or 1 <= transfer.parts_in_flight <= 64
    assert 1 <= transfer.files_in_flight <= 256
    assert 0.001 <= transfer.stall_timeout_s <= 30 * DAY_S
    for second in (0, 1, DAY_S - 1, 3 * DAY_S, 7 * DAY_S - 1):
        rate = transfer.bandwidth.rate_at(second)
        assert rate is None or rate >= 1
        change_s = transfer.bandwidth.change_in_s(second)
        assert change_s is None or 0 < change_s <= transfer.bandwidth.period_s
    assert 1 <= retry.attempts <= 100
    assert 0.001 <= retry.max_wait_s <= 30 * DAY_S
    assert 0.001 <= retry.defer_max_s <= 30 * DAY_S
    names = {target.name for target in found.targets}
    assert len(names) == len(found.targets) >= 1
    for target in found.targets:
        assert re.fullmatch(r"https?://[!-~]+", target.base_url, re.IGNORECASE)
        assert "@" not in target.base_url
        assert (
            find_key(dataclasses.replace(target, api_key_file=None), {"OPENAI_API_KEY": "k"})
            is not None
        )
    assert len({watch.path for watch in found.watches}) == len(found.watches) >= 1
    for watch in found.watches:
        assert watch.target in names
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", watch.purpose)
        assert 0 <= watch.settle_s <= 30 * DAY_S
        assert 0.001 <= watch.rescan_s <= 30 * DAY_S
        assert watch.expires_after_s is None or 3600 <= watch.expires_after_s <= 30 * DAY_S
        assert watch.mime_type.isascii()
        assert all(each and "/" not in each for each in watch.ignore)
    keep_s = found.journal.keep_s
    assert keep_s is None or DAY_S <= keep_s <= 3650 * DAY_S
    assert len({(hook.on, hook.command) for hook in found.hooks}) == len(found.hooks) <= 16
    for hook in found.hooks:
        assert 0.1 <= hook.timeout_s <= DAY_S
        assert 1 <= hook.attempts <= 100
        assert hook.command[0].startswith("/") or "/" not in hook.command[0]
        assert all("\0" not in word for word in hook.command)


def frozen(found: Config) -> None:
    """Assert that nothing can be set afterwards."""
    values: list[Any] = [found, found.daemon, found.transfer, found.retry, found.journal]
    for value in (*values, *found.targets, *found.watches, *found.hooks):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, None)
    hash(found)


def as_toml(effective: dict[str, object]) -> str:
    """Write what ``redacted`` gives, in the file's own form."""
    lines: list[str] = []
    for name, section in effective.items():
        tables: list[tuple[str, dict[str, object]]] = []
        if isinstance(section, list):
            tables = [(f"[[{name}]]", table) for table in section]
        elif isinstance(section, dict) and name == "targets":
            tables = [(f"[targets.{_quoted(key)}]", table) for key, table in section.items()]
        elif isinstance(section, dict):
            tables = [(f"[{name}]", section)]
        for header, table in tables:
            lines += [header, *(f"{key} = {_quoted(value)}" for key, value in table.items())]
    return "\n".join(lines)


def _quoted(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f").encode("utf-8", "replace").decode()


@given(st.binary(max_size=300))
@effort(150)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Bytes without any sense are refused."""
    holds(_folder(tmp_path_factory) / "c.toml", content, {"OPENAI_API_KEY": MARKER})


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_with_every_odd_value(tmp_path: Path, section: str) -> None:
    """One key at a time holds each literal, whatever its type and its size are."""
    header = {
        "watch": "[[watch]]\npath = '/w'",
        "targets": "[targets.openai]",
        "hook": "[[hook]]",
    }
    others = {"on": 'command = ["x"]', "command": 'on = "done"'}
    watch = "" if section == "watch" else "\n[[watch]]\npath = '/w'\n"
    for key in keys_of(SECTIONS[section]):
        for literal in ODD:
            start = "[[watch]]" if key == "path" else header.get(section, f"[{section}]")
            if section == "hook":
                more = others.get(key, "\n".join(others.values()))
                start += f"\n{more}"
            content = f"{start}\n{key} = {literal}\n{watch}".encode()
            holds(tmp_path / "c.toml", content, {"OPENAI_API_KEY": MARKER})


@given(documents(), ENVIRONMENTS)
@example(b"[[watch]]\npath = '/x'\nmime_type = '\xc3\xa9/\xc3\xbc'\n", {})
@example(b"[" + b"x" * 100_000 + b"]\n" + b"[" + b"x" * 100_000 + b"]\n", {})
@example(b"x" * 100_000 + b" = 1", {})
@example(b"daemon." + b"x." * 5_000 + b"x = 1", {})
@effort(200)
def test_any_document(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, env: dict[str, str]
) -> None:
    """Sections and keys with any values are read or refused."""
    holds(_folder(tmp_path_factory) / "c.toml", content, env)


@given(examples(), ENVIRONMENTS)
@effort(200)
def test_a_spoilt_example(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, env: dict[str, str]
) -> None:
    """The example with a few things wrong is read or refused."""
    holds(_folder(tmp_path_factory) / "c.toml", content, env)


_FOLDERS: list[Path] = []


def _folder(factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples."""
    if not _FOLDERS:
        _FOLDERS.append(factory.mktemp("fuzz"))
    return _FOLDERS[0]


# --- what was found -------------------------------------------------------------------------------


def test_a_file_without_an_end_is_refused() -> None:
    """A device named by mistake does not eat the memory."""
    with pytest.raises(ConfigError, match="too long for a configuration"):
        load(Path("/dev/zero"), {})


def test_an_overlap_among_thousands_of_watches_is_found(tmp_path: Path) -> None:
    """Each is compared with its neighbour alone, in the order of their paths."""
    file = tmp_path / "c.toml"
    many = "".join(f'[[watch]]\npath = "/spool/{n}"\n' for n in range(800))
    file.write_text(many)
    env = {"STATE_DIRECTORY": "/s", "RUNTIME_DIRECTORY": "/r"}
    assert len(load(file, env).watches) == 800
    file.write_text(many + '[[watch]]\npath = "/spool/17/x"\n')
    with pytest.raises(ConfigError, match=r"watch\[800\]\.path: .* around watch\[17\]'s"):
        load(file, env)


def test_of_many_targets_a_few_are_listed(tmp_path: Path) -> None:
    """A refusal stays a sentence, however many names there are."""
    file = tmp_path / "c.toml"
    tables = "".join(f"[targets.t{n}]\n" for n in range(1_000))
    file.write_text(tables + '[[watch]]\npath = "/x"\ntarget = "t"\n')
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    refused(caught.value, file, b"")
    assert str(caught.value).endswith("and 988 more")
