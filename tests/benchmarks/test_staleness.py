"""benchmarks/staleness.py: exact weights remove the bias, the weights are the equation's, and old answers are old."""

import numpy as np
import pytest
import staleness
import torch

from frpo_verl.core import enumeration as exact


@pytest.fixture(scope="module")
def toy():
    return staleness.Toy(seed=3)


def error(toy, age, **how):
    return exact.relative_error(toy.expected(age, **how), toy.truth(toy.path[-1]))


@pytest.mark.parametrize("weights", staleness.WEIGHTS)
def test_fresh_answers_give_the_gradient(toy, weights):
    assert error(toy, 0, weights=weights) < 1e-12 and error(toy, 0, weights=weights, bypass=True) < 1e-12


def test_bias_grows_with_age_and_weights_lessen_it(toy):
    plain, token = ([error(toy, age, weights=name) for age in (1, 4, 16)] for name in ("none", "token"))
    assert plain == sorted(plain) and all(0 < t < p for t, p in zip(token, plain, strict=True))
    assert error(toy, 16, weights="sequence, no bound") < 1e-12
    assert error(toy, 16, weights="none", bypass=True) > plain[-1]


def test_each_part_of_the_gradient_has_its_own_exact_weights(toy):
    """The reward's part wants pi/mu of the whole answer, each log-ratio of the sum that of its prefix."""
    now, then = toy.path[-1].clone().requires_grad_(), toy.path[-17]
    mu, pi, mask = toy.log_prob(then), toy.log_prob(now), toy.all.mask
    delta = (pi - toy.log_prob(toy.ref)).detach()
    prefix = (pi - mu).detach().cumsum(-1).exp()
    whole = (pi - mu).detach().sum(-1, keepdim=True).exp()
    later = staleness.reverse_cumsum(torch.where(mask, prefix * delta, 0.0))
    chance = exact.probability(toy.all, then)
    advantage = whole * (toy.reward - (chance * toy.reward).sum())[:, None] - staleness.BETA * later
    estimate = exact.gradient((chance[:, None] * torch.where(mask, advantage, 0.0) * pi).sum(), now)
    assert exact.relative_error(estimate, toy.truth(toy.path[-1])) < 1e-12


def test_the_drift_is_what_the_metric_says(toy):
    """verl's own function on answers drawn as often as they are likely."""
    from verl.trainer.ppo.rollout_corr_helper import compute_offpolicy_metrics

    mu, pi = toy.log_prob(toy.path[-17]), toy.log_prob(toy.path[-1])
    times = (100_000 * mu.sum(-1).exp()).round().long()
    rows = torch.arange(toy.all.count).repeat_interleave(times)
    found = compute_offpolicy_metrics(pi[rows], mu[rows], toy.all.mask[rows].double())
    assert float(found["kl"]) == pytest.approx(toy.drift(16)["kl_token"], rel=0.01)
    assert float(found["chi2_seq"]) == pytest.approx(toy.drift(16)["chi2_seq"], rel=0.01)


@pytest.mark.slow
def test_whoever_writes_the_answers_the_unweighted_placements_come_close_and_future_does_not(monkeypatch):
    """Four hundred updates on answers of the reference, from the same random numbers."""
    monkeypatch.setattr(staleness.horizon, "SEEDS", 2)
    found = {m: staleness.train(400, "none", 400, m) for m in ("future", *staleness.UNWEIGHTED)}
    regret = {m: staleness.summary(result)["regret"] for m, result in found.items()}
    assert max(regret[m] for m in staleness.UNWEIGHTED) < regret["future"], regret


def test_training_without_age_is_the_horizon_study(monkeypatch):
    """The same random numbers through both loops end at the same policy."""
    monkeypatch.setattr(staleness.horizon, "SEEDS", 2)
    theirs = staleness.horizon.train(staleness.horizon.Cell("commit", False, 0.3, staleness.TOKENS, "future", 20))
    mine, older = (staleness.train(age, "none", 20) for age in (0, 4))
    regrets = [sorted(r["regret"] for r in found["runs"]) for found in (mine, theirs, older)]
    np.testing.assert_allclose(regrets[0], regrets[1])
    assert not np.allclose(regrets[0], regrets[2]) and all(r["kl"] == 0 for r in mine["runs"])
