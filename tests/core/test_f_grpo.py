import math

import pytest
import torch
from loss_toys import Toy, close, cosine, gradient

from frpo_verl.core.losses.f_grpo import LINKS, signed_weights, softmax_weights
from frpo_verl.core.losses.f_grpo import f_grpo_loss as loss_of_inputs
from frpo_verl.core.losses.terms import read_loss_inputs

nan, inf = float("nan"), float("inf")
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
    if name == "total_variation":  # reached only as |v| grows
        assert float(bound) == pytest.approx(float(exact), abs=1e-6)
    else:
        assert float(bound) == pytest.approx(float(exact), rel=1e-6)


def response(v, weight, dtype=torch.float32, beta=0.1, **kwargs):
    """One response of one token with the given v = beta log(pi/ref); returns loss and d loss / d log pi."""
    log_prob = (torch.as_tensor(v, dtype=f64) / beta).to(dtype)[:, None].requires_grad_()
    zero = torch.zeros_like(log_prob)
    terms = f_grpo_loss(
        log_prob, zero, zero, torch.full_like(zero[:, 0], weight), torch.ones_like(zero), beta=beta, **kwargs
    )
    (grad,) = torch.autograd.grad(terms.sequence_loss.sum(), log_prob)
    return terms.sequence_loss.detach(), grad[:, 0]


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("dtype", [torch.float32, f64])
def test_good_answers_up_and_others_never_up_and_finite(name, dtype):
    v = torch.linspace(-300.0, 300.0, 1201, dtype=f64)
    for weight in (0.01, 2.0):
        loss, grad = response(v, weight, dtype, divergence=name)
        assert loss.isfinite().all() and grad.isfinite().all()
        assert (grad < 0).all(), "descent must raise log pi of an above-average answer"
    for weight in (-0.01, -2.0):
        loss, grad = response(v, weight, dtype, divergence=name)
        assert loss.isfinite().all() and grad.isfinite().all()
        assert (grad >= 0).all(), "descent must not raise log pi of another answer"
        assert (grad > 0).any()
    loss, grad = response(v, 0.0, dtype, divergence=name)
    assert (loss == 0).all() and (grad == 0).all()


def test_raw_pearson_conjugate_would_pull_bad_answers_up():
    v = torch.tensor([-2.5, -30.0])
    assert (1 + v / 2 < 0).all()  # slope of the unclamped v + v^2/4
    assert (LINKS["pearson"].bad_slope(v) == 0).all() and (LINKS["pearson"].bad(v) == -1).all()


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
    log_prob = toy.log_prob(table)
    grpo = gradient(-(p * advantages * toy.log_sequence(table)).sum(), table)
    beta = 0.1
    terms = f_grpo_loss(
        log_prob, log_prob.detach(), log_prob.detach(), advantages, toy.mask, divergence=name, beta=beta
    )
    ours = gradient((p * terms.sequence_loss).sum(), table)
    assert cosine(ours, grpo) == pytest.approx(1.0, abs=1e-10)
    link, zero = LINKS[name], torch.zeros((), dtype=f64)
    # good and bad answers push in one direction; up and down are what each side's push is multiplied by
    up, down = float(link.good_slope(zero)), float(link.bad_slope(zero))
    chance = float((p * reward).sum())
    scale = (1 + beta) * (up * (1 - chance) + down * chance)
    good = gradient(-(p * advantages * reward * toy.log_sequence(table)).sum(), table)
    bad = grpo - good
    close(ours, (1 + beta) * (up * good + down * bad))
    if up == down:
        close(ours, scale * grpo)


@pytest.mark.parametrize("name", [n for n in LINKS if n != "kl"])
def test_parallel_to_grpo_for_any_rewards_where_both_slopes_agree(name):
    toy = Toy(3)
    table = toy.table(1.0).requires_grad_()
    log_prob = toy.log_prob(table)
    advantages = toy.reward - toy.reward.mean()
    terms = f_grpo_loss(log_prob, log_prob.detach(), log_prob.detach(), advantages, toy.mask, divergence=name)
    ours = gradient(terms.sequence_loss.sum(), table)
    assert cosine(ours, gradient(-(advantages * toy.log_sequence(table)).sum(), table)) == pytest.approx(1.0, abs=1e-12)


