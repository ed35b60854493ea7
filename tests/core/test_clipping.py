import math

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

nan, inf = float("nan"), float("inf")
f64 = torch.float64

OF_RATIOS = [measure for measure in CLIP_MEASURES if measure not in OF_PROBABILITIES]

TABLE = [
    (0.001, 0.95594, 1.04539),
    (0.005, 0.90331, 1.10336),
    (0.01, 0.86517, 1.14817),
    (0.01768, 0.82356, 1.2),
    (0.02, 0.81311, 1.21355),
    (0.023144, 0.8, 1.23084),
    (0.03314, 0.76415, 1.28),
    (0.05, 0.71619, 1.35040),
    (0.1, 0.61682, 1.51622),
]


def estimate(measure: str, w: torch.Tensor) -> torch.Tensor:
    """The divergence estimate itself, without any closed-form bound."""
    return {
        "ratio": lambda: (w - 1).abs(),
        "kl1": lambda: w.log().abs(),
        "kl2": lambda: w.log().square() / 2,
        "kl3": lambda: w - 1 - w.log(),
        "tv": lambda: (w - 1).abs() / 2,
    }[measure]()


def clip_loss(log_prob, old_log_prob, advantages, mask, **kwargs):
    inputs = read_loss_inputs(log_prob=log_prob, old_log_prob=old_log_prob, advantages=advantages, mask=mask)
    return divergence_clip_loss(inputs, **kwargs)


def one_token(ratios: torch.Tensor, advantages: torch.Tensor, **kwargs):
    """Loss and d loss / d log pi of each (ratio, advantage) pair as a response of one token."""
    log_prob = ratios.log()[:, None].requires_grad_()
    terms = clip_loss(log_prob, torch.zeros_like(log_prob), advantages[:, None], torch.ones_like(log_prob), **kwargs)
    (grad,) = torch.autograd.grad(terms.token_loss.sum(), log_prob)
    return terms.token_loss[:, 0], grad[:, 0], terms.metrics


def ppo_reference(ratios, advantages, low, high, c):
    """verl's vanilla loss, written as its docstring states it, differentiated by autograd."""
    log_prob = ratios.log().requires_grad_()
    w = log_prob.exp()
    loss = torch.maximum(-advantages * w, -advantages * w.clamp(low, high))
    loss = torch.where(advantages < 0, torch.minimum(loss, -advantages * c), loss)
    (grad,) = torch.autograd.grad(loss.sum(), log_prob)
    return loss.detach(), grad


GRID = torch.cartesian_prod(
    torch.linspace(0.051, 4.043, 81, dtype=f64), torch.tensor([-1.7, -0.3, 0.4, 2.0], dtype=f64)
)


@pytest.mark.parametrize("delta, lower, upper", TABLE)
def test_kl3_bounds_match_the_published_digits(delta, lower, upper):
    # three deltas are rounded themselves: their bounds carry an error of d delta / |1 - 1/w| as well
    low, high = kl3_bounds(delta)
    slack = 5e-7 if delta == 0.023144 else 5e-6 if delta in (0.01768, 0.03314) else 0.0
    assert abs(low - lower) <= 5.1e-6 + slack / (1 / low - 1)
    assert abs(high - upper) <= 5.1e-6 + slack / (1 - 1 / high)


def bisect(delta: float, below: float, above: float) -> float:
    """log w with expm1(log w) - log w = delta between two log-ratios, by bisection in 60-digit decimals."""
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = 60
        target, a, b = Decimal(delta), Decimal(below), Decimal(above)
        rising = b > 0
        for _ in range(150):
            middle = (a + b) / 2
            too_high = middle.exp() - 1 - middle > target
            a, b = (a, middle) if too_high == rising else (middle, b)
        return float(a.exp())


@pytest.mark.parametrize("delta", [1e-8, 1e-7, 9.9e-7, 1.1e-6, 1e-5, 9.99e-4, 1.001e-3, 0.0231, 0.3, 1.0, 3.0, 10.0])
def test_kl3_bounds_match_bisection(delta):
    low, high = kl3_bounds(delta)
    assert 0 < low < 1 < high and high - 1 > 1 - low
    exact_low, exact_high = bisect(delta, -delta - 2, 0), bisect(delta, 0, 5)
    assert low == pytest.approx(exact_low, rel=1e-13, abs=0)
    assert high == pytest.approx(exact_high, rel=1e-13, abs=0)
    # relative to the distance from 1, which is what the clip is about
    assert 1 - low == pytest.approx(1 - exact_low, rel=1e-11, abs=0)
    assert high - 1 == pytest.approx(exact_high - 1, rel=1e-11, abs=0)


