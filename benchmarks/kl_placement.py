"""KL in the reward, in the loss or in the advantage: the same term in every place, on toys solved exactly.

    python benchmarks/kl_placement.py

Table 1, by enumeration of every response (3 tokens, up to 4 of them, EOS; policy = random logits + drift): the
expected gradient of each placement against that of E_y sum_t KL(pi||ref)(s_t), and one response's variance.

Tables 2 and 3, by training: 3 tokens, 6 positions, a logit row for each prefix, a share of the 729 responses
rewarded with 1. Each step samples a group and takes one plain gradient step, the step size falling to 0. In
table 2 the advantage is r - mean r and the objective J = p - beta * KL, p = pass rate. In table 3 it is divided
by the group's standard deviation, as GRPO does, and the objective is J = U(p) - beta * KL with the utility that
this division maximises in groups of G: U'(p) = E[std] / (p (1 - p)). In both the best J is known exactly.

Table 4: as table 1 with up to 6 tokens, for steps of several lengths with the suffix at their start or end.
"""

from __future__ import annotations

import records
import torch
from automaton import GROUP, slope_of

from frpo_verl.core import enumeration as exact
from frpo_verl.core.divergences import DIVERGENCES
from frpo_verl.core.regularizers import Regularizer, regularize
from frpo_verl.core.steps import steps_by_length
from frpo_verl.core.tokens import read_answers

POLICIES = 16  # of tables 1 and 4
SEEDS, BETA, HORIZON, REWARDED, STEPS, STEP_SIZE = 8, 0.5, 6, 0.15, 3000, 4.0  # of tables 2 and 3
REVERSE_KL = DIVERGENCES["reverse_kl"]


def term(
    delta: torch.Tensor, mask: torch.Tensor, divergence: str = "reverse_kl", step_begins=None, **kind
) -> torch.Tensor:
    """What multiplies beta * grad log pi of each token, (B, T)."""
    answers = read_answers(delta, torch.zeros_like(delta), mask, 80.0, step_begins=step_begins)
    return regularize(answers, Regularizer(divergence=DIVERGENCES[divergence], **kind))


