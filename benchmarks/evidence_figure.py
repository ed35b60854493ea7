"""The figure at the top of the README, from the recorded results: regret by length, and the frontier of a language model.

python benchmarks/evidence_figure.py --results docs/results --out docs/figures/evidence.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import horizon
import three_ways

SHOWN = ("no KL", "future", "local", "k3 loss", "reward")  # the others lie on top of these


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="horizon.json and three_ways.json")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/evidence.png"))
    args = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9), layout="constrained")
    horizon.draw(left, json.loads((args.results / "horizon.json").read_text())["results"])
    left.set_title("exact: what is lost, by length of the answer", fontsize=10)
    left.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(0.0, 0.27))
    saved = json.loads((args.results / "three_ways.json").read_text())
    core = [r for r in saved["runs"].values() if r["beta"] in (0.0, 0.3) and not r["by_std"] and r["method"] in SHOWN]
    three_ways.frontier(right, core, saved["start"], "kl", "pass@1")
    three_ways.level_lines(right, 0.3, saved["start"]["best"]["0.3"])
    right.set_title("a tiny language model, three ways to write a sum", fontsize=10)
    right.legend(fontsize=7, frameon=False, loc="lower right")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=150)


if __name__ == "__main__":
    main()
