"""What a KL placement costs as answers grow longer: regret on finite automata, whose best policy is known exactly.

    python benchmarks/horizon.py                         # beta 0.3, mean baseline: the figure's left half
    python benchmarks/horizon.py --all --jobs 2          # every table
    python benchmarks/horizon.py --all --table           # print the tables and draw the figure again from the JSON
    python benchmarks/horizon.py --step-sizes 1 2 --iterations 8000 --horizons 96    # longer, with smaller steps

A policy is a table of logits (time x state x action), started at the reference. Each iteration samples 4 groups of 16
answers, sends them through verl's `compute_advantage` with one of the plugin's estimators (a KL loss: through verl's
`kl_penalty`, with autograd) and takes one plain gradient step; the step size falls to a tenth, and the policy that
counts is the mean of the logits over the last tenth. Seeds and step sizes run side by side; a method is shown at the
step size that is best for it (by the mean over seeds).

The problems "commit" and "random", regret and its floor: automaton.py.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import records
from automaton import GROUP, best_objective, evaluate, log_softmax, make, utility
from records import COLORS, machine

GROUPS = 4
STEP_SIZES = (4.0, 16.0)
SEEDS = 5
BETA = 0.3
METHODS = ("local", "k3 loss", "future", "future, position", "sequence", "sequence, position", "reward")


@dataclass(frozen=True)
class Cell:
    problem: str
    by_std: bool
    beta: float
    horizon: int
    method: str
    iterations: int
    step_sizes: tuple[float, ...] = STEP_SIZES

    @property
    def key(self) -> str:
        normalised = "std" if self.by_std else "mean"
        sizes = "" if self.step_sizes == STEP_SIZES else "/" + ",".join(f"{s:g}" for s in self.step_sizes)
        return f"{self.problem}/{normalised}/{self.beta:g}/{self.horizon}/{self.method}/{self.iterations}{sizes}"


class Advantages:
    """verl's `compute_advantage` under one configuration, for a batch of fixed shape."""

    def __init__(self, cell: Cell, rows: int):
        import torch
        from omegaconf import OmegaConf
        from verl import DataProto
        from verl.trainer.ppo import core_algos, ray_trainer

        self.torch, self.proto, self.core = torch, DataProto, core_algos
        self.compute = ray_trainer.compute_advantage
        self.estimator, section, self.kl_loss = records.METHODS[cell.method]
        self.beta, self.by_std = cell.beta, cell.by_std
        section = {"kl_coef": cell.beta, **section} if self.estimator == "frpo" else {}
        self.config = OmegaConf.create({"norm_adv_by_std_in_grpo": cell.by_std, "frpo": section})
        self.mask = torch.ones(rows, cell.horizon)
        self.uid = np.arange(rows) // GROUP
        self.rewards = torch.zeros(rows, cell.horizon)
        vectorize_group_statistics(core_algos)

    def __call__(self, reward: np.ndarray, log_pi: np.ndarray, log_ref: np.ndarray) -> np.ndarray:
        """(N,) rewards, (N, T) log-probs -> (N, T), what multiplies grad log pi of each token."""
        torch = self.torch
        self.rewards[:, -1] = torch.from_numpy(reward)
        old, ref = torch.from_numpy(log_pi).float(), torch.from_numpy(log_ref).float()
        tensors = {"token_level_rewards": self.rewards, "response_mask": self.mask, "old_log_probs": old}
        if self.estimator == "frpo":
            tensors["ref_log_prob"] = ref
        data = self.proto.from_dict(tensors=tensors, non_tensors={"uid": self.uid})
        data = self.compute(data, self.estimator, norm_adv_by_std_in_grpo=self.by_std, config=self.config)
        weight = data.batch["advantages"]
        if self.kl_loss:
            current = old.clone().requires_grad_()
            term = self.core.kl_penalty(logprob=current, ref_logprob=ref, kl_penalty=self.kl_loss)
            weight = weight - self.beta * torch.autograd.grad(term.sum(), current)[0]
        return weight.numpy().astype(np.float64)