@pytest.mark.parametrize("delta", [1e-8, 1e-4, 0.0231, 1.0, 10.0])
def test_delta_for_a_wanted_bound_inverts_the_bounds(delta):
    low, high = kl3_bounds(delta)
    assert kl3_delta_for_lower(low) == pytest.approx(delta, rel=1e-9, abs=0)
    assert kl3_delta_for_upper(high) == pytest.approx(delta, rel=1e-9, abs=0)


def test_delta_for_known_clips():
    assert kl3_delta_for_lower(0.8) == pytest.approx(0.023144, abs=5e-7)
    assert kl3_delta_for_upper(1.2) == pytest.approx(0.01768, abs=5e-6)
    assert kl3_delta_for_upper(1.28) == pytest.approx(0.03314, abs=5e-6)


def test_other_orientation_gives_another_interval():
    low, high = kl3_bounds(0.02)
    assert (1 / high, 1 / low) == (pytest.approx(0.8240, abs=5e-5), pytest.approx(1.2299, abs=5e-5))
    assert not math.isclose(low, 1 / high, rel_tol=1e-3)


@pytest.mark.parametrize("measure", OF_RATIOS)
@pytest.mark.parametrize("delta", [1e-6, 0.01, 0.0231, 0.3])
def test_ratio_bounds_are_where_the_estimate_reaches_delta(measure, delta):
    low, high = ratio_bounds(measure, delta)
    ends = torch.tensor([low, high], dtype=f64)
    assert torch.allclose(estimate(measure, ends), torch.full((2,), delta, dtype=f64), rtol=1e-5)
    width = high - low
    inside, outside = ends + torch.tensor([1e-3, -1e-3]) * width, ends + torch.tensor([-1e-3, 1e-3]) * width
    assert (estimate(measure, inside) < delta).all()
    assert (estimate(measure, outside.clamp(min=1e-300)) > delta).all()


@pytest.mark.parametrize("measure", OF_RATIOS)
@pytest.mark.parametrize("delta", [0.01, 0.0231, 0.4])
def test_gradient_is_kept_exactly_while_the_estimate_is_within_delta(measure, delta):
    """Against the definition: keep -A w where the estimate holds or the step leads back inside."""
    ratios, advantages = GRID.T
    _, grad, _ = one_token(ratios, advantages, measure=measure, delta=delta, dual_clip_c=None)
    outside = estimate(measure, ratios) > delta
    moving_away = (advantages > 0) == (ratios > 1)
    expected = torch.where(outside & moving_away, 0.0, -advantages * ratios)
    assert torch.allclose(grad, expected, rtol=1e-12)
    assert (outside & moving_away).any() and (~outside).any()


def test_kl3_gradient_equals_ppo_clipping_at_its_bounds():
    ratios, advantages = GRID.T
    low, high = kl3_bounds(0.0231)
    value, grad, _ = one_token(ratios, advantages, measure="kl3", delta=0.0231, dual_clip_c=None)
    reference_value, reference_grad = ppo_reference(ratios, advantages, low, high, inf)
    assert torch.allclose(grad, reference_grad, rtol=1e-12)
    assert torch.allclose(value, reference_value, rtol=1e-12)


# ------------------------------------------------------------------------------------------------ measures of probabilities

OLD = [1 - 1e-6, 0.97, 0.5, 0.2, 1e-3]  # probabilities of the sampled token


def probability_estimate(measure: str, old, ratio, log=math.log):
    """The definition in plain numbers of any kind: `old` the probability, `ratio` below 1/old."""
    new = old * ratio
    if measure == "prob_tv":
        return abs(old - new)
    return old * log(old / new) + (1 - old) * log((1 - old) / (1 - new))


@pytest.mark.parametrize("old", OLD)
@pytest.mark.parametrize("delta", [1e-6, 1e-3, 0.0231, 0.3])
@pytest.mark.parametrize("measure", OF_PROBABILITIES)
def test_probability_bounds_match_bisection_in_decimals(measure, delta, old):
    from decimal import Decimal, localcontext

    low, high = (float(x) for x in probability_bounds(measure, delta, torch.tensor(old, dtype=f64).log()))
    with localcontext() as context:
        context.prec = 60
        p = Decimal(torch.tensor(old, dtype=f64).log().item()).exp()

        def solve(inside, outside):
            for _ in range(190):
                middle = (inside + outside) / 2
                small = probability_estimate(measure, p, middle, lambda x: x.ln()) <= Decimal(delta)
                inside, outside = (middle, outside) if small else (inside, middle)
            return inside

        exact_low = solve(Decimal(1), Decimal("1e-9"))
        exact_high = solve(Decimal(1), 1 / p - Decimal("1e-50"))
        unreachable = exact_low < Decimal("2.1e-9")  # exp(-20), or pi = 0
        assert low == pytest.approx(0.0 if unreachable else float(exact_low), rel=1e-9, abs=1e-12)
        if measure == "prob_tv" and old + delta >= 1:  # pi = 1 is within
            assert high * old >= 1 - 1e-12
        else:
            assert high == pytest.approx(float(exact_high), rel=1e-9)
            assert high - 1 == pytest.approx(float(exact_high - 1), rel=1e-7)  # what the clip is about


