import math

import pytest
import torch
from toys import Toy, close, cosine, gradient

from frpo_verl.core.losses.f_grpo import LINKS, signed_weights, softmax_weights
from frpo_verl.core.losses.f_grpo import f_grpo_loss as loss_of_inputs
from frpo_verl.core.losses.terms import read_loss_inputs

f64 = torch.float64

# f and its conjugate's domain, written from the definition alone: (f, lower end of dom f*, upper end)
F = {
    "kl": lambda u: torch.special.xlogy(u, u),
    "reverse_kl": lambda u: -u.log(),
    "pearson": lambda u: (u - 1).square(),
    "squared_hellinger": lambda u: (u.sqrt() - 1).square(),
    "js": lambda u: torch.special.xlogy(u, u) - (u + 1) * ((u + 1) / 2).log(),
    "total_variation": lambda u: (u - 1).abs() / 2,
}
U = torch.cat([torch.zeros(1, dtype=f64), torch.logspace(-9, 9, 400_001, dtype=f64), torch.ones(1, dtype=f64)])
V = torch.linspace(-6.0, 6.0, 25, dtype=f64)


def f_grpo_loss(log_prob, old_log_prob, ref_log_prob, advantages, mask, **kwargs):
    """The loss through its door."""
    inputs = read_loss_inputs(
        log_prob=log_prob, old_log_prob=old_log_prob, advantages=advantages, mask=mask, ref_log_prob=ref_log_prob
    )
    return loss_of_inputs(inputs, **kwargs)


