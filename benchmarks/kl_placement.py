"""KL in the reward, in the loss or in the advantage: the same term in every place, on toys solved exactly.

    python benchmarks/kl_placement.py [--json FILE]

Table 1, by enumeration of every response (3 tokens, up to 4 of them, EOS; policy = random logits + drift): the
expected gradient of each placement against that of E_y sum_t KL(pi||ref)(s_t), and one response's variance.

Tables 2 and 3, by training: 3 tokens, 6 positions, a logit row for each prefix, a share of the 729 responses
rewarded with 1. Each step samples a group and takes one plain gradient step, the step size falling to 0. In
table 2 the advantage is r - mean r and the objective J = p - beta * KL, p = pass rate. In table 3 it is divided
by the group's standard deviation, as GRPO does, and the objective is J = U(p) - beta * KL with the utility that
this division maximises in groups of G: U'(p) = E[std] / (p (1 - p)). In both the best J is known exactly.

Table 4: a prompt whose responses are all wrong (reward 0), so that only the KL term acts: root mean square of
the gradient of one group for several beta, at a policy that has drifted from the reference.

Table 5: as table 1 with up to 6 tokens, for steps of several lengths with the suffix at their start or end.
"""

from __future__ import annotations

import argparse
import json

import torch

from frpo_verl.core.divergences import DIVERGENCES
from frpo_verl.core.regularizers import Regularizer, regularize
from frpo_verl.core.steps import steps_by_length
from frpo_verl.core.tokens import read_answers
from frpo_verl.files import write_atomically

VOCABULARY = 3


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
    "loss: k1": lambda d, m: m.to(d.dtype),  # d/dtheta log pi
    "loss: k2 (= local)": lambda d, m: term(d, m, placement="local"),
    "loss: k3": lambda d, m: term(d, m, divergence="forward_kl_k3", placement="local"),
    "advantage: future (k1)": lambda d, m: term(d, m),
    "advantage: future (k3 form)": lambda d, m: term(d, m, divergence="reverse_kl_k3"),
    "advantage: sequence": lambda d, m: term(d, m, placement="sequence"),
    "steps of 2, start": lambda d, m: term(d, m, step_begins=steps_by_length(m, 2)),
    "steps of 2, end (PRL code)": lambda d, m: step_ends(d, m, 2),
    "advantage: discount 0.9": lambda d, m: term(d, m, discount=0.9),
    "advantage: discount 0.5": lambda d, m: term(d, m, discount=0.5),
}


