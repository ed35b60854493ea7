import math
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from toys import frpo, garbage, local_objective, regularize

from frpo_verl.core.advantages import (
    Regularizer,
    regularized_advantages,
    sequence_divergence,
)
from frpo_verl.core.divergences import DIVERGENCES, Divergence, get_divergence
from frpo_verl.core.enumeration import (
    enumerate_trajectories,
    gradient,
    log_prob,
    objective,
    policy_gradient,
    probability,
    random_logits,
    relative_error,
)
from frpo_verl.core.groups import position_baseline, remaining_baseline
from frpo_verl.core.regularizers import regularize as equation
from frpo_verl.core.steps import steps_by_length
from frpo_verl.core.tokens import Columns, read_answers

ROWS = [(name, None) for name in DIVERGENCES if name != "alpha"] + [("alpha", 0.5), ("alpha", 2.5)]
IDS = [name if order is None else f"{name}{order:g}" for name, order in ROWS]


class Toy:
    """A policy, a reference and every trajectory's log-ratio, computed from log-probs full of garbage."""

    def __init__(self, vocabulary=3, horizon=4, eos=True, seed=0, drift=1.0):
        self.all = enumerate_trajectories(vocabulary, horizon, eos)
        self.ref = random_logits(self.all, seed)
        self.logits = (self.ref + drift * random_logits(self.all, seed + 1)).requires_grad_()
        self.mask = self.all.mask
        self.lp, self.lr = log_prob(self.all, self.logits).detach(), log_prob(self.all, self.ref)
        self.p = probability(self.all, self.logits).detach()
        answers = read_answers(garbage(self.all, self.lp), garbage(self.all, self.lr), self.mask)
        self.delta = answers.delta
        assert not answers.clipped.any() and self.delta.dtype == torch.float64

    def truth(self, divergence, which=objective):
        return gradient(which(self.all, self.logits, self.ref, divergence.value), self.logits)

    def estimate(self, reg):
        return policy_gradient(self.all, self.logits, reg)


@pytest.fixture(scope="module", params=[(3, 4, True), (3, 3, False), (2, 5, True)], ids=["eos", "fixed", "binary"])
def toy(request):
    return Toy(*request.param)


# -- the expected gradient, by enumeration --------------------


@pytest.mark.parametrize("placement", ["future", "sequence"])
@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
def test_expected_gradient_is_that_of_the_enumerated_objective(toy, name, order, placement):
    reg = regularize(toy.delta, toy.mask, divergence=name, alpha=order, placement=placement)
    assert relative_error(toy.estimate(reg), toy.truth(get_divergence(name, order))) < 1e-10


@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
def test_local_placement_is_the_local_part_and_not_the_whole(toy, name, order):
    row = get_divergence(name, order)
    estimate = toy.estimate(regularize(toy.delta, toy.mask, divergence=name, alpha=order, placement="local"))
    assert relative_error(estimate, toy.truth(row, local_objective)) < 1e-10
    assert relative_error(estimate, toy.truth(row)) > 0.02


@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
def test_reward_placement_before_normalisation_is_the_whole_gradient(toy, name, order):
    batch = Columns(garbage(toy.all, toy.lp), garbage(toy.all, toy.lr), toy.mask)
    cost, _ = sequence_divergence(batch, get_divergence(name, order))
    torch.testing.assert_close(
        (toy.p * cost).sum(), objective(toy.all, toy.logits, toy.ref, get_divergence(name, order).value)
    )
    # the score-function part misses the derivative of the cost itself: (f' - f/w) * score on each token
    row = get_divergence(name, order)
    own = regularize(toy.delta, toy.mask, divergence=name, alpha=order, placement="local") - row.cost(toy.delta)
    assert relative_error(toy.estimate(cost[:, None] + own), toy.truth(row)) < 1e-10


