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


def test_equal_rewards_give_no_noise():
    adv = group_advantages(torch.full((7,), 0.1), torch.zeros(7, dtype=torch.int64))
    assert adv.abs().max() < 1e-6


@pytest.mark.parametrize("columns", [3, 2**17])
@pytest.mark.parametrize("whole", [False, True])
def test_position_baseline_against_a_loop_whatever_the_chunks(columns, whole):
    """Of the others at the same position; of a sum over the whole answer: of all others. 2^17 columns make chunks of one
    row, fewer than a group has."""
    generator = torch.Generator().manual_seed(1)
    rows = 9
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    mask[:, -3:] = torch.rand(rows, 3, generator=generator) < 0.7
    mask[8] = False  # a pad row counts nowhere
    groups = torch.tensor([3, 1, 1, 3, 2, 3, 1, 9, 3])  # 2 and 9: groups of one
    values = torch.rand(rows, 1 if whole else columns, generator=generator, dtype=torch.float64)
    values = torch.where(mask, values, 0.0)
    expected, position = values.clone(), mask.cumsum(-1)
    tokens = mask.nonzero().tolist()
    for i, t in tokens:
        others = {
            k if whole else (k, u): values[k, u].item()
            for k, u in tokens
            if groups[k] == groups[i] and k != i and (whole or position[k, u] == position[i, t])
        }.values()
        expected[i, t] -= sum(others) / len(others) if others else 0.0
    group = dense_ids(groups, rows)
    seen = []
    for table in answer_chunks(slice(0, rows), mask, group):
        chunk = table[:, 0]
        values[chunk] -= position_baseline(values[chunk], answers(mask[chunk], group[chunk]), whole=whole)
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


def test_position_baseline_on_triples():
    toy = Setting(3, 2)
    rows, ids, p = grouped(toy, 3)
    reg = regularize(toy.delta[rows], toy.mask[rows], baseline="position", group_ids=ids)
    assert relative_error(grouped_gradient(toy, rows, reg, p, 3), toy.truth(DIVERGENCES["reverse_kl"])) < 1e-10


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
    """b_t = (T - t) D with D of the policy itself: exact for one length, else what docs/frpo.md says, over eight toys."""
    row = DIVERGENCES["reverse_kl_k3"]

    def error(toy):
        mean = (toy.p @ row.cost(toy.delta).sum(-1)) / (toy.p @ toy.mask.sum(-1).double())
        baseline = remaining_baseline(read_answers(toy.lp, toy.lr, toy.mask), float(mean))
        return toy.error(regularize(toy.delta, toy.mask, divergence="reverse_kl_k3") - baseline, row)

    assert error(Setting(eos=False)) < 1e-10
    assert sum(error(Setting(seed=10 * seed)) for seed in range(8)) / 8 == pytest.approx(0.311, abs=5e-4)


@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl_k3"])
def test_the_remaining_baseline_of_a_batch_is_t_minus_t_times_its_mean_cost(name):
    lp, lr, mask, scores, _ = random_batch(seed=8)
    mask[2, 0] = 0  # a gap at the start: positions count tokens
    cost = torch.where(mask.bool(), DIVERGENCES[name].cost(lp - lr), 0.0)
    behind = mask.flip(-1).cumsum(-1).flip(-1) - 1
    expected = regularize(lp - lr, mask, divergence=name) - behind * mask * (cost.sum() / mask.sum())
    got = regularize(lp - lr, mask, divergence=name, baseline="remaining")
    torch.testing.assert_close(got, expected)
