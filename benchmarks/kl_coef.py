"""Beta over time: a schedule that begins with a larger beta, and a beta steered to a KL, against a fixed one.

    make quickstart                            # its data and its warmed-up model are used
    python benchmarks/kl_coef.py               # every cell that is not there yet, then the tables and the figure
    python benchmarks/kl_coef.py --figures --out docs/results     # train nothing

Two tasks, five seeds each. *Automaton*: problem "commit" of horizon.py where a small beta gives up the hard ways; the
regret is that of the last beta, so every plan is judged by one objective. *Coverage*: the language model of coverage.py.
A schedule falls over the first half of a run. A target is the KL of the best policy (automaton) or what a fixed beta 0.1
reaches (coverage). The default `kl_horizon` of 100 moves beta by 0.2 % a step at most: the 2000 steps of the automaton take it
and 20, the 60 steps of coverage take 5.
What is there is not run again; runs with a fixed beta that coverage.json has are taken from it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import coverage
import horizon
import numpy as np
import study
import torch
from study import QUICKSTART, interval

from frpo_verl.core.coefficient import scheduled, steered
from frpo_verl.files import write_atomically

PUBLISHED = Path("docs/results/coverage.json")
METHOD, SEEDS = "future, position", (1, 2, 3, 4, 5)
AUTOMATA = ((False, 0.1, 24), (False, 0.1, 96), (True, 0.3, 24), (True, 0.3, 48))  # by std, last beta, tokens


@dataclass(frozen=True)
class Plan:
    """Beta over a run: from `first` times the last beta, over half the run; or steered to `target` nats."""

    first: float = 1.0
    shape: str = "linear"
    target: float | None = None
    horizon: float = 20.0

    @property
    def key(self) -> str:
        start = f"from {self.first:g} beta" if self.first != 1 else "from beta"
        if self.target is not None:
            return f"target {self.target:.2f}, horizon {self.horizon:g}, {start}"
        return "fixed" if self.first == 1 else f"{self.shape}, {start}"

    def beta(self, step: int, last: float, steps: int) -> float:
        return scheduled(step, self.first * last, last, steps // 2, self.shape)


# ------------------------------------------------------------------------------------------------------ the automaton


@dataclass(frozen=True)
class Walk(horizon.Cell):
    plan: Plan = Plan()

    @property
    def key(self) -> str:
        return f"{super().key}/{self.plan.key}".replace("/", "-").replace(" ", "_").replace(",", "")


class Advantages(horizon.Advantages):
    """Those of horizon.py with the beta of each iteration; a target steers the beta of every run by its own KL."""

    def __init__(self, cell: Walk, rows: int):
        super().__init__(cell, rows)
        self.cell, self.step = cell, 0
        self.betas = np.full(rows // (horizon.GROUPS * horizon.GROUP), cell.beta * cell.plan.first)

    def at(self, beta: float, *batch) -> np.ndarray:
        self.config.frpo.kl_coef = beta
        return super().__call__(*batch)

    def __call__(self, reward, log_pi, log_ref):
        cell, plan, batch = self.cell, self.cell.plan, (reward, log_pi, log_ref)
        self.step += 1
        if plan.target is None:
            return self.at(plan.beta(self.step, cell.beta, cell.iterations), *batch)
        once = self.at(1.0, *batch)
        regularizer = once - self.at(2.0, *batch)
        kls = (log_pi - log_ref).sum(1).reshape(len(self.betas), -1).mean(1)
        weight = once + np.repeat(1 - self.betas, len(reward) // len(self.betas))[:, None] * regularizer
        self.betas = np.array([steered(b, k, plan.target, plan.horizon) for b, k in zip(self.betas, kls, strict=True)])
        return weight


def best_kl(by_std: bool, beta: float, tokens: int) -> float:
    """KL of the best policy: what a target should be."""
    a, (grid, u) = horizon.commit(tokens), horizon.utility()
    reached = [horizon.evaluate(a, horizon.best_policy(a, tokens, beta, scale)[0])[:2]
               for scale in (np.geomspace(0.1, 16, 400) if by_std else [1.0])]  # fmt: skip
    return max(reached, key=lambda r: (np.interp(r[0], grid, u) if by_std else r[0]) - beta * r[1])[1]


def walks() -> list[Walk]:
    plans = [Plan(), Plan(10), Plan(target=0.0), Plan(target=0.0, horizon=100)]
    cells = []
    for plan in plans:
        for by_std, beta, tokens in AUTOMATA:
            made = plan if plan.target is None else replace(plan, target=round(best_kl(by_std, beta, tokens), 4))
            cells.append(Walk("commit", by_std, beta, tokens, METHOD, 2000, plan=made))
    return cells


# ------------------------------------------------------------------------------------------------------ coverage


@dataclass(frozen=True)
class Sums(coverage.Cell):
    plan: Plan = Plan()

    @property
    def key(self) -> str:
        return f"{super().key}-{self.plan.key}".replace(" ", "_").replace(",", "")


class Step(study.Step):
    """One batch with the beta of its step."""

    def __init__(self, run: Sums):
        super().__init__(run)
        self.run, self.betas = run, [run.plan.first * run.beta]

    def __call__(self, prompts, answers, mask, reward, current, ref):
        plan = self.run.plan
        if plan.target is None:
            self.betas.append(plan.beta(len(self.betas), self.run.beta, self.run.steps))
        self.algorithm.frpo.kl_coef = self.betas[-1]
        loss = super().__call__(prompts, answers, mask, reward, current, ref)
        if plan.target is not None:
            kl = float(((current.detach() - ref) * mask).sum(1).mean())
            self.betas.append(steered(self.betas[-1], kl, plan.target, plan.horizon))
        return loss


class Study(coverage.Coverage):
    def step(self, run):
        self.last = Step(run)
        return self.last


def sums() -> list[Sums]:
    def rows(beta: float, plan: Plan) -> list[Sums]:
        return [Sums("future", beta, False, seed, coverage.STEPS, coverage.LR, plan=plan) for seed in SEEDS]

    steer = {"target": 1.5, "horizon": 5.0}
    return [
        *rows(0.1, Plan()), *rows(0.03, Plan(10)), *rows(0.03, Plan()), *rows(0.03, Plan(**steer)), *rows(0.05, Plan()),
        *rows(0.1, Plan(**steer)),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------ reporting


def walk_table(found: dict[str, dict]) -> str:
    """Regret at the last beta, mean (standard error) over five seeds at the better of two step sizes."""
    head = [f"{'std' if s else 'mean'}, beta {b:g}, {t} tokens" for s, b, t in AUTOMATA]
    text = ["| plan | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    rows: dict[str, dict] = {}
    for cell in (c for c in walks() if c.key in found):
        rows.setdefault(cell.plan.key, {})[cell.by_std, cell.beta, cell.horizon] = found[cell.key]
    for name, row in rows.items():
        best = {at: horizon.at_best_step_size(r) for at, r in row.items()}
        shown = [f"{best[a]['regret']:.4f} ({best[a]['regret_se']:.4f})" if a in best else "" for a in AUTOMATA]
        text.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(text) + "\n"


def on_fixed_line(fixed: dict[int, list[dict]], seed: int, at: float) -> dict | None:
    """pass@16 and KL at a pass@1, on the line through a seed's fixed betas."""
    ends = sorted((r["end"] for r in fixed.get(seed, [])), key=lambda e: e["pass@1"])
    x = [e["pass@1"] for e in ends]
    if len(ends) < 2 or not x[0] <= at <= x[-1]:
        return None
    return {c: float(np.interp(at, x, [e[c] for e in ends])) for c in ("pass@16", "kl")}


