"""Coverage: what a KL to the reference keeps of pass@16, entropy and drift, by placement and beta, in one process.

    make quickstart                                     # its data and its warmed-up model are used
    python benchmarks/coverage.py                       # every cell that is not there yet, then tables and figures
    python benchmarks/coverage.py --figures             # train nothing

The task is `python -m frpo_verl data coverage`: each problem accepts one of three ways, and does not say which. A run is
60 steps (study.py); learning rate 5e-4. Its end is examined with 32 answers to each of 128 held-out problems: pass@k is the
unbiased estimate, and the exact mean over the way that a problem might accept (the policy cannot know it). KL(pi ||
reference) and entropy of a whole answer are summed over the vocabulary at each position of 8 of the answers.

Methods are compared at equal pass@1: for each seed, a method's figures over its betas are joined by straight lines, and
read off at a pass@1 between two of them. The best possible comes with each table (coverage_exact.py).

A cell is a file of its own below cells/, written whole; a killed command goes on where it was. Cells that are published
(--published) are not run again; they are taken only if the model is theirs to the last bit.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, fields
from pathlib import Path

import coverage_exact
import numpy as np
import records
import study
import torch
from records import COLORS, METHODS, interval, machine, results_by, shown
from study import ANSWERS, QUICKSTART

from frpo_verl.evaluation import pass_at_k
from frpo_verl.files import write_atomically
from frpo_verl.quickstart import coverage, ways_model

STEPS, LR, TEST, SAMPLES = 60, 5e-4, 128, 32
KS = (1, 2, 4, 8, 16, 32)
BETAS = {False: (0.03, 0.05, 0.1, 0.2, 0.3), True: (0.05, 0.1, 0.2, 0.3, 0.5)}  # mean baseline, divided by std
PLACEMENTS = ("future", "local", "k3 loss", "reward", "sequence, position")
VARIANTS = ("reward to go", "future, remaining", "GAE", "future k3", "future forward", "future forward k3")
READ_AT = (0.3, 0.35, 0.38, 0.4)
COMPARED = ("pass@16", "kl", "entropy")
GROUPED = ("unsolvable", "by_std", "beta")


@dataclass(frozen=True)
class Cell(study.Run):
    unsolvable: float = 0.0  # share of the training problems that accept no way at all: their groups are all wrong

    @property
    def key(self) -> str:
        return super().key + (f"-unsolvable{self.unsolvable:g}" if self.unsolvable else "")


def cells() -> list[Cell]:
    """Every cell, in an order that leaves whole comparisons wherever it stops."""

    def rows(methods, betas, by_std, seeds, unsolvable=0.0):
        for beta in betas:
            for seed in seeds:
                for method in methods:
                    yield Cell(method, beta, by_std, seed, STEPS, LR, unsolvable)

    first, seeds, hard = (1, 2, 3), (1, 2, 3, 4, 5), 7 / 8
    forward = [m for m in VARIANTS if "forward" in m]  # weaker at the same beta
    others = [m for m in VARIANTS if m not in forward]
    planned = [
        *rows(["no KL"], [0.0], False, seeds),
        *rows(PLACEMENTS[:4], [0.1, 0.05], False, first),
        *rows(["future", "local", "reward"], [0.2], False, first),  # read off at pass@1 0.35 to 0.42
        *rows(["future", "local"], [0.1, 0.2], False, seeds),
        *rows(others, [0.1], False, first),
        *rows(["k3 loss"], [0.1, 0.05], False, seeds),
        *rows(["reward"], [0.1, 0.2], False, seeds),
        *rows(PLACEMENTS[:4], [0.1, 0.05], False, seeds),
        *rows(["future", "local", "reward"], [0.2], False, seeds),
        *rows(PLACEMENTS[4:], [0.1, 0.05], False, first),
        *rows(forward, [0.1, 0.03], False, first),
        *rows(["no KL"], [0.0], True, first[:2], hard),
        *rows(["future", "reward", "k3 loss"], [0.01], True, first[:2], hard),
        *rows(["no KL"], [0.0], True, first),
        *rows(PLACEMENTS, [0.2, 0.3], True, first),
        *rows(others, [0.05], False, first),
        *rows(PLACEMENTS, [0.1, 0.05], False, seeds),
        *rows(["no KL"], [0.0], True, seeds),
        *rows(PLACEMENTS, [0.2, 0.3], True, seeds),
        *rows(PLACEMENTS, [0.2], False, seeds),
        *rows(others, [0.1, 0.05], False, seeds),
        *rows(forward, [0.1, 0.03], False, seeds),
        *rows(PLACEMENTS, [0.1], True, seeds),
        *rows(["no KL"], [0.0], True, seeds, hard),
        *rows(["future", "reward", "k3 loss"], [0.01], True, seeds, hard),
        *rows(PLACEMENTS, BETAS[False], False, seeds),
        *rows(PLACEMENTS, BETAS[True], True, seeds),
        *rows(["future", "reward", "k3 loss"], [0.1], True, seeds, hard),
        *rows(VARIANTS, BETAS[False], False, seeds),
        *rows([m for m in VARIANTS if m != "GAE"], BETAS[True], True, seeds),
    ]
    return list(dict.fromkeys(planned))


class Coverage(study.Study):
    unsolvable = 0.0

    def __init__(self, folder: Path, device: str = "cpu"):
        super().__init__(folder, TEST, device)

    def rewards(self, problems, answers, repeat):
        right = super().rewards(problems, answers, repeat)
        hopeless = (self.unsolvable, 1 - self.unsolvable, 0)  # drawn like a way: those of A accept none
        ways = [
            coverage.accepted_way(p.key) if coverage.accepted_way((*p.key, 0), hopeless) != "A" else ""
            for p in problems
        ]
        fits = [text[:1] == ways[i // repeat] != "" for i, text in enumerate(self.texts(answers))]
        return right * torch.tensor(fits, device=right.device).float()

    def examine(self, model) -> dict:
        first, right, figures, _ = self.held_out(model, SAMPLES, ANSWERS)
        by_way = torch.stack([right * (first == mark) for mark in self.marks], 1).view(TEST, SAMPLES, 3).sum(1)
        passes = {k: [[pass_at_k(SAMPLES, int(c), k) for c in row] for row in by_way] for k in KS}
        return {**{f"pass@{k}": float((np.array(v) @ coverage.SHARES).mean()) for k, v in passes.items()}, **figures}


# ------------------------------------------------------------------------------------------------------ reporting


def brief(result: dict) -> dict:
    """A run as it is published: four digits, every tenth step of its curve."""
    curve = [{"step": i, **row} for i, row in enumerate(result["curve"], 1)]
    curve = [row for row in curve if row["step"] % 10 < 2]
    return records.digits({**result, "curve": curve}, 4)


def recipe() -> dict:
    """What decides the runs, the model among it: kept with them, and compared with today's by a test."""
    model = ways_model.settings_hash(ways_model.Settings(), *coverage.three_ways.make_splits().values())
    ways = "".join(coverage.accepted_way(p.key) for p in coverage.make_splits(0)["test"])
    return {"model": model, "ways": ways, "shares": list(coverage.SHARES), "steps": STEPS, "lr": LR,
            "prompts": study.PROMPTS, "answers": ANSWERS, "test": TEST, "samples": SAMPLES}  # fmt: skip


