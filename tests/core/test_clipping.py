import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch

from frpo_verl.core.losses.clipping import (
    OF_PROBABILITIES,
    binary_kl,
    divergence_clip_loss,
    kl3_bounds,
    kl3_delta_for_lower,
    kl3_delta_for_upper,
    probability_bounds,
    ratio_bounds,
)
from frpo_verl.core.losses.terms import read_loss_inputs
from frpo_verl.methods.names import CLIP_MEASURES

f64 = torch.float64
OLD = [1 - 1e-6, 0.97, 0.5, 0.2, 1e-3]  # probabilities of the sampled token
DELTAS = [1e-8, 1e-7, 9.9e-7, 1.1e-6, 1e-5, 9.99e-4, 1.001e-3, 0.0231, 0.3, 1.0, 3.0, 10.0]
CASES = [(m, delta, 0.5) for m in CLIP_MEASURES if m not in OF_PROBABILITIES for delta in DELTAS]
CASES += [(m, delta, old) for m in OF_PROBABILITIES for delta in (1e-6, 1e-3, 0.0231, 0.3) for old in OLD]


def estimate(measure, old, w, log=math.log):
    """The definition in plain numbers of any kind: `old` the probability, `w` the ratio, below 1/old."""
    new = old * w
    return {
        "ratio": lambda: abs(w - 1), "kl1": lambda: abs(log(w)), "kl2": lambda: log(w) ** 2 / 2,
        "kl3": lambda: w - 1 - log(w), "tv": lambda: abs(w - 1) / 2, "prob_tv": lambda: abs(old - new),
        "binary_kl": lambda: old * log(old / new) + (1 - old) * log((1 - old) / (1 - new)),
    }[measure]()  # fmt: skip


def bounds(measure, delta, old):
    """(lower, upper), each of the shape of `old`."""
    old = torch.as_tensor(old, dtype=f64)
    if measure in OF_PROBABILITIES:
        return probability_bounds(measure, delta, old.log())
    return tuple(torch.full_like(old, x) for x in ratio_bounds(measure, delta))


def clip_loss(log_prob, old_log_prob, advantages, mask=None, **kwargs):
    """(loss by token, its gradient in log_prob, metrics)."""
    log_prob = log_prob.detach().requires_grad_()
    mask = torch.ones_like(log_prob) if mask is None else mask
    inputs = read_loss_inputs(log_prob=log_prob, old_log_prob=old_log_prob, advantages=advantages, mask=mask)
    terms = divergence_clip_loss(inputs, **kwargs)
    return terms.token_loss.detach(), torch.autograd.grad(terms.token_loss.sum(), log_prob)[0], terms.metrics


@pytest.mark.parametrize("measure, delta, old", CASES)
def test_bounds_match_bisection_in_decimals(measure, delta, old):
    low, high = (float(x) for x in bounds(measure, delta, old))
    close, apart, zero = (1e-9, 1e-7, 1e-12) if measure in OF_PROBABILITIES else (1e-12, 1e-11, 0)
    with localcontext() as context:
        context.prec = 60
        p = Decimal(torch.tensor(old, dtype=f64).log().item()).exp()

        def solve(inside, outside):
            for _ in range(210):
                middle = (inside + outside) / 2
                small = estimate(measure, p, middle, lambda x: x.ln()) <= Decimal(delta)
                inside, outside = (middle, outside) if small else (inside, middle)
            return inside

        exact_low = solve(Decimal(1), Decimal("1e-9"))
        exact_high = solve(Decimal(1), 1 / p - Decimal("1e-50") if measure in OF_PROBABILITIES else Decimal(100_000))
    unreachable = exact_low < Decimal("2.1e-9")  # exp(-20), or pi = 0
    assert low == pytest.approx(0.0 if unreachable else float(exact_low), rel=close, abs=zero)
    if measure == "prob_tv" and old + delta >= 1:  # pi = 1 is within
        assert high * old >= 1 - 1e-12
        return
    assert high == pytest.approx(float(exact_high), rel=close)
    # relative to the distance from 1, which is what the clip is about; 1e-15: how far apart numbers stand there
    assert high - 1 == pytest.approx(float(exact_high - 1), rel=apart, abs=1e-15)
    assert 1 - low == pytest.approx(float(1 - exact_low), rel=apart, abs=1e-8 if unreachable else 1e-15)


