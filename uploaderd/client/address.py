"""Where a target is, what its paths look like and who is asking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlencode, urlsplit

from uploaderd import __version__
from uploaderd.core.model import Flavour
from uploaderd.errors import ConfigError, SessionLostError, TargetBlockedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_AZURE_V1 = "/openai/v1"
_AZURE = "/openai"
_MAX_ID = 512  # ids may change in length and form (protocol notes, "Objects"), but not that far


class Key(Protocol):
    """Something that holds a key and shows it only when asked."""

    def reveal(self) -> str:
        """Return the key itself."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetAddress:
    """One target's address, free of secrets.

    Attributes:
        base_url: for OpenAI what stands before ``/uploads``, with its ``/v1``. For Azure the
            resource's endpoint, with or without ``/openai``, or the v1 base that ends in
            ``/openai/v1``.
        api_version: Azure only. Empty with an endpoint means the v1 form.
        organization: sent as ``OpenAI-Organization`` unless empty; OpenAI only.
        project: sent as ``OpenAI-Project`` unless empty; OpenAI only.
        ca_file: PEM certificates to trust *instead of* the system's, or None for the system's.
    """

    name: str
    base_url: str
    flavour: Flavour = Flavour.OPENAI
    api_version: str = ""
    organization: str = ""
    project: str = ""
    ca_file: Path | None = None


class Paths:
    """The URLs of one target (protocol notes, "Endpoints" and "Azure's variant").

    Raises:
        ConfigError: ``base_url`` is not a plain http or https URL.
    """

    __slots__ = ("_base", "_query")

    def __init__(self, address: TargetAddress) -> None:
        _check_base(address)
        base = address.base_url.rstrip("/")
        self._query: dict[str, str] = {}
        if address.flavour == Flavour.AZURE:
            if not base.endswith(_AZURE_V1):
                base = base.removesuffix(_AZURE)
                base += _AZURE if address.api_version else _AZURE_V1
            if address.api_version:
                self._query["api-version"] = address.api_version
        self._base = base

    def uploads(self) -> str:
        """Where an upload is created."""
        return self._url("/uploads", {})

    def upload(self, upload_id: str, verb: str) -> str:
        """Where ``verb`` (parts, complete or cancel) is done to an upload.

        Raises:
            SessionLostError: no upload can have this id; it must not become part of a URL.
        """
        if not is_id(upload_id):
            raise SessionLostError(
                "the upload's id is not one that a URL may hold", code="unknown_upload"
            )
        return self._url(f"/uploads/{quote(upload_id, safe='')}/{verb}", {})

    def files(self, query: Mapping[str, str]) -> str:
        """Where files are listed."""
        return self._url("/files", query)

    def _url(self, path: str, query: Mapping[str, str]) -> str:
        words = {**query, **self._query}
        return self._base + path + ("?" + urlencode(words) if words else "")


def _check_base(address: TargetAddress) -> None:
    """Refuse what would send the key astray; the text never shows what stands before an @."""
    where = f"the base_url of target {address.name!r}"
    try:
        parts = urlsplit(address.base_url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
        parts = urlsplit("")
    if not good or not address.base_url.isprintable() or " " in address.base_url:
        raise ConfigError(f"{where} is not an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{where} holds credentials", hint="keep the key in api_key_file")
    if parts.query or parts.fragment:
        raise ConfigError(
            f"{where} goes on after the path", hint="set api_version instead of a query"
        )


def is_id(value: object) -> bool:
    """True if a value can be an id: printable ASCII without blanks, and no path's dots."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= _MAX_ID
        and value.isascii()
        and value.isprintable()
        and " " not in value
        and value.strip(".") != ""
    )


class _Header(str):
    """A header's value that keeps itself out of reprs: aiohttp's errors carry their request."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[key]'"


class Who:
    """Who asks a target: the headers that are the same for all requests with one key.

    Attributes:
        secret: the key.

    Raises:
        TargetBlockedError: the key holds characters that no header can carry.
    """

    __slots__ = ("_same", "secret")

    def __init__(self, address: TargetAddress, secret: str) -> None:
        if not (secret.isascii() and (secret + "x").isprintable()):
            raise TargetBlockedError(
                f"the key of target {address.name!r} holds characters that no key has",
                code="auth",
                hint="check the file or the variable that the key comes from",
            )
        self.secret = secret
        self._same = {"Accept": "application/json", "User-Agent": f"uploaderd/{__version__}"}
        if address.flavour == Flavour.AZURE:
            if secret:
                self._same["api-key"] = _Header(secret)
            return
        if secret:
            self._same["Authorization"] = _Header(f"Bearer {secret}")
        if address.organization:
            self._same["OpenAI-Organization"] = address.organization
        if address.project:
            self._same["OpenAI-Project"] = address.project

    def headers(self, request_id: str) -> dict[str, str]:
        """The headers of one request: who asks, as what, and which attempt this is."""
        return {**self._same, "X-Client-Request-Id": request_id}
