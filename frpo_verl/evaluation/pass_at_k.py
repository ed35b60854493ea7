"""Estimators of pass@k, maj@k and their uncertainty from n graded samples of each problem."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that at least one of k samples is correct, estimated without bias from c correct ones among n.

        pass@k = 1 - C(n-c, k) / C(n, k)

    the share of the size-k subsets of the n samples that hold a correct one; computed in integers, rounded once.

    Args:
        n: samples drawn for the problem, at least 1.
        c: how many of them are correct, 0 .. n.
        k: size of the attempt, 1 .. n.

    Raises ValueError outside these ranges: for k > n there is no unbiased estimator.
    Source: arXiv 2107.03374, Eq. 1.
    """
    if n < 1 or not 0 <= c <= n:
        raise ValueError(f"pass_at_k: n={n}, c={c}; need n >= 1 and 0 <= c <= n")
    if not 1 <= k <= n:
        raise ValueError(f"pass_at_k: k={k} with n={n} samples; need 1 <= k <= n (draw more samples or lower k)")
    total = math.comb(n, k)
    return (total - math.comb(n - c, k)) / total


def bootstrap_pass_at_k(n: int, c: int, k: int) -> float:
    """Expected result of drawing k of the n samples *with* replacement: biased low as an estimate of pass@k.

        1 - (1 - c/n)^k  <=  pass@k

    With n = k = 16 and c = 1 it is 0.644 where pass@16 of these samples is 1. The FRPO paper reports this
    number, from 1000 draws (arXiv 2601.10201); verl's `best@k` metric is the same. Any k >= 1 is allowed.
    """
    if n < 1 or not 0 <= c <= n or k < 1:
        raise ValueError(f"bootstrap_pass_at_k: n={n}, c={c}, k={k}; need n >= 1, 0 <= c <= n and k >= 1")
    return 1.0 - (1.0 - c / n) ** k


def bootstrap_score(n: Sequence[int], c: Sequence[int], k: int) -> tuple[float, float]:
    """Mean and standard deviation, over infinitely many draws, of the with-replacement score of N problems.

        p_i = 1 - (1 - c_i/n_i)^k      mean = sum_i p_i / N      std = sqrt(sum_i p_i (1 - p_i)) / N

    In each draw k of a problem's n_i samples are taken with replacement, the problem counts as solved if one of them is
    correct, and the solved share of the problems is the score: a sum of independent Bernoulli variables.

    Args:
        n, c: one entry a problem, as in `pass_at_k`.
    """
    p = np.array([bootstrap_pass_at_k(a, b, k) for a, b in zip(n, c, strict=True)])
    return float(p.mean()), float(np.sqrt((p * (1.0 - p)).sum()) / len(p))


def _thinned(size: int, p: float) -> np.ndarray:
    """Binomial(size, p) probabilities of 0 .. size, for 0 < p <= 1."""
    if p == 1.0:
        return np.eye(1, size + 1, size)[0]
    u = np.arange(size + 1)
    log_factorial = np.array([math.lgamma(i + 1.0) for i in range(size + 1)])
    log_choose = log_factorial[size] - log_factorial - log_factorial[::-1]
    return np.exp(log_choose + u * math.log(p) + (size - u) * math.log1p(-p))


def _times(table: np.ndarray, kept: np.ndarray, level: int, cap: int | None) -> np.ndarray:
    """Add an answer to `table[drawn, ties]`, drawn at most `cap` times; exactly `cap` times is a tie."""
    out = np.zeros_like(table)
    most = level if cap is None else min(level, cap)
    for u, weight in enumerate(kept[: most + 1]):
        if weight == 0.0:
            continue
        rows = level + 1 - u
        if cap is not None and u == cap:
            out[u:, 1:] += weight * table[:rows, :-1]
        else:
            out[u:] += weight * table[:rows]
    return out


def maj_at_k(votes: Sequence[int], correct: Sequence[float], k: int, abstain: int = 0) -> float:
    """Probability that the most frequent answer among k of the n samples is correct, over all size-k subsets.

        maj@k = E_S sum_{a in top(S)} correct_a / |top(S)|,   S uniform over the size-k subsets of the n samples

    A tie between most frequent answers is broken uniformly at random; a subset without any answer is wrong.
    Exact: the multivariate hypergeometric law of the answer counts is summed by dynamic programming, not
    sampled.

    Args:
        votes: how many of the samples gave each distinct answer, at least 1 each.
        correct: for each answer the probability that it is correct, normally 0 or 1.
        k: subset size, 1 .. n with n = sum(votes) + abstain. k = n is the plain majority of all samples.
        abstain: samples in which no answer was found; they can be drawn but do not vote.

    Raises ValueError outside these ranges.
    """
    n = sum(votes) + abstain
    if len(votes) != len(correct) or any(v < 1 for v in votes) or abstain < 0:
        raise ValueError(
            f"maj_at_k: votes={list(votes)}, correct={list(correct)}: one count >= 1 and one value an answer"
        )
    if not 1 <= k <= n:
        raise ValueError(f"maj_at_k: k={k} with n={n} samples; need 1 <= k <= n (draw more samples or lower k)")
    p = k / n  # thin every answer independently with probability p, then condition on k samples in all
    thinned = [_thinned(v, p) for v in votes]
    silent = _thinned(abstain, p)
    probability = 0.0
    for winner, value in enumerate(correct):
        if value == 0.0:
            continue
        for count in range(1, min(votes[winner], k) + 1):
            rest = k - count
            table = np.zeros((rest + 1, rest // count + 2))
            table[0, 0] = 1.0
            for other, kept in enumerate(thinned):
                if other != winner:
                    table = _times(table, kept, rest, count)
            table = _times(table, silent, rest, None)
            shares = 1.0 / np.arange(1, table.shape[1] + 1)
            probability += value * thinned[winner][count] * float(table[rest] @ shares)
    return min(1.0, float(probability / _thinned(n, p)[k]))


def confidence_interval(
    values: np.ndarray, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap over problems for the mean of each column.

    Problems are drawn with replacement and the mean is taken again, `resamples` times. The spread between
    problems already contains the noise of having only n samples of each, so the interval covers both.

    Args:
        values: (problems, metrics), one value a problem and metric.
        confidence: share of the resampled means between the two ends.

    Returns (low, high), each of shape (metrics,). With one problem, or equal values, both equal the mean.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"confidence_interval: values has shape {values.shape}; need (problems >= 1, metrics)")
    if not 0.0 < confidence < 1.0 or resamples < 1:
        raise ValueError(f"confidence_interval: confidence={confidence}, resamples={resamples}; need (0, 1) and >= 1")
    rng = np.random.default_rng(seed)
    problems = len(values)
    uniform = np.full(problems, 1.0 / problems)
    means = np.stack([rng.multinomial(problems, uniform) @ values / problems for _ in range(resamples)])
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail], axis=0)
    return low, high