def vectorize_group_statistics(core_algos) -> None:
    """Let verl's own `grpo_vectorized` stand in for `grpo`, which walks over rows in Python; both must agree."""
    import torch

    plain, fast = core_algos.compute_grpo_outcome_advantage, core_algos.compute_grpo_vectorized_outcome_advantage
    if plain is fast:
        return
    rewards, mask, index = torch.zeros(64, 3), torch.ones(64, 3), np.arange(64) // GROUP
    rewards[:, -1] = (torch.arange(64) % 7 == 0).float()
    for by_std in (False, True):
        batch = {
            "token_level_rewards": rewards,
            "response_mask": mask,
            "index": index,
            "norm_adv_by_std_in_grpo": by_std,
        }
        torch.testing.assert_close(plain(**batch)[0], fast(**batch)[0])
    core_algos.compute_grpo_outcome_advantage = fast


def train(cell: Cell, make_advantages=Advantages, age: int = 0, correct=None, watch=None) -> dict:
    """All seeds and step sizes of one cell side by side; exact figures of every final policy.

    Answers come from the policy of `age` updates ago; `correct` makes weights (N, T) of log pi/mu, and `watch` sees each
    iteration, its policies and log pi/mu.
    """
    import torch

    torch.set_num_threads(1)
    began, horizon, sizes = time.process_time(), cell.horizon, cell.step_sizes
    automata = [make(cell.problem, horizon, seed) for seed in range(SEEDS)]
    runs, batch = SEEDS * len(sizes), GROUPS * GROUP
    following = np.repeat(np.stack([a.following for a in automata]), len(sizes), 0)  # (R, S, A)
    log_ref = np.log(np.repeat(np.stack([a.reference for a in automata]), len(sizes), 0))
    reward = np.repeat(np.stack([a.reward for a in automata]), len(sizes), 0)
    states, actions = log_ref.shape[1:]
    size = np.tile(np.array(sizes), SEEDS)[:, None, None, None] / batch
    rng = [np.random.default_rng(seed) for seed in range(SEEDS)]  # the step sizes of a seed see the same numbers
    logits = np.repeat(log_ref[:, None], horizon, 1)  # (R, T, S, A)
    advantages = make_advantages(cell, runs * batch)
    run = np.repeat(np.arange(runs), batch)
    total, counted, lagging = np.zeros_like(logits), 0, deque(maxlen=age + 1)
    for iteration in range(cell.iterations):
        log_pi = log_softmax(logits)
        lagging.append(log_pi)
        uniform = np.stack([r.random((horizon, batch)) for r in rng]).repeat(len(sizes), 0)
        cumulative = np.exp(lagging[0]).cumsum(-1)[..., :-1].reshape(-1, actions - 1)
        state, where, chosen = np.zeros(runs * batch, np.int64), [], []
        for t in range(horizon):
            row = (run * horizon + t) * states + state
            action = (uniform[:, t].reshape(-1, 1) > cumulative[row]).sum(-1)
            where.append(row)
            chosen.append((run * states + state) * actions + action)
            state = following.reshape(-1)[chosen[-1]]
        where, chosen = np.stack(where, 1), np.stack(chosen, 1)  # (N, T)
        index = where * actions + chosen % actions
        pi = log_pi.reshape(-1)[index]
        weight = advantages(reward[run, state], pi, log_ref.reshape(-1)[chosen])
        if correct is not None:
            weight = weight * correct(pi - lagging[0].reshape(-1)[index])
        if watch is not None:
            watch(iteration, log_pi, pi - lagging[0].reshape(-1)[index])
        pushed = np.bincount(index.ravel(), weight.ravel(), logits.size).reshape(logits.shape)
        gradient = pushed - np.exp(log_pi) * pushed.sum(-1, keepdims=True)
        logits = logits + size * (1 - 0.9 * iteration / cell.iterations) * gradient
        if iteration >= 0.9 * cell.iterations:
            total += logits
            counted += 1
    final = log_softmax(total / counted)
    grid, u = utility()
    found = []
    for seed, automaton in enumerate(automata):
        best, floor = best_objective(automaton, horizon, cell.beta, cell.by_std)
        for i, step_size in enumerate(sizes):
            rate, kl, entropy, first = evaluate(automaton, final[seed * len(sizes) + i])
            reached = (float(np.interp(rate, grid, u)) if cell.by_std else rate) - cell.beta * kl
            found.append({"seed": seed, "step_size": step_size, "regret": best - reached, "best": best, "floor": floor,
                          "pass_rate": rate, "kl": kl, "entropy": entropy, "first_token": first})  # fmt: skip
    return {**asdict(cell), "runs": found, "cpu_seconds": round(time.process_time() - began, 1)}


