"""KL in the reward, in the loss or in the advantage: the same term in every place, on toys that can be solved exactly.

    python benchmarks/kl_placement.py [--json FILE]

Table 1, by enumeration of every response (3 tokens, up to 4 of them, EOS, policy = random logits + a random drift): the expected
gradient of each placement against the gradient of E_y sum_t KL(pi||ref)(s_t), and the variance of one sampled response.

Table 2, by training: 3 tokens, 6 positions, one logit row for each prefix, a share of the 729 responses rewarded with 1. Each step
samples a group of 16 responses and takes one plain gradient step on reward - beta * KL with advantages r - mean r. The optimum
pi* ~ ref exp(r / beta) is known, so that the regret J* - J is exact. Table 3 is the same with GRPO's division by the group's
standard deviation, under which no placement maximises that J: it shows reward, KL and entropy at the end.
"""

from __future__ import annotations

import argparse
import json
import os

import torch

from frpo_verl.advantages import kl_to_go, regularizer
from frpo_verl.steps import step_starts_by_length

VOCABULARY = 3


def step_ends(delta: torch.Tensor, mask: torch.Tensor, length: int) -> torch.Tensor:
    """PRL's public code: every token takes the suffix at the end of its step, or at the last token."""
    position = (mask.long().cumsum(-1) - 1).clamp(min=0)
    last = (mask.sum(-1, keepdim=True) - 1).clamp(min=0)
    end = torch.minimum((position // length + 1) * length - 1, last)
    return torch.where(mask, kl_to_go(delta, mask).gather(1, end), 0.0)


# name -> (delta, mask) -> (B, T), what multiplies beta * grad log pi of each token
PLACEMENTS = {
    "loss: k1": lambda d, m: m.to(d.dtype),  # d/dtheta log pi
    "loss: k2 (= local)": lambda d, m: regularizer(d, m, placement="local"),
    "loss: k3": lambda d, m: regularizer(d, m, divergence="forward_kl_k3", placement="local"),
    "advantage: future (k1)": lambda d, m: regularizer(d, m),
    "advantage: future (k3 form)": lambda d, m: regularizer(d, m, divergence="reverse_kl_k3"),
    "advantage: sequence": lambda d, m: regularizer(d, m, placement="sequence"),
    "steps of 2, start": lambda d, m: kl_to_go(d, m, step_start=step_starts_by_length(m, 2)),
    "steps of 2, end (PRL code)": lambda d, m: step_ends(d, m, 2),
    "advantage: discount 0.9": lambda d, m: regularizer(d, m, discount=0.9),
    "advantage: discount 0.5": lambda d, m: regularizer(d, m, discount=0.5),
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
        tokens[i, : len(text)], state[i, : len(text)], mask[i, : len(text)] = (
            torch.tensor(text),
            torch.tensor(states),
            True,
        )
    return tokens, state, mask, len(index)


def expected_gradients(seeds: int, drift: float) -> list[dict]:
    """Relative error, cosine and variance of each placement, mean over random policies."""
    tokens, state, mask, states = enumerate_responses(4, eos=True)
    out = {name: torch.zeros(3, dtype=torch.float64) for name in PLACEMENTS}
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
        truth = torch.autograd.grad(
            (p * torch.where(mask, kl, 0.0).sum(-1)).sum(), logits, retain_graph=True
        )[0]
        one_hot = torch.nn.functional.one_hot(tokens, VOCABULARY).double()
        score = torch.where(mask[..., None], one_hot - log_pi.detach().exp()[state], 0.0)
        for name, placement in PLACEMENTS.items():
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


def train(placement, args: argparse.Namespace, divide_by_std: bool, in_reward: bool) -> dict[str, float]:
    """Plain gradient ascent from the reference, all seeds side by side; exact figures of the final policies."""
    tokens, state, _, states = enumerate_responses(args.horizon, eos=False)
    seeds, group, horizon = args.seeds, args.group, args.horizon
    generator = torch.Generator().manual_seed(0)
    ref = torch.randn(seeds, states, VOCABULARY, generator=generator, dtype=torch.float64).log_softmax(-1)
    reward = (torch.rand(seeds, len(tokens), generator=generator) < args.rewarded).double()
    logits = ref.clone()
    mask = torch.ones(seeds * group, horizon, dtype=torch.bool)
    s, hot = torch.arange(seeds)[:, None, None], torch.nn.functional.one_hot(tokens, VOCABULARY).double()

    def response_log_prob(table: torch.Tensor) -> torch.Tensor:  # (S, N)
        return table[:, state, tokens].sum(-1)

    log_ref = response_log_prob(ref)
    for _ in range(args.steps):
        log_pi = logits.log_softmax(-1)
        row = torch.multinomial(response_log_prob(log_pi).exp(), group, replacement=True, generator=generator)
        st, tk = state[row], tokens[row]  # (S, G, T)
        delta = (log_pi - ref)[s, st, tk]
        r = reward.gather(1, row)
        if in_reward:
            r = r - args.beta * delta.sum(-1)
        advantage = r - r.mean(-1, keepdim=True)
        if divide_by_std:
            advantage = advantage / (r.std(-1, keepdim=True) + 1e-6)
        weight = advantage[..., None].expand_as(delta)
        if placement is not None:
            weight = weight - args.beta * placement(delta.reshape(-1, horizon), mask).reshape(delta.shape)
        step = weight[..., None] * (hot[row] - log_pi.exp()[s, st]) / group
        logits.index_put_((s.expand_as(st), st), args.lr * step, accumulate=True)
    log_pi = response_log_prob(logits.log_softmax(-1))
    p = log_pi.exp()
    rate, kl = (p * reward).sum(-1), (p * (log_pi - log_ref)).sum(-1)
    best = args.beta * (log_ref + reward / args.beta).logsumexp(-1)
    numbers = {
        "regret": best - (rate - args.beta * kl),
        "reward": rate,
        "kl": kl,
        "entropy": -(p * log_pi).sum(-1),
    }
    return {name: x.mean().item() for name, x in numbers.items()} | {
        "regret_se": (numbers["regret"].std() / seeds**0.5).item()
    }


def training(args: argparse.Namespace, divide_by_std: bool) -> list[dict]:
    from rich.progress import track

    runs = {"no KL": (None, False), "in the reward": (None, True)}
    runs |= {name: (function, False) for name, function in PLACEMENTS.items() if "discount" not in name}
    label = "dividing by std" if divide_by_std else "mean baseline"
    return [
        {"placement": name, **train(function, args, divide_by_std, in_reward)}
        for name, (function, in_reward) in track(runs.items(), description=f"training, {label}")
    ]


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--drift", type=float, default=1.0, help="table 1")
    parser.add_argument("--policies", type=int, default=16, help="table 1: random policies")
    parser.add_argument("--seeds", type=int, default=8, help="tables 2 and 3")
    parser.add_argument("--beta", type=float, default=0.3)
    parser.add_argument("--horizon", type=int, default=6)
    parser.add_argument("--rewarded", type=float, default=0.15, help="share of responses with reward 1")
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--lr", type=float, default=0.5)
    parser.add_argument("--json", default=None)
    args = parser.parse_args()
    result = {"arguments": vars(args), "gradients": expected_gradients(args.policies, args.drift)}
    show("1. expected gradient of the KL term (enumerated)", result["gradients"])
    result["mean_baseline"] = training(args, divide_by_std=False)
    show(f"2. advantages r - mean, beta {args.beta:g}: regret J* - J", result["mean_baseline"])
    result["divided_by_std"] = training(args, divide_by_std=True)
    show(f"3. advantages (r - mean) / std, beta {args.beta:g}", result["divided_by_std"])
    if args.json:
        with open(args.json + ".part", "w") as out:
            json.dump(result, out, indent=1)
        os.replace(args.json + ".part", args.json)


if __name__ == "__main__":
    main()