def sums_table(found: dict[str, dict]) -> str:
    text = ["| plan | beta, first to last | pass@1 | pass@16 | KL | entropy | pass@16 less the fixed line's at equal pass@1 |",
            "|---|---|---|---|---|---|---|"]  # fmt: skip
    cells = [c for c in sums() if c.key in found]
    fixed: dict[int, list[dict]] = {}
    for c in cells:
        if c.plan == Plan():
            fixed.setdefault(c.seed, []).append(found[c.key])
    for beta, plan in dict.fromkeys((c.beta, c.plan) for c in cells):
        runs = [found[c.key] for c in cells if (c.beta, c.plan) == (beta, plan)]
        ends = [r["end"] for r in runs]
        less = [r["end"]["pass@16"] - line["pass@16"] for r in runs
                if plan != Plan() and (line := on_fixed_line(fixed, r["seed"], r["end"]["pass@1"]))]  # fmt: skip
        last = np.mean([r["betas"][-1] for r in runs])
        text.append(
            f"| {plan.key} | {plan.first * beta:g} to {last:.3f} | "
            + " | ".join(coverage.shown([e[k] for e in ends]) for k in ("pass@1", "pass@16", "kl", "entropy"))
            + f" | {coverage.shown(less) + f' (n {len(less)})' if less else ''} |"
        )
    return "\n".join(text) + "\n"