def step_ends(delta: torch.Tensor, mask: torch.Tensor, length: int) -> torch.Tensor:
    """PRL's public code: every token takes the suffix at the end of its step, or at the last token."""
    position = (mask.long().cumsum(-1) - 1).clamp(min=0)
    last = (mask.sum(-1, keepdim=True) - 1).clamp(min=0)
    end = torch.minimum((position // length + 1) * length - 1, last)
    return torch.where(mask, term(delta, mask).gather(1, end), 0.0)


# name -> (delta, mask) -> (B, T), what multiplies beta * grad log pi of each token
PLACEMENTS = {
    "loss: k2 (= local)": lambda d, m: term(d, m, placement="local"),
    "loss: k3": lambda d, m: term(d, m, divergence="forward_kl_k3", placement="local"),
    "advantage: future (k1)": lambda d, m: term(d, m),
    "advantage: future (k3 form)": lambda d, m: term(d, m, divergence="reverse_kl_k3"),
    "advantage: sequence": lambda d, m: term(d, m, placement="sequence"),
    "steps of 2, start": lambda d, m: term(d, m, step_begins=steps_by_length(m, 2)),
    "steps of 2, end (PRL code)": lambda d, m: step_ends(d, m, 2),
}


def expected_gradients(placements: dict, horizon: int) -> str:
    """Relative error, cosine and variance of each placement, mean over random policies."""
    toy = exact.enumerate_trajectories(3, horizon)
    out = {name: torch.zeros(3, dtype=torch.float64) for name in placements}
    for seed in range(POLICIES):
        generator = torch.Generator().manual_seed(seed)
        shape = toy.states, toy.vocabulary
        ref, noise = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        logits = (ref + noise).requires_grad_()
        delta = (exact.log_prob(toy, logits) - exact.log_prob(toy, ref)).detach()
        q = exact.probability(toy, logits).detach()[:, None, None]
        truth = exact.gradient(exact.objective(toy, logits, ref, REVERSE_KL.value), logits)
        one_hot = torch.nn.functional.one_hot(toy.tokens, toy.vocabulary).double()
        score = torch.where(toy.mask[..., None], one_hot - logits.detach().softmax(-1)[toy.state], 0.0)
        for name, placement in placements.items():
            per_token = placement(delta, toy.mask)[..., None] * score  # (N, T, V)
            sample = torch.zeros(toy.count, *shape, dtype=torch.float64)
            sample.scatter_add_(1, toy.state[..., None].expand_as(per_token), per_token)
            mean = (q * sample).sum(0)
            cosine = (mean * truth).sum() / (mean.norm() * truth.norm())
            variance = (q * (sample - mean).square()).sum()
            error = torch.tensor(exact.relative_error(mean, truth), dtype=torch.float64)
            out[name] += torch.stack([error, cosine, variance]) / POLICIES
    return show("relative error", "cosine", "variance", rows={name: row.tolist() for name, row in out.items()})


class Tree:
    """All responses of fixed length and a random reference for each seed; logits (S, states, V)."""

    def __init__(self):
        toy = exact.enumerate_trajectories(3, HORIZON, eos=False)
        self.tokens, self.state = toy.tokens, toy.state
        self.generator = torch.Generator().manual_seed(0)
        shape = SEEDS, toy.states, toy.vocabulary
        self.ref = torch.randn(shape, generator=self.generator, dtype=torch.float64).log_softmax(-1)
        self.seed = torch.arange(SEEDS)[:, None, None]
        self.hot = torch.nn.functional.one_hot(self.tokens, toy.vocabulary).double()

    def log_prob(self, table: torch.Tensor) -> torch.Tensor:
        """(S, N) log-probability of every response under log-softmaxed logits."""
        return table[:, self.state, self.tokens].sum(-1)

    def group_step(self, logits, reward, placement, in_reward: bool, by_std: bool):
        """Sample a group for each seed; its ascent direction as (index, values) into the logits."""
        log_pi = logits.log_softmax(-1)
        row = torch.multinomial(self.log_prob(log_pi).exp(), GROUP, replacement=True, generator=self.generator)
        index = (self.seed.expand(-1, *self.state[row].shape[1:]), self.state[row])  # (S, G, T)
        delta = (log_pi - self.ref)[(*index, self.tokens[row])]
        r = reward.gather(1, row)
        if in_reward:
            r = r - BETA * delta.sum(-1)
        advantage = r - r.mean(-1, keepdim=True)
        if by_std:
            advantage = advantage / (r.std(-1, keepdim=True) + 1e-6)
        weight = advantage[..., None].expand_as(delta)
        if placement is not None:
            flat = delta.reshape(-1, delta.shape[-1])
            weight = weight - BETA * placement(flat, torch.ones_like(flat, dtype=torch.bool)).reshape(delta.shape)
        return index, weight[..., None] * (self.hot[row] - log_pi.exp()[index]) / GROUP


def train(placement, in_reward: bool, by_std: bool) -> list[float]:
    """Plain gradient ascent from the reference, all seeds side by side: regret, its standard error, pass rate, KL, entropy."""
    tree = Tree()
    reward = (torch.rand(SEEDS, len(tree.tokens), generator=tree.generator) < REWARDED).double()
    logits = tree.ref.clone()
    for step in range(STEPS):
        index, direction = tree.group_step(logits, reward, placement, in_reward, by_std)
        logits.index_put_(index, STEP_SIZE * (1 - step / STEPS) * direction, accumulate=True)
    log_pi, log_ref = tree.log_prob(logits.log_softmax(-1)), tree.log_prob(tree.ref)
    p = log_pi.exp()
    rate, kl, entropy = (p * reward).sum(-1), (p * (log_pi - log_ref)).sum(-1), -(p * log_pi).sum(-1)
    grid, utility, _ = (torch.from_numpy(x)[1:-1] for x in slope_of(GROUP, points=20001))
    u = utility if by_std else grid
    # the cheapest policy of a pass rate scales ref on the rewarded responses: its KL is that of two coins
    p0 = (log_ref.exp() * reward).sum(-1, keepdim=True)
    best = (u - BETA * (grid * (grid / p0).log() + (1 - grid) * ((1 - grid) / (1 - p0)).log())).amax(-1)
    nearest = ((rate * (len(grid) + 1)).round().long() - 1).clamp(0, len(grid) - 1)
    regret = best - (u[nearest] - BETA * kl)
    return [x.mean().item() for x in (regret, regret.std() / SEEDS**0.5, rate, kl, entropy)]


def training(by_std: bool) -> str:
    runs = {"no KL": (None, False), "in the reward": (None, True)} | {
        name: (f, False) for name, f in PLACEMENTS.items()
    }
    found = {name: train(function, in_reward, by_std) for name, (function, in_reward) in runs.items()}
    return show("regret", "standard error", "pass rate", "KL", "entropy", rows=found)


def show(*columns: str, rows: dict[str, list[float]]) -> str:
    return records.table(["placement", *columns], ([name, *(f"{x:.4f}" for x in row)] for name, row in rows.items()))


def steps() -> dict:
    found = {}
    for n in (1, 2, 3, 6):
        found[f"length {n}, suffix at the start"] = lambda d, m, n=n: term(d, m, step_begins=steps_by_length(m, n))
        found[f"length {n}, suffix at the end"] = lambda d, m, n=n: step_ends(d, m, n)
    return found


def main() -> None:
    records.parser(__doc__).parse_args()
    print("1. expected gradient of the KL term (enumerated)\n\n" + expected_gradients(PLACEMENTS, 4))
    print(f"2. advantage r - mean, J = p - {BETA:g} KL\n\n" + training(by_std=False), flush=True)
    print(f"3. advantage (r - mean) / std, J = U(p) - {BETA:g} KL\n\n" + training(by_std=True), flush=True)
    print(
        "4. steps: expected gradient of the KL term (enumerated, up to 6 tokens)\n\n" + expected_gradients(steps(), 6)
    )


if __name__ == "__main__":
    main()