def test_the_exclusive_sum_is_wrong():
    toy = Toy()
    truth = toy.truth(DIVERGENCES["reverse_kl"])
    inclusive = regularize(toy.delta, toy.mask)
    assert relative_error(toy.estimate(inclusive), truth) < 1e-10
    assert relative_error(toy.estimate(inclusive - toy.delta), truth) > 0.2


def test_forgetting_the_mask_before_the_sum_is_wrong():
    toy = Toy()
    dirty = torch.where(toy.mask, toy.delta, 0.3)
    poisoned = dirty.flip(-1).cumsum(-1).flip(-1)
    assert relative_error(toy.estimate(poisoned), toy.truth(DIVERGENCES["reverse_kl"])) > 0.1


def test_discount_is_a_bias_that_vanishes_at_one():
    errors = []
    for discount in (1.0, 0.9, 0.5, 0.0):
        per_seed = []
        for seed in range(8):
            toy = Toy(seed=10 * seed)
            reg = regularize(toy.delta, toy.mask, discount=discount)
            per_seed.append(relative_error(toy.estimate(reg), toy.truth(DIVERGENCES["reverse_kl"])))
        errors.append(sum(per_seed) / len(per_seed))
    assert errors[0] < 1e-10
    assert errors[1:] == pytest.approx(DISCOUNT_BIAS, abs=5e-3)
    zero = regularize(toy.delta, toy.mask, discount=0.0)
    assert torch.equal(zero, regularize(toy.delta, toy.mask, placement="local"))


DISCOUNT_BIAS = [0.058, 0.243, 0.397]  # relative error at discount 0.9, 0.5 and 0, mean over the eight toys


# -- baseline: position --------------------


def grouped(toy, size):
    """Every tuple of `size` trajectories as one group: rows (groups * size,), group ids, probabilities."""
    n = toy.all.count
    rows = torch.cartesian_prod(*[torch.arange(n)] * size)
    return rows.flatten(), torch.arange(rows.shape[0]).repeat_interleave(size), toy.p[rows].prod(-1)


def grouped_gradient(toy, rows, weight, probability_of_group, size):
    """Expected gradient of the mean over a group's responses of sum_t weight_t * score_t."""
    lp = log_prob(toy.all, toy.logits)[rows]
    w = probability_of_group.repeat_interleave(size)[:, None] * torch.where(toy.mask[rows], weight, 0.0) / size
    return gradient((w.detach() * lp).sum(), toy.logits)


@pytest.mark.parametrize("placement", ["future", "local", "sequence"])
@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
def test_position_baseline_leaves_the_gradient_of_enumerated_pairs_unchanged(name, order, placement):
    toy = Toy(3, 3)
    rows, ids, p = grouped(toy, 2)
    kind = {"divergence": name, "alpha": order, "placement": placement}
    with_baseline = regularize(toy.delta[rows], toy.mask[rows], baseline="position", group_ids=ids, **kind)
    without = toy.estimate(regularize(toy.delta, toy.mask, **kind))
    assert relative_error(grouped_gradient(toy, rows, with_baseline, p, 2), without) < 1e-10
    assert not torch.allclose(with_baseline, regularize(toy.delta[rows], toy.mask[rows], **kind))


def test_position_baseline_on_triples_and_the_biased_ways_to_do_it():
    toy = Toy(3, 2)
    rows, ids, p = grouped(toy, 3)
    mask, reg = toy.mask[rows], regularize(toy.delta, toy.mask)[rows]
    truth = toy.truth(DIVERGENCES["reverse_kl"])
    ours = regularize(toy.delta[rows], mask, baseline="position", group_ids=ids)
    assert relative_error(grouped_gradient(toy, rows, ours, p, 3), truth) < 1e-10
    by_group, there = reg.reshape(-1, 3, 2), mask.reshape(-1, 3, 2)
    own_included = (by_group - by_group.sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1)).reshape(-1, 2)
    assert relative_error(grouped_gradient(toy, rows, own_included, p, 3), truth) > 0.05


