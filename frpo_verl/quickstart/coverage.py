"""Coverage: the sums of `three_ways`, where a problem accepts only one of the three ways, and does not say which.

Real problems need different approaches. Here a keyed hash of the terms draws the way that a problem accepts:

    accepted way = first way whose cumulated share exceeds u,   u = blake2b(terms, key = seed) in [0, 1)

A policy reads the question, which says nothing of it: what it can do is to choose the shares of the ways it writes. One
way for all problems gives the best pass@1; pass@16 needs the others too. What a KL to the start is worth can be seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_unused: Any
) -> dict[str, Any]:
    """verl's reward: 1 for the right sum in the way that the problem accepts (`ground_truth`: that way and the sum).

    Returns what `three_ways.compute_score` does and `right_sum`, 1 for a right sum in any way.
    """
    found = three_ways.compute_score(data_source, solution_str, ground_truth[1:], extra_info)
    pred = solution_str[:1] + found["pred"] if found["pred"] else ""
    right = pred == ground_truth
    return {**found, "score": float(right), "acc": right, "pred": pred, "right_sum": found["score"]}
