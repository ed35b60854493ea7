"""Three ways to write a sum: what each KL placement does to a tiny language model, in one process.

    make quickstart                                      # its data and its warmed-up model are used
    python benchmarks/three_ways.py                      # the core: every placement at beta 0.3, mean baseline
    python benchmarks/three_ways.py --sets core std beta variants --seeds 1 2 3
    python benchmarks/three_ways.py --figures            # train nothing; tables and figures of what is there

Every run starts at the quickstart's model and goes through verl's `compute_advantage` and `ppo_loss` (study.py).

At the end 64 held-out problems get 32 answers each: pass@1 and pass@16 (unbiased), KL(pi || ref) and entropy of a whole
answer (both summed over the vocabulary at each position of sampled answers), the shares of the three ways (exact
probabilities of the first token) and how often each way is right. J = pass@1 - beta KL; the best J that any policy can
reach is known, the mean over problems of beta log(1 - P + P exp(1 / beta)), P = chance of a right answer at the start.
Every run is kept with its curve in three_ways.json and is not run again.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import coverage
import numpy as np
import records
import study
import torch
from records import METHODS, machine, results_by, shown
from study import QUICKSTART, Run

from frpo_verl.evaluation import pass_at_k
from frpo_verl.quickstart import three_ways

TEST, SAMPLES = 64, 32


def planned(sets: list[str], seeds: list[int], steps: int, lr: float) -> list[Run]:
    rows = {
        "core": [(m, 0.3, False) for m in ("no KL", "future", "local", "k3 loss", "reward")],
        "std": [(m, 0.3, True) for m in ("no KL", "future", "local", "k3 loss", "reward")],
        "beta": [(m, beta, False) for beta in (0.1, 1.0) for m in ("future", "local", "k3 loss")],
        "variants": [(m, 0.3, False) for m in ("future, position", "sequence, position", "k2 loss")],
    }
    return [
        Run(method, 0.0 if method == "no KL" else beta, by_std, seed, steps, lr)
        for name in sets
        for seed in seeds
        for method, beta, by_std in rows[name]
    ]


class Study(study.Study):
    def __init__(self, folder: Path):
        super().__init__(folder, TEST)

    def examine(self, model) -> dict:
        first, right, figures, kl_by_position = self.held_out(model, SAMPLES, SAMPLES)
        counts = right.view(TEST, SAMPLES).sum(1).int().tolist()
        by_way = [right[first == mark] for mark in self.marks]
        passes = {f"pass@{k}": statistics.mean(pass_at_k(SAMPLES, c, k) for c in counts) for k in (1, 16)}
        right_by_way = [x.mean().item() if len(x) else math.nan for x in by_way]
        return {**passes, **figures, "right_by_way": right_by_way, "kl_by_position": kl_by_position.tolist()}

    def best_objective(self, beta: float) -> float:
        """max over policies of E[pass rate - beta KL(pi || reference)] on the held-out problems."""
        return three_ways.best_objective(self.chances(self.reference).sum(1).tolist(), beta)


# ------------------------------------------------------------------------------------------------------ reporting


def table(results: list[dict], start: dict) -> str:
    def cells(ends: list[dict], beta: float) -> list[str]:
        ends = [{**e, "J": e["pass@1"] - beta * e["kl"]} for e in ends]
        ways = ([e[key] for e in ends] for key in ("shares", "right_by_way"))
        return [
            *(shown([e[key] for e in ends]) for key in ("J", "pass@1", "pass@16", "kl", "entropy")),
            *(" / ".join(f"{np.nanmean(x):.2f}" for x in np.array(way, dtype=float).T) for way in ways),
        ]

    rows = [["", "", "*at the start*", 1, *cells([start], 0.3)]]
    rows += [["", beta, "*best possible*", "", f"{best:.3f}", *[""] * 6] for beta, best in start["best"].items()]
    for (by_std, beta, method), runs in results_by(results, "by_std", "beta").items():
        found = cells([r["end"] for r in runs], beta or 0.3)
        rows.append(["std" if by_std else "mean", f"{beta:g}" if beta else "", method, len(runs), *found])
    head = (
        "normalised",
        "beta",
        "method",
        "n",
        "J",
        "pass@1",
        "pass@16",
        "KL",
        "entropy",
        "shares A / B / C",
        "right A / B / C",
    )
    return records.table(head, rows)


def picture(results: list[dict], start: dict, file: Path) -> None:
    """Mean baseline, a line for each method over its betas; J is the best possible on the solid line, 0.1 and 0.2 less below."""
    with records.figure(file, 2, 2, size=(9.5, 7)) as axes:
        for row, y in zip(axes, ("pass@1", "pass@16"), strict=True):
            for ax, x in zip(row, ("kl", "entropy"), strict=True):
                coverage.frontier(ax, results, start, x, y, by_std=False)
        corner = axes[0][0]
        corner.legend(fontsize=7, frameon=False)
        limits = corner.get_xlim(), (corner.get_ylim()[0], 1.02)
        ends = np.array([max(0.0, limits[0][0]), limits[0][1]])
        for less, style in ((0.0, "-"), (0.1, ":"), (0.2, ":")):
            best = start["best"]["0.3"] - less + 0.3 * ends
            corner.plot(ends, best, color="black", linewidth=0.7, linestyle=style, zorder=0)
        corner.set(xlim=limits[0], ylim=limits[1])


def main() -> None:
    parser = records.parser(__doc__, "build/three_ways")
    parser.add_argument("--sets", nargs="+", choices=("core", "std", "beta", "variants"), default=["core"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--quickstart", type=Path, default=QUICKSTART, help="folder with data/ and model/")
    args = parser.parse_args()
    torch.set_num_threads(1)
    store = args.out / "three_ways.json"
    saved = records.read(store, runs={})
    runs = [] if args.table else planned(args.sets, args.seeds, args.steps, args.lr)
    runs = [run for run in runs if run.method in args.methods and run.key not in saved["runs"]]
    task = Study(args.quickstart) if runs or "start" not in saved else None
    if "start" not in saved:
        best = {f"{beta:g}": task.best_objective(beta) for beta in (0.1, 0.3, 1.0)}
        saved["start"] = {**task.examine(task.reference), "best": best}
        records.write(store, saved, indent=None)
    for run in runs:
        saved["runs"][run.key] = found = {**task.run(run), "machine": machine()}
        records.write(store, saved, indent=None)
        end = found["end"]
        print(f"{run.key}: pass@1 {end['pass@1']:.3f} pass@16 {end['pass@16']:.3f} KL {end['kl']:.3f} shares "
              f"{[round(x, 2) for x in end['shares']]}, {found['cpu_seconds']} s", flush=True)  # fmt: skip
    results = [r for r in saved["runs"].values() if (r["steps"], r["lr"]) == (args.steps, args.lr)]
    picture(results, saved["start"], args.out / "three_ways_frontier.png")
    print(table(results, saved["start"]))


if __name__ == "__main__":
    main()