# -- the paper's other rows: reward_to_go, remaining --------------------


def normalised_at_each_position(x, mask, groups, by_std, eps=1e-6):
    """Strategy (c) in a loop: z-score over the group's answers that have a token there; verl's rule for a group of one."""
    out, position = torch.zeros_like(x), mask.long().cumsum(-1)
    for i, t in mask.nonzero().tolist():
        mates = [k for k in range(len(x)) if groups[k] == groups[i] and mask[k].any()]
        there = [
            (k, u) for k in mates for u in mask[k].nonzero().flatten().tolist() if position[k, u] == position[i, t]
        ]
        values = torch.stack([x[at] for at in there])
        std = float(values.std()) if len(values) > 1 else 0.0 if len(mates) > 1 else 1.0
        mean = values.mean() if len(mates) > 1 else 0.0
        out[i, t] = (x[i, t] - mean) / (std + eps if by_std else 1.0)
    return out


@pytest.mark.parametrize("by_std", [True, False])
@pytest.mark.parametrize("name", ["reverse_kl", "js"])
def test_reward_to_go_against_a_loop(name, by_std):
    generator = torch.Generator().manual_seed(2)
    lp, lr = -torch.rand(2, 11, 6, generator=generator, dtype=torch.float64) * 3
    mask = torch.rand(11, 6, generator=generator) < 0.6
    mask[3] = False
    r, groups = torch.arange(11).double() % 3, torch.tensor([1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 1])  # 3 is a group of one
    delta = torch.where(mask, lp - lr, 0.0)
    x = r[:, None] - 0.3 * regularize(delta, mask, divergence=name)
    expected, before = (normalised_at_each_position(y, mask, groups, by_std) for y in (x, r[:, None].expand_as(x)))
    lp[~mask] = math.nan
    row = get_divergence(name)
    kind = {"kl_coef": 0.3, "placement": "reward_to_go", "norm_by_std": by_std, "divergence": row}
    found = frpo(r, lp, lr, mask, group_ids=groups, **kind)
    torch.testing.assert_close(found.advantages, expected, rtol=1e-9, atol=1e-9)
    share = float((expected - before).abs().sum() / before.abs().sum())
    assert found.metrics["frpo/regularizer_share"] == pytest.approx(share)
    assert found.metrics["frpo/sign_flip_frac"] == pytest.approx(float((expected * before < 0).sum() / mask.sum()))


@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
def test_reward_to_go_with_a_mean_is_exact_up_to_one_minus_one_over_g_for_one_length(name, order):
    errors = []
    for eos in (False, True):
        toy, row = Toy(3, 3, eos), get_divergence(name, order)
        rows, ids, p = grouped(toy, 2)
        reward = (toy.all.tokens.sum(-1) % 2).double()
        kind = {"kl_coef": 0.3, "divergence": row, "placement": "reward_to_go", "norm_by_std": False}
        lp, lr = toy.lp[rows], toy.lr[rows]
        weight = frpo(reward[rows], lp, lr, toy.mask[rows], group_ids=ids, **kind).advantages
        truth = gradient((probability(toy.all, toy.logits) * reward).sum(), toy.logits) - 0.3 * toy.truth(row)
        errors.append(relative_error(2 * grouped_gradient(toy, rows, weight, p, 2), truth))
    assert errors[0] < 1e-10 < 0.01 < errors[1]  # where an answer is alone at its position, there is no signal


def test_the_remaining_baseline_is_biased_where_lengths_differ():
    """b_t = (T - t) D with D of the policy itself: exact for one length, else the number on the page."""
    errors = {eos: [] for eos in (False, True)}
    for seed in range(8):
        for eos, found in errors.items():
            toy = Toy(eos=eos, seed=10 * seed)
            row = DIVERGENCES["reverse_kl_k3"]
            length = toy.mask.sum(-1)
            mean = (toy.p @ row.cost(toy.delta).sum(-1)) / (toy.p @ length.double())
            answers = read_answers(toy.lp, toy.lr, toy.mask)
            reg = regularize(toy.delta, toy.mask, divergence="reverse_kl_k3") - remaining_baseline(answers, float(mean))
            found.append(relative_error(toy.estimate(reg), toy.truth(row)))
    assert max(errors[False]) < 1e-10
    assert sum(errors[True]) / 8 == pytest.approx(REMAINING_BIAS, abs=5e-3)