@pytest.mark.parametrize("name", LINKS)
def test_composite_is_the_supremum_of_its_definition(name):
    """f*(g(v)) = sup over u >= 0 of g(v) u - f(u), by search over 18 decades of u."""
    link, f = LINKS[name], F[name](U)
    for v, t, composite in zip(V, link.good(V), link.bad(V), strict=True):
        values = t * U - f
        best = int(values.argmax())
        assert best < len(U) - 2 or U[best] == 1, f"{name}: the supremum is not attained at v = {float(v)}"
        assert values[best].item() == pytest.approx(composite.item(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", LINKS)
def test_slopes_are_the_derivatives_and_the_link_rises(name):
    link = LINKS[name]
    v = torch.linspace(-15.0, 15.0, 301, dtype=f64).requires_grad_()
    for function, slope in ((link.good, link.good_slope), (link.bad, link.bad_slope)):
        (derivative,) = torch.autograd.grad(function(v).sum(), v)
        assert torch.allclose(slope(v), derivative, rtol=1e-9, atol=1e-12)
        assert slope(v).shape == v.shape
    assert (link.good_slope(v) > 0).all()


@pytest.mark.parametrize("name", LINKS)
def test_variational_bound_is_tight_at_the_optimum(name):
    """E_P g(v) - E_Q f*(g(v)) reaches D_f(P||Q) when v is free: maximised over a grid for each outcome."""
    generator = torch.Generator().manual_seed(0)
    p, q = torch.rand(2, 5, generator=generator, dtype=f64).add(0.2).unbind()
    p, q = p / p.sum(), q / q.sum()
    link = LINKS[name]
    v = torch.linspace(-8, 8, 200_001, dtype=f64)
    bound = (p[:, None] * link.good(v) - q[:, None] * link.bad(v)).amax(-1).sum()
    exact = (q * F[name](p / q)).sum()
    assert float(bound) == pytest.approx(float(exact), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("dtype", [torch.float32, f64])
def test_good_answers_up_and_others_never_up_and_finite(name, dtype):
    log_prob = torch.linspace(-3000.0, 3000.0, 1201, dtype=dtype)[:, None].requires_grad_()  # v from -300 to 300
    zero, one = torch.zeros_like(log_prob), torch.ones_like(log_prob)
    for weight in (0.01, 2.0, -0.01, -2.0, 0.0):
        loss = f_grpo_loss(log_prob, zero, zero, weight * one, one, divergence=name, beta=0.1).sequence_loss
        (grad,) = torch.autograd.grad(loss.sum(), log_prob)
        assert loss.isfinite().all() and grad.isfinite().all()
        if weight > 0:
            assert (grad < 0).all(), "descent must raise log pi of an above-average answer"
        elif weight < 0:
            assert (grad >= 0).all() and (grad > 0).any(), "descent must not raise log pi of another answer"
        else:
            assert (loss == 0).all() and (grad == 0).all()


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("length_normalize", [False, True])
def test_loss_and_gradient_against_the_equation(name, length_normalize):
    toy = Toy(1)
    table, ref = toy.table(0.7).requires_grad_(), toy.table(0.7)
    beta = 0.3
    advantages = toy.reward - toy.reward.mean()
    terms = f_grpo_loss(
        toy.log_prob(table), toy.log_prob(ref), toy.log_prob(ref), advantages[:, None].expand(toy.mask.shape),
        toy.mask, divergence=name, beta=beta, length_normalize=length_normalize,
    )  # fmt: skip
    v = beta * (toy.log_sequence(table) - toy.log_sequence(ref))
    v = v / toy.mask.sum(-1) if length_normalize else v
    link = LINKS[name]
    psi = torch.where(advantages > 0, -link.good(v), link.bad(v))
    expected = (1 + 1 / beta) * advantages.abs() * psi
    assert terms.token_loss is None
    assert torch.allclose(terms.sequence_loss, expected, rtol=1e-12)
    weight = torch.rand(toy.answers, generator=toy.generator, dtype=f64)
    close(gradient((weight * terms.sequence_loss).sum(), table), gradient((weight * expected).sum(), table))


@pytest.mark.parametrize("name", LINKS)
def test_parallel_to_grpo_where_the_three_policies_agree(name):
    """Binary rewards, pi = old = ref, expectation over all answers: cosine 1, scale (1 + beta) g'(0)."""
    toy = Toy(2)
    table = toy.table(1.0).requires_grad_()
    p = toy.probability(table).detach()
    reward = (toy.reward > 0.3).double()
    advantages = (reward - (p * reward).sum()) / ((p * reward).sum() * (1 - (p * reward).sum())).sqrt()
    log_prob, beta = toy.log_prob(table), 0.1
    good, bad = (
        gradient(-(p * advantages * side * toy.log_sequence(table)).sum(), table) for side in (reward, 1 - reward)
    )
    fixed = log_prob.detach()
    terms = f_grpo_loss(log_prob, fixed, fixed, advantages, toy.mask, divergence=name, beta=beta)
    ours = gradient((p * terms.sequence_loss).sum(), table)
    assert cosine(ours, good + bad) == pytest.approx(1.0, abs=1e-10)
    # good and bad answers push in one direction; up and down are what each side's push is multiplied by
    zero = torch.zeros((), dtype=f64)
    up, down = float(LINKS[name].good_slope(zero)), float(LINKS[name].bad_slope(zero))
    close(ours, (1 + beta) * (up * good + down * bad))
    if up == down:
        close(ours, (1 + beta) * up * (good + bad))


def test_softmax_weights_against_plain_loops():
    generator = torch.Generator().manual_seed(5)
    scores, log_old = torch.randn(2, 9, generator=generator, dtype=f64).unbind()
    ids = ["a", "b", "a", "a", "b", "a", "b", "c", "a"]
    advantages = scores - 0.1
    weights = softmax_weights(scores, log_old, advantages, ids)
    for i in range(9):
        side = [j for j in range(9) if ids[j] == ids[i] and (advantages[j] > 0) == (advantages[i] > 0)]
        sign = 1 if advantages[i] > 0 else -1
        terms = [math.exp(sign * float(scores[j])) / math.exp(float(log_old[j])) for j in side]
        assert float(weights[i]) == pytest.approx(len(side) * terms[side.index(i)] / sum(terms), rel=1e-12)


def test_softmax_weights_are_one_without_differences_and_finite_for_long_answers():
    ids, signs = [0, 0, 0, 0], torch.tensor([1.0, 1.0, -1.0, -1.0])
    same = softmax_weights(torch.zeros(4), torch.full((4,), -2000.0), signs, ids)
    assert torch.equal(same, torch.ones(4))
    long = softmax_weights(torch.zeros(4), torch.tensor([-2000.0, -2300.0, -900.0, -4000.0]), signs, ids)
    assert torch.equal(long, torch.tensor([0.0, 2.0, 0.0, 2.0]))


def test_softmax_weights_of_answers_that_count_for_nothing():
    scores, log_old = torch.tensor([1.0, 0, 0, 0, 1]), torch.tensor([-50.0, -50, -50, 0, -9])
    advantages, ids = torch.tensor([1.0, -1, -1, 0, 1]), [0, 0, 0, 0, 1]
    valid = torch.tensor([True, True, True, False, False])
    weights = softmax_weights(scores, log_old, advantages, ids, valid=valid)
    assert weights.tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]  # also where a side has no other answer
    rest = softmax_weights(scores[:3], log_old[:3], advantages[:3], ids[:3])
    assert torch.equal(weights[:3], rest)


class Mixed:
    """Rows of one batch: 7 on-policy, 3 chosen, 2 rejected, 1 pad row without tokens."""

    def __init__(self):
        self.toy = Toy(7)
        self.rows = torch.randint(0, self.toy.answers, (13,), generator=self.toy.generator)
        self.sign = torch.tensor([0, 1, 0, 0, -1, 0, 1, 0, 0, -1, 0, 1, 0])
        self.mask = self.toy.mask[self.rows].clone()
        self.mask[12] = False
        self.table = self.toy.table(0.7).requires_grad_()
        ref = self.toy.table(0.7)
        self.log_prob, self.ref = self.toy.log_prob(self.table)[self.rows], self.toy.log_prob(ref)[self.rows]
        self.v = 0.3 * (self.toy.log_sequence(self.table) - self.toy.log_sequence(ref))[self.rows]
        self.advantages = torch.randn(13, generator=self.toy.generator, dtype=f64)
        self.advantages[self.sign != 0] = math.nan
        self.on = self.mask.any(-1) & (self.sign == 0)

    def loss(self, weights, name="js"):
        terms = f_grpo_loss(self.log_prob, self.ref, self.ref, weights, self.mask, divergence=name, beta=0.3)
        return terms.sequence_loss.sum() / 13

    def weights(self, preference_weight):
        return signed_weights(self.advantages, self.sign, preference_weight, 0.3, valid=self.mask.any(-1))


@pytest.mark.parametrize("name", LINKS)
def test_f_hal_ends_and_mixture(name):
    m = Mixed()
    link = LINKS[name]
    v, on, a = m.v, m.on, m.advantages.nan_to_num()
    psi = torch.where(a > 0, -link.good(v), link.bad(v))
    f_grpo = (1 + 1 / 0.3) * (a.abs() * psi)[on].mean()
    preference = -link.good(v)[m.sign > 0].mean() + link.bad(v)[m.sign < 0].mean()
    for weight in (0.0, 0.25, 1.0):
        expected = weight * preference + (1 - weight) * f_grpo
        got = m.loss(m.weights(weight), name)
        assert got.item() == pytest.approx(expected.item(), rel=1e-10)
        close(gradient(got, m.table), gradient(expected, m.table))


def test_signed_weights_with_literal_numbers():
    out = signed_weights(torch.tensor([2.0, 9.0, -1.0, 9.0]), torch.tensor([0, 1, 0, -1]), 0.25, beta=1.0)
    assert torch.allclose(out, torch.tensor([0.75 * 2 * 2, 0.25 * 4 / 2, -0.75 * 2, -0.25 * 4 / 2]))
    none = signed_weights(torch.tensor([2.0, -1.0]), torch.tensor([0, 0]), 0.0, beta=1.0)
    assert torch.equal(none, torch.tensor([2.0, -1.0]))


def test_metrics():
    log_prob = torch.tensor([[1.0, 2.0], [3.0, 0.0], [-1.0, 0.0], [500.0, 0.0]])
    mask = torch.tensor([[1, 1], [1, 0], [1, 0], [1, 0]])
    zero = torch.zeros(4, 2)
    terms = f_grpo_loss(log_prob, zero, zero, torch.tensor([1.0, 1.0, -1.0, 0.0]), mask, beta=0.1)
    m = {k.removeprefix("actor/f_grpo/"): float(v) for k, v in terms.metrics.items()}
    assert m["v_good"] == pytest.approx(0.3) and m["v_bad"] == pytest.approx(-0.1)
    assert m["margin"] == pytest.approx(0.4) and m["good_frac"] == 0.5 and m["v_clip_frac"] == 0.25
    assert m["actor/ppo_kl"] == pytest.approx(-(6.0 - 1 + 500) / 5)


def test_refuses_wrong_inputs():
    x, mask = torch.zeros(2, 3), torch.ones(2, 3)
    with pytest.raises(ValueError, match="advantages of response 0 varies"):
        f_grpo_loss(x, x, x, torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]]), mask)
    with pytest.raises(ValueError, match="preference_weight=1.5"):
        signed_weights(torch.ones(2), torch.zeros(2), 1.5, 0.1)
    with pytest.raises(ValueError, match=r"both must be \(B,\)"):
        signed_weights(torch.ones(2), torch.zeros(3), 0.5, 0.1)
    with pytest.raises(ValueError, match="scores"):
        softmax_weights(torch.ones(2, 1), torch.zeros(2), torch.ones(2), [0, 0])