@pytest.mark.parametrize(
    "delta, lower, upper",
    [(0.001, 0.95594, 1.04539), (0.005, 0.90331, 1.10336), (0.01, 0.86517, 1.14817), (0.02, 0.81311, 1.21355),
     (0.05, 0.71619, 1.35040), (0.1, 0.61682, 1.51622)],
)  # fmt: skip
def test_kl3_bounds_match_the_published_digits(delta, lower, upper):
    assert kl3_bounds(np.float64(delta)) == pytest.approx((lower, upper), abs=5.1e-6)


def test_delta_for_known_clips():
    assert kl3_delta_for_lower(0.8) == pytest.approx(0.023144, abs=5e-7)
    assert kl3_delta_for_upper(1.2) == pytest.approx(0.01768, abs=5e-6)
    assert kl3_delta_for_upper(1.28) == pytest.approx(0.03314, abs=5e-6)
    for delta in (1e-8, 1e-4, 0.0231, 1.0, 10.0):
        low, high = kl3_bounds(delta)
        assert kl3_delta_for_lower(low) == pytest.approx(delta, rel=1e-9, abs=0)
        assert kl3_delta_for_upper(high) == pytest.approx(delta, rel=1e-9, abs=0)


def grid(per_side: int = 40):
    """(old, ratio, advantage) with pi < 1, none of them on a bound."""
    old = torch.tensor(OLD, dtype=f64)
    share = torch.linspace(0.003, 0.997, per_side, dtype=f64)
    down, up = share[None].expand(len(OLD), -1), 1 + (1 / old[:, None] - 1).clamp(max=3) * share
    ratio = torch.cat([down, up], dim=1)
    rows = [(o, float(r), a) for o, row in zip(OLD, ratio, strict=True) for r in row for a in (-1.7, -0.3, 0.4, 2.0)]
    return torch.tensor(rows, dtype=f64).T


@pytest.mark.parametrize("delta", [1e-3, 0.0231, 0.3])
@pytest.mark.parametrize("measure", CLIP_MEASURES)
def test_gradient_is_kept_exactly_while_the_estimate_is_within_delta(measure, delta):
    """Against the definition: keep -A w where the estimate holds or the step leads back inside; beyond, the value is
    that of the nearest bound."""
    old, ratio, advantages = grid()
    kind = {"measure": measure, "delta": delta, "dual_clip_c": None}
    loss, grad, metrics = clip_loss((old * ratio).log()[:, None], old.log()[:, None], advantages[:, None], **kind)
    found = torch.tensor([estimate(measure, *pair) for pair in zip(old.tolist(), ratio.tolist(), strict=True)])
    stopped = (found > delta) & ((advantages > 0) == (ratio > 1))
    assert stopped.any() and (~stopped & (found > delta)).any() and (found <= delta).any()
    torch.testing.assert_close(grad[:, 0], torch.where(stopped, 0.0, -advantages * ratio), rtol=1e-9, atol=0)
    low, high = bounds(measure, delta, old)
    nearest = torch.where(ratio > 1, high, low)
    torch.testing.assert_close(loss[:, 0], -advantages * torch.where(stopped, nearest, ratio), rtol=1e-9, atol=0)
    share = float((stopped & (advantages > 0)).double().mean())
    assert float(metrics["actor/pg_clipfrac_at_high"]) == pytest.approx(share)


def verls_batch():
    """old, current, advantages and mask (16, 33): ratios on both sides of every bound."""
    generator = torch.Generator().manual_seed(0)
    old = -3 * torch.rand(16, 33, generator=generator, dtype=f64)
    log_prob = (old + 0.6 * torch.randn(16, 33, generator=generator, dtype=f64)).clamp(max=-1e-3).requires_grad_()
    advantages = torch.randn(16, 33, generator=generator, dtype=f64)
    return old, log_prob, advantages, torch.rand(16, 33, generator=generator) < 0.8


def verls_config(**clip):
    from verl.workers.config import ActorConfig

    sizes = dict(rollout_n=1, ppo_mini_batch_size=1, ppo_micro_batch_size_per_gpu=1)
    return ActorConfig(strategy="fsdp", **sizes, **clip)


