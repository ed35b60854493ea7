"""benchmarks/coverage_optimum.py: its policies are the best ones."""

import itertools

import coverage_optimum as optimum
import numpy as np
import pytest

from frpo_verl.quickstart.coverage import SHARES

START = np.array([[0.025, 0.095, 0.074], [0.3, 0.01, 0.05]])


def policies(step=0.02):
    """Every (p_A, p_B, p_C) on a grid."""
    grid = np.arange(0, 1 + step / 2, step)
    return np.array([p for p in itertools.product(grid, repeat=3) if sum(p) < 1])


def values(p, start, k, price):
    """pass@k - price KL of many policies for one problem, written out once more."""
    full = np.concatenate([p, 1 - p.sum(1, keepdims=True)], 1)
    base = np.append(start, 1 - start.sum())
    kl = np.where(full > 1e-12, full * np.log(np.maximum(full, 1e-300) / base), 0).sum(1)
    return ((1 - (1 - p) ** k) * SHARES).sum(1) - price * kl


@pytest.mark.parametrize("k", [1, 16])
@pytest.mark.parametrize("price", [0.03, 0.1, 0.3, 1.0])
def test_no_policy_on_a_grid_is_better(k, price):
    best = optimum.best_at_kl(START, SHARES, k, price)
    found = optimum.pass_at(best, SHARES, k) - price * optimum.divergence(best, START)
    on_grid = np.mean([values(policies(), start, k, price).max() for start in START])
    assert on_grid <= found + 1e-9 and on_grid > found - 0.03
    if k == 1:
        np.testing.assert_allclose(best, optimum.optimum(START, SHARES, price), atol=1e-9)


def test_the_best_objective_is_the_log_of_the_mean_exponential():
    beta = 0.1
    best = optimum.optimum(START, SHARES, beta)
    value = optimum.pass_at(best, SHARES, 1) - beta * optimum.divergence(best, START)
    weights = np.exp(np.append(SHARES, 0) / beta)
    full = np.concatenate([START, 1 - START.sum(1, keepdims=True)], 1)
    assert value == pytest.approx(float((beta * np.log(full @ weights)).mean()), abs=1e-12)
    np.testing.assert_allclose(optimum.optimum(START, SHARES, 1e9), START, rtol=1e-6)  # a KL at any price: the start
    assert np.isfinite(optimum.optimum(START, SHARES, 1e-4)).all()
