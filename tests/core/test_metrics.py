import math
from statistics import mean

import pytest
import torch
from toys import frpo

from frpo_verl.core.advantages import Columns, sequence_divergence
from frpo_verl.core.divergences import DIVERGENCES
from frpo_verl.core.metrics import METRIC_NAMES, policy_clip_fractions


def batch(seed=0, rows=8, columns=13, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    lp, lr = (-torch.rand(2, rows, columns, generator=generator) * 2).to(dtype)
    entropy = torch.rand(rows, columns, generator=generator).to(dtype)
    length = torch.randint(1, columns + 1, (rows,), generator=generator)
    mask = (torch.arange(columns) < length[:, None]).long()
    outcome = torch.randn(rows, generator=generator, dtype=dtype)
    return lp, lr, entropy, mask, outcome, torch.arange(rows) // 2


def metrics(lp, lr, entropy, mask, outcome, groups, beta=0.1, **more):
    more = {"group_ids": groups, "entropy": entropy, **more}
    return frpo(outcome, lp, lr, mask, kl_coef=beta, **more).metrics


def of_delta(delta, outcome, mask, **more):
    return frpo(outcome, delta, torch.zeros_like(delta), mask, **more).metrics


def of_reference(lp, lr, mask, **more):
    return sequence_divergence(Columns(lp, lr, mask, **more), DIVERGENCES["js"])[1]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("divergence", ["reverse_kl", "reverse_kl_k3"])
def test_every_number_against_loops(gaps, divergence):
    lp, lr, entropy, mask, outcome, groups = batch()
    row, wide = DIVERGENCES[divergence], (lp, lr, entropy, mask)
    if gaps:  # the same tokens with masked ones between them
        place = torch.rand(8, 20, generator=torch.Generator().manual_seed(9)).argsort(-1)[:, :13].sort(-1).values
        wide = [torch.full((8, 20), 0, dtype=x.dtype).scatter(1, place, x) for x in wide]
    got = metrics(*wide, outcome, groups, other_log_prob=wide[1], divergence=row)
    k1, k3, ent, firsts, reg, outcomes = [], [], [], [], [], []
    quarter = {q: ([], []) for q in range(4)}
    for i, n in enumerate(mask.sum(1).tolist()):
        delta = (lp - lr)[i, :n]
        firsts.append(delta.sum().item())
        for t in range(n):
            k1.append(delta[t].item())
            k3.append((torch.exp(-delta[t]) - 1 + delta[t]).item())
            ent.append(entropy[i, t].item())
            reg.append(0.1 * (row.slope(delta[t]) + row.cost(delta[t + 1 :]).sum()).item())
            outcomes.append(outcome[i].item())
            quarter[4 * t // n][0].append(k1[-1])
            quarter[4 * t // n][1].append(ent[-1])
    expected = {
        "frpo/kl_to_ref/k1": mean(k1), "frpo/kl_to_ref/k3": mean(k3), "frpo/kl_to_go/first_token/mean": mean(firsts),
        "frpo/kl_to_go/first_token/max": max(firsts), "frpo/regularizer_share": mean(map(abs, reg)) / mean(map(abs, outcomes)),
        "frpo/sign_flip_frac": mean((a - x) * a < 0 for a, x in zip(outcomes, reg, strict=True)),
        **{f"frpo/kl_by_position/q{q + 1}": mean(quarter[q][0]) for q in range(4)},
        **{f"frpo/entropy_by_position/q{q + 1}": mean(quarter[q][1]) for q in range(4)},
        "frpo/log_ratio_clip_frac": 0.0, "frpo/zero_variance_groups": 0.0,
        "frpo/rollout_log_prob_diff_max": max(abs(x) for x in k1),
    }  # fmt: skip
    assert got == pytest.approx(expected, rel=1e-9)
    assert all(type(v) is float for v in got.values())
    of_the_regularizer = {"frpo/regularizer_share", "frpo/sign_flip_frac", "frpo/rollout_log_prob_diff_max"}
    lp, lr, entropy, mask = wide
    rest = of_reference(lp, lr, mask, group_ids=groups, scores=outcome, entropy=entropy)
    assert rest == pytest.approx({k: v for k, v in expected.items() if k not in of_the_regularizer}, rel=1e-9)
    assert "frpo/zero_variance_groups" not in of_reference(lp, lr, mask, group_ids=groups)


def test_nothing_valid_reports_only_the_clip_share():
    x, mask = torch.zeros(2, 3), torch.zeros(2, 3)
    assert of_delta(x, torch.zeros(2), mask, group_ids=[0, 0]) == {"frpo/log_ratio_clip_frac": 0.0}
    empty = torch.zeros(2, 0)
    assert list(of_delta(empty, torch.zeros(2), empty, group_ids=[0, 0])) == ["frpo/log_ratio_clip_frac"]
    assert of_reference(x, x, mask, group_ids=[0, 0], scores=torch.zeros(2)) == {"frpo/log_ratio_clip_frac": 0.0}


def test_the_clipped_share_counts_response_tokens():
    delta = torch.tensor([[21.0, 5.0, -30.0, 99.0], [20.0, -20.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    assert of_delta(delta, torch.zeros(2), mask)["frpo/log_ratio_clip_frac"] == pytest.approx(2 / 7)
    assert of_delta(delta, torch.zeros(2), mask, log_ratio_clip=4.0)["frpo/log_ratio_clip_frac"] == pytest.approx(5 / 7)


def test_a_nan_of_another_engine_shows():
    x, other = torch.zeros(300, 1000), torch.zeros(300, 1000)
    other[0, 3], other[299, 0] = math.nan, 5.0  # in the first and in the last chunk
    assert math.isnan(of_delta(x, torch.zeros(300), torch.ones(300, 1000), other_log_prob=other)[
        "frpo/rollout_log_prob_diff_max"
    ])  # fmt: skip


def test_zero_variance_groups_is_a_share_of_groups_of_two_or_more():
    x, mask = torch.zeros(9, 2), torch.ones(9, 2)
    mask[8] = 0
    groups = torch.tensor([4, 4, 4, 7, 7, 1, 2, 2, 2])  # row 8 is a pad row, group 1 has one response
    outcome = torch.tensor([0.3, 0.3, 0.3, -1.0, 1.0, 5.0, 2.0, 2.0, -9.0])
    kind = {"group_ids": groups}
    assert of_delta(x, outcome, mask, **kind)["frpo/zero_variance_groups"] == pytest.approx(2 / 3)
    per_token = outcome[:, None].expand(9, 2)
    assert of_delta(x, per_token, mask, **kind)["frpo/zero_variance_groups"] == pytest.approx(2 / 3)
    scores = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    got = of_delta(x, outcome, mask, scores=scores, **kind)
    assert got["frpo/zero_variance_groups"] == pytest.approx(1 / 3)
    alone = of_delta(x[:1], outcome[:1], mask[:1], group_ids=groups[:1])
    assert "frpo/zero_variance_groups" not in alone


def test_share_is_left_out_without_an_outcome_and_entropy_without_entropy():
    lp, lr, entropy, mask, outcome, groups = batch(2)
    got = metrics(lp, lr, None, mask, torch.zeros_like(outcome), groups)
    assert "frpo/regularizer_share" not in got and got["frpo/zero_variance_groups"] == 1.0
    assert not any("entropy" in name for name in got)
    one = metrics(lp[:, :1], lr[:, :1], entropy[:, :1], mask[:, :1], outcome, groups)
    assert "frpo/kl_by_position/q1" in one and "frpo/kl_by_position/q2" not in one


def test_names_are_the_documented_ones():
    lp = batch(3)[0]
    got = metrics(*batch(3), other_log_prob=lp)
    clip = policy_clip_fractions(torch.ones(1, 2), torch.tensor([[1.0, -1.0]]), torch.ones(1, 2), 0.2, 0.2)
    assert set(got) | set(clip) == set(METRIC_NAMES)


def test_half_precision_agrees_with_float64():
    exact = metrics(*batch(4))
    low = metrics(*[x.to(torch.float32) if x.is_floating_point() else x for x in batch(4)])
    assert low == pytest.approx(exact, rel=1e-4, abs=1e-6)


def test_clip_fractions_by_sign():
    ratio = torch.tensor([[1.5, 1.1, 0.5, 1.5, 0.5, 0.7, math.nan]])
    adv = torch.tensor([[1.0, 1.0, 1.0, -1.0, -1.0, -1.0, 1.0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 0]])
    got = policy_clip_fractions(ratio, adv, mask, low=0.2, high=0.28)
    assert got == {
        "frpo/policy_clip_frac/positive_advantage": pytest.approx(1 / 3),
        "frpo/policy_clip_frac/negative_advantage": pytest.approx(2 / 3),
    }
    assert list(policy_clip_fractions(ratio, adv.abs(), mask, 0.2, 0.28)) == [
        "frpo/policy_clip_frac/positive_advantage"
    ]


def test_shapes_are_asserted():
    x, mask = torch.zeros(2, 3), torch.ones(2, 3)
    with pytest.raises(ValueError, match="ratio"):
        policy_clip_fractions(x, x[:1], mask, 0.2, 0.2)