def cells(everything: bool, iterations: int, step_sizes: tuple[float, ...] = STEP_SIZES) -> list[Cell]:
    """The headline, then the rest, most wanted first."""
    plan = [("commit", False, BETA, h) for h in (6, 12, 24, 48, 96)]
    if everything:
        plan += [("commit", True, BETA, h) for h in (6, 12, 24, 48)]
        plan += [("random", False, BETA, h) for h in (6, 24)]
        plan += [("random", True, BETA, 24)]
        plan += [("commit", by_std, beta, 24) for by_std in (False, True) for beta in (0.1, 1.0)]
        plan += [("commit", False, beta, h) for beta in (0.1, 1.0) for h in (6, 96)]
    return [Cell(*row, method, iterations, step_sizes) for row in plan for method in METHODS]


def at_best_step_size(result: dict) -> dict:
    """Mean and standard error over seeds at the step size with the least mean regret."""

    def mean(key, size):
        return float(np.mean([r[key] for r in result["runs"] if r["step_size"] == size]))

    size = min({r["step_size"] for r in result["runs"]}, key=lambda s: mean("regret", s))
    mine = [r for r in result["runs"] if r["step_size"] == size]
    row = {key: mean(key, size) for key in ("regret", "floor", "best", "pass_rate", "kl", "entropy")}
    row["regret_se"] = float(np.std([r["regret"] for r in mine], ddof=1) / math.sqrt(len(mine)))
    row["first_token"] = np.mean([r["first_token"] for r in mine], axis=0).tolist()
    return {**row, "step_size": size, "n": len(mine)}


# ------------------------------------------------------------------------------------------------------ reporting


def blocks(results: dict[str, dict]) -> dict[tuple, dict[str, dict[int, dict]]]:
    """(problem, by_std, beta) -> method -> horizon -> `at_best_step_size`."""
    found: dict[tuple, dict] = {}
    for r in results.values():
        block = found.setdefault((r["problem"], r["by_std"], r["beta"]), {})
        block.setdefault(r["method"], {})[r["horizon"]] = at_best_step_size(r)
    return found


def tables(results: dict[str, dict]) -> str:
    """One table for each problem, normalisation and beta: regret (standard error) by horizon; then the headline's details."""
    text, details = "", []
    for (problem, by_std, beta), methods in blocks(results).items():
        horizons = sorted({h for row in methods.values() for h in row})
        rows = [
            [method, *(f"{row[h]['regret']:.4f} ({row[h]['regret_se']:.4f})" if h in row else "" for h in horizons)]
            for method, row in methods.items()
        ]
        known = next(iter(methods.values()))
        rows += [] if by_std else [["*floor*", *(f"{known[h]['floor']:.4f}" for h in horizons)]]
        rows.append(["*J\\**", *(f"{known[h]['best']:.3f}" for h in horizons)])
        normalised = "divided by std, J = U(p) - beta KL" if by_std else "mean baseline, J = p - beta KL"
        text += f"### {problem}, beta {beta:g}, {normalised}\n\n"
        text += records.table(["method", *(f"horizon {h}" for h in horizons)], rows) + "\n"
        if (problem, by_std, beta) == HEADLINE:
            for h, method, b in ((h, method, row[h]) for h in horizons for method, row in methods.items() if h in row):
                first = " / ".join(f"{x:.2f}" for x in b["first_token"])
                numbers = f"{b['regret']:.4f}", f"{b['pass_rate']:.3f}", f"{b['kl']:.3f}", first, f"{b['step_size']:g}"
                details.append([h, method, *numbers])
    return text + records.table(("horizon", "method", "regret", "pass rate", "KL", "first token", "step size"), details)