def enumerate_responses(horizon: int, eos: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """Tokens, states (row of the logits before each token) and mask, each (N, T), and the number of states."""
    rows: list[tuple[list[int], list[int]]] = []
    index: dict[tuple[int, ...], int] = {}

    def walk(prefix: tuple[int, ...], states: list[int]) -> None:
        states = [*states, index.setdefault(prefix, len(index))]
        for token in range(VOCABULARY):
            text = (*prefix, token)
            if (eos and token == 0) or len(text) == horizon:
                rows.append((list(text), states))
            else:
                walk(text, states)

    walk((), [])
    tokens, state = torch.zeros(2, len(rows), horizon, dtype=torch.int64)
    mask = torch.zeros(len(rows), horizon, dtype=torch.bool)
    for i, (text, states) in enumerate(rows):
        n = len(text)
        tokens[i, :n], state[i, :n], mask[i, :n] = torch.tensor(text), torch.tensor(states), True
    return tokens, state, mask, len(index)


def expected_gradients(placements: dict, seeds: int, drift: float, horizon: int = 4) -> list[dict]:
    """Relative error, cosine and variance of each placement, mean over random policies."""
    tokens, state, mask, states = enumerate_responses(horizon, eos=True)
    out = {name: torch.zeros(3, dtype=torch.float64) for name in placements}
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        ref = torch.randn(states, VOCABULARY, generator=generator, dtype=torch.float64)
        noise = torch.randn(states, VOCABULARY, generator=generator, dtype=torch.float64)
        logits = (ref + drift * noise).requires_grad_()
        log_pi, log_ref = logits.log_softmax(-1), ref.log_softmax(-1)
        lp = torch.where(mask, log_pi[state, tokens], 0.0)
        delta = torch.where(mask, lp.detach() - log_ref[state, tokens], 0.0)
        p = lp.sum(-1).exp()
        kl = (log_pi.exp() * (log_pi - log_ref)).sum(-1)[state]
        truth = torch.autograd.grad((p * torch.where(mask, kl, 0.0).sum(-1)).sum(), logits, retain_graph=True)[0]
        one_hot = torch.nn.functional.one_hot(tokens, VOCABULARY).double()
        score = torch.where(mask[..., None], one_hot - log_pi.detach().exp()[state], 0.0)
        for name, placement in placements.items():
            per_token = placement(delta, mask)[..., None] * score  # (N, T, V)
            sample = torch.zeros(len(tokens), states, VOCABULARY, dtype=torch.float64)
            sample.scatter_add_(1, state[..., None].expand_as(per_token), per_token)
            q = p.detach()[:, None, None]
            mean = (q * sample).sum(0)
            error = (mean - truth).norm() / truth.norm()
            cosine = (mean * truth).sum() / (mean.norm() * truth.norm()).clamp(min=1e-300)
            spread = (q * (sample - mean).square()).sum()
            out[name] += torch.stack([error, cosine if mean.norm() > 1e-12 else 0 * cosine, spread]) / seeds
    keys = ("relative_error", "cosine", "variance")
    return [{"placement": name, **dict(zip(keys, row.tolist(), strict=True))} for name, row in out.items()]


class Tree:
    """All responses of fixed length and a random reference for each seed; logits (S, states, V)."""

    def __init__(self, seeds: int, horizon: int):
        self.tokens, self.state, _, states = enumerate_responses(horizon, eos=False)
        self.generator = torch.Generator().manual_seed(0)
        self.ref = self.normal(seeds, states, VOCABULARY).log_softmax(-1)
        self.seed = torch.arange(seeds)[:, None, None]
        self.hot = torch.nn.functional.one_hot(self.tokens, VOCABULARY).double()

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def log_prob(self, table: torch.Tensor) -> torch.Tensor:
        """(S, N) log-probability of every response under log-softmaxed logits."""
        return table[:, self.state, self.tokens].sum(-1)

    def group_step(self, logits, reward, group: int, beta: float, placement, in_reward: bool, by_std: bool):
        """Sample a group for each seed; its ascent direction as (index, values) into the logits."""
        log_pi = logits.log_softmax(-1)
        row = torch.multinomial(self.log_prob(log_pi).exp(), group, replacement=True, generator=self.generator)
        index = (self.seed.expand(-1, *self.state[row].shape[1:]), self.state[row])  # (S, G, T)
        delta = (log_pi - self.ref)[(*index, self.tokens[row])]
        r = reward.gather(1, row)
        if in_reward:
            r = r - beta * delta.sum(-1)
        advantage = r - r.mean(-1, keepdim=True)
        if by_std:
            advantage = advantage / (r.std(-1, keepdim=True) + 1e-6)
        weight = advantage[..., None].expand_as(delta)
        if placement is not None:
            flat = delta.reshape(-1, delta.shape[-1])
            weight = weight - beta * placement(flat, torch.ones_like(flat, dtype=torch.bool)).reshape(delta.shape)
        return index, weight[..., None] * (self.hot[row] - log_pi.exp()[index]) / group


def utility(group: int, by_std: bool, points: int = 20001) -> tuple[torch.Tensor, torch.Tensor]:
    """Pass rates and the utility that the advantages maximise: p, or U with U' = E[std] / (p (1 - p))."""
    p = torch.linspace(0, 1, points, dtype=torch.float64)[1:-1]
    if not by_std:
        return p, p
    k = torch.arange(group + 1, dtype=torch.float64)
    log_choose = torch.lgamma(k.new_tensor(group + 1.0)) - torch.lgamma(k + 1) - torch.lgamma(group - k + 1)
    binomial = (log_choose + k * p[:, None].log() + (group - k) * (1 - p[:, None]).log()).exp()
    std = (k / group * (1 - k / group) * (group - 1) / group).sqrt()  # the sample std divides once, squares twice
    slope = (binomial * std).sum(-1) / (p * (1 - p))
    return p, torch.cat([slope[:1] * p[:1], slope[:1] * p[:1] + torch.cumulative_trapezoid(slope, p)])


def train(placement, in_reward: bool, by_std: bool, args: argparse.Namespace) -> dict[str, float]:
    """Plain gradient ascent from the reference, all seeds side by side; exact figures of the final policies."""
    tree = Tree(args.seeds, args.horizon)
    reward = (torch.rand(args.seeds, len(tree.tokens), generator=tree.generator) < args.rewarded).double()
    logits = tree.ref.clone()
    for step in range(args.steps):
        index, direction = tree.group_step(logits, reward, args.group, args.beta, placement, in_reward, by_std)
        logits.index_put_(index, args.lr * (1 - step / args.steps) * direction, accumulate=True)
    log_pi, log_ref = tree.log_prob(logits.log_softmax(-1)), tree.log_prob(tree.ref)
    p = log_pi.exp()
    rate, kl = (p * reward).sum(-1), (p * (log_pi - log_ref)).sum(-1)
    grid, u = utility(args.group, by_std)
    # the cheapest policy of a pass rate scales ref on the rewarded responses: its KL is that of two coins
    p0 = (log_ref.exp() * reward).sum(-1, keepdim=True)
    best = (u - args.beta * (grid * (grid / p0).log() + (1 - grid) * ((1 - grid) / (1 - p0)).log())).amax(-1)
    nearest = ((rate * (len(grid) + 1)).round().long() - 1).clamp(0, len(grid) - 1)
    regret = best - (u[nearest] - args.beta * kl)
    numbers = {"regret": regret, "pass_rate": rate, "kl": kl, "entropy": -(p * log_pi).sum(-1)}
    return {k: x.mean().item() for k, x in numbers.items()} | {"regret_se": (regret.std() / args.seeds**0.5).item()}


def training(args: argparse.Namespace, by_std: bool) -> list[dict]:
    from rich.progress import track

    runs = {"no KL": (None, False), "in the reward": (None, True)}
    runs |= {name: (function, False) for name, function in PLACEMENTS.items() if "discount" not in name}
    label = "training, divided by std" if by_std else "training, mean baseline"
    return [
        {"placement": name, **train(function, in_reward, by_std, args)}
        for name, (function, in_reward) in track(runs.items(), description=label)
    ]


def all_wrong(args: argparse.Namespace) -> list[dict]:
    """Root mean square gradient norm of one group whose rewards are all 0."""
    tree = Tree(args.seeds, args.horizon)
    logits = tree.ref + 0.3 * tree.normal(*tree.ref.shape)
    reward = torch.zeros(args.seeds, len(tree.tokens), dtype=torch.float64)
    runs = {
        "in the reward, then / std": (None, True, True), "in the reward, mean baseline": (None, True, False),
        "advantage: future (k1)": (PLACEMENTS["advantage: future (k1)"], False, True),
        "advantage: future (k3 form)": (PLACEMENTS["advantage: future (k3 form)"], False, True),
    }  # fmt: skip
    rows = []
    for name, (placement, in_reward, by_std) in runs.items():
        row: dict = {"placement": name}
        for beta in (0.001, 0.01, 0.1, 1.0):
            squares = []
            for _ in range(200):
                index, step = tree.group_step(logits, reward, args.group, beta, placement, in_reward, by_std)
                g = torch.zeros_like(logits).index_put_(index, step, accumulate=True)
                squares.append(g.square().sum((-1, -2)).mean())
            row[f"beta {beta:g}"] = torch.stack(squares).mean().sqrt().item()
        rows.append(row)
    return rows


def show(title: str, rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for i, key in enumerate(rows[0]):
        table.add_column(key, justify="right" if i else "left")
    for r in rows:
        table.add_row(*[v if isinstance(v, str) else f"{v:.4f}" for v in r.values()])
    Console(width=118).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drift", type=float, default=1.0, help="table 1")
    parser.add_argument("--policies", type=int, default=16, help="table 1: random policies")
    parser.add_argument("--seeds", type=int, default=8, help="tables 2 and 3")
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--horizon", type=int, default=6)
    parser.add_argument("--rewarded", type=float, default=0.15, help="share of responses with reward 1")
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--lr", type=float, default=4.0)
    parser.add_argument("--json", default=None)
    args = parser.parse_args()
    result = {"arguments": vars(args)}
    result["gradients"] = expected_gradients(PLACEMENTS, args.policies, args.drift)
    show("1. expected gradient of the KL term (enumerated)", result["gradients"])
    result["mean_baseline"] = training(args, by_std=False)
    show(f"2. advantage r - mean, J = p - {args.beta:g} KL", result["mean_baseline"])
    result["divided_by_std"] = training(args, by_std=True)
    show(f"3. advantage (r - mean) / std, J = U(p) - {args.beta:g} KL", result["divided_by_std"])
    result["all_wrong"] = all_wrong(args)
    show("4. a group of equal rewards: gradient norm (root mean square)", result["all_wrong"])
    steps = {}
    for n in (1, 2, 3, 6):
        steps[f"length {n}, suffix at the start"] = lambda d, m, n=n: term(d, m, step_begins=steps_by_length(m, n))
        steps[f"length {n}, suffix at the end"] = lambda d, m, n=n: step_ends(d, m, n)
    result["steps"] = expected_gradients(steps, args.policies, args.drift, horizon=6)
    show("5. steps: expected gradient of the KL term (enumerated, up to 6 tokens)", result["steps"])
    if args.json:
        write_atomically(args.json, json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
