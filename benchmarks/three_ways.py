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

import argparse
import json
import math
import statistics
from pathlib import Path

import numpy as np
import study
import torch
from horizon import machine
from study import COLORS, METHODS, QUICKSTART, Run, interval

from frpo_verl.evaluation import pass_at_k
from frpo_verl.files import write_atomically
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

    @torch.no_grad()
    def examine(self, model) -> dict:
        prompts, generator = self.prompts(self.test), torch.Generator().manual_seed(99)
        answers, mask = self.sample(model, prompts, SAMPLES, generator)
        right = self.rewards(self.test, answers, SAMPLES)
        found = self.distance(model, prompts, answers, mask)
        counts = right.view(TEST, SAMPLES).sum(1).int().tolist()
        by_way = {w: right[answers[:, 0] == mark] for w, mark in zip(three_ways.WAYS, self.marks, strict=True)}
        return {
            "pass@1": statistics.mean(pass_at_k(SAMPLES, c, 1) for c in counts),
            "pass@16": statistics.mean(pass_at_k(SAMPLES, c, 16) for c in counts),
            "kl": found["kl"].sum(1).mean().item(),
            "entropy": found["entropy"].sum(1).mean().item(),
            "length": mask.sum(1).float().mean().item(),
            "shares": found["ways"].mean(0).tolist(),
            "right_by_way": [x.mean().item() if len(x) else math.nan for x in by_way.values()],
            "kl_by_position": found["kl"].mean(0).tolist(),
        }

    def best_objective(self, beta: float) -> float:
        """max over policies of E[pass rate - beta KL(pi || reference)] on the held-out problems."""
        return three_ways.best_objective(self.chances(self.reference).sum(1).tolist(), beta)


# ------------------------------------------------------------------------------------------------------ reporting


def grouped(results: list[dict]) -> dict[tuple, list[dict]]:
    """(steps, lr, by_std, beta, method) -> runs of every seed."""
    found: dict[tuple, list[dict]] = {}
    for r in results:
        found.setdefault((r["steps"], r["lr"], r["by_std"], r["beta"], r["method"]), []).append(r)
    return dict(sorted(found.items(), key=lambda item: (*item[0][:4], list(METHODS).index(item[0][4]))))


