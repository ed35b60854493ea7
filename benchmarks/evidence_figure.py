"""The figure at the top of the README, from the recorded results: regret by length, and what a KL keeps of pass@16.

    python benchmarks/evidence_figure.py --results docs/results --out docs/figures/evidence.png

The records are horizon.json and coverage.json; a test compares coverage.json's recipe with today's.
"""

from __future__ import annotations

from pathlib import Path

import coverage
import horizon
import records

SHOWN = ("no KL", "future", "local", "k3 loss", "reward")  # the others lie on top of these


def draw(left, right, results: Path) -> None:
    """The two records on two axes."""
    horizon.draw(left, records.read(results / "horizon.json")["results"])
    left.set_title("exact: what is lost, by length of the answer", fontsize=10)
    left.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(0.0, 0.27))
    saved = records.read(results / "coverage.json")
    runs = [r for r in saved["runs"] if r["method"] in SHOWN]
    coverage.frontier(right, runs, saved["start"], "pass@1", "pass@16", False)
    right.set_title("a tiny language model: what a KL keeps", fontsize=10)
    right.legend(fontsize=7, frameon=False, loc="lower left")


def main() -> None:
    parser = records.parser(__doc__)
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="horizon.json and coverage.json")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/evidence.png"))
    args = parser.parse_args()
    with records.figure(args.out, 1, 2, size=(10, 3.9)) as axes:
        draw(*axes, args.results)


if __name__ == "__main__":
    main()
