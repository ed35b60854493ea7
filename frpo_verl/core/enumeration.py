"""Tiny policies whose every trajectory can be written down, so that expectations are sums and not samples.

    E_{y~pi} g(y) = sum_y pi(y) g(y),    pi(y) = prod_t softmax(logits[s_t])[a_t]

A policy over `vocabulary` tokens, token 0 = EOS, is a table of logits with one row for each prefix without EOS.
Trajectories end with EOS or at `horizon` (then without it). Everything is float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

EOS = 0
ValueFn = Callable[[torch.Tensor], torch.Tensor]  # log w -> f(w)


@dataclass(frozen=True)
class Trajectories:
    """Every trajectory of a toy. N rows, T columns.

    tokens: (N, T) int64, 0 after the end.
    state: (N, T) int64, row of the logits table before each token, 0 after the end.
    mask: (N, T) bool, True on tokens including EOS.
    states: rows of the logits table.
    vocabulary: its columns.
    """

    tokens: torch.Tensor
    state: torch.Tensor
    mask: torch.Tensor
    states: int
    vocabulary: int

    @property
    def count(self) -> int:
        return self.tokens.shape[0]


def enumerate_trajectories(vocabulary: int = 3, horizon: int = 4, eos: bool = True) -> Trajectories:
    """All trajectories; without `eos` token 0 is an ordinary token and all have `horizon` tokens."""
    rows: list[tuple[list[int], list[int]]] = []
    index: dict[tuple[int, ...], int] = {}

    def walk(prefix: tuple[int, ...], states: list[int]) -> None:
        states = [*states, index.setdefault(prefix, len(index))]
        for token in range(vocabulary):
            text = (*prefix, token)
            if (eos and token == EOS) or len(text) == horizon:
                rows.append((list(text), states))
            else:
                walk(text, states)

    walk((), [])
    tokens = torch.zeros(len(rows), horizon, dtype=torch.int64)
    state = torch.zeros_like(tokens)
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    for i, (text, states) in enumerate(rows):
        tokens[i, : len(text)] = torch.tensor(text)
        state[i, : len(text)] = torch.tensor(states)
        mask[i, : len(text)] = True
    return Trajectories(tokens, state, mask, len(index), vocabulary)


def random_logits(toy: Trajectories, seed: int, scale: float = 1.0) -> torch.Tensor:
    """(states, V) float64 logits."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(toy.states, toy.vocabulary, generator=generator, dtype=torch.float64)


def log_prob(toy: Trajectories, logits: torch.Tensor) -> torch.Tensor:
    """(N, T) log-probability of each token, 0 after the end; differentiable in the logits."""
    lp = torch.log_softmax(logits, -1)[toy.state, toy.tokens]
    return torch.where(toy.mask, lp, 0.0)


def probability(toy: Trajectories, logits: torch.Tensor) -> torch.Tensor:
    """(N,) probability of each trajectory; differentiable in the logits."""
    return log_prob(toy, logits).sum(-1).exp()


def state_divergence(logits: torch.Tensor, ref_logits: torch.Tensor, f: ValueFn) -> torch.Tensor:
    """(states,) D_f(pi||ref)(s) = sum_a ref f(pi/ref); differentiable."""
    lp, lr = torch.log_softmax(logits, -1), torch.log_softmax(ref_logits, -1)
    return (lr.exp() * f(lp - lr)).sum(-1)


def objective(toy: Trajectories, logits: torch.Tensor, ref_logits: torch.Tensor, f: ValueFn) -> torch.Tensor:
    """E_{y~pi} sum_t D_f(pi||ref)(s_t), enumerated; differentiable in the logits."""
    per_state = state_divergence(logits, ref_logits, f)[toy.state]
    return (probability(toy, logits) * torch.where(toy.mask, per_state, 0.0).sum(-1)).sum()


def gradient(value: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """d value / d logits, of the shape of the logits."""
    return torch.autograd.grad(value, logits)[0]


def policy_gradient(toy: Trajectories, logits: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """E_{y~pi} sum_t weight_t * grad log pi(a_t|s_t) for given (N, T) weights, enumerated."""
    weight = torch.where(toy.mask, weight, 0.0).detach()
    return gradient((probability(toy, logits).detach()[:, None] * weight * log_prob(toy, logits)).sum(), logits)


def relative_error(estimate: torch.Tensor, truth: torch.Tensor) -> float:
    """|estimate - truth| / |truth| in the Euclidean norm."""
    return float((estimate - truth).norm() / truth.norm())
