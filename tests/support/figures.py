"""Figures that a test measured: shown with its output, and kept where somebody asks for them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

VARIABLE = "UPLOADERD_FIGURES"


def report(test: str, **figures: float | str) -> None:
    """Print one line of JSON, and append it to the file that ``$UPLOADERD_FIGURES`` names."""
    line = json.dumps({"test": test, **figures})
    sys.stdout.write(f"{line}\n")
    wanted = os.environ.get(VARIABLE)
    if wanted:
        with Path(wanted).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
