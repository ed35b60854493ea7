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

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path

import automaton
import coverage
import horizon
import numpy as np
import records
import study
import torch
from records import interval, machine, shown
from study import QUICKSTART

from frpo_verl.core.coefficient import scheduled, steered

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
    a, (grid, u) = automaton.commit(tokens), automaton.utility()
    reached = [automaton.evaluate(a, automaton.best_policy(a, tokens, beta, scale)[0])[:2]
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
    rows: dict[str, dict] = {}
    for cell in (c for c in walks() if c.key in found):
        best = horizon.at_best_step_size(found[cell.key])
        regret = f"{best['regret']:.4f} ({best['regret_se']:.4f})"
        rows.setdefault(cell.plan.key, {})[cell.by_std, cell.beta, cell.horizon] = regret
    head = [f"{'std' if s else 'mean'}, beta {b:g}, {t} tokens" for s, b, t in AUTOMATA]
    return records.table(["plan", *head], ([name, *(row.get(a, "") for a in AUTOMATA)] for name, row in rows.items()))


def sums_table(found: dict[str, dict]) -> str:
    rows, cells = [], [c for c in sums() if c.key in found]
    fixed: dict[int, list[dict]] = {}
    for c in cells:
        if c.plan == Plan():
            fixed.setdefault(c.seed, []).append(found[c.key]["end"])
    for beta, plan in dict.fromkeys((c.beta, c.plan) for c in cells):
        runs = [found[c.key] for c in cells if (c.beta, c.plan) == (beta, plan)]
        ends = [r["end"] for r in runs]
        lines = [plan != Plan() and coverage.on_line(fixed.get(r["seed"], []), r["end"]["pass@1"]) for r in runs]
        less = [end["pass@16"] - line["pass@16"] for end, line in zip(ends, lines, strict=True) if line]
        rows.append([
            plan.key, f"{plan.first * beta:g} to {np.mean([r['betas'][-1] for r in runs]):.3f}",
            *(shown([e[k] for e in ends]) for k in ("pass@1", "pass@16", "kl", "entropy")),
            f"{shown(less)} (n {len(less)})" if less else "",
        ])  # fmt: skip
    head = (
        "plan",
        "beta, first to last",
        "pass@1",
        "pass@16",
        "KL",
        "entropy",
        "pass@16 less the fixed line's at equal pass@1",
    )
    return records.table(head, rows)


def picture(walked: dict[str, dict], summed: dict[str, dict], file: Path) -> None:
    with records.figure(file, 1, 2, size=(11, 3.8)) as (left, right):
        done = [c for c in walks() if c.key in walked]
        names = list(dict.fromkeys(c.plan.key for c in done))
        for cell in done:
            place, plan = AUTOMATA.index((cell.by_std, cell.beta, cell.horizon)), names.index(cell.plan.key)
            best = horizon.at_best_step_size(walked[cell.key])
            left.bar(place + 0.13 * plan - 0.3, best["regret"], 0.12, yerr=best["regret_se"], color=f"C{plan}",
                     label=None if place else cell.plan.key)  # fmt: skip
        left.set_xticks(range(4), [f"{'std' if s else 'mean'}\nbeta {b:g}\n{t} tokens" for s, b, t in AUTOMATA])
        left.set(yscale="log", ylabel="regret at the last beta", title="automaton")
        found = [c for c in sums() if c.key in summed]
        for i, plan in enumerate(dict.fromkeys(c.plan for c in found)):
            points = []
            for beta in sorted({c.beta for c in found if c.plan == plan}):
                ends = [summed[c.key]["end"] for c in found if (c.plan, c.beta) == (plan, beta)]
                points.append((*interval([e["pass@1"] for e in ends]), *interval([e["pass@16"] for e in ends])))
            x, dx, y, dy = zip(*points, strict=True)
            right.errorbar(x, y, yerr=dy, xerr=dx, marker="o", markersize=4, elinewidth=0.5, label=plan.key, color=f"C{i}",
                           linestyle="-" if plan == Plan() else "none")  # fmt: skip
        right.set(xlabel="pass@1", ylabel="pass@16", title="coverage")
        for axes in (left, right):
            axes.legend(fontsize=7, frameon=False)


def walk(cell: Walk) -> dict:
    made: list[Advantages] = []
    result = horizon.train(cell, lambda c, rows: made.append(Advantages(c, rows)) or made[0])
    return {**result, "betas": made[0].betas.tolist()}


def learner(folder: Path) -> Callable[[Sums], dict]:
    task = Study(folder)
    published = {(r["beta"], r["seed"]): r for r in json.loads(PUBLISHED.read_text())["runs"]
                 if (r["method"], r["by_std"], r["unsolvable"]) == ("future", False, 0)}  # fmt: skip

    def learn(cell: Sums) -> dict:
        if cell.plan == Plan() and (cell.beta, cell.seed) in published:
            known = published[cell.beta, cell.seed]
            return {**asdict(cell), "end": known["end"], "betas": [cell.beta], "cpu_seconds": known["cpu_seconds"]}
        result = task.run(cell)
        return {**asdict(cell), "end": result["end"], "betas": task.last.betas[-cell.steps :: 10] + task.last.betas[-1:],
                "kl": [row["kl"] for row in result["curve"]][::10], "cpu_seconds": result["cpu_seconds"]}  # fmt: skip

    return learn


def main() -> None:
    parser = records.parser(__doc__, "build/kl_coef")
    parser.add_argument("--quickstart", type=Path, default=QUICKSTART, help="folder with data/ and model/")
    args = parser.parse_args()
    torch.set_num_threads(1)
    store = args.out / "kl_coef.json"
    saved = records.read(store, automaton={}, coverage={})
    if not args.table:
        learn = learner(args.quickstart)
        both = zip_longest((("automaton", c, walk) for c in walks()), (("coverage", c, learn) for c in sums()))
        for kind, cell, compute in (
            entry for pair in both for entry in pair if entry
        ):  # both tasks get on side by side
            if cell.key not in saved[kind]:
                saved[kind][cell.key] = found = records.digits(compute(cell), 5)
                records.write(store, {"machine": machine(), **saved}, indent=None)
                print(f"{kind} {cell.key}: {found['cpu_seconds']} s", flush=True)
    print(walk_table(saved["automaton"]) + "\n" + sums_table(saved["coverage"]))
    picture(saved["automaton"], saved["coverage"], args.out / "kl_coef.png")


if __name__ == "__main__":
    main()