def table(results: list[dict], start: dict) -> str:
    text = ["| normalised | beta | method | n | J | pass@1 | pass@16 | KL | entropy | shares A / B / C | right A / B / C |",
            "|---|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip

    def cells(ends: list[dict], beta: float) -> str:
        out = []
        ends = [{**e, "J": e["pass@1"] - beta * e["kl"]} for e in ends]
        for key in ("J", "pass@1", "pass@16", "kl", "entropy"):
            mean, half = interval([e[key] for e in ends])
            out.append(f"{mean:.3f}" + ("" if math.isnan(half) else f" ± {half:.3f}"))
        for key in ("shares", "right_by_way"):
            out.append(" / ".join(f"{np.nanmean(x):.2f}" for x in np.array([e[key] for e in ends], dtype=float).T))
        return " | ".join(out)

    text.append(f"| | | *at the start* | 1 | {cells([start], 0.3)} |")
    for beta, best in start["best"].items():
        text.append(f"| | {beta} | *best possible* | | {best:.3f} | | | | | | |")
    for (_, _, by_std, beta, method), runs in grouped(results).items():
        shown = f"{beta:g}" if beta else ""
        found = cells([r["end"] for r in runs], beta or 0.3)
        text.append(f"| {'std' if by_std else 'mean'} | {shown} | {method} | {len(runs)} | {found} |")
    return "\n".join(text) + "\n"


def frontier(axes, results: list[dict], start: dict, x: str, y: str, by_std: bool = False) -> None:
    """One point for each method and beta of three seeds or more, their mean with 95 % intervals."""
    markers = {0.0: "x", 0.1: "v", 0.3: "o", 1.0: "^"}
    axes.scatter(start[x], start[y], color="black", marker="*", s=60, zorder=3)
    axes.annotate("start", (start[x], start[y]), xytext=(5, -9), textcoords="offset points", fontsize=7)
    seen = set()
    for (_, _, std, beta, method), runs in grouped(results).items():
        if std == by_std and len(runs) >= 3:
            (mx, dx), (my, dy) = interval([r["end"][x] for r in runs]), interval([r["end"][y] for r in runs])
            axes.errorbar(
                mx, my, xerr=None if math.isnan(dx) else dx, yerr=None if math.isnan(dy) else dy, color=COLORS[method],
                marker=markers.get(beta, "s"), markersize=5, capsize=2, linestyle="", label=None if method in seen else method,
            )  # fmt: skip
            seen.add(method)
    axes.set(xlabel={"kl": "KL(pi || ref) of an answer, nats", "entropy": "entropy of an answer, nats"}[x], ylabel=y)
    axes.grid(alpha=0.3)


def level_lines(axes, beta: float, best: float) -> None:
    """Where J = pass@1 - beta KL is the best possible (solid; no policy lies above it), and 0.1 and 0.2 less."""
    low, high = axes.get_xlim()
    bottom, top = axes.get_ylim()
    for less, style in ((0.0, "-"), (0.1, ":"), (0.2, ":")):
        ends = (max(0.0, low), high)
        axes.plot(ends, [best - less + beta * x for x in ends], color="black", linewidth=0.7, linestyle=style, zorder=0)
    axes.set(xlim=(low, high), ylim=(bottom, min(1.02, max(top, 1.01))))


def pictures(results: list[dict], start: dict, folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9.5, 7), layout="constrained")
    for row, y in zip(axes, ("pass@1", "pass@16"), strict=True):
        for ax, x in zip(row, ("kl", "entropy"), strict=True):
            frontier(ax, results, start, x, y)
            if (x, y) == ("kl", "pass@1"):
                level_lines(ax, 0.3, start["best"]["0.3"])
    axes[0][0].legend(fontsize=7, frameon=False)
    figure.suptitle(
        "mean baseline; circles beta 0.3, triangles down 0.1 and up 1; 95 % intervals over seeds", fontsize=9
    )
    figure.savefig(folder / "three_ways_frontier.png", dpi=150)
    plt.close(figure)

    shown = {k[4]: v for k, v in grouped(results).items() if not k[2] and k[3] in (0.0, 0.3)}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for i, (method, runs) in enumerate({"start": [{"end": start}], **shown}.items()):
        bottom = 0.0
        for way, color, share in zip(
            three_ways.WAYS,
            ("#d9d9d9", "#9ecae1", "#08519c"),
            np.mean([r["end"]["shares"] for r in runs], 0),
            strict=True,
        ):
            left.barh(i, share, left=bottom, color=color, label=f"way {way}" if i == 0 else None)
            bottom += share
        if method != "start":
            right.plot(np.mean([r["end"]["kl_by_position"] for r in runs], 0), color=COLORS[method], label=method)
    left.set_yticks(range(len(shown) + 1), ["start", *shown])
    left.invert_yaxis()
    left.set(xlabel="share of the first character", xlim=(0, 1))
    left.legend(fontsize=7, loc="upper right")
    right.set(xlabel="position in the answer", ylabel="KL(pi || ref), nats", yscale="symlog")
    right.set_yscale("symlog", linthresh=0.01)
    right.grid(alpha=0.3)
    right.legend(fontsize=7, frameon=False, loc="lower left", ncols=2)
    figure.savefig(folder / "three_ways_shares.png", dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=("core", "std", "beta", "variants"), default=["core"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--figures", action="store_true", help="train nothing; tables and figures of what is there")
    parser.add_argument("--quickstart", type=Path, default=QUICKSTART, help="folder with data/ and model/")
    parser.add_argument("--out", type=Path, default=Path("build/three_ways"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    store = args.out / "three_ways.json"
    saved = json.loads(store.read_text()) if store.exists() else {"runs": {}}
    runs = [] if args.figures else planned(args.sets, args.seeds, args.steps, args.lr)
    runs = [run for run in runs if run.method in args.methods and run.key not in saved["runs"]]
    task = Study(args.quickstart) if runs or "start" not in saved else None
    if "start" not in saved:
        best = {f"{beta:g}": task.best_objective(beta) for beta in (0.1, 0.3, 1.0)}
        saved["start"] = {**task.examine(task.reference), "best": best}
    for run in runs:
        saved["runs"][run.key] = {**task.run(run), "machine": machine()}
        write_atomically(store, json.dumps(saved) + "\n")
        end = saved["runs"][run.key]["end"]
        print(f"{run.key}: pass@1 {end['pass@1']:.3f} pass@16 {end['pass@16']:.3f} KL {end['kl']:.3f} shares "
              f"{[round(x, 2) for x in end['shares']]}, {saved['runs'][run.key]['cpu_seconds']} s", flush=True)  # fmt: skip
    write_atomically(store, json.dumps(saved) + "\n")
    results = [r for r in saved["runs"].values() if (r["steps"], r["lr"]) == (args.steps, args.lr)]
    text = table(results, saved["start"])
    pictures(results, saved["start"], args.out)
    print(text)


if __name__ == "__main__":
    main()
