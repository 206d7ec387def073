"""What the fuzz tests share: how much is tried, odd JSON, and what a sentence for a person is.

In ``make test`` the examples are few and always the same; ``UPLOADERD_FUZZ=100`` tries a hundred
times as many, other ones on each run.
"""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

TIMES = max(int(os.environ.get("UPLOADERD_FUZZ", "1")), 1)

Path = tuple[str | int, ...]


def effort(examples: int) -> settings:
    """Try so many examples, or ``UPLOADERD_FUZZ`` times as many."""
    return settings(
        max_examples=examples * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        print_blob=TIMES > 1,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


def is_sentence(text: str, *, limit: int) -> bool:
    """Whether a text is one bounded line without control characters."""
    return 0 < len(text) <= limit and text.isprintable()


# Any text, lone surrogates included.
TEXT = st.text(st.characters(codec=None), max_size=20)

# Values as they stand in a JSON document, the forbidden ones included.
ODD = st.sampled_from(
    [
        *("null", "true", "false", "0", "-1", "-0.0", "1e999", "-1e999", "NaN", "Infinity"),
        *("1" * 18, "9" * 19, "9" * 400, "9" * 5000, "1e308", "1.5", "4102444800000"),
        *("[]", "{}", '""', '" "', '"."', '".."', '"../../x"', '"a/b"', '"a?b#c"', '"%2e%2e"'),
        *('"a\\nb"', '"a\\u0000b"', '"\\ud800"', '"\\udc80x"', '"é"', '"\\ud83d\\ude00"', '"a b"'),
        *('"' + "x" * 512 + '"', '"' + "x" * 513 + '"', '"' + "y" * 1_000_000 + '"'),
        *(
            '{"id": []}',
            '[{"id": "a"}]',
            "[" * 5000 + "]" * 5000,
            '{"a":' * 5000 + "1" + "}" * 5000,
        ),
        *("\x00", "", "'x'", "undefined", "0x10", "01", "1.", "[1,]", '"\x01"'),
    ]
)

_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
VALUES = _PLAIN | st.lists(_PLAIN, max_size=3) | st.dictionaries(TEXT, _PLAIN, max_size=3)


def written(value: object) -> str:
    """JSON text; NaN and lone surrogates come out as Python writes them."""
    return json.dumps(value)


def _paths(value: object, at: Path = ()) -> list[Path]:
    inner: list[Path] = []
    if isinstance(value, dict):
        inner = [path for key, each in value.items() for path in _paths(each, (*at, key))]
    elif isinstance(value, list):
        inner = [path for index, each in enumerate(value) for path in _paths(each, (*at, index))]
    return [at, *inner]


def _write(value: object, at: Path, changes: dict[Path, tuple[str, str]]) -> str | None:
    """JSON text with some values replaced by raw text, gone, or there twice."""
    verb, text = changes.get(at, ("", ""))
    if verb == "gone":
        return None
    if verb == "other":
        return text
    if isinstance(value, dict):
        pairs = []
        for key, each in value.items():
            inner = _write(each, (*at, key), changes)
            if inner is not None:
                pairs.append(f"{written(key)}: {inner}")
            if changes.get((*at, key), ("", ""))[0] == "twice":
                pairs.append(f"{written(key)}: {changes[(*at, key)][1]}")
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        found = [_write(each, (*at, index), changes) for index, each in enumerate(value)]
        return "[" + ", ".join(each for each in found if each is not None) + "]"
    return written(value)


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> bytes:  # noqa: ANN401 - any JSON
    """A right document with up to three things wrong in it, or its bytes spoilt."""
    paths = _paths(document)
    value = ODD | VALUES.map(written)
    changes = draw(
        st.dictionaries(
            st.sampled_from(paths),
            st.tuples(st.sampled_from(["gone", "other", "other", "twice"]), value),
            max_size=3,
        )
    )
    text = _write(document, (), changes) or ""
    raw = text.encode("utf-8", "surrogatepass")
    return draw(spoilt(raw))


@st.composite
def spoilt(draw: st.DrawFn, raw: bytes) -> bytes:
    """Bytes as they are, as a rule; else cut, with a byte more or another, or in another coding."""
    at = draw(st.integers(0, len(raw)))
    return draw(
        st.sampled_from(
            [
                *[raw] * 6,
                raw[:at],
                raw[:at] + draw(st.binary(max_size=4)) + raw[at:],
                raw[:at] + draw(st.binary(min_size=1, max_size=2)) + raw[at + 1 :],
                b"\xef\xbb\xbf" + raw,
                raw.decode("utf-8", "replace").encode("utf-16"),
                raw.decode("utf-8", "replace").encode("utf-32-le"),
                raw.replace(b"e", b"\xed\xa0\x80", 1),
                raw + raw,
            ]
        )
    )