def published(path: Path, start: dict) -> dict[str, dict]:
    """Cell -> its run in a coverage.json, none if it began with another model than `start` tells of."""
    saved = records.read(path, start=start, runs=[])
    if saved["start"] != start:
        print(f"{path} is of another model: every cell is run again")
        return {}
    return {Cell(**{f.name: r[f.name] for f in fields(Cell)}).key: r for r in saved["runs"]}


def optimum(start: np.ndarray, beta: float) -> dict:
    """The figures of the policy that maximises pass@1 - beta KL."""
    chances = coverage_exact.optimum(start, coverage.SHARES, beta)
    passes = {f"pass@{k}": coverage_exact.pass_at(chances, coverage.SHARES, k) for k in KS}
    return {**passes, "kl": coverage_exact.divergence(chances, start)}


def best_at_kl(start: np.ndarray, k: int = 16) -> tuple[list[float], list[float]]:
    """KL, rising, and the best pass@k at each."""
    rows = [coverage_exact.best_at_kl(start, coverage.SHARES, k, price) for price in np.geomspace(60, 0.01, 25)]
    return [coverage_exact.divergence(p, start) for p in rows], [
        coverage_exact.pass_at(p, coverage.SHARES, k) for p in rows
    ]


def table(results: list[dict], start: dict) -> str:
    columns = ("pass@1", "pass@16", "kl", "entropy")
    chances = np.array(start["chances"])
    bounds = best_at_kl(chances)
    rows = []
    known = [("*at the start*", start), *((f"*optimum at beta {b:g}*", optimum(chances, b)) for b in BETAS[False])]
    for name, figures in known:
        cells = [f"{figures[c]:.3f}" if c in figures else "" for c in columns]
        shares = " / ".join(f"{x:.2f}" for x in figures.get("shares", []))
        rows.append(["", "", "", name, "", *cells, f"{np.interp(figures['kl'], *bounds):.3f}", shares, ""])
    for (unsolvable, by_std, beta, method), runs in results_by(results, *GROUPED).items():
        ends = [r["end"] for r in runs]
        best = np.interp(statistics.mean(e["kl"] for e in ends), *bounds)
        rows.append([
            unsolvable or "", "std" if by_std else "mean", f"{beta:g}" if beta else "", method, len(runs),
            *(shown([e[c] for e in ends]) for c in columns), f"{best:.3f}",
            " / ".join(f"{x:.2f}" for x in np.mean([e["shares"] for e in ends], 0)),
            shown([e["pass@1"] - beta * e["kl"] for e in ends]) if beta else "",
        ])  # fmt: skip
    head = ("unsolvable", "advantages", "beta", "method", "seeds", "pass@1", "pass@16", "KL", "entropy",
            "best pass@16 at this KL", "shares A / B / C", "J")  # fmt: skip
    return records.table(head, rows)


