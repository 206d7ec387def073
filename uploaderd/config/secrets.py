"""API keys: where they come from, and how they stay out of everything that is written."""

from __future__ import annotations

import hmac
import json
import logging
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from uploaderd.core.model import Flavour
from uploaderd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from uploaderd.config.settings import Target

CREDENTIAL = "openai-api-key"
MASK = "***"
_MAX_BYTES = 8192  # far above any key; a device file has no end


class Secret:
    """A string that shows itself to nobody but the caller of ``reveal``."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The string itself, to be put into a request and nowhere else."""
        return self._value

    def __repr__(self) -> str:
        """The mask; ``str`` and logging come here too."""
        return MASK

    def __format__(self, spec: str) -> str:
        """The mask, padded as asked."""
        return format(MASK, spec)

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        """A pickle holds the mask alone."""
        return Secret, (MASK,)

    def __copy__(self) -> Secret:
        """Itself: a value needs no second one."""
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        """Itself, as above."""
        return self

    def __eq__(self, other: object) -> bool:
        """Equal if the strings are, told in constant time."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        """Agrees with equality."""
        return hash((Secret, self._value))


class Redactor(logging.Filter):
    """Replaces every known secret in a record's message, arguments and fields by ``***``.

    An exception is an object and stays; who renders it passes the text through ``redact``.
    """

    def __init__(self, secrets: Iterable[Secret]) -> None:
        super().__init__()
        plain = {secret.reveal() for secret in secrets} - {""}
        # As an address, a document or Python's repr shows it.
        revealed = {way for one in plain for way in _ways(one)}
        # The longest first: of a key that begins with another one, no tail may be left.
        longest_first = sorted(revealed, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if revealed else None

    def redact(self, text: str) -> str:
        """``text`` without any known secret."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record in place; it is always kept."""
        if self._pattern is not None:
            record.msg, record.args = self.redact(record.getMessage()), None
            fields = getattr(record, "fields", None)
            if fields is not None:
                record.fields = {key: self._redact_value(value) for key, value in fields.items()}
        return True

    def _redact_value(self, value: object) -> object:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, bytes):
            return self.redact(value.decode("utf-8", "surrogateescape"))
        return self.redact(str(value))


def _ways(key: str) -> set[str]:
    return {key, quote(key), quote(key, safe=""), json.dumps(key)[1:-1], repr(key)[1:-1]}


def find_key(target: Target, env: Mapping[str, str]) -> Secret:
    """A target's API key: its file, else systemd's credential, else the environment.

    Raises:
        ConfigError: there is none, its file cannot be read, or it cannot be a key. What was found
            is never shown.
    """
    if target.api_key_file is not None:
        return _checked(_read(target.api_key_file, target), str(target.api_key_file), target)
    if credential := _credential(env):
        try:
            text = _read(credential, target)
        except ConfigError as exc:
            if not isinstance(exc.__cause__, FileNotFoundError):
                raise
            text = ""
        if text:  # the unit gives an empty one where there is no key file
            return _checked(text, str(credential), target)
    for variable in _variables(target):
        if variable in env:
            return _checked(env[variable], f"${variable}", target)
    variables = " or ".join(f"${variable}" for variable in _variables(target))
    raise ConfigError(
        f"target {target.name} has no API key",
        hint=f"set targets.{target.name}.api_key_file, give systemd the credential"
        f" {CREDENTIAL} (LoadCredential=; the service's unit reads /etc/uploaderd/{CREDENTIAL}),"
        f" or set {variables}",
    )


def key_warnings(target: Target, env: Mapping[str, str]) -> tuple[str, ...]:
    """What is unwise about where a target's key is kept; empty if nothing."""
    file = target.api_key_file or _credential(env)
    if file is None:
        return ()
    try:
        mode = file.stat().st_mode
    except OSError:
        return ()
    if not mode & (stat.S_IROTH | stat.S_IWOTH):
        return ()
    return (f"{file}: every user of this machine can get at the API key; chmod 0600 it",)


def _variables(target: Target) -> tuple[str, ...]:
    azure = ("AZURE_OPENAI_API_KEY",) if target.flavour is Flavour.AZURE else ()
    return ("OPENAI_API_KEY", *azure)


def _credential(env: Mapping[str, str]) -> Path | None:
    folder = env.get("CREDENTIALS_DIRECTORY")
    return Path(folder) / CREDENTIAL if folder else None


def _read(file: Path, target: Target) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        why = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
        raise ConfigError(
            f"{file}: the API key of target {target.name} cannot be read: {why}",
            hint="check the path, and that the daemon's user may read it",
        ) from exc
    if len(content) > _MAX_BYTES:
        raise ConfigError(
            f"{file}: this is too long for the API key of target {target.name}",
            hint="put nothing but the key into the file",
        )
    # latin-1 takes every byte, so that an exception never carries the key's bytes along.
    return content.decode("latin-1").removesuffix("\n").removesuffix("\r")


def _checked(text: str, origin: str, target: Target) -> Secret:
    """``text`` as a secret, if it can travel in a header."""
    if not text:
        raise ConfigError(
            f"{origin}: the API key of target {target.name} is empty",
            hint="put the key there, or take the empty place away so that the next one counts",
        )
    if re.fullmatch(r"[!-~]+", text) is None:
        raise ConfigError(
            f"{origin}: the API key of target {target.name} holds a space, a line break or another"
            " character that no key has",
            hint="put nothing but the key there, on one line and without quotes",
        )
    return Secret(text)
