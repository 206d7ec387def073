"""python -m tests.simulation --seed 7, or --seeds 100000 [--from 5000]."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.run import campaign, replay


def main() -> int:
    """Play one seed aloud, or many in silence."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one, step by step")
    parser.add_argument("--seeds", type=int, default=1000, help="how many to play")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of them")
    words = parser.parse_args()
    if words.seed is not None:
        return replay(words.seed)
    return campaign(range(words.first, words.first + words.seeds))


if __name__ == "__main__":
    sys.exit(main())
