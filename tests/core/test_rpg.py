import math

import pytest
import torch
from toys import Toy, close, gradient

from frpo_verl.core.losses.rpg import rpg_loss as loss_of_inputs
from frpo_verl.core.losses.terms import read_loss_inputs
from frpo_verl.methods.names import RPG_VARIANTS as VARIANTS

f64 = torch.float64
BETA = 0.37
OPEN = dict(clip_low=None, clip_high=None, dual_clip_c=None)


def rpg_loss(log_prob, old_log_prob, advantages, mask, ref_log_prob=None, **kwargs):
    """The loss through its door; with a reference when one is given."""
    inputs = read_loss_inputs(
        log_prob=log_prob, old_log_prob=old_log_prob, advantages=advantages, mask=mask, ref_log_prob=ref_log_prob
    )
    return loss_of_inputs(inputs, reference="old" if ref_log_prob is None else "ref", **kwargs)


class Setting:
    """Current, old and reference policy, all different; `mass` scales pi (its log is a leaf), z old."""

    def __init__(self, seed, z=1.0, mass=1.0):
        self.toy = Toy(seed)
        self.old_table = self.toy.table(0.8)
        self.ref_table = self.toy.table(0.8)
        self.table = self.toy.table(0.5, near=self.old_table).requires_grad_()
        self.log_mass = torch.tensor(math.log(mass), dtype=f64, requires_grad=True)
        first = torch.zeros(3, dtype=f64)
        first[0] = 1.0
        self.log_prob = self.toy.log_prob(self.table) + self.log_mass * first
        self.old = self.toy.log_prob(self.old_table) + math.log(z) * first
        self.ref = self.toy.log_prob(self.ref_table)
        self.sampling = self.toy.probability(self.old_table)  # old / Z
        self.leaves = (self.table, self.log_mass)

    def loss(self, level, variant, reference="old", reinforce=False):
        """(loss by token or by answer) of every answer, without a clip."""
        terms = rpg_loss(
            self.log_prob, self.old, self.toy.reward, self.toy.mask, variant=variant, kl_coef=BETA, level=level,
            ref_log_prob=self.ref if reference == "ref" else None, reinforce=reinforce, **OPEN,
        )  # fmt: skip
        assert (terms.token_loss is None) == (level == "sequence") != (terms.sequence_loss is None)
        return terms.sequence_loss if level == "sequence" else terms.token_loss

    def sequence(self, log_prob):
        return torch.where(self.toy.mask, log_prob, 0.0).sum(-1).exp()


CASES = [(v, r) for v in VARIANTS for r in (False, True)]


@pytest.mark.parametrize("variant, reinforce", CASES)
@pytest.mark.parametrize("reference", ["old", "ref"])
@pytest.mark.parametrize("z, mass", [(1.0, 1.0), (1.7, 1.0), (1.7, 0.6)])
def test_sequence_level_is_the_exact_gradient_off_policy(variant, reinforce, reference, z, mass):
    """Expectation over samples from old/Z of the loss = -(sum pi R - beta KL), also where neither mass is 1.

    It is divided by Z, because samples come from old/Z.
    """
    s = Setting(3, z, mass)
    expectation = (s.sampling * s.loss("sequence", variant, reference, reinforce=reinforce)).sum()
    pi, anchor = s.sequence(s.log_prob), s.sequence(s.old if reference == "old" else s.ref)
    p, q = (pi, anchor) if "rkl" in variant else (anchor, pi)
    kl = (p * (p / q).log()).sum() + ((q - p).sum() if variant.startswith("u") else 0.0)
    expected = -((pi * s.toy.reward).sum() - BETA * kl) / z
    close(gradient(expectation, *s.leaves), gradient(expected, *s.leaves))
    if not reinforce:  # whose value is the stated loss as well
        assert expectation.item() == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("variant, reinforce", CASES)
@pytest.mark.parametrize("reference", ["old", "ref"])
def test_token_level_is_the_exact_local_gradient_off_policy(variant, reinforce, reference):
    """sum_t rho_t R over samples of old, and the full-vocabulary KL at the states of old."""
    s = Setting(5)
    got = gradient((s.sampling[:, None] * s.loss("token", variant, reference, reinforce)).sum(), s.table)
    rho = torch.where(s.toy.mask, s.log_prob - s.old, -math.inf).exp()
    pi, anchor = s.table.softmax(-1), (s.old_table if reference == "old" else s.ref_table).softmax(-1)
    p, q = (pi, anchor) if "rkl" in variant else (anchor, pi)
    kl = (s.toy.state_visits(s.old_table) * (p * (p / q).log()).sum(-1)).sum()
    close(got, -gradient((s.sampling[:, None] * rho * s.toy.reward[:, None]).sum() - BETA * kl, s.table))


# --- the clip -------------------------------------------------------------------------------------

