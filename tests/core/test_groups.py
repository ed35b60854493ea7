import math

import pytest
import torch
from toys import IDS, ROWS, Setting, frpo, grouped, grouped_gradient, random_batch, regularize

from frpo_verl.core.chunks import answer_chunks
from frpo_verl.core.divergences import DIVERGENCES, get_divergence
from frpo_verl.core.enumeration import gradient, probability, relative_error
from frpo_verl.core.groups import group_advantages, position_baseline, remaining_baseline
from frpo_verl.core.tokens import dense_ids, read_answers


def answers(mask, group):
    x = torch.zeros(mask.shape)
    return read_answers(x, x, mask, group=group)


def loop(scores, groups, norm_by_std, eps=1e-6):
    """verl's rule: sample std, a group of one keeps its reward."""
    out = []
    for r, g in zip(scores.tolist(), groups.tolist(), strict=True):
        members = [s for s, h in zip(scores.tolist(), groups.tolist(), strict=True) if h == g]
        n = len(members)
        mean = sum(members) / n if n > 1 else 0.0
        std = math.sqrt(sum((s - mean) ** 2 for s in members) / (n - 1)) if n > 1 else 1.0
        out.append((r - mean) / (std + eps) if norm_by_std else r - mean)
    return torch.tensor(out, dtype=torch.float64)


@pytest.mark.parametrize("norm_by_std", [True, False])
def test_group_advantages_against_a_loop(norm_by_std):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, generator=generator, dtype=torch.float64)
    groups = torch.randint(0, 9, (40,), generator=generator) * 10**9 - 5
    groups[0] = 77  # alone
    expected = loop(scores, groups, norm_by_std)
    torch.testing.assert_close(group_advantages(scores, groups, norm_by_std=norm_by_std), expected)
    low = group_advantages(scores.float(), groups, norm_by_std=norm_by_std)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), expected, rtol=1e-5, atol=1e-6)


def test_group_advantages_literal_numbers():
    scores = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 3.0, 0.0])
    groups = torch.tensor([0, 0, 0, 0, 1, 1, 2, 3])
    half = 0.5 / math.sqrt(1 / 3)
    assert group_advantages(scores, groups).tolist() == pytest.approx([half, -half, -half, half, 0, 0, 3, 0], abs=1e-5)
    assert group_advantages(scores, groups, norm_by_std=False).tolist() == [0.5, -0.5, -0.5, 0.5, 0, 0, 3, 0]
    assert group_advantages(torch.zeros(0), torch.zeros(0, dtype=torch.int64)).shape == (0,)


def test_equal_rewards_give_no_noise():
    adv = group_advantages(torch.full((7,), 0.1), torch.zeros(7, dtype=torch.int64))
    assert adv.abs().max() < 1e-6


def test_position_baseline_literal_numbers():
    delta = torch.tensor([[1.0, 2.0, 0.0], [4.0, 8.0, 16.0], [5.0, 0.0, 0.0], [7.0, 7.0, 7.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0]])
    reg = torch.where(mask.bool(), delta.flip(-1).cumsum(-1).flip(-1), 0.0)
    reg -= position_baseline(reg, answers(mask, torch.tensor([5, 5, 5, 2, 5])))
    # suffix sums (3, 2, -), (28, 24, 16), (5, -, -); group of one (21, 14, 7) stays; a pad row counts nowhere
    expected = [[3 - 33 / 2, 2 - 24, 0], [28 - 8 / 2, 24 - 2, 16], [5 - 31 / 2, 0, 0], [21, 14, 7], [0, 0, 0]]
    assert reg.tolist() == expected


def test_position_baseline_of_a_whole_response_is_that_of_all_others():
    mask = torch.tensor([[1, 1, 0], [1, 0, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0]]).bool()
    reg = torch.where(mask, torch.tensor([[3.0], [28.0], [5.0], [21.0], [9.0]]), 0.0)
    group = torch.tensor([5, 5, 5, 2, 5])  # a group of one has no baseline, a pad row counts nowhere
    baseline = position_baseline(reg, answers(mask, group), whole=True)
    assert torch.equal(baseline, torch.where(mask, torch.tensor([[33 / 2], [8 / 2], [31 / 2], [0.0], [0.0]]), 0.0))


