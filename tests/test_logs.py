"""Log lines: their forms, and that no value can forge one."""

from __future__ import annotations

import io
import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, TextIO
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd import logs
from uploaderd.config import LogFormat, LogLevel
from uploaderd.config.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-test-0123456789"
LOG = logs.get("uploaderd.test")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("uploaderd")
    before = list(root.handlers), ours.level
    yield
    root.handlers[:] = before[0]
    ours.setLevel(before[1])


def configured(
    level: LogLevel = LogLevel.INFO,
    form: LogFormat = LogFormat.TEXT,
    stream: TextIO | None = None,
    env: dict[str, str] | None = None,
) -> io.StringIO:
    """Send the log to a fresh stream, or to ``stream``, and give that."""
    fresh = io.StringIO()
    logs.configure(level, form, stream=stream or fresh, env=env or {}, secrets=[Secret(KEY)])
    return fresh


def fail(exc: Exception) -> None:
    """Raise, so that there is a traceback."""
    raise exc


def test_text() -> None:
    """For people: the time in UTC, the level, the event, the fields."""
    stream = configured()
    LOG.info("file.done", path="/a/b.txt", bytes=42, again=False, until=None)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO    "
        r"file\.done path=/a/b\.txt bytes=42 again=false until=-\n",
        stream.getvalue(),
    )


def test_json() -> None:
    """For programs: one object a line, numbers as numbers, the head's names kept for the head."""
    stream = configured(form=LogFormat.JSON)
    LOG.warning(
        "file.deferred", path="/a\nb", wait_s=1.5, level="mine", until=None, no=float("nan")
    )
    LOG.info("second")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {
        "level": "warning",
        "logger": "uploaderd.test",
        "event": "file.deferred",
        "path": "/a\nb",
        "wait_s": 1.5,
        "level_": "mine",
        "until": None,
        "no": "nan",
    }
    assert second["event"] == "second"


def test_journald(tmp_path: Path) -> None:
    """Where the stream leads to journald, lines begin with a priority and bear no time."""
    with (tmp_path / "journal").open("w+") as stream:
        stat = (tmp_path / "journal").stat()
        env = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        configured(LogLevel.DEBUG, LogFormat.AUTO, stream, env)
        LOG.debug("a")
        LOG.info("b", n=1)
        LOG.warning("c")
        LOG.error("d")
        stream.seek(0)
        assert stream.read() == "<7>a\n<6>b n=1\n<4>c\n<3>d\n"


@pytest.mark.parametrize("env", [{}, {"JOURNAL_STREAM": "1:2"}, {"JOURNAL_STREAM": ""}])
@pytest.mark.parametrize("is_real", [True, False])
def test_auto_without_journald(tmp_path: Path, env: dict[str, str], is_real: bool) -> None:
    """Where the stream leads elsewhere, or nowhere real, auto is text."""
    with (tmp_path / "log").open("w+") if is_real else io.StringIO() as stream:
        configured(LogLevel.INFO, LogFormat.AUTO, stream, env)
        LOG.info("a")
        stream.seek(0)
        assert re.fullmatch(r"\d{4}-.*Z INFO    a\n", stream.read())


def test_level() -> None:
    """Less grave events are not written; other libraries are heard from warning on."""
    stream = configured(LogLevel.WARNING)
    LOG.info("quiet")
    LOG.warning("loud")
    logging.getLogger("elsewhere").info("quiet too")
    logging.getLogger("elsewhere").warning("100%% of %s", "it")
    events = [line.split(maxsplit=2)[2] for line in stream.getvalue().splitlines()]
    assert events == ["loud", "elsewhere: 100% of it"]


def test_configured_anew() -> None:
    """A later call replaces the earlier one: no line is written twice."""
    old = configured()
    new = configured()
    LOG.info("a")
    assert old.getvalue() == ""
    assert new.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("plain/päth", "plain/päth"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('say "x"', r'"say \"x\""'),
        ("back\\slash", r'"back\\slash"'),
        ("a\nb", r'"a\nb"'),
        ("\x1b[31mred", r'"\x1b[31mred"'),
        ("\u202egnp.exe", r'"\u202egnp.exe"'),
        ("a\u2028b", r'"a\u2028b"'),
        (b"caf\xe9", r'"caf\udce9"'),
        ("caf\udce9", r'"caf\udce9"'),
    ],
)
def test_values_in_text(value: str | bytes, told: str) -> None:
    """What is not plain is quoted, and what is not printable is escaped."""
    stream = configured()
    LOG.info("e", v=value)
    assert stream.getvalue().split(" e v=")[1] == told + "\n"


@given(st.text(st.characters(), max_size=30) | st.binary(max_size=30))
def test_no_value_forges_a_line(value: str | bytes) -> None:
    """Any name, in any form, leaves one line of printable text with the fields that were given."""
    stream = configured()
    LOG.info("e", v=value, after=1)
    text = stream.getvalue()
    assert text.endswith(" after=1\n")
    assert text.removesuffix("\n").isprintable()
    rest = text.split(" e v=", 1)[1].removesuffix(" after=1\n")
    assert re.fullmatch(r'[^ "=\\]+|"([^"\\]|\\.)*"', rest)
    stream = configured(form=LogFormat.JSON)
    LOG.info("e", v=value, after=1)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().isascii()
    told = json.loads(stream.getvalue())
    assert told["after"] == 1
    told["v"].encode("utf-8")