def picture(walked: dict[str, dict], summed: dict[str, dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    names: list[str] = []
    for cell in (c for c in walks() if c.key in walked):
        name = cell.plan.key
        names += [name] if name not in names else []
        best, place = (
            horizon.at_best_step_size(walked[cell.key]),
            AUTOMATA.index((cell.by_std, cell.beta, cell.horizon)),
        )
        x, colour = place + 0.13 * names.index(name) - 0.3, f"C{names.index(name)}"
        left.bar(x, best["regret"], 0.12, yerr=best["regret_se"], color=colour, label=name if place == 0 else None)
    left.set_xticks(range(4), [f"{'std' if s else 'mean'}\nbeta {b:g}\n{t} tokens" for s, b, t in AUTOMATA])
    left.set(yscale="log", ylabel="regret at the last beta", title="automaton")
    left.legend(fontsize=7, frameon=False)
    for i, plan in enumerate(dict.fromkeys(c.plan for c in sums() if c.key in summed)):
        points = []
        for beta in sorted({c.beta for c in sums() if c.plan == plan and c.key in summed}):
            ends = [summed[c.key]["end"] for c in sums() if (c.plan, c.beta) == (plan, beta) and c.key in summed]
            points.append((*interval([e["pass@1"] for e in ends]), *interval([e["pass@16"] for e in ends])))
        x, dx, y, dy = zip(*points, strict=True)
        right.errorbar(x, y, yerr=dy, xerr=dx, marker="o", markersize=4, elinewidth=0.5, label=plan.key, color=f"C{i}",
                       linestyle="-" if plan == Plan() else "none")  # fmt: skip
    right.set(xlabel="pass@1", ylabel="pass@16", title="coverage")
    right.legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", action="store_true", help="train nothing; tables and figure of what is there")
    parser.add_argument("--quickstart", type=Path, default=QUICKSTART, help="folder with data/ and model/")
    parser.add_argument("--out", type=Path, default=Path("build/kl_coef"), help="kl_coef.json and .png go there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    store = args.out / "kl_coef.json"
    args.out.mkdir(parents=True, exist_ok=True)
    saved = json.loads(store.read_text()) if store.exists() else {"automaton": {}, "coverage": {}}

    def go(kind: str, key: str, compute: Callable[[], dict]) -> None:
        if args.figures or key in saved[kind]:
            return
        saved[kind][key] = json.loads(json.dumps(compute()), parse_float=lambda x: float(f"{float(x):.5g}"))
        write_atomically(store, json.dumps({"machine": horizon.machine(), **saved}, indent=None) + "\n")
        print(f"{kind} {key}: {saved[kind][key]['cpu_seconds']} s", flush=True)

    def walk(cell: Walk) -> dict:
        made: list[Advantages] = []
        result = horizon.train(cell, lambda c, rows: made.append(Advantages(c, rows)) or made[0])
        return {**result, "betas": made[0].betas.tolist()}

    task = None if args.figures else Study(args.quickstart)

    published = {(r["beta"], r["seed"]): r for r in json.loads(PUBLISHED.read_text())["runs"]
                 if (r["method"], r["by_std"], r["unsolvable"]) == ("future", False, 0)}  # fmt: skip

    def learn(cell: Sums) -> dict:
        if cell.plan == Plan() and (cell.beta, cell.seed) in published:
            known = published[cell.beta, cell.seed]
            return {**asdict(cell), "end": known["end"], "betas": [cell.beta], "cpu_seconds": known["cpu_seconds"]}
        result = task.run(cell)
        return {**asdict(cell), "end": result["end"], "betas": task.last.betas[-cell.steps :: 10] + task.last.betas[-1:],
                "kl": [row["kl"] for row in result["curve"]][::10], "cpu_seconds": result["cpu_seconds"]}  # fmt: skip

    lists = (walks(), sums())
    for i in range(max(map(len, lists))):  # both tasks get on side by side
        for kind, cells, compute in (("automaton", lists[0], walk), ("coverage", lists[1], learn)):
            if i < len(cells):
                go(kind, cells[i].key, lambda c=cells[i], f=compute: f(c))
    print(walk_table(saved["automaton"]) + "\n" + sums_table(saved["coverage"]))
    picture(saved["automaton"], saved["coverage"], args.out / "kl_coef.png")


if __name__ == "__main__":
    main()
