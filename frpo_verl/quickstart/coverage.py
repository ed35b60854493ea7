"""Coverage: the sums of `three_ways`, where a problem accepts only one of the three ways, and does not say which.

Real problems need different approaches. Here a keyed hash of the terms draws the way that a problem accepts:

    accepted way = first way whose cumulated share exceeds u,   u = blake2b(terms, key = seed) in [0, 1)

A policy reads the question, which says nothing of it: what it can do is to choose the shares of the ways it writes. One
way for all problems gives the best pass@1; pass@16 needs the others too. What a KL to the start is worth can be seen.

With m_w the chance under the start of a right sum in way w, f_w the share of problems that accept w, and p_w the
policy's chance of a right sum in way w (p_0, m_0: of anything else)

    pass@k = sum_w f_w (1 - (1 - p_w)^k)
    KL    >= sum_w p_w log(p_w / m_w) + p_0 log(p_0 / m_0)          equality: all that is alike keeps its proportions

so that the best policies are known: `optimum` for pass@1 - beta KL, `best_at_kl` for pass@k at a given KL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import three_ways
from .three_ways import WAYS

DATA_SOURCE = "coverage"
SHARES = (0.2, 0.45, 0.35)


def accepted_way(key: Sequence[int], shares: Sequence[float] = SHARES, seed: int = 0) -> str:
    """The one way that a problem accepts; `key` is the problem's, whose terms have no order."""
    digest = hashlib.blake2b(repr(key).encode(), key=f"coverage/{seed}".encode(), digest_size=8).digest()
    below = np.cumsum(shares)[:-1] <= int.from_bytes(digest, "big") / 2**64
    return WAYS[int(below.sum())]


@dataclass(frozen=True)
class Problem(three_ways.Problem):
    """A sum that accepts one way; its `answer` is the way's mark and the sum."""

    way: str = "A"

    @property
    def answer(self) -> str:
        return self.way + super().answer


def make_splits(
    train_size: int = 3072, test_size: int = 128, shares: Sequence[float] = SHARES, seed: int = 0
) -> dict[str, list[Problem]]:
    """The splits of `three_ways.make_splits`, each problem with its way; ValueError if `shares` are no shares."""
    if len(shares) != len(WAYS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"--shares {' '.join(f'{s:g}' for s in shares)}: give {len(WAYS)} shares that add up to 1")
    return {
        name: [Problem(p.terms, p.digits, accepted_way(p.key, shares, seed)) for p in problems]
        for name, problems in three_ways.make_splits(train_size, test_size, seed=seed).items()
    }


def compute_score(data_source, solution_str: str, ground_truth: str, extra_info=None, **_unused) -> dict:
    """verl's reward: 1 for the right sum in the way that the problem accepts (`ground_truth`: that way and the sum).

    Returns what `three_ways.compute_score` does and `right_sum`, 1 for a right sum in any way.
    """
    found = three_ways.compute_score(data_source, solution_str, ground_truth[1:], extra_info)
    pred = solution_str[:1] + found["pred"] if found["pred"] else ""
    right = pred == ground_truth
    return {**found, "score": float(right), "acc": right, "pred": pred, "right_sum": found["score"]}


def pass_at(chances: np.ndarray, shares: Sequence[float], k: int) -> float:
    """pass@k over the accepted ways, from the chances (N, W) of a right sum in each way; the mean over N problems."""
    return float(((1 - (1 - np.asarray(chances)) ** k) @ np.asarray(shares)).mean())


def divergence(chances: np.ndarray, start: np.ndarray) -> float:
    """The least KL to the start, in nats, that the chances (N, W) cost; the mean over N problems."""

    def term(p, m):
        return np.where(p > 0, p * np.log(np.maximum(p, 1e-300) / m), 0.0)

    rest = term(1 - chances.sum(1), 1 - start.sum(1))
    return float((term(chances, start).sum(1) + rest).mean())


def optimum(start: np.ndarray, shares: Sequence[float], beta: float) -> np.ndarray:
    """Chances (N, W) of the policy that maximises pass@1 - beta KL: proportional to start * exp(share / beta)."""
    log_rest = np.log1p(-start.sum(1, keepdims=True))
    exponent = np.concatenate([np.log(start) + np.asarray(shares) / beta, log_rest], 1)
    weight = np.exp(exponent - exponent.max(1, keepdims=True))
    return (weight / weight.sum(1, keepdims=True))[:, :-1]


def best_at_kl(start: np.ndarray, shares: Sequence[float], k: int, price: float) -> np.ndarray:
    """Chances (N, W) of the policy that maximises pass@k - price KL; over all prices, the best pass@k at each KL.

    From the equations  f_w k (1 - p_w)^(k-1) = price (log p_w/m_w - log p_0/m_0),  by bisection in p_w inside of one in
    log p_0/m_0: every p_w grows with p_0, and together they are 1.
    """
    f, rest = np.asarray(shares), 1 - start.sum(1, keepdims=True)

    def given(log_ratio):
        low, high = np.full_like(start, -745.0), np.zeros_like(start)  # log p_w
        for _ in range(60):
            p = (low + high) / 2
            gain = f * k * (-np.expm1(p)) ** (k - 1) - price * (p - np.log(start) - log_ratio)
            low, high = np.where(gain > 0, p, low), np.where(gain > 0, high, p)
        return np.exp((low + high) / 2)

    low, high = np.full_like(rest, -700.0), -np.log(rest)
    for _ in range(60):
        middle = (low + high) / 2
        small = given(middle).sum(1, keepdims=True) + rest * np.exp(middle) < 1
        low, high = np.where(small, middle, low), np.where(small, high, middle)
    return given((low + high) / 2)
