"""Coverage without sampling: where each method's expected gradient ends, and what it keeps there, at equal pass@1.

    python benchmarks/coverage_exact.py                  # half a minute; a table of docs/results/coverage.md

The task is that of coverage.py as an automaton: the first token chooses a way, each further token of 17 is right or spoils
the answer, with the shares and the success of the quickstart's model at its start; the accepted way is hidden. A right
answer in way w is then worth f_w (mean baseline), or f_w E[std] / (p_w (1 - p_w)) in groups of 8 that divide by their
standard deviation, p_w the chance of it under the policy itself.

    future     pi ~ ref exp(value / beta), the KL to come subtracted from the value; also k3, `sequence`; `reward` with a mean
    forward    pi = beta ref / (c - value), KL(ref || pi) to come subtracted; `future` with forward KL or its k3
    local      pi ~ ref exp(Q / beta), Q without any KL; the k2 loss
    k3 loss    pi = beta ref / (c - Q)

k1 and k3 of one divergence end at the same policy: what tells them apart is noise.

The best policies, whatever the method: with m_w the chance under the start of a right sum in way w, f_w the share of
problems that accept w, and p_w the policy's chance of a right sum in way w (p_0, m_0: of anything else)

    pass@k = sum_w f_w (1 - (1 - p_w)^k)
    KL    >= sum_w p_w log(p_w / m_w) + p_0 log(p_0 / m_0)          equality: all that is alike keeps its proportions

so that they are known: `optimum` for pass@1 - beta KL, `best_at_kl` for pass@k at a given KL.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import records
from automaton import ends_at, slope_of

from frpo_verl.quickstart.coverage import SHARES

START, SUCCESS = np.array([0.628, 0.277, 0.095]), np.array([0.041, 0.349, 0.852])  # of the model in coverage.py
LENGTH, GROUP = 17, 8
METHODS = ("future", "forward", "local", "k3 loss")


def reached(worth: np.ndarray, beta: float, method: str) -> tuple[np.ndarray, float]:
    """(chances of a right answer in each way, KL(pi || ref) of an answer) for right answers worth `worth`."""
    return ends_at(START, SUCCESS, LENGTH, worth, beta, method)


def settled(beta: float, method: str, by_std: bool) -> tuple[np.ndarray, float]:
    worth = np.array(SHARES)
    if not by_std:
        return reached(worth, beta, method)
    grid, _, slope = slope_of(GROUP)
    scale = np.interp(START * SUCCESS, grid, slope)
    for _ in range(200):
        chances, kl = reached(worth * scale, beta, method)
        scale = 0.7 * scale + 0.3 * np.interp(chances, grid, slope)
    return chances, kl


# ---------------------------------------------------------------------------------------------- the best policies


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


def main() -> None:
    betas = np.geomspace(0.01, 3, 60)
    rows = []
    for by_std in (False, True):
        for method in METHODS:
            chances, kls = zip(*(settled(beta, method, by_std) for beta in betas), strict=True)
            one, many = ([pass_at(c[None], SHARES, k) for c in chances] for k in (1, 16))
            for at in (0.2, 0.3, 0.35, 0.4):
                columns = (betas, many, kls, *np.transpose(chances))
                beta, p16, kl, *ways = (float(np.interp(-at, -np.array(one), values)) for values in columns)
                right = " / ".join(f"{w:.2f}" for w in ways)
                rows.append(
                    ["std" if by_std else "mean", method, f"{at:g}", f"{beta:.3f}", f"{p16:.3f}", f"{kl:.2f}", right]
                )
    head = ("advantages", "method", "pass@1", "beta", "pass@16", "KL", "right in way A / B / C")
    print(records.table(head, rows))


if __name__ == "__main__":
    main()
