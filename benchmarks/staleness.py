"""What stale answers do to FRPO: the exact bias of the expected gradient, and regret after training, against their age.

    python benchmarks/staleness.py                            # all, into build/staleness: .json and .png
    python benchmarks/staleness.py --table --out docs/results # table and figure again from the JSON

An answer is s updates old when the policy that wrote it has been updated s times before the answer trains it. As verl's
asynchronous trainers do it (bypass mode off), its log-ratio to the reference is the trainer's, and so is grad log pi:

    g_s = E_{y ~ pi_{k-s}} sum_t w_t (A(y) - beta sum_{j>=t} log pi_k/pi_ref) grad log pi_k(a_t|s_t),      A = r - mean r

with w = 1, or the weights that `algorithm.rollout_correction.rollout_is` makes of pi_k / pi_{k-s} (verl's own function;
`sequence, no bound` has a threshold that nothing reaches). "bypass" is what the plugin refuses: the log-ratio of the policy
that wrote the answer, and the ratio in the loss.

Toy: three tokens, up to four of them, EOS ends an answer; every answer is written down. The policy climbs the exact gradient
of J = E r - beta KL(pi || ref) from the reference; after 32 updates g_s is compared with grad J, |g_s - grad J| / |grad J|,
the mean over 20 random problems.

Training: the problem "commit" of automaton.py, 24 tokens, beta 0.3, mean baseline, through verl's
`compute_advantage`; the sampler lags s updates behind, or stays the reference for the whole run. Regret is exact; the best
of two step sizes is shown. `sequence, position` and `reward` are trained without weights: with a mean baseline their only
fixed point is the optimum, whoever writes the answers (tests/core/test_foreign_sampler.py).
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import automaton
import horizon
import numpy as np
import records
import torch
from records import machine

from frpo_verl.core import enumeration as exact
from frpo_verl.core.divergences import get_divergence
from frpo_verl.core.tokens import reverse_cumsum

BETA = 0.3
NO_BOUND = 1e9
WEIGHTS = {  # name -> (rollout_is, rollout_is_threshold)
    "none": None,
    "token": ("token", 2.0),
    "sequence": ("sequence", 2.0),
    "sequence, no bound": ("sequence", NO_BOUND),
}
UPDATES, AGES, PROBLEMS = 32, (0, 1, 2, 4, 8, 16, 32), 20
STEP = 0.5
TOKENS, TRAINED_AGES, ITERATIONS = 24, (0, 1, 4, 16, 64), 1000
BESIDE = 400  # where the figure puts answers of the reference
UNWEIGHTED = ("sequence, position", "reward")  # of `records.METHODS`


def correction(log_ratio: torch.Tensor, mask: torch.Tensor, name: str) -> torch.Tensor:
    """verl's weights of log pi/mu, (N, T)."""
    from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_weights

    if WEIGHTS[name] is None:
        return torch.ones_like(log_ratio)
    level, bound = WEIGHTS[name]
    weights, _ = compute_rollout_correction_weights(
        log_ratio, mask.to(log_ratio.dtype), rollout_is=level, rollout_is_threshold=bound
    )
    return weights


# ------------------------------------------------------------------------------------------------ every answer


class Toy:
    """A random problem, the path of policies that climbs its objective, and gradients by enumeration."""

    def __init__(self, seed: int):
        self.all = exact.enumerate_trajectories(vocabulary=3, horizon=4)
        self.ref = exact.random_logits(self.all, seed)
        generator = torch.Generator().manual_seed(1000 + seed)
        self.reward = torch.rand(self.all.count, generator=generator, dtype=torch.float64).round()
        self.path = [self.ref]
        for _ in range(UPDATES):
            self.path.append(self.path[-1] + STEP * self.truth(self.path[-1]))

    def truth(self, logits: torch.Tensor) -> torch.Tensor:
        """grad J."""
        logits = logits.clone().requires_grad_()
        kl = exact.objective(self.all, logits, self.ref, get_divergence("reverse_kl").value)
        value = (exact.probability(self.all, logits) * self.reward).sum() - BETA * kl
        return exact.gradient(value, logits)

    def log_prob(self, logits: torch.Tensor) -> torch.Tensor:
        return exact.log_prob(self.all, logits)

    def expected(self, age: int, weights: str, part: str = "both", bypass: bool = False) -> torch.Tensor:
        """g_s of the last policy; `part`: the reward's, the KL's or both."""
        now, then = self.path[-1].clone().requires_grad_(), self.path[-1 - age]
        mask, chance = self.all.mask, exact.probability(self.all, then)
        mu, pi = self.log_prob(then), self.log_prob(now)
        outcome = self.reward - (chance * self.reward).sum()
        regularizer = reverse_cumsum((mu if bypass else pi.detach()) - self.log_prob(self.ref))
        advantage = {
            "both": outcome[:, None] - BETA * regularizer, "reward": outcome[:, None].expand(mask.shape),
            "kl": -BETA * regularizer,
        }[part]  # fmt: skip
        weight = (pi.detach() - mu).exp() if bypass else correction(pi.detach() - mu, mask, weights)
        total = chance[:, None] * torch.where(mask, weight * advantage, 0.0) * pi
        return exact.gradient(total.sum(), now)

    def drift(self, age: int) -> dict[str, float]:
        """What verl's metrics say in expectation: `rollout_corr/kl` (a token), and of a whole answer KL and chi-square."""
        mu, pi = self.log_prob(self.path[-1 - age]), self.log_prob(self.path[-1])
        chance, length = mu.sum(-1).exp(), self.all.mask.sum(-1)
        kl = float((chance * (mu - pi).sum(-1)).sum())
        chi2 = float((chance * (2 * (pi - mu).sum(-1)).exp()).sum()) - 1
        return {"kl_answer": kl, "kl_token": kl / float((chance * length).sum()), "chi2_seq": chi2}


