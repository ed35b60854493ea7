import math

import pytest
import torch
from loss_toys import Toy, close, gradient

from frpo_verl.core.losses.rpg import rpg_loss as loss_of_inputs
from frpo_verl.core.losses.terms import read_loss_inputs
from frpo_verl.methods.names import RPG_VARIANTS as VARIANTS

nan, inf = float("nan"), float("inf")
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

    def __init__(self, seed, z=1.0, mass=1.0, horizon=3):
        self.toy = Toy(seed, horizon)
        self.z = z
        self.old_table = self.toy.table(0.8)
        self.ref_table = self.toy.table(0.8)
        self.table = self.toy.table(0.5, near=self.old_table).requires_grad_()
        self.log_mass = torch.tensor(math.log(mass), dtype=f64, requires_grad=True)
        first = torch.zeros(self.toy.horizon, dtype=f64)
        first[0] = 1.0
        self.log_prob = self.toy.log_prob(self.table) + self.log_mass * first
        self.old = self.toy.log_prob(self.old_table) + math.log(z) * first
        self.ref = self.toy.log_prob(self.ref_table)
        self.sampling = self.toy.probability(self.old_table)  # old / Z
        self.leaves = (self.table, self.log_mass)

    def loss(self, level, variant, reference="old", reward=None, kl_coef=BETA, log_prob=None, **more):
        """(loss by token or by answer) of every answer, without a clip."""
        rewards = self.toy.reward if reward is None else reward
        terms = rpg_loss(
            self.log_prob if log_prob is None else log_prob, self.old, rewards[:, None].expand(self.toy.mask.shape),
            self.toy.mask, variant=variant, kl_coef=kl_coef, level=level,
            ref_log_prob=self.ref if reference == "ref" else None, **more, **OPEN,
        )  # fmt: skip
        assert (terms.token_loss is None) == (level == "sequence") and (terms.sequence_loss is None) == (
            level == "token"
        )
        return terms.sequence_loss if level == "sequence" else terms.token_loss

    def anchor(self, reference):
        return self.sequence(self.old if reference == "old" else self.ref)

    def sequence(self, log_prob):
        return torch.where(self.toy.mask, log_prob, 0.0).sum(-1).exp()


def kl(variant, p, q):
    """KL(p||q), unnormalised for the u-variants; p is pi for rkl, the reference for fkl."""
    return (p * (p / q).log()).sum() + ((q - p).sum() if variant.startswith("u") else 0.0)


def divergence(variant, pi, reference):
    return kl(variant, pi, reference) if "rkl" in variant else kl(variant, reference, pi)


CASES = [(v, r) for v in VARIANTS for r in (False, True)]


@pytest.mark.parametrize("variant, reinforce", CASES)
@pytest.mark.parametrize("reference", ["old", "ref"])
@pytest.mark.parametrize("z, mass", [(1.0, 1.0), (1.7, 1.0), (1.7, 0.6)])
def test_sequence_level_is_the_exact_gradient_off_policy(variant, reinforce, reference, z, mass):
    """Expectation over samples from old/Z of the loss = -(sum pi R - beta KL), also where neither mass is 1.

    It is divided by Z, because samples come from old/Z.
    """
    s = Setting(3, z, mass)
    got = gradient((s.sampling * s.loss("sequence", variant, reference, reinforce=reinforce)).sum(), *s.leaves)
    pi = s.sequence(s.log_prob)
    expected = -gradient((pi * s.toy.reward).sum() - BETA * divergence(variant, pi, s.anchor(reference)), *s.leaves)
    close(got, expected / z)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("reference", ["old", "ref"])
def test_sequence_level_value_is_the_stated_loss(variant, reference):
    s = Setting(4, z=1.7)
    pi = s.sequence(s.log_prob)
    loss = -((pi * s.toy.reward).sum() - BETA * divergence(variant, pi, s.anchor(reference)))
    value = (s.sampling * s.loss("sequence", variant, reference)).sum() * 1.7
    assert value.item() == pytest.approx(loss.item(), rel=1e-10)


def local_divergence(s, variant, anchor_table):
    """sum over states of old's visits times the full-vocabulary divergence at that state."""
    pi = torch.softmax(s.table, -1)
    anchor = torch.softmax(anchor_table, -1)
    visits = s.toy.state_visits(s.old_table)
    p, q = (pi, anchor) if "rkl" in variant else (anchor, pi)
    per_state = (p * (p / q).log()).sum(-1)
    return (visits * per_state).sum()