def test_factor_is_the_gradient_of_the_statistic_with_gamma_one():
    """At pi = old, the public code's statistic beta log(pi/ref) + log(pi/old) gives the factor 1 + 1/beta."""
    toy = Toy(4)
    table, ref = toy.table(0.7).requires_grad_(), toy.table(0.7)
    beta, link = 0.3, LINKS["js"]
    log_ratio = toy.log_sequence(table) - toy.log_sequence(ref)
    statistic = beta * log_ratio + toy.log_sequence(table) - toy.log_sequence(table).detach()
    advantages = toy.reward - toy.reward.mean()
    psi = torch.where(advantages > 0, -link.good(statistic), link.bad(statistic))
    tensors = (toy.log_prob(table), toy.log_prob(ref), toy.log_prob(ref))
    terms = f_grpo_loss(*tensors, advantages, toy.mask, divergence="js", beta=beta)
    close(gradient(terms.sequence_loss.sum(), table), gradient((advantages.abs() * psi).sum(), table))


@pytest.mark.parametrize("clamped", [True, False])
def test_two_answer_bandit_under_pearson(clamped):
    """The clamped conjugate lets pi(bad) go to 0; the raw one holds it up where its slope turns."""
    logit = torch.zeros((), dtype=f64, requires_grad=True)
    half = torch.full((2, 1), math.log(0.5), dtype=f64)
    for _ in range(600):
        log_prob = torch.stack([torch.nn.functional.logsigmoid(-logit), torch.nn.functional.logsigmoid(logit)])
        if clamped:
            signs, one = torch.tensor([1.0, -1.0]), torch.ones(2, 1)
            terms = f_grpo_loss(log_prob[:, None], half, half, signs, one, divergence="pearson", beta=1.0)
            loss = terms.sequence_loss.mean()
        else:
            v = log_prob - math.log(0.5)
            loss = -v[0] + v[1] + v[1].square() / 4
        (grad,) = torch.autograd.grad(loss, logit)
        logit = (logit - 2.0 * grad).detach().requires_grad_()
    bad = torch.sigmoid(logit).item()
    assert bad < 1e-3 if clamped else 0.03 < bad < 0.1


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


def test_softmax_weights_multiplied_into_the_advantages_scale_each_response():
    toy = Toy(6)
    table, old, ref = toy.table(0.7), toy.table(0.7), toy.table(0.7)
    ids = [i % 3 for i in range(toy.answers)]
    advantages = toy.reward - toy.reward.mean()
    tensors = [toy.log_prob(x) for x in (table, old, ref)]
    weights = softmax_weights(toy.reward, toy.log_sequence(old), advantages, ids)
    weighted = f_grpo_loss(*tensors, advantages * weights, toy.mask)
    plain = f_grpo_loss(*tensors, advantages, toy.mask)
    assert torch.allclose(weighted.sequence_loss, weights * plain.sequence_loss, rtol=1e-12)
    assert not torch.allclose(weighted.sequence_loss, plain.sequence_loss, rtol=1e-2)


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
        self.advantages[self.sign != 0] = nan
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
    # lambda 0 is f-GRPO on the on-policy rows alone, through the loss itself
    alone = f_grpo_loss(
        m.log_prob[on], m.ref[on], m.ref[on], a[on], m.mask[on], divergence=name, beta=0.3
    ).sequence_loss.mean()
    close(gradient(m.loss(m.weights(0.0), name), m.table), gradient(alone, m.table))


def test_f_hal_adds_up_over_mini_batches():
    m = Mixed()
    weights = m.weights(0.4)
    whole = gradient(m.loss(weights), m.table)
    parts = torch.zeros_like(whole)
    for rows in torch.arange(13).split(3):
        terms = f_grpo_loss(m.log_prob[rows], m.ref[rows], m.ref[rows], weights[rows], m.mask[rows], beta=0.3)
        parts += gradient(terms.sequence_loss.sum() / 13, m.table)
    close(parts, whole)


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
    with pytest.raises(ValueError, match="ref_log_prob has shape"):
        f_grpo_loss(x, x, torch.zeros(2, 4), torch.ones(2), mask)
    with pytest.raises(ValueError, match="advantages of response 0 varies"):
        f_grpo_loss(x, x, x, torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]]), mask)
    with pytest.raises(ValueError, match="preference_weight=1.5"):
        signed_weights(torch.ones(2), torch.zeros(2), 1.5, 0.1)
    with pytest.raises(ValueError, match=r"both must be \(B,\)"):
        signed_weights(torch.ones(2), torch.zeros(3), 0.5, 0.1)
    with pytest.raises(ValueError, match="scores"):
        softmax_weights(torch.ones(2, 1), torch.zeros(2), torch.ones(2), [0, 0])