def bias() -> list[dict]:
    """One row an age: drift and relative errors, means over the problems."""
    toys = [Toy(seed) for seed in range(PROBLEMS)]
    truths = [toy.truth(toy.path[-1]) for toy in toys]

    pairs = list(zip(toys, truths, strict=True))

    def error(age: int, **how) -> float:
        return float(np.mean([exact.relative_error(t.expected(age, **how), g) for t, g in pairs]))

    def error_of(age: int, weights: str, part: str) -> float:
        parts = [(t.expected(age, weights, part), t.expected(0, "none", part), g) for t, g in pairs]
        return float(np.mean([float((a - b).norm() / g.norm()) for a, b, g in parts]))

    rows = []
    for age in AGES:
        drifts = [toy.drift(age) for toy in toys]
        row: dict = {"age": age, **{key: float(np.mean([d[key] for d in drifts])) for key in drifts[0]}}
        row["error"] = {name: error(age, weights=name) for name in WEIGHTS}
        row["error"]["bypass"] = error(age, weights="none", bypass=True)
        row["parts"] = {n: {part: error_of(age, n, part) for part in ("reward", "kl")} for n in ("none", "token")}
        rows.append(row)
    return rows


# ------------------------------------------------------------------------------------------------ training


def train(age: int, weights: str, iterations: int, method: str = "future") -> dict:
    """Every seed and step size side by side, the sampler `age` updates behind (`iterations`: it stays the reference); the
    regret of the mean of the last tenth's logits, of the policies on the way, and the drift between sampler and trainer.
    """
    cell = horizon.Cell("commit", False, BETA, TOKENS, method, iterations)
    commit = automaton.commit(TOKENS)
    best = automaton.best_objective(commit, TOKENS, BETA, by_std=False)[0]
    on_the_way, drift = [], []

    def correct(log_ratio: np.ndarray) -> np.ndarray:
        return correction(torch.from_numpy(log_ratio), torch.ones(log_ratio.shape), weights).numpy()

    def watch(iteration: int, policies: np.ndarray, log_ratio: np.ndarray) -> None:
        drift.append(-log_ratio.reshape(len(policies), -1).mean(-1))
        if iteration % (iterations // 20) == 0:
            values = [automaton.evaluate(commit, log_pi)[:2] for log_pi in policies]
            on_the_way.append([best - (rate - BETA * kl) for rate, kl in values])

    result = horizon.train(cell, age=age, correct=correct, watch=watch)
    way, kl = np.mean(on_the_way, axis=0), np.mean(drift, axis=0)
    found = [{"step_size": r["step_size"], "regret": r["regret"], "on_the_way": float(way[i]), "kl": float(kl[i])}
             for i, r in enumerate(result["runs"])]  # fmt: skip
    return {"age": age, "weights": weights, "method": method, "iterations": iterations, "runs": found,
            "cpu_seconds": result["cpu_seconds"]}  # fmt: skip


def summary(result: dict) -> dict:
    """Means over seeds at each step size, and the better of them by the final regret."""
    by_size = {}
    for size in sorted({r["step_size"] for r in result["runs"]}):
        mine = [r for r in result["runs"] if r["step_size"] == size]
        by_size[size] = {key: float(np.mean([r[key] for r in mine])) for key in ("regret", "on_the_way", "kl")}
        by_size[size]["se"] = float(np.std([r["regret"] for r in mine], ddof=1) / math.sqrt(len(mine)))
    best = min(by_size, key=lambda s: by_size[s]["regret"])
    return {"by_size": by_size, "best": best, **by_size[best]}


# ------------------------------------------------------------------------------------------------ reporting


def tables(saved: dict) -> str:
    """Markdown of both parts."""
    names, parts = [*WEIGHTS, "bypass"], [(name, part) for name in ("none", "token") for part in ("reward", "kl")]
    rows = [[r["age"], f"{r['kl_token']:.4f}", f"{r['kl_answer']:.4f}", *(f"{r['error'][n]:.3f}" for n in names)]
            for r in saved["bias"]]  # fmt: skip
    text = [records.table(["age", "KL, nats a token", "of an answer", *names], rows)]
    rows = [[r["age"], *(f"{r['parts'][name][part]:.3f}" for name, part in parts)] for r in saved["bias"]]
    text.append(
        records.table(["age", *(f"{'KL' if part == 'kl' else part}'s part, {name}" for name, part in parts)], rows)
    )
    rows = []
    for result in saved["training"].values():
        found = [summary(result)["by_size"][size] for size in horizon.STEP_SIZES]
        cells = [
            x for f in found for x in (f"{f['regret']:.4f} ({f['se']:.4f})", f"{f['on_the_way']:.3f}", f"{f['kl']:.5f}")
        ]
        age = "reference" if result["age"] == result["iterations"] else result["age"]
        rows.append([age, result.get("method", "future"), result["weights"], *cells])
    heads = [f"{what}, step {size:g}" for size in horizon.STEP_SIZES for what in ("regret", "on the way", "KL a token")]
    return "\n".join([*text, records.table(["age", "placement", "weights", *heads], rows)])


def picture(saved: dict, file: Path) -> None:
    style = dict(zip((*WEIGHTS, "bypass"), ("#d1495b", "#edae49", "#00798c", "#66a182", "#6b4e9b"), strict=True))
    placements = dict(zip(UNWEIGHTED, ("#1b1b1b", "#8a8a8a"), strict=True))
    with records.figure(file, 1, 2, size=(10.4, 3.8), dpi=160) as (left, right):
        for name, color in style.items():
            rows = [row for row in saved["bias"] if row["age"]]
            left.plot([r["age"] for r in rows], [max(r["error"][name], 1e-4) for r in rows], color=color, marker="o",
                      markersize=4, label=name)  # fmt: skip
        for name, color in {**style, **placements}.items():
            method, weights = (name, "none") if name in placements else ("future", name)
            trained = [r for r in saved["training"].values() if r.get("method", "future") == method]
            trained = [r for r in trained if r["weights"] == weights or (weights in WEIGHTS and not r["age"])]
            done = [(min(r["age"], BESIDE) + 0.5, summary(r)) for r in sorted(trained, key=lambda r: r["age"])]
            if done:
                right.errorbar([a for a, _ in done], [s["regret"] for _, s in done], [s["se"] for _, s in done], color=color,
                               marker="o", markersize=4, capsize=2, label=name if name in placements else None)  # fmt: skip
        for axes in (left, right):
            axes.set(xscale="log", yscale="log", xlabel="age of the answers, updates")
            axes.minorticks_off()
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8, frameon=False)
        left.set(ylabel="relative error of the gradient", ylim=(1e-3, None))
        left.set_title("toy, by enumeration", fontsize=10)
        left.set_xticks(AGES[1:], [str(a) for a in AGES[1:]])
        right.set(ylabel="regret J* - J")
        right.set_title(f"commit, {TOKENS} tokens, {ITERATIONS} updates", fontsize=10)
        right.set_xticks([a + 0.5 for a in (*TRAINED_AGES, BESIDE)], [*map(str, TRAINED_AGES), "reference"])


def main() -> None:
    parser = records.parser(__doc__, "build/staleness")
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    store = args.out / "staleness.json"
    saved = records.read(store, bias=[], training={})
    if not args.table:
        saved["bias"] = bias()
        plan = [(0, "none", "future"), *((age, name, "future") for age in TRAINED_AGES[1:] for name in WEIGHTS)]
        plan += [(args.iterations, name, "future") for name in ("none", "token")]
        plan += [(age, "none", method) for method in UNWEIGHTED for age in (*TRAINED_AGES, args.iterations)]
        for age, name, method in plan:
            key = f"{age}/{name if method == 'future' else method}/{args.iterations}"
            if key not in saved["training"]:
                saved["training"][key] = train(age, name, args.iterations, method)
                print(key, summary(saved["training"][key]), saved["training"][key]["cpu_seconds"], "s", flush=True)
            records.write(store, {"machine": machine(), **saved})
    picture(saved, args.out / "staleness.png")
    print(tables(saved))


if __name__ == "__main__":
    main()
