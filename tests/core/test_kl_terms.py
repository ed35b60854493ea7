import pytest
import torch
from toys import Toy, close, gradient

from frpo_verl.core.divergences import DIVERGENCES, Divergence, get_divergence
from frpo_verl.core.enumeration import state_divergence
from frpo_verl.core.losses.kl_terms import local_kl

nan, inf = float("nan"), float("inf")
ALPHA = 0.4


def alpha_of(name):
    return ALPHA if name == "alpha" else None


def setting(seed):
    toy = Toy(seed)
    table = toy.table(0.8).requires_grad_()
    return toy, table, toy.table(0.8), toy.table(0.5, near=table.detach())


def divergence_at_visited_states(toy, name, table, ref, visitor):
    """Full-vocabulary D_f(pi||ref) at each state, weighted by how often `visitor` is there (a constant)."""
    f = get_divergence(name, alpha_of(name)).value
    return (toy.state_visits(visitor) * state_divergence(table, ref, f)).sum()


def expectation(toy, sampler, per_token):
    return (toy.probability(sampler).detach()[:, None] * torch.where(toy.mask, per_token, 0.0)).sum()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_value_and_local_gradient_on_policy(name):
    toy, table, ref, _ = setting(0)
    per_token = local_kl(toy.log_prob(table), toy.log_prob(ref), name, alpha_of(name))
    exact = divergence_at_visited_states(toy, name, table, ref, table)
    estimate = expectation(toy, table, per_token)
    assert estimate.item() == pytest.approx(exact.item(), rel=1e-10)
    close(gradient(estimate, table), gradient(exact, table))


@pytest.mark.parametrize("name", [*DIVERGENCES, "k3_is"])
def test_value_and_local_gradient_off_policy_with_old_log_prob(name):
    toy, table, ref, old = setting(1)
    per_token = local_kl(toy.log_prob(table), toy.log_prob(ref), name, alpha_of(name), toy.log_prob(old))
    row = "reverse_kl_k3" if name == "k3_is" else name
    exact = divergence_at_visited_states(toy, row, table, ref, old)
    estimate = expectation(toy, old, per_token)
    assert estimate.item() == pytest.approx(exact.item(), rel=1e-10)
    close(gradient(estimate, table), gradient(exact, table))


def test_k3_is_equals_autograd_of_rho_times_k3():
    toy, table, ref, old = setting(3)
    log_prob, ref_log_prob, old_log_prob = (toy.log_prob(x, 0.0) for x in (table, ref, old))
    u = (ref_log_prob - log_prob).exp()
    reference = (log_prob - old_log_prob).exp() * (u - 1 - u.log())
    ours = local_kl(log_prob, ref_log_prob, "k3_is", old_log_prob=old_log_prob)
    assert torch.allclose(ours, reference, rtol=1e-10, atol=1e-14)
    close(gradient(ours.sum(), table), gradient(reference.sum(), table))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_no_gradient_at_the_reference(name):
    log_prob = torch.tensor([-1.0, -3.0], requires_grad=True)
    value = local_kl(log_prob, log_prob.detach().clone(), name, alpha_of(name))
    (grad,) = torch.autograd.grad(value.sum(), log_prob)
    assert (value == 0).all() and (grad == 0).all()


@pytest.mark.parametrize("name", [*DIVERGENCES, "k3_is"])
def test_the_pull_survives_any_distance(name):
    """No clamp on the value: the gradient points back to the reference from any distance, and is finite."""
    log_ratio = torch.tensor([-300.0, -25.0, -12.0, 12.0, 25.0, 300.0])
    for start in (-3.0, 0.0):
        log_prob = (log_ratio + start).requires_grad_()
        old = log_prob.detach().clone() if name == "k3_is" else None
        value = local_kl(log_prob, torch.full_like(log_ratio, start), name, alpha_of(name), old)
        (grad,) = torch.autograd.grad(value.sum(), log_prob)
        assert value.isfinite().all() and grad.isfinite().all()
        assert (grad[:3] < 0).all() and (grad[3:] > 0).all()


@pytest.mark.parametrize("name", [*DIVERGENCES, "k3_is"])
@pytest.mark.parametrize("garbage", [nan, inf, -inf])
def test_positions_left_out_by_the_sum_get_no_gradient(name, garbage):
    log_prob = torch.tensor([[-1.0, garbage], [-2.0, -1.0]], requires_grad=True)
    ref = torch.tensor([[-1.5, -1.0], [-2.5, garbage]])
    mask = torch.tensor([[True, False], [True, False]])
    old = torch.zeros(2, 2) if name == "k3_is" else None
    value = local_kl(log_prob, ref, name, alpha_of(name), old)
    (grad,) = torch.autograd.grad(torch.where(mask, value, 0.0).sum(), log_prob)
    assert (grad[~mask] == 0).all() and (grad[mask] != 0).all() and grad.isfinite().all()


@pytest.mark.parametrize("name", [*DIVERGENCES, "k3_is"])
def test_bf16_is_computed_in_float32(name):
    generator = torch.Generator().manual_seed(5)
    a, b, c = torch.randn(3, 4, 5, generator=generator).bfloat16().unbind()
    old = c if name == "k3_is" else None
    value = local_kl(a, b, name, alpha_of(name), old)
    expected = local_kl(a.float(), b.float(), name, alpha_of(name), None if old is None else old.float())
    assert value.dtype == torch.float32 and torch.equal(value, expected)


def test_refuses():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="k3_is: needs old_log_prob"):
        local_kl(x, x, "k3_is")
    with pytest.raises(ValueError, match="ref_log_prob has shape"):
        local_kl(x, torch.zeros(2, 4), "js")
    with pytest.raises(ValueError, match="old_log_prob has shape"):
        local_kl(x, x, "js", old_log_prob=torch.zeros(1))
    with pytest.raises(ValueError, match="alpha"):
        local_kl(x, x, "alpha")
    with pytest.raises(ValueError, match="unknown"):
        local_kl(x, x, "renyi")


def test_a_divergence_of_ones_own():
    log_prob = torch.tensor([-1.0, -3.0], requires_grad=True)
    ref = torch.tensor([-2.0, -1.0])
    own = local_kl(log_prob, ref, Divergence("own", "w log w", DIVERGENCES["reverse_kl"].value))
    (grad,) = torch.autograd.grad(own.sum(), log_prob)
    torch.testing.assert_close(own, torch.tensor([1.0, -2.0]))
    torch.testing.assert_close(grad, torch.tensor([1.0, -2.0]))