@pytest.mark.parametrize("variant, reinforce", CASES)
@pytest.mark.parametrize("reference", ["old", "ref"])
def test_token_level_is_the_exact_local_gradient_off_policy(variant, reinforce, reference):
    """sum_t rho_t R over samples of old, and the full-vocabulary KL at the states of old."""
    s = Setting(5)
    token_loss = s.loss("token", variant, reference, reinforce=reinforce)
    got = gradient((s.sampling[:, None] * token_loss).sum(), s.table)
    rho = torch.where(s.toy.mask, s.log_prob - s.old, -inf).exp()
    objective = (s.sampling[:, None] * rho * s.toy.reward[:, None]).sum()
    objective = objective - BETA * local_divergence(s, variant, s.old_table if reference == "old" else s.ref_table)
    close(got, -gradient(objective, s.table))


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("pair", [("fkl", "ufkl"), ("rkl", "urkl")])
@pytest.mark.parametrize("reference", ["old", "ref"])
def test_normalised_and_unnormalised_forms_agree_in_expectation_only(level, pair, reference):
    s = Setting(6)
    grads, single = [], []
    for variant in pair:
        per_row = s.loss(level, variant, reference)
        per_row = per_row.sum(-1) if level == "token" else per_row
        grads.append(gradient((s.sampling * per_row).sum(), s.table))
        single.append(gradient(per_row[5], s.table))
    close(grads[0], grads[1])
    assert (single[0] - single[1]).norm() > 0.1 * single[1].norm()


@pytest.mark.parametrize("variant, reinforce", CASES)
def test_kl_to_old_has_no_gradient_at_old_and_kl_to_ref_has(variant, reinforce):
    s = Setting(7)
    table = s.old_table.clone().requires_grad_()
    given = {"reward": torch.zeros_like(s.toy.reward), "kl_coef": 1.0, "log_prob": s.toy.log_prob(table)}
    near, far = (s.loss("sequence", variant, r, reinforce=reinforce, **given) for r in ("old", "ref"))
    assert gradient((s.sampling * near).sum(), table).norm() < 1e-12
    assert gradient((s.sampling * far).sum(), table).norm() > 1e-2


def test_w_log_w_to_a_fixed_reference_is_not_a_kl():
    """With samples of old, w = pi/ref in w log w gives another gradient: rho log(pi/ref) is needed."""
    s = Setting(8)
    pi, ref = s.sequence(s.log_prob), s.sequence(s.ref)
    expected = gradient(kl("rkl", pi, ref), s.table)
    w = pi / ref
    wrong = gradient((s.sampling * w * w.log()).sum(), s.table)
    assert (wrong - expected).norm() > 0.5 * expected.norm()
    loss = s.loss("sequence", "rkl", "ref", reward=torch.zeros_like(s.toy.reward), kl_coef=1.0)
    close(gradient((s.sampling * loss).sum(), s.table), expected)


# --- the clip -------------------------------------------------------------------------------------

W = [0.03, 0.2, 0.55, 0.79, 0.81, 0.95, 1.0, 1.1, 1.27, 1.29, 1.9, 4.0, 9.9, 10.1, 30.0]
REWARDS = [-3.0, -1.0, -0.2, -0.01, 0.01, 0.2, 1.0, 3.0]
GRID = [(w, a) for w in W for a in REWARDS]
LOW, HIGH, C, STRONG = 0.2, 0.28, 10.0, 0.4


def weight(variant, w, a, d, q):
    """-dL / d log pi of the unclipped loss, from the table of METHODS 3.1 with a general reference."""
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


def test_the_gate_looks_at_the_regularised_advantage_not_the_reward():
    """w = 3: a positive reward with a KL penalty that outweighs it must still be pushed down, and is."""
    log_prob = torch.tensor([[math.log(3.0)]], dtype=f64, requires_grad=True)
    one = torch.ones_like(log_prob)
    for reinforce in (False, True):
        terms = rpg_loss(
            log_prob, 0 * one, 0.1 * one, one, variant="urkl", reinforce=reinforce, kl_coef=1.0, clip_low=LOW,
            clip_high=HIGH, dual_clip_c=C,
        )  # fmt: skip
        (grad,) = torch.autograd.grad(terms.token_loss.sum(), log_prob)
        assert float(grad) == pytest.approx(-3 * (0.1 - math.log(3.0)))


def test_clip_metrics():
    w = torch.tensor([[0.5, 0.5, 2.0, 2.0, 20.0, 1.0]], dtype=f64)
    a = torch.tensor([[-1.0, 1.0, 1.0, -1.0, -1.0, 1.0]], dtype=f64)
    terms = rpg_loss(
        w.log(),
        torch.zeros_like(w),
        a,
        torch.ones_like(w),
        variant="urkl",
        kl_coef=0.0,
        clip_low=LOW,
        clip_high=HIGH,
    )
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
