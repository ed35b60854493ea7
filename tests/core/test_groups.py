import math

import pytest
import torch

from frpo_verl.core.chunks import answer_chunks
from frpo_verl.core.groups import group_advantages, position_baseline
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
