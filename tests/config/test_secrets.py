"""API keys: where they are found, what is refused, and that they are never shown."""

from __future__ import annotations

import copy
import logging
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.config import Flavour, Target, secrets
from uploaderd.config.secrets import Redactor, Secret
from uploaderd.errors import ConfigError

KEY = "sk-test-0123456789"
OPENAI = Target(name="openai")
AZURE = Target(name="az", flavour=Flavour.AZURE, base_url="https://x.openai.azure.com/openai/v1")


def with_file(file: Path) -> Target:
    """A target whose key is in ``file``."""
    return Target(name="filed", api_key_file=file)


def credentials(folder: Path, content: str) -> dict[str, str]:
    """The environment of a unit that systemd gave the credential to."""
    (folder / "openai-api-key").write_text(content)
    return {"CREDENTIALS_DIRECTORY": str(folder)}


def refusal(target: Target, env: dict[str, str]) -> ConfigError:
    """The error that looking for the key ends with."""
    with pytest.raises(ConfigError) as caught:
        secrets.find_key(target, env)
    return caught.value


def test_a_secret_is_not_shown() -> None:
    """Whatever way a secret is written, three stars are written."""
    secret = Secret(KEY)
    assert repr(secret) == str(secret) == f"{secret}" == "***"
    assert f"{secret:>5}" == "  ***"
    assert f"{[secret]} %s" % secret == "[***] ***"
    assert KEY.encode() not in pickle.dumps(secret)
    assert pickle.loads(pickle.dumps(secret)).reveal() == "***"  # noqa: S301 - our own bytes
    assert not hasattr(secret, "__dict__")
    assert secret.reveal() == KEY


def test_a_secret_is_a_value() -> None:
    """Secrets compare by what they hold, and a copy still reveals it."""
    secret = Secret(KEY)
    assert secret == Secret(KEY)
    assert hash(secret) == hash(Secret(KEY))
    assert secret != Secret("other")
    assert secret != KEY
    assert copy.copy(secret).reveal() == copy.deepcopy([secret])[0].reveal() == KEY


def test_order(tmp_path: Path) -> None:
    """The target's file wins over systemd's credential, and that over the environment."""
    file = tmp_path / "key"
    file.write_text("from-file\n")
    env = {**credentials(tmp_path, "from-systemd\n"), "OPENAI_API_KEY": "from-env"}
    assert secrets.find_key(with_file(file), env).reveal() == "from-file"
    assert secrets.find_key(OPENAI, env).reveal() == "from-systemd"
    (tmp_path / "openai-api-key").unlink()
    assert secrets.find_key(OPENAI, env).reveal() == "from-env"


def test_azures_variable() -> None:
    """For Azure its own variable counts after OpenAI's, and for nobody else."""
    env = {"AZURE_OPENAI_API_KEY": "azure", "OPENAI_API_KEY": "openai"}
    assert secrets.find_key(AZURE, env).reveal() == "openai"
    del env["OPENAI_API_KEY"]
    assert secrets.find_key(AZURE, env).reveal() == "azure"
    assert "no API key" in str(refusal(OPENAI, env))


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_one_line_break_is_taken_off(tmp_path: Path, ending: str) -> None:
    """The line break that editors leave at a file's end is no part of the key."""
    file = tmp_path / "key"
    file.write_bytes(KEY.encode() + ending.encode())
    assert secrets.find_key(with_file(file), {}).reveal() == KEY


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (KEY.encode() + b"\n\n", "a line break"),
        (KEY.encode() + b"\r\nsecond", "a line break"),
        (b" " + KEY.encode(), "a space"),
        (KEY.encode() + b"\0", "another character"),
        (KEY.encode() + "ä".encode(), "another character"),
        (KEY.encode() + b"\xff", "another character"),
        (b"\x1b[0m" + KEY.encode(), "another character"),
        (KEY.encode() * 1000, "too long"),
    ],
)
def test_what_cannot_be_a_key(tmp_path: Path, content: bytes, why: str) -> None:
    """What cannot travel in a header is refused, with its place named and itself not shown."""
    file = tmp_path / "key"
    file.write_bytes(content)
    error: BaseException | None = refusal(with_file(file), {"OPENAI_API_KEY": "other"})
    assert str(error).startswith(f"{file}: ")
    assert why in str(error)
    while error is not None:
        assert KEY not in repr(error) + str(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("value", ["", "a b", "a\n", "\u20ac"])
def test_a_bad_variable(value: str) -> None:
    """A variable that is set and cannot be a key is refused and named, not passed over."""
    error = refusal(AZURE, {"OPENAI_API_KEY": value, "AZURE_OPENAI_API_KEY": KEY})
    assert str(error).startswith("$OPENAI_API_KEY: ")


def test_a_missing_file_is_not_passed_over(tmp_path: Path) -> None:
    """A configured file that is missing is refused, even if another key is at hand."""
    error = refusal(with_file(tmp_path / "none"), {"OPENAI_API_KEY": KEY})
    assert str(tmp_path / "none") in str(error)
    assert "No such file" in str(error)


def test_an_empty_credential_is_none(tmp_path: Path) -> None:
    """A unit gives an empty one where its key file is missing: the next place counts."""
    env = credentials(tmp_path, "\n")
    assert "target openai has no API key" in str(refusal(OPENAI, env))
    assert secrets.find_key(OPENAI, env | {"OPENAI_API_KEY": KEY}).reveal() == KEY


def test_an_unreadable_credential_is_not_passed_over(tmp_path: Path) -> None:
    """A credential that is there and cannot be read is named."""
    (tmp_path / "openai-api-key").mkdir()
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path), "OPENAI_API_KEY": KEY}
    assert str(tmp_path / "openai-api-key") in str(refusal(OPENAI, env))


