"""A process that another program starts with less power, or in another time.

daemon.process = Under(tmp_path / "daemon.log", ["setpriv", "--bounding-set=-all"])
python -m tests.support.under setpriv --bounding-set=-all -- uploaderd run
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Root that keeps to file modes.
RULED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


class Under(Process):
    """A process behind a few words of another program's; the test is skipped where they fail."""

    def __init__(self, log: Path, words: Sequence[str]) -> None:
        super().__init__(log)
        self._before = list(words)
        try:
            tried = subprocess.run(
                [*words, "true"], capture_output=True, text=True, check=False, timeout=10
            )
        except FileNotFoundError:
            pytest.skip(f"there is no {words[0]} on this machine")
        if tried.returncode != 0:
            pytest.skip(f"{words[0]} is refused here: {tried.stderr.strip()}")

    async def spawn(
        self, module: str, words: Sequence[str], env: Mapping[str, str], *, piped: bool = False
    ) -> None:
        """Start ``python -m MODULE WORDS`` behind the other program."""
        all_words = [*self._before, "--", module, *words]
        await super().spawn("tests.support.under", all_words, env, piped=piped)


if __name__ == "__main__":
    cut = sys.argv.index("--")
    module_and_words = sys.argv[cut + 1 :]
    before = sys.argv[1:cut]
    os.execvp(before[0], [*before, sys.executable, "-m", *module_and_words])  # noqa: S606