def on_line(ends: list[dict], at: float) -> dict[str, float] | None:
    """pass@16, KL and entropy at a pass@1, on the straight lines between ends; None beyond the last one."""
    ends = sorted(ends, key=lambda e: e["pass@1"])
    x = [e["pass@1"] for e in ends]
    if not x or not x[0] <= at <= x[-1]:
        return None
    return {c: float(np.interp(at, x, [e[c] for e in ends])) for c in COMPARED}


def read_off(results: list[dict], by_std: bool) -> dict[float, dict[str, dict[int, dict]]]:
    """pass@1 -> method -> seed -> pass@16, kl and entropy there, on the seed's line over its betas."""
    lines: dict[tuple, list[dict]] = {}
    for r in results:
        if (r["by_std"], r["unsolvable"]) == (by_std, 0) and r["beta"]:
            lines.setdefault((r["method"], r["seed"]), []).append(r["end"])
    found: dict[float, dict[str, dict[int, dict]]] = {at: {} for at in READ_AT}
    for (method, seed), ends in lines.items():
        for at in READ_AT:
            if (values := on_line(ends, at)) is not None:
                found[at].setdefault(method, {})[seed] = values
    return found


def comparison(results: list[dict]) -> str:
    """Figures at equal pass@1, and what pass@16, KL and entropy are above the two KL losses', seed by seed."""
    losses, rows = ("local", "k3 loss"), []
    for by_std in (False, True):
        for at, methods in read_off(results, by_std).items():
            for method in (m for m in METHODS if m in methods):
                seeds = methods[method]
                cells = [shown([v[c] for v in seeds.values()]) for c in COMPARED]
                for base in losses:
                    other = methods.get(base, {})
                    both = [s for s in seeds if s in other and base != method]
                    cells += [shown([seeds[s][c] - other[s][c] for s in both]) if both else "" for c in COMPARED]
                rows.append(["std" if by_std else "mean", f"{at:g}", method, len(seeds), *cells])
    less = [f"{c} less {base}'s" for base in losses for c in COMPARED]
    return records.table(["advantages", "at pass@1", "method", "seeds", "pass@16", "KL", "entropy", *less], rows)


LABELS = {"kl": "KL(pi || reference) of an answer, nats", "entropy": "entropy of an answer, nats"}


def frontier(axes, results: list[dict], start: dict, x: str, y: str, by_std: bool) -> None:
    """One line for each method over its betas of three seeds or more; means with 95 % intervals."""
    axes.scatter(start[x], start[y], color="black", marker="*", s=50, zorder=3, label="start")
    lines: dict[str, list] = {}
    for (unsolvable, std, _, method), runs in results_by(results, *GROUPED).items():
        if (unsolvable, std) == (0, by_std) and len(runs) >= 3:
            point = (interval([r["end"][c] for r in runs]) for c in (x, y))
            lines.setdefault(method, []).append([number for pair in point for number in pair])
    for method, points in lines.items():
        mx, dx, my, dy = zip(*sorted(points), strict=True)
        axes.errorbar(mx, my, xerr=dx, yerr=dy, color=COLORS[method], marker="x" if method == "no KL" else "o",
                      markersize=4, linewidth=1, elinewidth=0.5, capsize=1.5, label=method)  # fmt: skip
    axes.set(xlabel=LABELS.get(x, x), ylabel=LABELS.get(y, y))
    axes.grid(alpha=0.3)


