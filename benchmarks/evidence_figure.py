"""The figure at the top of the README, from the recorded results: regret by length, and what a KL keeps of pass@16.

python benchmarks/evidence_figure.py --results docs/results --out docs/figures/evidence.png

The records are horizon.json and coverage.json; a test compares coverage.json's recipe with today's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import coverage
import horizon

SHOWN = ("no KL", "future", "local", "k3 loss", "reward")  # the others lie on top of these


def draw(results: Path) -> Any:
    """The figure of two records."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9), layout="constrained")
    horizon.draw(left, json.loads((results / "horizon.json").read_text())["results"])
    left.set_title("exact: what is lost, by length of the answer", fontsize=10)
    left.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(0.0, 0.27))
    saved = json.loads((results / "coverage.json").read_text())
    runs = [r for r in saved["runs"] if r["method"] in SHOWN]
    coverage.frontier(right, runs, saved["start"], "pass@1", "pass@16", False)
    right.set_title("a tiny language model: what a KL keeps", fontsize=10)
    right.legend(fontsize=7, frameon=False, loc="lower left")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="horizon.json and coverage.json")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/evidence.png"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(args.results).savefig(args.out, dpi=150)


if __name__ == "__main__":
    main()