REMAINING_BIAS = 0.311  # mean relative error over the eight toys


@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl_k3"])
def test_the_remaining_baseline_of_a_batch_is_t_minus_t_times_its_mean_cost(name):
    lp, lr, mask, scores, _ = random_batch(seed=8)
    mask[2, 0] = 0  # a gap at the start: positions count tokens
    cost = torch.where(mask.bool(), DIVERGENCES[name].cost(lp - lr), 0.0)
    behind = mask.flip(-1).cumsum(-1).flip(-1) - 1
    expected = regularize(lp - lr, mask, divergence=name) - behind * mask * (cost.sum() / mask.sum())
    got = regularize(lp - lr, mask, divergence=name, baseline="remaining")
    torch.testing.assert_close(got, expected)


# -- agreement with what other frameworks compute --------------------


def random_batch(rows=12, columns=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lp, lr = -torch.rand(2, rows, columns, generator=generator, dtype=torch.float64) * 3
    length = torch.randint(0, columns + 1, (rows,), generator=generator)
    mask = (torch.arange(columns) < length[:, None]).long()
    scores = torch.randint(0, 2, (rows,), generator=generator).double()
    return lp, lr, mask, scores, torch.arange(rows) // 4


def group_norm(scores, groups):
    out = torch.zeros_like(scores)
    for g in groups.unique():
        s = scores[groups == g]
        out[groups == g] = (s - s.mean()) / (s.std() + 1e-6)
    return out


def test_agrees_with_openrlhf_group_norm_and_k1_in_the_reward():
    # rewards are normalised in the group first; then r_t = -kl_coef * kl_t, plus the reward at EOS; summed
    lp, lr, mask, scores, groups = random_batch()
    beta = 0.3
    normalised = group_norm(scores, groups)
    expected = torch.zeros_like(lp)
    for i in range(lp.shape[0]):
        n, running = int(mask[i].sum()), 0.0
        for t in reversed(range(n)):
            running += -beta * (lp[i, t] - lr[i, t]) + (normalised[i] if t == n - 1 else 0.0)
            expected[i, t] = running
    result = frpo(normalised, lp, lr, mask, kl_coef=beta)
    torch.testing.assert_close(result.advantages, expected)


def test_agrees_with_roll_grpo_and_token_level_kl():
    # token rewards: normalised reward on the last token minus beta * kl on each; advantage = triangular sum
    lp, lr, mask, scores, groups = random_batch(seed=1)
    beta, columns = 0.05, lp.shape[1]
    normalised = group_norm(scores, groups)
    last = torch.nn.functional.one_hot((mask.sum(-1) - 1).clamp(min=0), columns) * mask
    token_rewards = normalised[:, None] * last - beta * torch.where(mask.bool(), lp - lr, 0.0)
    expected = torch.where(mask.bool(), token_rewards @ torch.ones(columns, columns, dtype=torch.float64).tril(), 0.0)
    result = frpo(normalised, lp, lr, mask, kl_coef=beta)
    torch.testing.assert_close(result.advantages, expected)


def test_agrees_with_prl_for_steps_of_one_token():
    # v_t = A - S_t / eta, kept at every step end, and every token takes the next kept value
    lp, lr, mask, scores, groups = random_batch(seed=2)
    eta = 50.0
    normalised = group_norm(scores, groups)
    expected = torch.zeros_like(lp)
    for i in range(lp.shape[0]):
        n = int(mask[i].sum())
        for t in range(n):
            expected[i, t] = normalised[i] - (lp[i, t:n] - lr[i, t:n]).sum() / eta
    result = frpo(normalised, lp, lr, mask, kl_coef=1 / eta)
    torch.testing.assert_close(result.advantages, expected)


def test_first_and_last_token_and_equal_rewards():
    lp, lr, mask, _, _ = random_batch(seed=3)
    adv = frpo(torch.zeros(12), lp, lr, mask, kl_coef=0.5).advantages
    torch.testing.assert_close(adv[:, 0], -0.5 * torch.where(mask.bool(), lp - lr, 0.0).sum(-1))
    for i, n in enumerate(mask.sum(-1).tolist()):
        if n:
            torch.testing.assert_close(adv[i, n - 1], -0.5 * (lp - lr)[i, n - 1])
    assert torch.equal(adv != 0, mask.bool()) and torch.isfinite(adv).all()


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
        sequence_divergence(Columns(*log_probs, mask), DIVERGENCES["js"])


# -- discount and masks --------------------


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


@pytest.mark.parametrize("discount", [0.0, 0.3, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("name", ["reverse_kl", "js"])
@pytest.mark.parametrize("steps", [False, True])
def test_the_future_sum_against_a_loop_with_gaps_in_the_mask(discount, name, steps):
    generator = torch.Generator().manual_seed(3)
    delta = torch.randn(6, 33, generator=generator, dtype=torch.float64)
    mask = torch.rand(6, 33, generator=generator) < 0.7
    mask[0] = False
    begins = mask.clone()
    if steps:
        begins = mask & (torch.rand(6, 33, generator=generator) < 0.4)
        begins |= mask & (mask.cumsum(-1) == 1)
    delta = torch.where(mask, delta, math.nan)
    more = {"divergence": name, "discount": discount, "step_begins": begins if steps else None}
    if steps and discount != 1:
        with pytest.raises(ValueError, match="discount=1"):
            regularize(delta, mask, **more)
        return
    expected = loop_reference(torch.where(mask, delta, 0.0), mask, DIVERGENCES[name], discount, begins)
    got = regularize(delta, mask, **more)
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


# -- memory and interface --------------------


class PeakMemory(TorchDispatchMode):
    """Bytes of tensor storage born inside the block and alive at the worst moment."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self.seen = 0, 0, set()

    def _gone(self, key, size):
        self.live -= size
        self.seen.discard(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        old = {x.untyped_storage()._cdata for x in _tensors((args, kwargs or {}))}
        out = func(*args, **(kwargs or {}))
        for x in _tensors(out):
            storage = x.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key not in old and key not in self.seen:
                self.seen.add(key)
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._gone, key, size)
        return out


def _tensors(tree):
    return [x for x in torch.utils._pytree.tree_leaves(tree) if isinstance(x, torch.Tensor)]


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"placement": "sequence"},
        {"discount": 0.9},
        {"baseline": "position"},
        {"baseline": "remaining"},
        {"placement": "reward_to_go"},
        {"steps": True},
        {"everything": True},
        {"sessions": True},
        *({"divergence": name, "alpha": order} for name, order in ROWS),
    ],
    ids=lambda x: "-".join(str(v) for v in x.values() if v) or "default",
)
def test_at_most_half_a_tensor_beside_the_advantage(what):
    rows, columns = 2048, 2048
    lp, lr = torch.zeros(rows, columns), torch.full((rows, columns), -0.01)
    mask = torch.ones(rows, columns, dtype=torch.int64)
    more = {"entropy": lp, "other_log_prob": lr} if what.pop("everything", False) else {}
    if what.pop("sessions", False):
        more = {"session_ids": torch.arange(rows) // 2}
    if what.pop("steps", False):
        more = {"step_begins": steps_by_length(mask, 7)}
    row = get_divergence(what.pop("divergence", "reverse_kl"), what.pop("alpha", None))
    groups = torch.arange(rows) // 8
    with PeakMemory() as memory:
        frpo(torch.zeros(rows), lp, lr, mask, divergence=row, group_ids=groups, **what, **more)
    assert lp.nbytes < memory.peak < 1.5 * lp.nbytes


def test_a_sequence_divergence_allocates_no_tensor_of_full_size():
    lp = torch.zeros(2048, 2048)
    with PeakMemory() as memory:
        sequence_divergence(Columns(lp, lp, torch.ones(2048, 2048)), DIVERGENCES["js"])
    assert memory.peak - lp.nbytes < 0.5 * lp.nbytes  # the mask is made inside


@pytest.mark.parametrize("columns", [5, 3000, 2**17 + 3])
@pytest.mark.parametrize("baseline", ["none", "position"])
def test_the_chunks_change_nothing(columns, baseline):
    generator = torch.Generator().manual_seed(7)
    rows = 60 if columns < 10**5 else 4
    lp, lr = -torch.rand(2, rows, columns, generator=generator, dtype=torch.float64)
    mask = torch.rand(rows, columns, generator=generator) < 0.9
    scores = torch.randn(rows, generator=generator, dtype=torch.float64)
    groups = torch.randint(0, 4, (rows,), generator=generator)
    kind = Regularizer(0.2, get_divergence("js"), baseline=baseline)
    batch = Columns(lp, lr, mask, scores, groups, step_begins=steps_by_length(mask, 3))
    result = regularized_advantages(batch, kind)
    answers = read_answers(lp, lr, mask, group=groups, step_begins=batch.step_begins)
    reg = equation(answers, kind)
    if baseline == "position":
        reg = reg - position_baseline(reg, answers)
    expected = torch.where(mask, scores[:, None] - 0.2 * reg, 0.0)
    torch.testing.assert_close(result.advantages, expected)
    assert result.metrics["frpo/kl_to_ref/k1"] == pytest.approx(float((lp - lr)[mask].mean()))


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"placement": "reward"}, "sequence_divergence"),
        ({"placement": "futur"}, "future, local, sequence, reward_to_go (did you mean 'future'?)"),
        ({"discount": 1.5}, "[0, 1]"),
        ({"discount": math.nan}, "[0, 1]"),
        ({"placement": "local", "discount": 0.9}, "placement=future"),
        ({"placement": "sequence", "step_begins": torch.ones(2, 3).bool()}, "placement=future"),
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
    for kind in ({}, *others, {"divergence": DIVERGENCES["js"]}):
        result = frpo(
            torch.ones(shape[0]), empty, empty, empty, group_ids=ids, entropy=empty, baseline=baseline, **kind
        )
        assert result.advantages.shape == shape and not result.advantages.any()
        assert result.metrics == {"frpo/log_ratio_clip_frac": 0.0}


def test_a_divergence_of_ones_own_goes_all_the_way():
    lp, lr, mask, scores, groups = random_batch(seed=6)
    row = DIVERGENCES["jeffreys"]
    own = Divergence("own", row.formula, row.value)
    a, b = (frpo(scores, lp, lr, mask, divergence=f).advantages for f in (row, own))
    torch.testing.assert_close(a, b)


def test_inputs_are_left_alone():
    lp, lr, mask, scores, groups = random_batch()
    lp[0, 0] = 40.0  # beyond the bound
    given = (scores, lp, lr, mask.bool())
    before = [x.clone() for x in given]
    for kind in ({}, {"discount": 0.5}, {"placement": "local"}, {"placement": "sequence"}):
        for divergence in (DIVERGENCES["reverse_kl"], DIVERGENCES["js"]):
            kind = {**kind, "divergence": divergence, "baseline": "position"}
            result = frpo(*given, kl_coef=0.5, group_ids=groups, entropy=lp, **kind)
            assert result.advantages.data_ptr() not in {x.data_ptr() for x in given}
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