def test_an_endless_file() -> None:
    """A file without an end is given up, not read into memory."""
    assert "too long" in str(refusal(with_file(Path("/dev/zero")), {}))


def test_none_anywhere() -> None:
    """Without any key the hint names the ways to give one."""
    error = refusal(OPENAI, {})
    assert "target openai has no API key" in str(error)
    for way in ("targets.openai.api_key_file", "LoadCredential=", "$OPENAI_API_KEY"):
        assert way in error.hint
    assert "AZURE" not in error.hint
    assert "$AZURE_OPENAI_API_KEY" in refusal(AZURE, {}).hint


@pytest.mark.parametrize(
    ("mode", "count"), [(0o600, 0), (0o640, 0), (0o400, 0), (0o644, 1), (0o604, 1), (0o602, 1)]
)
def test_key_warnings(tmp_path: Path, mode: int, count: int) -> None:
    """A key file that every user can get at is warned of, wherever the key comes from."""
    env = credentials(tmp_path, KEY)
    file = tmp_path / "openai-api-key"
    file.chmod(mode)
    for warnings in (secrets.key_warnings(with_file(file), {}), secrets.key_warnings(OPENAI, env)):
        assert len(warnings) == count
        assert all(str(file) in warning and KEY not in warning for warning in warnings)


def test_key_warnings_without_a_file(tmp_path: Path) -> None:
    """Where there is no key file there is nothing to warn of."""
    assert secrets.key_warnings(OPENAI, {"OPENAI_API_KEY": KEY}) == ()
    assert secrets.key_warnings(OPENAI, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == ()


def record(message: str, *args: object, **fields: object) -> logging.LogRecord:
    """A log record as a library, or with fields as this project, makes it."""
    made = logging.LogRecord("x", logging.INFO, "x.py", 1, message, args, None)
    if fields:
        made.fields = fields
    return made


def test_redactor_cleans_message_arguments_and_fields() -> None:
    """A secret is taken out wherever a record carries it, and the record is kept."""
    redactor = Redactor([Secret(KEY), Secret("other")])
    made = record(f"%s and {KEY}", {"Authorization": f"Bearer {KEY}"}, a=f"<{KEY}>", b=4, c=KEY)
    made.fields["d"] = b"\xffother"  # type: ignore[attr-defined]
    assert redactor.filter(made) is True
    assert made.getMessage() == "{'Authorization': 'Bearer ***'} and ***"
    assert made.__dict__["fields"] == {"a": "<***>", "b": 4, "c": "***", "d": "\udcff***"}
    assert KEY not in repr(made.__dict__)


def test_redactor_takes_the_longest() -> None:
    """Of a key that begins with another key no tail is left."""
    assert Redactor([Secret("abc"), Secret("abcdef")]).redact("x abcdef abc") == "x *** ***"


def test_redactor_without_secrets() -> None:
    """Without a secret, or with an empty one, nothing is replaced."""
    made = record("%s", "text")
    assert Redactor([]).filter(made) is True
    assert made.args == ("text",)
    assert Redactor([Secret("")]).redact("text") == "text"


@given(st.text("ab*", min_size=1, max_size=4), st.text("ab*\\", max_size=40))
def test_redactor_leaves_none(key: str, text: str) -> None:
    """No text holds the secret afterwards, unless the mask itself brings it in."""
    redacted = Redactor([Secret(key)]).redact(text)
    assert "*" in key or key not in redacted