@pytest.mark.parametrize(
    "measure, delta, c", [("ratio", (0.2, 0.28), 3.0), ("ratio", (0.2, 0.28), 1.5), ("kl3", 0.0231, 3.0)]
)
def test_same_as_verls_vanilla_in_value_gradient_and_metrics(measure, delta, c):
    core_algos = pytest.importorskip("verl.trainer.ppo.core_algos")
    old, log_prob, advantages, mask = verls_batch()
    low, high = ratio_bounds(measure, delta)
    config = verls_config(clip_ratio_low=1 - low, clip_ratio_high=high - 1, clip_ratio_c=c)
    loss, theirs = core_algos.compute_policy_loss_vanilla(old, log_prob, advantages, mask, "token-mean", config)
    (expected,) = torch.autograd.grad(loss, log_prob)
    ours, grad, metrics = clip_loss(log_prob, old, advantages, mask, measure=measure, delta=delta, dual_clip_c=c)
    torch.testing.assert_close(core_algos.agg_loss(ours, mask, "token-mean"), loss.detach())
    torch.testing.assert_close(grad / mask.sum(), expected)
    for name in ("actor/pg_clipfrac", "actor/ppo_kl", "actor/pg_clipfrac_lower"):
        assert float(metrics[name]) == pytest.approx(theirs[name]) and theirs[name] > 0
    ratio = (log_prob - old).exp().detach()
    at_low = (mask & (advantages < 0) & (ratio < low)).sum() / mask.sum()
    assert float(metrics["actor/pg_clipfrac_at_low"]) == pytest.approx(float(at_low)) and at_low > 0


@pytest.mark.parametrize("measure, verls", [("binary_kl", "dppo_kl"), ("prob_tv", "dppo_tv")])
def test_the_gradient_is_that_of_verls_dppo(measure, verls):
    """verl's loss is `-A sg[min(w, c)] log pi` where it is not stopped; below c that is the same gradient."""
    core_algos = pytest.importorskip("verl.trainer.ppo.core_algos")
    old, log_prob, advantages, mask = verls_batch()
    config = verls_config(clip_ratio=0.05, clip_ratio_low=0.05, clip_ratio_high=0.05, clip_ratio_c=1e9)
    loss, theirs = core_algos.get_policy_loss_fn(verls)(old, log_prob, advantages, mask, "token-sum", config)
    (expected,) = torch.autograd.grad(loss, log_prob)
    _, grad, metrics = clip_loss(log_prob, old, advantages, mask, measure=measure, delta=0.05, dual_clip_c=None)
    torch.testing.assert_close(grad, expected, rtol=1e-9, atol=1e-12)
    assert (
        float(metrics["actor/pg_clipfrac"]) == pytest.approx(theirs["actor/pg_clipfrac"])
        and metrics["actor/pg_clipfrac"] > 0
    )


@pytest.mark.parametrize("measure", OF_PROBABILITIES)
def test_sure_and_hopeless_tokens_are_finite(measure):
    old = torch.tensor([[0.0, 1e-9, -1e-12, -60.0, -800.0]])
    low, high = probability_bounds(measure, 0.0231, old)
    assert (low >= 0).all() and (low < 1).all() and (high >= 1).all() and not high.isnan().any()
    log_prob = old - torch.tensor([[1e-3, 0.5, 0.0, -1.0, 5.0]])
    for sign in (1.0, -1.0):
        loss, grad, _ = clip_loss(log_prob, old, torch.full_like(old, sign), measure=measure, delta=0.0231)
        assert loss.isfinite().all() and grad.isfinite().all()
    assert float(binary_kl(torch.tensor(0.0), torch.tensor(-0.5))) == 0.5  # a sure token: the whole log-ratio


def test_nan_on_a_valid_token_is_not_hidden():
    loss, grad, _ = clip_loss(torch.tensor([[math.nan, -1.0]]), torch.zeros(1, 2), torch.ones(1, 2))
    assert loss.isnan().tolist() == grad.isnan().tolist() == [[True, False]]


@pytest.mark.parametrize("measure", OF_PROBABILITIES)
def test_a_measure_of_probabilities_has_no_interval_of_its_own(measure):
    with pytest.raises(ValueError, match=f"measure='{measure}'"):
        ratio_bounds(measure, 0.1)
