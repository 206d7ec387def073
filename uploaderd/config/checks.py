"""What the configuration's values must not be together."""

from __future__ import annotations

import ipaddress
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from uploaderd.config import keys
from uploaderd.config.settings import OPENAI_URL, Config, Target
from uploaderd.core.model import Flavour

if TYPE_CHECKING:
    from pathlib import Path

    from uploaderd.config.keys import Place

_AZURE_HOSTS = (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")
_AZURE_PATHS = ("", "/openai", "/openai/v1")


def address(target: Target, place: Place) -> None:
    """Refuse an address that would give the key away or that cannot work."""
    parts = urlsplit(target.base_url)
    host = parts.hostname or ""
    if parts.scheme == "http" and not target.allow_insecure and not _is_loopback(host):
        raise (place / "base_url").refuse(
            keys.described(target.base_url),
            "https, or http to loopback",
            "the API key would be sent in the clear; use https, or set allow_insecure = true",
        )
    if target.flavour is Flavour.OPENAI:
        if target.api_version:
            raise (place / "api_version").refuse(
                keys.described(target.api_version), 'empty, unless flavour is "azure"'
            )
        return
    elsewhere = host.endswith(_AZURE_HOSTS) and parts.path not in _AZURE_PATHS
    if host == urlsplit(OPENAI_URL).hostname or elsewhere:
        raise (place / "base_url").refuse(
            keys.described(target.base_url),
            'for flavour "azure", the endpoint, with or without "/openai" or "/openai/v1"',
            "such as https://NAME.openai.azure.com",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def overlaps(config: Config, place: Place) -> None:
    """Refuse a file that two watches would take, and one of ours that a watch would upload."""
    paths = [watch.path for watch in config.watches]
    # Sorted, what is in a folder stands right behind it.
    for pair in pairwise(sorted(range(len(paths)), key=lambda index: paths[index].parts)):
        if paths[pair[1]].is_relative_to(paths[pair[0]]):
            earlier, later = sorted(pair)
            raise (place / "watch" / later / "path").refuse(
                keys.described(str(paths[later])),
                f"a folder neither in nor around watch[{earlier}]'s, "
                + keys.shown(str(paths[earlier])),
                "two watches would take the same file; purpose_by_folder may be what you want",
            )
    ours = _own_paths(config)
    for index, watch in enumerate(config.watches):
        for name, path in ours.items():
            if path.is_relative_to(watch.path):
                raise (place / "watch" / index / "path").refuse(
                    keys.described(str(watch.path)),
                    f"a folder without {name} in it, which is {keys.shown(str(path))}",
                    "it would be uploaded",
                )


def twice(config: Config, place: Place) -> None:
    """Refuse a hook that is there twice: what is owed to it is known by its command."""
    known: dict[object, int] = {}
    for index, hook in enumerate(config.hooks):
        earlier = known.setdefault((hook.on, hook.command), index)
        if earlier != index:
            raise (place / "hook" / index / "command").refuse(
                f"the command of hook[{earlier}]",
                f'another command on "{hook.on}"',
                "it would be run twice for each file",
            )


def _own_paths(config: Config) -> dict[str, Path]:
    ours = {"daemon.state_dir": config.daemon.state_dir, "daemon.socket": config.daemon.socket}
    for target in config.targets:
        for key, path in (("api_key_file", target.api_key_file), ("ca_file", target.ca_file)):
            if path is not None:
                ours[f"targets.{target.name}.{key}"] = path
    if config.source is not None:
        ours["this file"] = config.source
    return ours
