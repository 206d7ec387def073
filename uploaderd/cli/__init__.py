"""The command line, and its first moments.

Reading order: words, voice, common, then one module a family of commands. Nothing is imported
here before ``main`` has signals in hand: a Ctrl-C while modules load is no traceback either.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code; no traceback ever reaches a person."""
    usual = signal.getsignal(signal.SIGINT)
    # Whoever started us with the signal ignored meant it.
    if usual is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from uploaderd.cli import words  # noqa: PLC0415 - all modules are loaded here

    signal.signal(signal.SIGINT, usual)
    words.main(args)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End at once: nothing has been begun, and an import must not be broken off by an error."""
    os.write(2, b"uploaderd: error: stopped before it began\n")
    os._exit(75)
