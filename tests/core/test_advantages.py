import math

import pytest
import torch
from toys import IDS, ROWS, Setting, frpo, garbage, local_objective, random_batch, regularize

from frpo_verl.core.advantages import Regularizer, regularized_advantages, sequence_divergence
from frpo_verl.core.divergences import DIVERGENCES, get_divergence
from frpo_verl.core.enumeration import objective
from frpo_verl.core.tokens import Columns

JS = DIVERGENCES["js"]


@pytest.fixture(scope="module", params=[(3, 4, True), (3, 3, False), (2, 5, True)], ids=["eos", "fixed", "binary"])
def toy(request):
    return Setting(*request.param)


@pytest.mark.parametrize("placement", ["future", "sequence"])
@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
def test_expected_gradient_is_that_of_the_enumerated_objective(toy, name, order, placement):
    reg = regularize(toy.delta, toy.mask, divergence=name, alpha=order, placement=placement)
    assert toy.error(reg, get_divergence(name, order)) < 1e-10


@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
def test_local_placement_is_the_local_part_and_not_the_whole(toy, name, order):
    row, reg = (
        get_divergence(name, order),
        regularize(toy.delta, toy.mask, divergence=name, alpha=order, placement="local"),
    )
    assert toy.error(reg, row, local_objective) < 1e-10
    assert toy.error(reg, row) > 0.02


@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
def test_reward_placement_before_normalisation_is_the_whole_gradient(toy, name, order):
    row = get_divergence(name, order)
    cost, _ = sequence_divergence(Columns(garbage(toy.all, toy.lp), garbage(toy.all, toy.lr), toy.mask), row)
    torch.testing.assert_close((toy.p * cost).sum(), objective(toy.all, toy.logits, toy.ref, row.value))
    # the score-function part misses the derivative of the cost itself: (f' - f/w) * score on each token
    own = regularize(toy.delta, toy.mask, divergence=name, alpha=order, placement="local") - row.cost(toy.delta)
    assert toy.error(cost[:, None] + own, row) < 1e-10


def test_discount_is_a_bias_that_vanishes_at_one():
    """The mean over eight toys is what docs/divergences.md says."""
    toys = [Setting(seed=10 * seed) for seed in range(8)]
    for discount, bias in ((1.0, 0.0), (0.9, 0.058), (0.5, 0.243), (0.0, 0.397)):
        errors = [
            toy.error(regularize(toy.delta, toy.mask, discount=discount), DIVERGENCES["reverse_kl"]) for toy in toys
        ]
        assert sum(errors) / 8 == pytest.approx(bias, abs=5e-4 if bias else 1e-10)