def pictures(results: list[dict], start: dict, folder: Path) -> None:
    chances, grouped = np.array(start["chances"]), results_by(results, *GROUPED)
    path = [optimum(chances, beta) for beta in np.geomspace(0.02, 3, 40)]
    kl, best = best_at_kl(chances)
    for by_std in sorted({r["by_std"] for r in results if not r["unsolvable"]}):
        name = "std" if by_std else "mean"
        with records.figure(folder / f"coverage_{name}.png", 2, 2, size=(10.5, 8), dpi=130) as axes:
            for ax, (x, y) in zip(
                axes.flat, (("pass@1", "pass@16"), ("kl", "pass@16"), ("kl", "entropy")), strict=False
            ):
                frontier(ax, results, start, x, y, by_std)
                if y == "pass@16":
                    ax.plot([p[x] for p in path], [p[y] for p in path], color="black", linewidth=0.8, linestyle="--",
                            label="best pass@1 - beta KL")  # fmt: skip
                    ax.set_ylim(0.4, 1.01)
            axes[0][1].plot(kl, best, color="black", linewidth=0.8, label="best pass@16 at this KL")
            for ax in (axes[0][1], axes[1][0]):
                ax.set_xscale("symlog", linthresh=1.0)
                ax.set_xlim(left=0)
            axes[0][0].legend(fontsize=6.5, frameon=False, loc="lower left")
            ax = axes[1][1]
            for (unsolvable, std, beta, method), runs in grouped.items():
                if (unsolvable, std) == (0, by_std) and beta in (0.0, 0.1) and method in ("no KL", *PLACEMENTS):
                    ax.plot(KS, [statistics.mean(r["end"][f"pass@{k}"] for r in runs) for k in KS], color=COLORS[method],
                            marker=".", label=f"{method}, beta {beta:g}" if beta else method)  # fmt: skip
            ax.plot(KS, [start[f"pass@{k}"] for k in KS], color="black", linestyle=":", label="start")
            ax.set(xscale="log", xlabel="k", ylabel="pass@k")
            ax.set_xticks(KS, [str(k) for k in KS])
            ax.grid(alpha=0.3)
            ax.legend(fontsize=7, frameon=False)
            title = "divided by std" if by_std else "mean baseline"
            ax.figure.suptitle(f"{title}; 95 % intervals over seeds", fontsize=9)

    with records.figure(folder / "coverage_shares.png", 1, 5, size=(13, 2.8), dpi=130, sharey=True) as axes:
        for ax, method in zip(axes, ("no KL", *PLACEMENTS[:4]), strict=True):
            ax.set(title=method, xlabel="step", ylim=(0, 1))
            if runs := grouped.get((0, False, 0.0 if method == "no KL" else 0.1, method)):
                steps = [c["step"] for c in runs[0]["curve"]]
                ways = np.mean([[c["shares"] for c in r["curve"]] for r in runs], 0).T
                ax.stackplot(steps, ways, colors=("#d9d9d9", "#9ecae1", "#08519c"), labels=("way A", "way B", "way C"))
        axes[0].set_ylabel("share of the ways")
        axes[0].legend(fontsize=7, loc="lower left")


def main() -> None:
    parser = records.parser(__doc__, "build/coverage")
    parser.add_argument("--quickstart", type=Path, default=QUICKSTART, help="folder with data/ and model/")
    parser.add_argument("--published", type=Path, default=Path("docs/results/coverage.json"), help="runs to begin with")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder, origin = args.out / "cells", args.out / "start.json"
    task = None if args.table else Coverage(args.quickstart)
    if task and not origin.exists():
        start = {**task.examine(task.reference), "chances": task.chances(task.reference).tolist()}
        records.write(origin, start, indent=None)
    start = json.loads((origin if origin.exists() else args.published).read_text())
    start = start.get("start", start)
    found = published(args.published, start)
    for cell in cells():
        path = folder / f"{cell.key}.json"
        if task and cell.key not in found and not path.exists():
            task.unsolvable = cell.unsolvable
            result = {**task.run(cell), "machine": machine()}
            records.write(path, result, indent=None)
            end = result["end"]
            print(f"{cell.key}: pass@1 {end['pass@1']:.3f} pass@16 {end['pass@16']:.3f} KL "
                  f"{end['kl']:.2f} entropy {end['entropy']:.2f}, {result['cpu_seconds']} s", flush=True)  # fmt: skip
        if path.exists():
            found[cell.key] = json.loads(path.read_text())
    results = [brief(found[cell.key]) for cell in cells() if cell.key in found]
    records.write(args.out / "coverage.json", {"recipe": recipe(), "start": start, "runs": results}, indent=None)
    text = table(results, start) + "\n" + comparison(results)
    write_atomically(args.out / "coverage_tables.md", text)
    pictures(results, start, args.out)
    print(text)


if __name__ == "__main__":
    main()