HEADLINE = ("commit", False, BETA)
MARKERS = {"k3 loss": "s", "future, position": "^", "sequence, position": "^", "reward": "D"}


def draw(axes, results: dict[str, dict], by_std: bool = False) -> None:
    """Regret against horizon on commit at the headline's beta, log-log, with standard errors."""
    methods = blocks(results)["commit", by_std, BETA]
    for method in (m for m in METHODS if m in methods):
        rows, dashed = sorted(methods[method].items()), "position" in method
        axes.errorbar(
            [h for h, _ in rows], [max(b["regret"], 1e-5) for _, b in rows], [b["regret_se"] for _, b in rows],
            color=COLORS[method], marker=MARKERS.get(method, "o"), markersize=4, capsize=2, label=method,
            linestyle="--" if dashed else "-",
        )  # fmt: skip
    horizons = sorted({h for row in methods.values() for h in row})
    axes.set(xscale="log", yscale="log", xlabel="tokens of an answer", ylabel="regret J* - J")
    axes.set_xticks(horizons, [str(h) for h in horizons])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def picture(results: dict[str, dict], file: Path) -> None:
    panels = [p for p in (False, True) if ("commit", p, BETA) in blocks(results)]
    size = (5.2 * len(panels), 3.8)
    with records.figure(file, 1, len(panels), size=size, dpi=160, squeeze=False) as axes:
        for ax, by_std in zip(axes[0], panels, strict=True):
            draw(ax, results, by_std)
            ax.set_title(f"commit, beta {BETA:g}, {'divided by std' if by_std else 'mean baseline'}", fontsize=10)
        axes[0][-1].legend(fontsize=8, frameon=False)


def main() -> None:
    parser = records.parser(__doc__, "build/horizon")
    parser.add_argument("--all", action="store_true", help="also: divided by std, beta 0.1 and 1, random automata")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument(
        "--step-sizes", nargs="+", type=float, default=STEP_SIZES, help="the best of these is shown (4 16)"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--horizons", nargs="+", type=int, default=None, help="only these")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    args = parser.parse_args()
    store = args.out / "horizon.json"
    results = records.read(store, results={})["results"]
    wanted = [c for c in cells(args.all, args.iterations, tuple(args.step_sizes)) if c.method in args.methods]
    wanted = [c for c in wanted if args.horizons is None or c.horizon in args.horizons]
    todo = [] if args.table else [c for c in wanted if c.key not in results]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(args.jobs) as pool:
        for cell, result in zip(todo, pool.map(train, todo), strict=True):
            results[cell.key] = result
            best = at_best_step_size(result)
            print(f"{cell.key}: regret {best['regret']:.4f} ({best['regret_se']:.4f}) pass rate {best['pass_rate']:.3f} "
                  f"KL {best['kl']:.3f} step size {best['step_size']:g}, {result['cpu_seconds']} s", flush=True)  # fmt: skip
            records.write(store, {"machine": machine(), "results": results})
    found = {c.key: results[c.key] for c in wanted if c.key in results}
    picture(found, args.out / "horizon.png")
    print(tables(found))


if __name__ == "__main__":
    main()
