"""How a table of a TOML file becomes a frozen dataclass, or a refusal.

A field annotated with ``Key(kind)`` is one key of the file. Every refusal names the file, the
key's full path, what was found and what is allowed.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from uploaderd.errors import ConfigError

_SHOWN = 80
_LISTED = 12

T = TypeVar("T")
Fallback = Callable[[], tuple[object, str]]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a key may hold.

    Attributes:
        allowed: ends the sentence "allowed: …".
        read: TOML's value to ours; raises ``ValueError``, whose text becomes the hint.
        show: ours back to TOML's, for the effective configuration.
    """

    allowed: str
    read: Callable[[object], object]
    show: Callable[[Any], object] = lambda value: value


@dataclass(frozen=True, slots=True)
class Key:
    """Marks a field as a key of the file; ``name`` where it differs from the field's."""

    kind: Kind
    name: str = ""


def keys_of(section: type) -> dict[str, tuple[str, Kind]]:
    """The keys of a section's dataclass: name in the file → (field, kind)."""
    found = {}
    for field, hint in get_type_hints(section, include_extras=True).items():
        for key in getattr(hint, "__metadata__", ()):
            found[key.name or field] = (field, key.kind)
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which file something stands; the one voice of every refusal."""

    file: str
    path: str = ""

    def __truediv__(self, name: str | int) -> Place:
        """The place of a key or of an array's element in here."""
        if isinstance(name, int):
            return Place(self.file, f"{self.path}[{name}]")
        plain = re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name) and masked(name) == name
        bare = name if plain else shown(name)
        return Place(self.file, f"{self.path}.{bare}" if self.path else bare)

    def refuse(self, found: str, allowed: str, hint: str = "") -> ConfigError:
        """The error to raise."""
        where = f"{self.file}: {self.path}" if self.path else self.file
        return ConfigError(f"{where}: found {found}; allowed: {allowed}", hint=masked(hint))

    def table(self, value: object) -> dict[str, object]:
        """``value`` if it is a table."""
        if not isinstance(value, dict):
            raise self.refuse(described(value), "a table")
        return value

    def unknown(self, name: str, known: list[str], elsewhere: Mapping[str, str]) -> ConfigError:
        """The error for a key that does not belong here; its value is never shown."""
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = ""
        if near:
            hint = f"did you mean {near[0]}?"
        elif name in elsewhere:
            hint = f"{name} belongs into {elsewhere[name]}"
        elif "key" in name.lower():
            hint = "a key does not belong into this file; api_key_file names the file that holds it"
        return (self / name).refuse("an unknown key", ", ".join(known), hint)


def read_section(
    section: type[T],
    table: Mapping[str, object],
    place: Place,
    *,
    given: Mapping[str, object] | None = None,
    fallback: Mapping[str, Fallback] | None = None,
    elsewhere: Mapping[str, str] | None = None,
) -> T:
    """Build a section's dataclass from its table.

    Args:
        section: the dataclass.
        table: what the file says.
        place: where it says so.
        given: fields that are no keys.
        fallback: for absent keys, what gives a value in TOML's form and where it comes from.
        elsewhere: keys of other sections and where they belong, for the hint.
    """
    known = keys_of(section)
    values = dict(given or {})
    for name in table:
        if name not in known:
            raise place.unknown(name, list(known), elsewhere or {})
    for name, (field, kind) in known.items():
        here = place / name
        if name in table:
            value = table[name]
        elif fallback and name in fallback:
            value, origin = fallback[name]()
            here = dataclasses.replace(here, path=f"{here.path} (from {origin})")
        else:
            continue
        try:
            values[field] = kind.read(value)
        except ValueError as exc:
            raise here.refuse(described(value), kind.allowed, str(exc)) from exc
    return section(**values)


def show_section(value: object) -> dict[str, object]:
    """A section's values in TOML's form."""
    shown_keys = {}
    for name, (field, kind) in keys_of(type(value)).items():
        held = getattr(value, field)
        shown_keys[name] = kind.show(held)
    return shown_keys


def masked(text: str) -> str:
    """``text`` without what looks like an API key or like a URL's password."""
    text = re.sub(r"\bsk-[^\s\"']+", "***", text)
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def shown(text: str) -> str:
    """A string from the file, quoted, escaped, shortened and masked, for a message."""
    text = shortened(masked(text), _SHOWN)
    return json.dumps(text, ensure_ascii=not text.isprintable())


def listed(names: list[str]) -> str:
    """Names from the file, for a message; of many the first."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(shown, names[:_LISTED])) + more


def shortened(text: str, most: int) -> str:
    """``text``, or its beginning where it is longer than ``most``."""
    return text if len(text) <= most else text[:most] + "…"


def described(value: object) -> str:
    """What was found, with its type, for a message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string {shown(value)}" if value else "an empty string"
    if isinstance(value, int):
        huge = value.bit_length() > 64  # noqa: PLR2004 - TOML's own bound
        return "a huge integer" if huge else f"the integer {value}"
    if isinstance(value, float):
        return f"the number {value}"
    names: dict[type, str] = {dict: "a table", list: "an array"}
    return names.get(type(value), "a date or time")