@pytest.mark.parametrize("columns", [3, 2**17])
def test_position_baseline_against_a_loop_whatever_the_chunks(columns):
    # 2^17 columns make chunks of one row, fewer than a group has
    generator = torch.Generator().manual_seed(1)
    rows = 9
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    mask[:, -3:] = torch.rand(rows, 3, generator=generator) < 0.7
    groups = torch.tensor([3, 1, 1, 3, 2, 3, 1, 9, 3])
    values = torch.where(mask, torch.rand(rows, columns, generator=generator, dtype=torch.float64), 0.0)
    expected = values.clone()
    position = mask.cumsum(-1)
    for i, t in mask.nonzero().tolist():
        others = [
            values[k, u].item()
            for k, u in mask.nonzero().tolist()
            if groups[k] == groups[i] and k != i and position[k, u] == position[i, t]
        ]
        expected[i, t] -= sum(others) / len(others) if others else 0.0
    group = dense_ids(groups, rows)
    seen = []
    for table in answer_chunks(slice(0, rows), mask, group):
        chunk = table[:, 0]
        values[chunk] -= position_baseline(values[chunk], answers(mask[chunk], group[chunk]))
        seen += chunk.tolist()
        assert all(set(chunk.tolist()) >= set((group == g).nonzero().flatten().tolist()) for g in group[chunk])
    torch.testing.assert_close(values, expected)
    assert sorted(seen) == list(range(rows))


def test_any_kind_of_id_and_shapes_are_asserted():
    scores = torch.tensor([1.0, 0.0, 3.0])
    by_name = group_advantages(scores, ["p", "p", None])
    assert torch.equal(by_name, group_advantages(scores, torch.tensor([4, 4, 2])))
    with pytest.raises(ValueError, match="scores"):
        group_advantages(torch.zeros(2, 3), [0, 0])
    with pytest.raises(ValueError, match="group_ids"):
        group_advantages(torch.zeros(2), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("placement", ["future", "local", "sequence"])
@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
def test_position_baseline_leaves_the_gradient_of_enumerated_pairs_unchanged(name, order, placement):
    toy = Setting(3, 3)
    rows, ids, p = grouped(toy, 2)
    kind = {"divergence": name, "alpha": order, "placement": placement}
    with_baseline = regularize(toy.delta[rows], toy.mask[rows], baseline="position", group_ids=ids, **kind)
    without = toy.estimate(regularize(toy.delta, toy.mask, **kind))
    assert relative_error(grouped_gradient(toy, rows, with_baseline, p, 2), without) < 1e-10
    assert not torch.allclose(with_baseline, regularize(toy.delta[rows], toy.mask[rows], **kind))


def test_position_baseline_on_triples_and_the_biased_ways_to_do_it():
    toy = Setting(3, 2)
    rows, ids, p = grouped(toy, 3)
    mask, reg = toy.mask[rows], regularize(toy.delta, toy.mask)[rows]
    truth = toy.truth(DIVERGENCES["reverse_kl"])
    ours = regularize(toy.delta[rows], mask, baseline="position", group_ids=ids)
    assert relative_error(grouped_gradient(toy, rows, ours, p, 3), truth) < 1e-10
    by_group, there = reg.reshape(-1, 3, 2), mask.reshape(-1, 3, 2)
    own_included = (by_group - by_group.sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1)).reshape(-1, 2)
    assert relative_error(grouped_gradient(toy, rows, own_included, p, 3), truth) > 0.05


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
        toy, row = Setting(3, 3, eos), get_divergence(name, order)
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
            toy = Setting(eos=eos, seed=10 * seed)
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
