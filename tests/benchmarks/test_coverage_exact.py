"""benchmarks/coverage_exact.py: its policies are the ones that gradient ascent finds, and its best ones the best."""

import itertools

import coverage_exact as exact
import numpy as np
import pytest
import torch

from frpo_verl.quickstart.coverage import SHARES

F = np.array(SHARES)


@pytest.mark.parametrize("beta", [0.03, 0.1, 0.3])
def test_future_ends_at_the_formulas_optimum(beta):
    chances, kl = exact.reached(F, beta, "future")
    start = (exact.START * exact.SUCCESS)[None] / exact.START.sum()
    best = exact.optimum(start, SHARES, beta)
    np.testing.assert_allclose(chances, best[0], atol=1e-9)
    assert kl == pytest.approx(exact.divergence(best, start), abs=1e-6)


@pytest.mark.parametrize("method", exact.METHODS)
def test_gradient_ascent_ends_there(method, monkeypatch):
    """Four tokens: what each method's expected gradient adds up, written as a loss whose penalties see what the method sees."""
    beta, length = 0.15, 4
    monkeypatch.setattr(exact, "LENGTH", length)
    start = torch.tensor(exact.START / exact.START.sum())
    right = torch.tensor(exact.SUCCESS ** (1 / (length - 1))).expand(length - 1, 3)
    worth = torch.tensor(F)
    first, later = start.log().clone().requires_grad_(), torch.logit(right).clone().requires_grad_()
    optimizer = torch.optim.Adam([first, later], lr=0.03)
    reverse, whole = method in ("future", "local"), method in ("future", "forward")

    def distance(p, q):
        return (p * (p / q).log()).sum(0) if reverse else (q * (q / p).log()).sum(0)

    for _ in range(1500):
        pi, p = first.softmax(0), later.sigmoid()
        reach = torch.cat([torch.ones(1, 3, dtype=p.dtype), p.cumprod(0)[:-1]])  # of a way, the tokens before right
        token = distance(torch.stack([p, 1 - p]), torch.stack([right, 1 - right]))
        visits = pi * reach if whole else (pi * reach).detach()  # a local term does not see where it leads
        loss = -(pi * p.prod(0) * worth).sum() + beta * (distance(pi, start) + (visits * token).sum())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        chances = (first.softmax(0) * later.sigmoid().prod(0)).numpy()
    np.testing.assert_allclose(exact.reached(F, beta, method)[0], chances, atol=2e-3)


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
    best = exact.best_at_kl(START, SHARES, k, price)
    found = exact.pass_at(best, SHARES, k) - price * exact.divergence(best, START)
    on_grid = np.mean([values(policies(), start, k, price).max() for start in START])
    assert on_grid <= found + 1e-9 and on_grid > found - 0.03
    if k == 1:
        np.testing.assert_allclose(best, exact.optimum(START, SHARES, price), atol=1e-9)


def test_the_best_objective_is_the_log_of_the_mean_exponential():
    beta = 0.1
    best = exact.optimum(START, SHARES, beta)
    value = exact.pass_at(best, SHARES, 1) - beta * exact.divergence(best, START)
    weights = np.exp(np.append(SHARES, 0) / beta)
    full = np.concatenate([START, 1 - START.sum(1, keepdims=True)], 1)
    assert value == pytest.approx(float((beta * np.log(full @ weights)).mean()), abs=1e-12)
    np.testing.assert_allclose(exact.optimum(START, SHARES, 1e9), START, rtol=1e-6)  # a KL at any price: the start
    assert np.isfinite(exact.optimum(START, SHARES, 1e-4)).all()
