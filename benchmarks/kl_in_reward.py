"""What the KL weighs when it is in the reward and groups divide by their standard deviation; exact, all groups enumerated.

    python benchmarks/kl_in_reward.py                    # a second; a table of docs/results/fixed_points.md

Answers of six classes (three ways, right or wrong) as on "commit" (horizon.py). In a group whose rewards are all equal the
fused advantage is -(KL_i - mean) / std, whatever beta: the table shows the coefficient that the KL really has and the share
of the squared gradient that such groups hold, for problems of every difficulty.
"""

from __future__ import annotations

import itertools

import numpy as np
from fixed_points import START, tilt


def in_the_reward(rate: float, kl: float, beta: float, group: int, by_std: bool) -> dict[str, float]:
    """The KL in the reward on answers of six classes (three ways, right or wrong), by enumeration of all groups.

    The reference is right with `rate`; the policy is drawn towards right answers and towards the rare way until its KL is `kl`.
    The expected gradient is written as  x grad P(right) - y grad KL + rest.

    Returns "beta": y / x, what the KL really weighs; "equal": chance of a group of equal rewards; "share": what such
    groups hold of the squared gradient; "size": root of it, to be compared with the reward's part alone, "alone".
    """
    ref = np.concatenate([START * rate, START * (1 - rate)])
    reward = np.repeat([1.0, 0.0], 3)
    pull = reward + np.tile([0.0, 0.3, 0.6], 2)
    low, high = 0.0, 200.0
    for _ in range(100):
        x = (low + high) / 2
        pi = tilt(ref, x * pull, 1.0)
        low, high = (x, high) if float(pi @ np.log(pi / ref)) < kl else (low, x)
    d = np.log(pi / ref)
    members = np.array(list(itertools.product(range(6), repeat=group)))
    chance = pi[members].prod(1)

    def advantages(scores: np.ndarray) -> np.ndarray:
        centred = scores - scores.mean(1, keepdims=True)
        return centred / (scores.std(1, ddof=1, keepdims=True) + 1e-6) if by_std else centred

    r = reward[members]
    equal = r.min(1) == r.max(1)
    first = members[:, 0]
    size = 1 - 2 * pi[first] + pi @ pi
    squares, alone = (chance * advantages(s)[:, 0] ** 2 * size for s in (r - beta * d[members], r))
    mean = np.bincount(first, chance * advantages(r - beta * d[members])[:, 0], 6)
    basis = np.stack([pi * (reward - pi @ reward), -pi * (d - pi @ d)], 1)
    x, y = np.linalg.lstsq(basis, mean, rcond=None)[0]
    return {
        "pass": float(pi @ reward), "beta": float(y / x), "equal": float(chance[equal].sum()),
        "share": float(squares[equal].sum() / squares.sum()), "size": float(squares.sum() / max(alone.sum(), 1e-300)) ** 0.5,
    }  # fmt: skip


def reward_table(group: int = 5) -> str:
    text = ["| advantages | beta | KL | pass rate | equal groups | what the KL weighs | equal groups' share of the squared "
            "gradient | gradient over the reward's alone |", "|---" * 8 + "|"]  # fmt: skip
    for by_std, beta in ((True, 0.1), (True, 0.01), (True, 0.001), (False, 0.01)):
        for kl, rate in itertools.product((0.01, 1.0), (0.001, 0.03, 0.3, 0.97)):
            f = in_the_reward(rate, kl, beta, group, by_std)
            text.append(
                f"| {'std' if by_std else 'mean'} | {beta:g} | {kl:g} | {f['pass']:.3f} | {f['equal']:.3f} | {f['beta']:.3g} | "
                f"{f['share']:.3f} | {f['size']:.2f} |"
            )
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    print(reward_table())