def test_a_library_cannot_forge_a_line() -> None:
    """Another library's message is escaped like a value."""
    stream = configured()
    logging.getLogger("elsewhere").warning("a\n2026-01-01T00:00:00Z INFO  b")
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("form", [LogFormat.TEXT, LogFormat.JSON])
def test_no_secret_is_written(form: LogFormat) -> None:
    """A key is replaced in messages, arguments, fields, exceptions and tracebacks."""
    stream = configured(LogLevel.DEBUG, form)
    foreign = logging.getLogger("elsewhere")
    try:
        fail(ValueError(f"refused: {KEY}"))
    except ValueError:
        LOG.exception("e", header=f"Bearer {KEY}", headers={"k": KEY}, raw=KEY.encode())
        foreign.exception("with %s in %s", KEY, f"{KEY}.")
    text = stream.getvalue()
    assert KEY not in text
    assert text.count("\n") == 2
    assert "Bearer ***" in text
    assert "with *** in ***." in text
    assert text.count("ValueError: refused: ***") == 4


ODD = 'sk/od+d=?&%\\"key'  # a key that changes when it is quoted for a URL or a document


@pytest.mark.parametrize("form", [LogFormat.TEXT, LogFormat.JSON])
@pytest.mark.parametrize("key", [KEY, ODD])
def test_no_secret_gets_out_by_another_way(form: LogFormat, key: str) -> None:
    """Causes, notes and groups of exceptions, URLs, an environment, names of files, repeats."""
    stream = io.StringIO()
    logs.configure(LogLevel.DEBUG, form, stream=stream, env={}, secrets=[Secret(key)])
    inner = OSError(2, f"no such {key}", f"/srv/{key}")
    inner.add_note(f"with {key}")
    group = ExceptionGroup(f"two of {key}", [inner, ValueError(key.encode())])
    try:
        try:
            fail(inner)
        except OSError as cause:
            raise RuntimeError(f"https://host/?k={quote(key, safe='')}") from cause
    except RuntimeError as exc:
        LOG.warning("a.b", exc=exc)
    LOG.error("a.c", exc=group)
    for number in range(3):
        LOG.info(
            "a.d",
            url=f"https://{quote(key)}@host/",
            env={"OPENAI_API_KEY": key},
            path=os.fsencode(f"/spool/{key}\udcff"),
            other=Path(f"/spool/{key}"),
            part=number,
            argv=["--key", key],
        )
    configured()
    text = stream.getvalue()
    assert text.count("***") > 10
    for way in (key, quote(key), quote(key, safe=""), json.dumps(key)[1:-1], repr(key)[1:-1]):
        assert way not in text
        assert way not in text.replace("\\\\", "\\").replace('\\"', '"')


def test_a_key_that_was_replaced_stays_secret() -> None:
    """A reload brings a new key, and a request with the old one is still under way."""
    stream = io.StringIO()
    for key in ("sk-new-1", "sk-new-2"):
        logs.configure(LogLevel.INFO, LogFormat.TEXT, stream=stream, env={}, secrets=[Secret(key)])
    LOG.info("a.b", one="sk-new-1", two="sk-new-2")
    assert "one=*** two=***" in stream.getvalue()


@pytest.mark.parametrize("form", [LogFormat.AUTO, LogFormat.TEXT, LogFormat.JSON])
def test_no_line_is_so_long_that_journald_would_break_it(tmp_path: Path, form: LogFormat) -> None:
    """What comes after a break would be a line of its own, with a priority of its own."""
    with (tmp_path / "journal").open("w+") as stream:
        stat = (tmp_path / "journal").stat()
        env = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        configured(LogLevel.DEBUG, form, stream, env)
        hostile = "<0>\u202e" * 40_000
        LOG.info("a.b", v=hostile, w=hostile, x=hostile.encode())
        LOG.warning("a.c", exc=OSError(hostile))
        stream.seek(0)
        lines = stream.read().encode().splitlines()
    assert len(lines) == 2
    if form is LogFormat.JSON:
        assert [json.loads(line)["event"] for line in lines] == ["a.b", "a.c"]
        assert max(map(len, lines)) < 200_000
    else:
        assert max(map(len, lines)) < 48 * 1024
        assert all("…" in line.decode() for line in lines)


def test_every_line_has_its_own_priority(tmp_path: Path) -> None:
    """sd-daemon(3): a prefix holds for one line, so a message never has two."""
    with (tmp_path / "journal").open("w+") as stream:
        stat = (tmp_path / "journal").stat()
        env = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        configured(LogLevel.DEBUG, LogFormat.AUTO, stream, env)
        logging.getLogger("elsewhere").critical("down\n<7>all is well")
        try:
            fail(ValueError("a\nb\r\n<7>c"))
        except ValueError:
            LOG.exception("a.b", path="x\n<7>y")
        stream.seek(0)
        lines = stream.read().splitlines()
    assert [line[:3] for line in lines] == ["<2>", "<3>"]


def test_traceback_at_debug_only() -> None:
    """An exception is one line; its traceback is there, on the same line, only at debug."""
    for level, is_there in ((LogLevel.INFO, False), (LogLevel.DEBUG, True)):
        stream = configured(level)
        try:
            fail(OSError("two\nlines"))
        except OSError as exc:
            LOG.warning("e", exc=exc)
        assert stream.getvalue().count("\n") == 1
        assert r'error="OSError: two\nlines"' in stream.getvalue()
        assert ("Traceback" in stream.getvalue()) is is_there


def test_a_broken_stream_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """A log that cannot be written is lost without a word on standard error."""
    stream = configured()
    stream.close()
    LOG.info("lost", key=KEY)
    assert capsys.readouterr().err == ""
