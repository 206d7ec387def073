"""What comes from outside is shown so that it cannot play with a terminal."""

from __future__ import annotations

import pytest

from uploaderd.cli import voice


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain ä 日本 name.bin", "plain ä 日本 name.bin"),
        ("a\x1b[2J\x9b\x7f", "a\\x1b[2J\\x9b\\x7f"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("gpj.\u202etxt\u2066", "gpj.\\u202etxt\\u2066"),
        ("a\u2028b\ufeff\U000e0001", "a\\u2028b\\ufeff\\U000e0001"),
        ("\udcff", "\\udcff"),
        # Blanks that macOS and people put into names, and what joins emoji and letters.
        ("Screenshot 10.33\u202fAM\u00a0\u3000", "Screenshot 10.33\u202fAM\u00a0\u3000"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_only_honest_characters_are_shown(name: str, shown: str) -> None:
    """Controls, turns of direction and lone surrogates are escaped; honest names stay whole."""
    assert voice.shown(name) == shown
