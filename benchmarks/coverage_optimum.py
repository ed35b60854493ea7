"""The best policies of the set `coverage`: what is possible at all, beside every table.

With m_w the chance under the start of a right sum in way w, f_w the share of problems that accept w, and p_w the
policy's chance of a right sum in way w (p_0, m_0: of anything else)

    pass@k = sum_w f_w (1 - (1 - p_w)^k)
    KL    >= sum_w p_w log(p_w / m_w) + p_0 log(p_0 / m_0)          equality: all that is alike keeps its proportions

so that the best policies are known: `optimum` for pass@1 - beta KL, `best_at_kl` for pass@k at a given KL.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