def probability_grid(measure: str, delta: float, per_side: int = 40):
    """(old, ratio, advantage) with pi < 1, none of them on a bound."""
    old = torch.tensor(OLD, dtype=f64)
    share = torch.linspace(0.003, 0.997, per_side, dtype=f64)
    down, up = share[None].expand(len(OLD), -1), 1 + (1 / old[:, None] - 1).clamp(max=3) * share
    ratio = torch.cat([down, up], dim=1)
    grid = [(o, float(r), a) for o, row in zip(OLD, ratio, strict=True) for r in row for a in (-1.7, -0.3, 0.4, 2.0)]
    return torch.tensor(grid, dtype=f64).T


@pytest.mark.parametrize("delta", [1e-3, 0.0231, 0.3])
@pytest.mark.parametrize("measure", OF_PROBABILITIES)
def test_a_token_keeps_its_gradient_exactly_while_its_probabilities_are_within_delta(measure, delta):
    """Against the definition, in value and gradient: the value beyond is that of the nearest bound."""
    old, ratio, advantages = probability_grid(measure, delta)
    log_prob = (old * ratio).log()[:, None].requires_grad_()
    mask = torch.ones_like(log_prob)
    terms = clip_loss(
        log_prob, old.log()[:, None], advantages[:, None], mask, measure=measure, delta=delta, dual_clip_c=None
    )
    (grad,) = torch.autograd.grad(terms.token_loss.sum(), log_prob)
    found = torch.tensor(
        [probability_estimate(measure, *pair) for pair in zip(old.tolist(), ratio.tolist(), strict=True)]
    )
    stopped = (found > delta) & ((advantages > 0) == (ratio > 1))
    assert stopped.any() and (~stopped & (found > delta)).any() and (found <= delta).any()
    torch.testing.assert_close(grad[:, 0], torch.where(stopped, 0.0, -advantages * ratio), rtol=1e-9, atol=0)
    low, high = probability_bounds(measure, delta, old.log())
    nearest = torch.where(ratio > 1, high, low)
    expected = -advantages * torch.where(stopped, nearest, ratio)
    torch.testing.assert_close(terms.token_loss[:, 0], expected, rtol=1e-9, atol=0)
    share = (stopped & (advantages > 0)).double().mean()
    assert float(terms.metrics["actor/pg_clipfrac_at_high"]) == pytest.approx(float(share))


@pytest.mark.parametrize("measure, verls", [("binary_kl", "dppo_kl"), ("prob_tv", "dppo_tv")])
def test_the_gradient_is_that_of_verls_dppo(measure, verls):
    """verl's loss is `-A sg[min(w, c)] log pi` where it is not stopped; below c that is the same gradient."""
    core_algos = pytest.importorskip("verl.trainer.ppo.core_algos")
    from verl.workers.config import ActorConfig

    sizes = dict(rollout_n=1, ppo_mini_batch_size=1, ppo_micro_batch_size_per_gpu=1)
    config = ActorConfig(
        strategy="fsdp", clip_ratio=0.05, clip_ratio_low=0.05, clip_ratio_high=0.05, clip_ratio_c=1e9, **sizes
    )
    generator = torch.Generator().manual_seed(0)
    old = -3 * torch.rand(16, 33, generator=generator, dtype=f64)
    log_prob = (old + 0.6 * torch.randn(16, 33, generator=generator, dtype=f64)).clamp(max=-1e-3).requires_grad_()
    advantages, mask = (
        torch.randn(16, 33, generator=generator, dtype=f64),
        torch.rand(16, 33, generator=generator) < 0.8,
    )
    loss, metrics = core_algos.get_policy_loss_fn(verls)(old, log_prob, advantages, mask, "token-sum", config)
    (expected,) = torch.autograd.grad(loss, log_prob)
    terms = clip_loss(log_prob, old, advantages, mask, measure=measure, delta=0.05, dual_clip_c=None)
    (grad,) = torch.autograd.grad(terms.token_loss.sum(), log_prob)
    torch.testing.assert_close(grad, expected, rtol=1e-9, atol=1e-12)
    assert (
        float(terms.metrics["actor/pg_clipfrac"]) == pytest.approx(metrics["actor/pg_clipfrac"])
        and metrics["actor/pg_clipfrac"] > 0
    )


