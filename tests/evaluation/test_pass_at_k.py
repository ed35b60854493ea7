"""pass@k, majority and intervals against enumeration, draws and numbers by hand."""

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frpo_verl.evaluation import bootstrap_pass_at_k, bootstrap_score, confidence_interval, maj_at_k, pass_at_k


def pass_by_enumeration(n, c, k):
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
    return Fraction(sum(any(s) for s in subsets), len(subsets))


def maj_by_enumeration(votes, correct, k, abstain):
    samples = [answer for answer, v in enumerate(votes) for _ in range(v)] + [None] * abstain
    total, subsets = 0.0, 0
    for subset in itertools.combinations(samples, k):
        subsets += 1
        counts = {a: subset.count(a) for a in set(subset) if a is not None}
        top = [a for a, count in counts.items() if count == max(counts.values())]
        total += sum(correct[a] for a in top) / len(top) if top else 0.0
    return total / subsets


def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample():
    for n in range(1, 10):
        for c in range(n + 1):
            for k in range(1, n + 1):
                assert pass_at_k(n, c, k) == float(pass_by_enumeration(n, c, k))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_pass_at_k_is_unbiased_and_the_bootstrap_is_not(p):
    n, k = 8, 4
    chance = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    truth = 1 - (1 - p) ** k
    assert sum(w * pass_at_k(n, c, k) for c, w in enumerate(chance)) == pytest.approx(truth, abs=1e-14)
    assert sum(w * bootstrap_pass_at_k(n, c, k) for c, w in enumerate(chance)) < truth - 0.001


def test_bootstrap_bias_of_the_known_cases():
    assert bootstrap_pass_at_k(16, 1, 16) == pytest.approx(0.644, abs=5e-4) and pass_at_k(16, 1, 16) == 1.0
    assert bootstrap_pass_at_k(64, 1, 16) == pytest.approx(0.223, abs=5e-4) and pass_at_k(64, 1, 16) == 0.25


@given(st.integers(1, 200), st.data())
def test_pass_at_k_properties(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    value = pass_at_k(n, c, k)
    assert 0.0 <= bootstrap_pass_at_k(n, c, k) <= value + 1e-15 <= 1.0 + 1e-15
    assert pass_at_k(n, c, 1) == c / n
    if c < n:
        assert value <= pass_at_k(n, c + 1, k)
    if k < n:
        assert value <= pass_at_k(n, c, k + 1)


def test_pass_at_k_with_many_samples():
    assert pass_at_k(10_000, 1, 5_000) == 0.5
    assert pass_at_k(100_000, 1, 1) == 1e-5


@pytest.mark.parametrize("n,c,k", [(0, 0, 1), (4, 5, 1), (4, -1, 1), (4, 2, 5), (4, 2, 0)])
def test_pass_at_k_refuses(n, c, k):
    with pytest.raises(ValueError, match=r"need (n >= 1|1 <= k)"):
        pass_at_k(n, c, k)


def test_the_with_replacement_score_is_what_draws_give():
    rng = random.Random(0)
    n = [16] * 40
    c = [rng.choice([0, 0, 1, 2, 8, 16]) for _ in n]
    draws = np.random.default_rng(2)
    scores = [np.mean([(draws.integers(16, size=16) < b).any() for b in c]) for _ in range(2000)]
    mean, std = bootstrap_score(n, c, 16)
    assert mean == pytest.approx(np.mean(scores), abs=5 * std / math.sqrt(2000))
    assert std == pytest.approx(np.std(scores), rel=0.08)
    assert bootstrap_score([4], [2], 1) == (0.5, 0.5) and bootstrap_score([4, 4], [0, 4], 3) == (0.5, 0.0)


def test_maj_at_k_is_the_expected_majority_over_subsets():
    rng = random.Random(1)
    for _ in range(60):
        votes = [rng.randint(1, 4) for _ in range(rng.randint(0, 4))]
        correct = [rng.choice([0.0, 1.0, 0.5]) for _ in votes]
        abstain = rng.randint(0 if votes else 1, 2)
        n = sum(votes) + abstain
        for k in range(1, min(n, 9) + 1):
            expected = maj_by_enumeration(votes, correct, k, abstain)
            assert maj_at_k(votes, correct, k, abstain) == pytest.approx(expected, abs=1e-12)


def test_maj_at_k_by_hand():
    assert maj_at_k([3, 2], [1.0, 0.0], 5) == 1.0
    assert maj_at_k([2, 2], [1.0, 0.0], 4) == 0.5  # a tie
    assert maj_at_k([1, 3], [1.0, 0.0], 1) == pytest.approx(0.25, abs=1e-13)  # one sample: its accuracy
    assert maj_at_k([1], [1.0], 4, abstain=3) == 1.0  # who finds no answer does not vote
    assert maj_at_k([], [], 2, abstain=3) == 0.0


def test_maj_at_k_with_many_samples_stays_exact():
    # a correct answer given half of the time, all others different: from three of it no single answer can win
    n, k = 2000, 3
    hypergeometric = [math.comb(1000, j) * math.comb(1000, k - j) / math.comb(n, k) for j in range(k + 1)]
    expected = hypergeometric[3] + hypergeometric[2] + hypergeometric[1] / 3
    assert maj_at_k([1000] + [1] * 1000, [1.0] + [0.0] * 1000, k) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("args", [([0], [1.0], 1), ([1], [], 1), ([2], [1.0], 3), ([2], [1.0], 0), ([1], [1.0], 1, -1)])
def test_maj_at_k_refuses(args):
    with pytest.raises(ValueError, match="maj_at_k"):
        maj_at_k(*args)


def test_confidence_interval_is_that_of_a_mean():
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(size=400), np.full(400, 0.25)], axis=1)
    low, high = confidence_interval(values, 0.95, resamples=4000, seed=3)
    half = 1.96 * values[:, 0].std() / 20
    assert (low[0], high[0]) == pytest.approx((values[:, 0].mean() - half, values[:, 0].mean() + half), abs=0.15 * half)
    assert low[1] == pytest.approx(0.25) == high[1]
    again = confidence_interval(values, 0.95, resamples=4000, seed=3)
    assert np.array_equal(again[0], low) and np.array_equal(again[1], high)
    with pytest.raises(ValueError, match="shape"):
        confidence_interval(np.zeros(3))
    with pytest.raises(ValueError, match="confidence"):
        confidence_interval(np.zeros((3, 1)), confidence=95)
