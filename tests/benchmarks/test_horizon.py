"""benchmarks/automaton.py and horizon.py: the best objective against every answer written down, and a batch's weights."""

import itertools
import math

import automaton
import horizon
import numpy as np
import pytest


def answers(a, log_pi):
    """Every sequence of actions with its log-probability, its log-probability under the reference, and its reward."""
    found = []
    for actions in itertools.product(range(a.reference.shape[1]), repeat=len(log_pi)):
        state, lp, lr = 0, 0.0, 0.0
        for t, action in enumerate(actions):
            lp += log_pi[t, state, action]
            lr += math.log(a.reference[state, action])
            state = a.following[state, action]
        found.append((lp, lr, a.reward[state]))
    return np.array(found).T


@pytest.mark.parametrize("problem", ["commit", "random"])
def test_the_best_objective_by_enumeration(problem):
    """J* = beta log E_ref exp(r / beta), reached by the policy of the dynamic programme."""
    a, beta = automaton.make(problem, 4, seed=3), 0.3
    log_pi, value = automaton.best_policy(a, 4, beta)
    lp, lr, r = answers(a, log_pi)
    assert np.exp(lp).sum() == pytest.approx(1) and value == pytest.approx(beta * math.log(np.exp(lr + r / beta).sum()))
    np.testing.assert_allclose(r - beta * (lp - lr), value)  # constant at the optimum: the reward's control variate
    rate, kl, entropy, first = automaton.evaluate(a, log_pi)
    p = np.exp(lp)
    assert (rate, kl, entropy) == pytest.approx(((p * r).sum(), (p * (lp - lr)).sum(), -(p * lp).sum()))
    assert sum(first) == pytest.approx(1)


def test_success_under_the_reference_does_not_depend_on_the_length():
    for length in (6, 24, 96):
        a = automaton.commit(length)
        rate = automaton.evaluate(a, np.broadcast_to(np.log(a.reference), (length, *a.reference.shape)))[0]
        assert rate == pytest.approx(0.7 * 0.05 + 0.25 * 0.2 + 0.05 * 0.6)


def test_the_floor_is_what_the_groups_own_mean_leaves():
    a = automaton.commit(12)
    best, floor = automaton.best_objective(a, 12, 0.3, by_std=False)
    assert 0 < floor < 0.01 * best
    assert automaton.best_objective(a, 12, 0.3, by_std=True)[1] == 0


def test_the_utility_is_steepest_at_the_ends_and_adds_up():
    p, u = automaton.utility()
    slope = np.diff(u) / np.diff(p)
    assert (slope > 0).all() and slope[0] > 1.5 * slope[len(slope) // 2] and slope[0] == pytest.approx(slope[-1])
    mean = sum(math.comb(16, k) / 2**16 * math.sqrt(k / 16 * (1 - k / 16) * 15 / 16) for k in range(17))
    assert slope[len(slope) // 2] == pytest.approx(mean / 0.25, rel=1e-3)


@pytest.mark.parametrize("method", ["future", "sequence, position", "k3 loss", "local", "reward"])
def test_weights_are_those_of_the_equation(method):
    """One batch through verl: r - mean - beta * what the placement says, written out once more."""
    cell, rows = horizon.Cell("commit", False, 0.3, 5, method, 1), 32
    rng = np.random.default_rng(0)
    reward, log_pi, log_ref = (rng.random(rows) < 0.4).astype(float), -rng.random((rows, 5)), -rng.random((rows, 5))
    weight = horizon.Advantages(cell, rows)(reward, log_pi, log_ref)
    delta, groups = log_pi - log_ref, (2, 16, 1)
    outcome = (reward.reshape(2, 16) - reward.reshape(2, 16).mean(1, keepdims=True)).reshape(rows, 1)
    whole = delta.sum(1).reshape(groups)
    regularizer = {
        "future": delta[:, ::-1].cumsum(1)[:, ::-1],
        "sequence, position": (whole - (whole.sum(1, keepdims=True) - whole) / 15).reshape(rows, 1),
        "k3 loss": 1 - np.exp(-delta), "local": delta,
        "reward": (whole - whole.mean(1, keepdims=True)).reshape(rows, 1),
    }[method]  # fmt: skip
    np.testing.assert_allclose(weight, outcome - 0.3 * regularizer + 0 * delta, atol=1e-5)