W = [0.03, 0.2, 0.55, 0.79, 0.81, 0.95, 1.0, 1.1, 1.27, 1.29, 1.9, 4.0, 9.9, 10.1, 30.0]
REWARDS = [-3.0, -1.0, -0.2, -0.01, 0.01, 0.2, 1.0, 3.0]
GRID = [(w, a) for w in W for a in REWARDS]
LOW, HIGH, C, STRONG = 0.2, 0.28, 10.0, 0.4


def weight(variant, w, a, d, q):
    """-dL / d log pi of the unclipped loss, from its docstring's table."""
    return {
        "fkl": w * a + STRONG * q,
        "ufkl": w * a - STRONG * (w - q),
        "rkl": w * (a - STRONG * (d + 1)),
        "urkl": w * (a - STRONG * d),
    }[variant]


def alive(sign, w):
    return w <= 1 + HIGH if sign >= 0 else 1 - LOW <= w <= C


@pytest.mark.parametrize("variant, reinforce", CASES)
@pytest.mark.parametrize("log_q", [None, -0.7, 0.9])
def test_live_and_dead_regions_of_the_dual_clip(variant, reinforce, log_q):
    q = 1.0 if log_q is None else math.exp(log_q)
    expected, seen = [], set()
    for w, a in GRID:
        d = math.log(w) - math.log(q)
        full = weight(variant, w, a, d, q)
        if reinforce or "rkl" in variant:
            live = alive(full / w, w)
            expected.append(full if live else 0.0)
        else:  # the reward part is clipped by the sign of the reward, the KL part never
            live = alive(a, w)
            expected.append((w * a if live else 0.0) + full - w * a)
        seen.add((live, (full if reinforce or "rkl" in variant else a) >= 0, w > 1))
    assert len(seen) == 7, "the grid must reach every region: all but (dead, positive, w < 1)"
    log_prob = torch.tensor([[math.log(w)] for w, _ in GRID], dtype=f64, requires_grad=True)
    terms = rpg_loss(
        log_prob, torch.zeros_like(log_prob), torch.tensor([[a] for _, a in GRID], dtype=f64),
        torch.ones_like(log_prob), variant=variant, reinforce=reinforce, kl_coef=STRONG,
        ref_log_prob=None if log_q is None else torch.full_like(log_prob, log_q),
        clip_low=LOW, clip_high=HIGH, dual_clip_c=C,
    )  # fmt: skip
    (grad,) = torch.autograd.grad(terms.token_loss.sum(), log_prob)
    assert torch.allclose(-grad[:, 0], torch.tensor(expected, dtype=f64), rtol=1e-10, atol=1e-12)


def test_clip_metrics():
    w = torch.tensor([[0.5, 0.5, 2.0, 2.0, 20.0, 1.0]], dtype=f64)
    a = torch.tensor([[-1.0, 1.0, 1.0, -1.0, -1.0, 1.0]], dtype=f64)
    clip = {"clip_low": LOW, "clip_high": HIGH}
    terms = rpg_loss(w.log(), torch.zeros_like(w), a, torch.ones_like(w), variant="urkl", kl_coef=0.0, **clip)
    m = {k: float(v) * 6 for k, v in terms.metrics.items()}
    assert m["actor/pg_clipfrac"] == pytest.approx(2.0)
    assert m["actor/pg_clipfrac_at_low"] == pytest.approx(1.0) and m["actor/pg_clipfrac_at_high"] == pytest.approx(1.0)
    assert m["actor/pg_clipfrac_lower"] == pytest.approx(1.0)
    assert m["actor/ppo_kl"] == pytest.approx(-float(w.log().sum()))
    assert m["actor/rpg_kl"] == pytest.approx(float((w * w.log() - w + 1).sum()))


@pytest.mark.parametrize("variant, reinforce", CASES)
@pytest.mark.parametrize("log_ratio", [-300.0, -25.0, 25.0, 300.0])
def test_huge_ratios_are_finite_and_the_kl_keeps_its_pull(variant, reinforce, log_ratio):
    log_prob = torch.full((1, 1), log_ratio, requires_grad=True)
    zero = torch.zeros(1, 1)
    terms = rpg_loss(log_prob, zero, zero, torch.ones(1, 1), variant=variant, reinforce=reinforce, kl_coef=1.0, **OPEN)
    (grad,) = torch.autograd.grad(terms.token_loss.sum(), log_prob)
    assert grad.isfinite().all() and terms.token_loss.isfinite().all()
    # a token that pi has lost is pulled up; one that it prefers is pulled down (fkl: by the others only)
    if log_ratio < 0:
        assert grad < 0
    else:
        assert grad > 0 or variant == "fkl"


def test_sequence_level_refuses_advantages_that_vary_within_a_response():
    x, mask = torch.zeros(2, 3), torch.tensor([[1, 1, 0], [1, 1, 1]])
    advantages = torch.tensor([[1.0, 1.0, 7.0], [0.5, 0.5, 0.6]])
    with pytest.raises(ValueError, match="advantages of response 1 varies"):
        rpg_loss(x, x, advantages, mask, level="sequence")
    assert rpg_loss(x, x, advantages, mask, level="token").token_loss.shape == (2, 3)
