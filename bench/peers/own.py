"""What a peer tells of itself: the cost of its work, without start and imports."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from bench.measuring import Usage, peak_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


def needed(name: str) -> ModuleType:
    """Import a library, or end with a word on what is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        sys.stderr.write(f"{name} is not installed: see the extra `bench`\n")
        sys.exit(os.EX_UNAVAILABLE)


@contextmanager
def told() -> Iterator[None]:
    """Print what the block cost, as the last line of standard output."""
    cpu_s, began_s = time.process_time(), time.monotonic()
    yield
    usage = Usage(
        wall_s=time.monotonic() - began_s,
        cpu_s=time.process_time() - cpu_s,
        peak_bytes=peak_bytes(),
    )
    sys.stdout.write(json.dumps(asdict(usage)) + "\n")