@pytest.mark.parametrize("measure", OF_PROBABILITIES)
def test_sure_and_hopeless_tokens_are_finite(measure):
    old = torch.tensor([[0.0, 1e-9, -1e-12, -60.0, -800.0]])
    low, high = probability_bounds(measure, 0.0231, old)
    assert (low >= 0).all() and (low < 1).all() and (high >= 1).all() and not high.isnan().any()
    log_prob = (old - torch.tensor([[1e-3, 0.5, 0.0, -1.0, 5.0]])).requires_grad_()
    for sign in (1.0, -1.0):
        terms = clip_loss(
            log_prob, old, torch.full_like(old, sign), torch.ones_like(old), measure=measure, delta=0.0231
        )
        assert terms.token_loss.isfinite().all()
        assert torch.autograd.grad(terms.token_loss.sum(), log_prob)[0].isfinite().all()
    assert float(binary_kl(torch.tensor(0.0), torch.tensor(-0.5))) == 0.5  # a sure token: the whole log-ratio


@pytest.mark.parametrize("c", [3.0, 1.5])
def test_dual_clip_as_in_vanilla(c):
    ratios, advantages = GRID.T
    value, grad, metrics = one_token(ratios, advantages, measure="ratio", delta=(0.2, 0.28), dual_clip_c=c)
    reference_value, reference_grad = ppo_reference(ratios, advantages, 0.8, 1.28, c)
    assert torch.allclose(value, reference_value, rtol=1e-12)
    assert torch.allclose(grad, reference_grad, rtol=1e-12)
    low, high = (advantages < 0) & (ratios < 0.8), (advantages > 0) & (ratios > 1.28)
    dual = (advantages < 0) & (ratios > c)
    assert metrics["actor/pg_clipfrac_at_low"] == pytest.approx(low.double().mean().item())
    assert metrics["actor/pg_clipfrac_at_high"] == pytest.approx(high.double().mean().item())
    assert metrics["actor/pg_clipfrac_lower"] == pytest.approx(dual.double().mean().item())
    assert metrics["actor/ppo_kl"] == pytest.approx(-ratios.log().mean().item())


def test_same_as_verls_vanilla_in_value_gradient_and_metrics():
    core_algos = pytest.importorskip("verl.trainer.ppo.core_algos")
    from verl.workers.config import ActorConfig

    sizes = dict(rollout_n=1, ppo_mini_batch_size=1, ppo_micro_batch_size_per_gpu=1)
    config = ActorConfig(strategy="fsdp", clip_ratio_low=0.2, clip_ratio_high=0.28, clip_ratio_c=3.0, **sizes)
    generator = torch.Generator().manual_seed(0)
    old = torch.randn(16, 33, generator=generator) - 3
    log_prob = (old + 0.6 * torch.randn(16, 33, generator=generator)).requires_grad_()
    advantages = torch.randn(16, 33, generator=generator)
    mask = torch.rand(16, 33, generator=generator) < 0.8
    loss, metrics = core_algos.compute_policy_loss_vanilla(old, log_prob, advantages, mask, "token-mean", config)
    (expected,) = torch.autograd.grad(loss, log_prob)
    terms = clip_loss(log_prob, old, advantages, mask, measure="ratio", delta=(0.2, 0.28), dual_clip_c=3.0)
    ours = core_algos.agg_loss(terms.token_loss, mask, "token-mean")
    (grad,) = torch.autograd.grad(ours, log_prob)
    assert torch.allclose(ours, loss, rtol=1e-5)
    assert torch.allclose(grad, expected, rtol=1e-5, atol=1e-9)
    for name in ("actor/pg_clipfrac", "actor/ppo_kl", "actor/pg_clipfrac_lower"):
        assert float(terms.metrics[name]) == pytest.approx(metrics[name], rel=1e-4)
    assert metrics["actor/pg_clipfrac_lower"] > 0


def test_nan_on_a_valid_token_is_not_hidden():
    log_prob = torch.tensor([[nan, -1.0]], requires_grad=True)
    terms = clip_loss(log_prob, torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1, 2))
    (grad,) = torch.autograd.grad(terms.token_loss.sum(), log_prob)
    assert terms.token_loss.isnan().tolist() == grad.isnan().tolist() == [[True, False]]


@pytest.mark.parametrize("measure", OF_PROBABILITIES)
def test_a_measure_of_probabilities_has_no_interval_of_its_own(measure):
    with pytest.raises(ValueError, match=f"measure='{measure}'"):
        ratio_bounds(measure, 0.1)


def test_refuses_wrong_shapes():
    with pytest.raises(ValueError, match="advantages has shape"):
        clip_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(3), torch.ones(2, 3))
    with pytest.raises(ValueError, match="mask must be"):
        clip_loss(torch.zeros(3), torch.zeros(3), torch.zeros(3), torch.ones(3))


def test_numpy_numbers_are_accepted_as_delta():
    assert kl3_bounds(np.float64(0.1)) == kl3_bounds(0.1)
