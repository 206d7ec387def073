"""``python -m bench [NAME…] [--runs N] [--quick] [--json FILE] [--list]``."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from bench import report, scenarios
from bench.figures import Figure, missing
from bench.rig import Rig

RUNS = 5


def main() -> int:
    """Measure what is asked for, print the table; 1 where a scenario could not be measured."""
    asked = _arguments()
    # Ended by SIGTERM it ends what it started, too; as for SIGINT, each `with` sees to its own.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if asked.list:
        for name in scenarios.names():
            sys.stdout.write(f"{name:<10} {scenarios.about(name)}\n")
        return 0
    figures: list[Figure] = []
    failed = False
    for name in asked.names or scenarios.names():
        sys.stderr.write(f"bench: {name}\n")
        try:
            figures += _measure(name, asked)
        except Exception as error:  # noqa: BLE001 - the others are measured all the same
            failed = True
            sys.stderr.write(traceback.format_exc())
            why = f"could not be measured: {type(error).__name__}: {error}".splitlines()[0]
            figures.append(missing(name, "", why=why, how="see the trace on standard error"))
        if asked.json is not None:  # what was measured is kept even if a later one is broken off
            text = report.document(figures, quick=asked.quick, runs=asked.runs)
            asked.json.write_text(text, "utf-8")
    sys.stdout.write(report.table(figures, judged=not asked.quick))
    return int(failed)


def _measure(name: str, asked: argparse.Namespace) -> list[Figure]:
    with tempfile.TemporaryDirectory(
        prefix=f"bench-{name}-", dir=asked.folder, ignore_cleanup_errors=True
    ) as folder:
        return scenarios.measure_of(name)(Rig(Path(folder), quick=asked.quick, runs=asked.runs))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios; all by default")
    parser.add_argument("--runs", type=int, default=None, help=f"of each measurement ({RUNS})")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one run: does it work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="work below it (about 5 GiB)")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in scenarios.names()]
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}; see --list")
    if asked.runs is None:
        asked.runs = 1 if asked.quick else RUNS
    if asked.runs < 1:
        parser.error("--runs takes 1 or more")
    return asked


if __name__ == "__main__":
    sys.exit(main())
