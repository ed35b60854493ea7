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
"""

from __future__ import annotations

import numpy as np
from coverage_optimum import pass_at
from fixed_points import level, tilt, two_level, two_tilt
from horizon import slope_of

from frpo_verl.quickstart.coverage import SHARES

START, SUCCESS = np.array([0.628, 0.277, 0.095]), np.array([0.041, 0.349, 0.852])  # of the model in coverage.py
LENGTH, GROUP = 17, 8
METHODS = ("future", "forward", "local", "k3 loss")


def reached(worth: np.ndarray, beta: float, method: str) -> tuple[np.ndarray, float]:
    """(chances of a right answer in each way, KL(pi || ref) of an answer) for right answers worth `worth`."""
    first, later = (tilt, two_tilt) if method in ("future", "local") else (level, two_level)
    right = SUCCESS ** (1 / (LENGTH - 1))
    value, chance, kl = worth.copy(), np.ones(3), np.zeros(3)
    for _ in range(LENGTH - 1):
        p = np.clip(later(right, value, beta), 1e-300, 1 - 1e-16)
        reverse = p * np.log(p / right) + (1 - p) * np.log((1 - p) / (1 - right))
        forward = right * np.log(right / p) + (1 - right) * np.log((1 - right) / (1 - p))
        value, kl, chance = p * value, p * kl + reverse, p * chance
        if method in ("future", "forward"):
            value = value - beta * (reverse if method == "future" else forward)
    p = first(START, value, beta)
    return p * chance, float((p * np.log(np.maximum(p, 1e-300) / START)).sum() + p @ kl)


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


def main() -> None:
    betas = np.geomspace(0.01, 3, 60)
    print(
        "| advantages | method | pass@1 | beta | pass@16 | KL | right in way A / B / C |\n|---|---|---|---|---|---|---|"
    )
    for by_std in (False, True):
        for method in METHODS:
            chances, kls = zip(*(settled(beta, method, by_std) for beta in betas), strict=True)
            one, many = ([pass_at(c[None], SHARES, k) for c in chances] for k in (1, 16))
            for at in (0.2, 0.3, 0.35, 0.4):
                beta, p16, kl, *ways = (
                    float(np.interp(-at, -np.array(one), values))
                    for values in (betas, many, kls, *np.transpose(chances))
                )
                print(f"| {'std' if by_std else 'mean'} | {method} | {at:g} | {beta:.3f} | {p16:.3f} | {kl:.2f} | "
                      f"{' / '.join(f'{w:.2f}' for w in ways)} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
