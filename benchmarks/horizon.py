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

Problem "commit": the first token chooses one of three ways (reference: .7, .25, .05); each further token is right, with
the way's own probability, or spoils the answer for good. An answer in the three ways succeeds with .05, .2, .6 under the
reference, whatever the horizon. Problem "random": 8 states, 4 actions, moves and reference drawn at random, reward 1 for
ending in one of two states.

Regret is J* - J, exact for both policies. With a mean baseline J = P(right) - beta KL(pi || ref), and J* comes from

    V_T(s) = r(s),   V_t(s) = beta log sum_a ref(a|s) exp( V_{t+1}(s') / beta )

Divided by the group's standard deviation, P(right) is replaced by the utility U(P) that this division ascends in groups
of 16, U'(p) = E[std] / (p (1 - p)), and J* is the best over the policies that are optimal for rewards lambda r.

A mean that includes the answer itself shrinks the reward's part by 15/16, and with it the balance to beta: the column
"floor" is the regret of the best policy for beta * 16/15, what remains for ever of an unbiased placement.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from frpo_verl.files import write_atomically

GROUP, GROUPS = 16, 4
STEP_SIZES = (4.0, 16.0)
SEEDS = 5
BETA = 0.3

# name -> (estimator, its section, kl_loss_type)
METHODS = {
    "local": ("frpo", {"placement": "local"}, None),
    "k3 loss": ("grpo", {}, "low_var_kl"),
    "future": ("frpo", {}, None),
    "future, position": ("frpo", {"baseline": "position"}, None),
    "sequence": ("frpo", {"placement": "sequence"}, None),
    "sequence, position": ("frpo", {"placement": "sequence", "baseline": "position"}, None),
    "reward": ("frpo", {"placement": "reward"}, None),
}


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


@dataclass(frozen=True)
class Automaton:
    """Next states (S, A), reference (S, A), reward of ending in a state (S,); every walk starts in state 0."""

    following: np.ndarray
    reference: np.ndarray
    reward: np.ndarray


def commit(horizon: int) -> Automaton:
    success, first = np.array([0.05, 0.2, 0.6]), (0.7, 0.25, 0.05)
    right = success ** (1 / (horizon - 1))
    following = np.array([[1, 2, 3], [1, 4, 4], [2, 4, 4], [3, 4, 4], [4, 4, 4]])
    ways = [[p, (1 - p) / 2, (1 - p) / 2] for p in right]
    return Automaton(following, np.array([first, *ways, [0.4, 0.3, 0.3]]), np.array([0.0, 1, 1, 1, 0]))


def random_automaton(seed: int) -> Automaton:
    rng = np.random.default_rng(1000 + seed)
    states, actions = 8, 4
    following = rng.integers(0, states, (states, actions))
    reference = 0.9 * rng.dirichlet(np.ones(actions), states) + 0.1 / actions
    reward = np.zeros(states)
    reward[rng.choice(states, 2, replace=False)] = 1
    return Automaton(following, reference, reward)


def make(problem: str, horizon: int, seed: int) -> Automaton:
    return commit(horizon) if problem == "commit" else random_automaton(seed)


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def best_policy(a: Automaton, horizon: int, beta: float, scale: float = 1.0) -> tuple[np.ndarray, float]:
    """log pi* (T, S, A) for reward `scale * r`, and its value in state 0, by soft dynamic programming."""
    value, policy = scale * a.reward, []
    for _ in range(horizon):
        exponent = np.log(a.reference) + value[a.following] / beta
        top = exponent.max(-1, keepdims=True)
        normaliser = top + np.log(np.exp(exponent - top).sum(-1, keepdims=True))
        policy.append(exponent - normaliser)
        value = beta * normaliser[:, 0]
    return np.stack(policy[::-1]), float(value[0])


def evaluate(a: Automaton, log_pi: np.ndarray) -> tuple[float, float, float, list[float]]:
    """P(right), KL to the reference and entropy of a whole answer, and the first token's probabilities; exact."""
    at, kl, entropy = np.zeros(len(a.reward)), 0.0, 0.0
    at[0] = 1
    for step in log_pi:
        moves = at[:, None] * np.exp(step)
        kl += float((moves * (step - np.log(a.reference))).sum())
        entropy -= float((moves * step).sum())
        at = np.bincount(a.following.ravel(), moves.ravel(), len(at))
    return float(at @ a.reward), kl, entropy, np.exp(log_pi[0, 0]).tolist()


def slope_of(group: int, points: int = 4001) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grid of pass rates, the utility that division by a group's standard deviation ascends, and its slope."""
    p, k = np.linspace(0, 1, points), np.arange(group + 1)
    choose = np.array([math.comb(group, i) for i in k])
    # the gradient is that of the mean over answers of (r - mean)/std * score: squares with 1/G, divides by the sample std
    std = np.sqrt(k / group * (1 - k / group) * (group - 1) / group)
    middle = (p[1:] + p[:-1]) / 2
    chance = choose * middle[:, None] ** k * (1 - middle[:, None]) ** (group - k)
    slope = (chance * std).sum(-1) / (middle * (1 - middle))
    return p, np.concatenate([[0], np.cumsum(slope * np.diff(p))]), np.interp(p, middle, slope)


def utility() -> tuple[np.ndarray, np.ndarray]:
    """Grid of pass rates and U(p), U' = E[std] / (p (1 - p)), std of a group of GROUP (sample std, as verl takes it)."""
    return slope_of(GROUP)[:2]


def best_objective(a: Automaton, horizon: int, beta: float, by_std: bool) -> tuple[float, float]:
    """J*, and the floor: the regret that the group's own mean leaves (0 where the utility accounts for it)."""
    if not by_std:
        best = best_policy(a, horizon, beta)[1]
        rate, kl, *_ = evaluate(a, best_policy(a, horizon, beta * GROUP / (GROUP - 1))[0])
        return best, best - (rate - beta * kl)
    grid, u = utility()
    best = -math.inf
    for scale in np.geomspace(0.1, 16, 400):
        rate, kl, *_ = evaluate(a, best_policy(a, horizon, beta, scale)[0])
        best = max(best, float(np.interp(rate, grid, u)) - beta * kl)
    return best, 0.0


class Advantages:
    """verl's `compute_advantage` under one configuration, for a batch of fixed shape."""

    def __init__(self, cell: Cell, rows: int):
        import torch
        from omegaconf import OmegaConf
        from verl import DataProto
        from verl.trainer.ppo import core_algos, ray_trainer

        self.torch, self.proto, self.core = torch, DataProto, core_algos
        self.compute = ray_trainer.compute_advantage
        self.estimator, section, self.kl_loss = METHODS[cell.method]
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


def tables(results: dict[str, dict]) -> str:
    """Markdown: one table for each problem, normalisation and beta; regret (standard error) by horizon."""
    blocks: dict[tuple, dict] = {}
    for r in results.values():
        block = blocks.setdefault((r["problem"], r["by_std"], r["beta"]), {})
        block.setdefault(r["method"], {})[r["horizon"]] = at_best_step_size(r)
    text = []
    for (problem, by_std, beta), rows in blocks.items():
        horizons = sorted({h for row in rows.values() for h in row})
        normalised = "divided by std, J = U(p) - beta KL" if by_std else "mean baseline, J = p - beta KL"
        text += [f"### {problem}, beta {beta:g}, {normalised}", ""]
        text += [
            "| method | " + " | ".join(f"horizon {h}" for h in horizons) + " |",
            "|---" * (len(horizons) + 1) + "|",
        ]
        for method, row in rows.items():
            shown = [f"{row[h]['regret']:.4f} ({row[h]['regret_se']:.4f})" if h in row else "" for h in horizons]
            text.append(f"| {method} | " + " | ".join(shown) + " |")
        any_row = next(iter(rows.values()))
        if not by_std:
            text.append("| *floor* | " + " | ".join(f"{any_row[h]['floor']:.4f}" for h in horizons) + " |")
        text.append("| *J\\** | " + " | ".join(f"{any_row[h]['best']:.3f}" for h in horizons) + " |")
        text += [""]
    return "\n".join(text)


def details(results: dict[str, dict]) -> str:
    """Markdown: pass rate, KL, first token and step size of the headline's cells."""
    text = ["| horizon | method | regret | pass rate | KL | first token | step size |", "|---|---|---|---|---|---|---|"]
    for r in results.values():
        if r["problem"] == "commit" and not r["by_std"] and r["beta"] == BETA:
            b = at_best_step_size(r)
            first = " / ".join(f"{x:.2f}" for x in b["first_token"])
            text.append(
                f"| {r['horizon']} | {r['method']} | {b['regret']:.4f} | {b['pass_rate']:.3f} | {b['kl']:.3f} | {first} "
                f"| {b['step_size']:g} |"
            )
    return "\n".join(text) + "\n"


STYLE = {
    "local": ("#d1495b", "o"), "k3 loss": ("#edae49", "s"), "future": ("#00798c", "o"), "future, position": ("#00798c", "^"),
    "sequence": ("#66a182", "o"), "sequence, position": ("#66a182", "^"), "reward": ("#6b4e9b", "D"),
}  # fmt: skip


def draw(axes, results: dict[str, dict], problem: str = "commit", by_std: bool = False, beta: float = BETA) -> None:
    """Regret against horizon, log-log, with standard errors."""
    for method, (color, marker) in STYLE.items():
        mine = [r for r in results.values()
                if (r["problem"], r["by_std"], r["beta"], r["method"]) == (problem, by_std, beta, method)]  # fmt: skip
        rows = sorted((r["horizon"], at_best_step_size(r)) for r in mine)
        if rows:
            axes.errorbar(
                [h for h, _ in rows], [max(b["regret"], 1e-5) for _, b in rows], [b["regret_se"] for _, b in rows],
                color=color, marker=marker, markersize=4, capsize=2, label=method,
                linestyle="--" if "position" in method else "-",
            )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="tokens of an answer", ylabel="regret J* - J")
    horizons = sorted({r["horizon"] for r in results.values() if (r["problem"], r["by_std"]) == (problem, by_std)})
    axes.set_xticks(horizons, [str(h) for h in horizons])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def picture(results: dict[str, dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = [("mean baseline", False), ("divided by std", True)]
    panels = [p for p in panels if any(r["by_std"] == p[1] and r["problem"] == "commit" for r in results.values())]
    figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 3.8), squeeze=False, layout="constrained")
    for ax, (title, by_std) in zip(axes[0], panels, strict=True):
        draw(ax, results, by_std=by_std)
        ax.set_title(f"commit, beta {BETA:g}, {title}", fontsize=10)
    axes[0][-1].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def machine() -> dict:
    import torch
    import verl

    try:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    except OSError:
        commit = ""
    return {"processor": f"{os.cpu_count()} cores, {platform.machine()}", "python": platform.python_version(),
            "torch": torch.__version__, "verl": verl.__version__, "commit": commit}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="also: divided by std, beta 0.1 and 1, random automata")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument(
        "--step-sizes", nargs="+", type=float, default=STEP_SIZES, help="the best of these is shown (4 16)"
    )
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--horizons", nargs="+", type=int, default=None, help="only these")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--table", action="store_true", help="train nothing; table and figure of what is there")
    parser.add_argument("--out", type=Path, default=Path("build/horizon"), help="horizon.json and .png go there")
    args = parser.parse_args()
    store = args.out / "horizon.json"
    saved = json.loads(store.read_text()) if store.exists() else {"results": {}}
    results = saved["results"]
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
            write_atomically(store, json.dumps({"machine": machine(), "results": results}, indent=1))
    shown = {c.key: results[c.key] for c in wanted if c.key in results}
    text = tables(shown) + "\n" + details(shown)
    picture(shown, args.out / "horizon.png")
    print(text)


if __name__ == "__main__":
    main()