def test_outcome_may_be_per_row_or_per_token():
    lp, lr, mask, scores, _ = random_batch(seed=4)
    per_token = scores[:, None].expand_as(lp).masked_fill(mask == 0, math.nan)
    a, b = (frpo(x, lp, lr, mask, kl_coef=0.1) for x in (scores, per_token))
    assert torch.equal(a.advantages, b.advantages) and a.metrics == b.metrics
    plain = frpo(scores, lp, lr, mask, kl_coef=0.0).advantages
    assert torch.equal(plain, scores[:, None] * mask)
    with pytest.raises(ValueError, match="outcome"):
        frpo(scores[:3], lp, lr, mask, kl_coef=0.1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_a_value_that_is_not_finite_is_refused_with_its_row(value, which):
    *log_probs, mask, scores, groups = random_batch(seed=5)
    mask[4, :3] = 1
    log_probs[which][4, 1] = value
    for baseline in ("none", "position"):
        with pytest.raises(FloatingPointError, match="row 4"):
            frpo(scores, *log_probs, mask, group_ids=groups, baseline=baseline)
    with pytest.raises(FloatingPointError, match="row 4"):
        sequence_divergence(Columns(*log_probs, mask), JS)


def loop_reference(delta, mask, row, discount, begins):
    """One token at a time: local part, rest of the own step, and what comes later, discounted by response token."""
    out = torch.zeros_like(delta)
    cost = row.cost(delta)
    for i in range(delta.shape[0]):
        valid = [t for t in range(delta.shape[1]) if mask[i, t]]
        for k, t in enumerate(valid):
            start = max(s for s in range(k + 1) if begins[i, valid[s]])
            later = ((m, j) for m, j in enumerate(valid) if m >= start and j != t)
            out[i, t] = row.slope(delta[i, t]) + sum(discount ** max(m - k, 0) * cost[i, j] for m, j in later)
    return out


@pytest.mark.parametrize(
    "discount, steps", [(0.0, False), (0.3, False), (0.9, False), (0.999, False), (1.0, False), (1.0, True)]
)
@pytest.mark.parametrize("name", ["reverse_kl", "js"])
def test_the_future_sum_against_a_loop_with_gaps_in_the_mask(discount, steps, name):
    generator = torch.Generator().manual_seed(3)
    delta = torch.randn(6, 33, generator=generator, dtype=torch.float64)
    mask = torch.rand(6, 33, generator=generator) < 0.7
    mask[0] = False
    begins = mask.clone()
    if steps:
        begins = mask & (torch.rand(6, 33, generator=generator) < 0.4)
        begins |= mask & (mask.cumsum(-1) == 1)
    delta = torch.where(mask, delta, math.nan)
    expected = loop_reference(torch.where(mask, delta, 0.0), mask, DIVERGENCES[name], discount, begins)
    got = regularize(delta, mask, divergence=name, discount=discount, step_begins=begins if steps else None)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert (got[~mask] == 0).all()


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.99, 0.9999, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_thirty_two_thousand_tokens_stay_within_1e5_of_float64(dtype, discount):
    generator = torch.Generator().manual_seed(0)
    lp = -torch.rand(2, 32768, generator=generator).mul(0.5)
    lr = lp + 0.05 * torch.randn(2, 32768, generator=generator) - 0.01
    lp, lr = lp.to(dtype), lr.to(dtype)
    mask = torch.ones(2, 32768)
    mask[1, 30000:] = 0
    kind = {"kl_coef": 1.0, "discount": discount}
    low = frpo(torch.zeros(2), lp, lr, mask, **kind).advantages
    lp, lr = lp.float().double(), lr.float().double()
    exact = frpo(torch.zeros(2), lp, lr, mask, **kind).advantages
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
@pytest.mark.parametrize("placement", ["future", "local", "sequence"])
def test_finite_at_the_bounds_and_exactly_zero_off_the_mask(name, order, placement):
    delta = torch.where(torch.arange(64) % 2 == 0, 20.0, -20.0).repeat(4, 1)
    delta[1], delta[2] = 20.0, -20.0
    mask = torch.ones(4, 64)
    mask[:, 50:] = 0
    delta[:, 50:] = math.nan
    reg = regularize(delta, mask, divergence=name, alpha=order, placement=placement)
    assert torch.isfinite(reg).all() and (reg[:, 50:] == 0).all() and reg.dtype == torch.float32


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"placement": "reward"}, "sequence_divergence"),
        ({"placement": "futur"}, "future, local, sequence, reward_to_go (did you mean 'future'?)"),
        ({"discount": 1.5}, "[0, 1]"),
        ({"discount": math.nan}, "[0, 1]"),
        ({"placement": "local", "discount": 0.9}, "placement=future"),
        ({"placement": "sequence", "step_begins": torch.ones(2, 3).bool()}, "placement=future"),
        ({"discount": 0.9, "step_begins": torch.ones(2, 3).bool()}, "discount=1"),
        ({"baseline": "mean"}, "none, position, remaining"),
        ({"placement": "reward_to_go", "baseline": "position", "group_ids": [0, 1]}, "has a mean of its own"),
        ({"placement": "reward_to_go"}, "group_ids"),
        ({"placement": "local", "baseline": "remaining"}, "placement=future with discount=1"),
        ({"baseline": "remaining", "step_begins": torch.ones(2, 3).bool()}, "another baseline than remaining"),
        ({"baseline": "position"}, "group_ids"),
        ({"baseline": "position", "group_ids": torch.zeros(3, dtype=torch.int64)}, "each of the 2 responses"),
        ({"baseline": "position", "group_ids": [0, 1], "session_ids": [0]}, "session_ids"),
        ({"log_ratio_clip": 0.0}, "log_ratio_clip=0.0"),
        ({"log_ratio_clip": math.inf}, "log_ratio_clip=inf"),
    ],
)
def test_errors_name_the_argument_and_what_is_allowed(arguments, says):
    with pytest.raises(ValueError) as error:
        regularize(torch.zeros(2, 3), torch.ones(2, 3), **arguments)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_shapes_dtypes_and_numbers_are_asserted():
    x, mask = torch.zeros(2, 3), torch.ones(2, 3)
    for bad in (torch.zeros(2, 4), torch.zeros(3), torch.zeros(2, 3, dtype=torch.int64)):
        for arguments in ((bad, x, mask), (x, bad, mask)):
            with pytest.raises(ValueError, match=r"\(B, T\)"):
                Columns(*arguments)
        for name in ("entropy", "other_log_prob"):
            with pytest.raises(ValueError, match=name):
                Columns(x, x, mask, **{name: bad})
    for name in ("outcome", "scores", "session_index", "step_begins"):
        with pytest.raises(ValueError, match=name):
            Columns(x, x, mask, **{name: torch.zeros(3)})
    with pytest.raises(ValueError, match="outcome is missing"):
        regularized_advantages(Columns(x, x, mask), Regularizer())
    for kl_coef in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="kl_coef="):
            Regularizer(kl_coef)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 3)])
@pytest.mark.parametrize("baseline", ["none", "position", "remaining"])
def test_batches_without_a_token(shape, baseline):
    empty, ids = torch.zeros(shape), list(range(shape[0]))
    others = ({"discount": 0.5}, {"placement": "sequence"}) if baseline != "remaining" else ()
    others += ({"placement": "reward_to_go"},) if baseline == "none" else ()
    for kind in ({}, *others, {"divergence": JS}):
        result = frpo(
            torch.ones(shape[0]), empty, empty, empty, group_ids=ids, entropy=empty, baseline=baseline, **kind
        )
        assert result.advantages.shape == shape and not result.advantages.any()
        assert result.metrics == {"frpo/log_ratio_clip_frac": 0.0}


def test_inputs_are_left_alone():
    lp, lr, mask, scores, groups = random_batch()
    lp[0, 0] = 40.0  # beyond the bound
    given = (scores, lp, lr, mask.bool())
    before = [x.clone() for x in given]
    for kind in ({}, {"discount": 0.5}, {"placement": "local"}, {"placement": "sequence"}):
        for divergence in (DIVERGENCES["reverse_kl"], JS):
            kind = {**kind, "divergence": divergence, "baseline": "position"}
            result = frpo(*given, kl_coef=0.5, group_ids=groups, entropy=lp, **kind)
            assert result.advantages.data_ptr() not in {x.data_ptr() for x in given}
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
