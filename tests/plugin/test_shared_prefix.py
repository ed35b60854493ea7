"""What a group's answers do to a prefix that all of them share: the outcome cancels where every answer has one weight."""

import pytest
import torch
from loss_batch import actor_config, micro_batch
from verl.workers.utils.losses import ppo_loss

from frpo_verl.core.groups import group_advantages

VOCABULARY, SHARED, LENGTHS = 5, 3, (3, 4, 7, 9)
EQUAL = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm")


def prefix_gradient(agg: str, loss_mode: str, kl_coef: float = 0.0) -> torch.Tensor:
    """Gradient of one group's loss in the logits of the shared prefix; answers of four lengths, two of them right."""
    g = torch.Generator().manual_seed(0)
    prefix = torch.randn(SHARED, VOCABULARY, generator=g, dtype=torch.float64, requires_grad=True)
    shared = torch.randint(VOCABULARY, (SHARED,), generator=g)
    tails = [torch.randn(length - SHARED, VOCABULARY, generator=g, dtype=torch.float64) for length in LENGTHS]
    advantages = group_advantages(torch.tensor([1.0, 0.0, 1.0, 0.0]).double(), torch.zeros(4))
    rows, flat = [], []
    for tail, advantage in zip(tails, advantages, strict=True):
        tokens = torch.cat([shared, torch.randint(VOCABULARY, (len(tail),), generator=g)])
        log_p = torch.log_softmax(torch.cat([prefix, tail]), -1).gather(-1, tokens[:, None])[:, 0]
        drift = 0.3 * torch.randn(len(tokens), generator=g, dtype=torch.float64)
        kl_to_go = drift.flip(0).cumsum(0).flip(0)
        rows.append(
            {"tokens": tokens, "old_log_probs": log_p.detach(), "ref_log_prob": log_p.detach() - drift,
             "advantages": advantage - kl_coef * kl_to_go, "response_mask": torch.ones(len(tokens), dtype=torch.long)}
        )  # fmt: skip
        flat.append(torch.cat([log_p.new_zeros(1), log_p, log_p.new_zeros(1)]))
    config = actor_config(policy_loss={"loss_mode": loss_mode}, loss_agg_mode=agg, loss_scale_factor=16)
    loss, _ = ppo_loss(config, {"log_probs": torch.cat(flat)}, micro_batch(rows, sum(LENGTHS), len(rows)))
    return torch.autograd.grad(loss, prefix)[0]


@pytest.mark.parametrize("loss_mode", ["vanilla", "atr_grpo", "rpg_urkl"])
@pytest.mark.parametrize("agg", [*EQUAL, "seq-mean-token-mean"])
def test_the_outcome_cancels_on_it_but_not_where_short_answers_weigh_more(agg, loss_mode):
    """sum_i A_i c_i with c_i the weight of a token of answer i: 0 for equal c_i, since the A_i of a group sum to 0."""
    norm = prefix_gradient(agg, loss_mode).norm()
    assert norm < 1e-12 if agg in EQUAL else norm > 1e-2


@pytest.mark.parametrize("agg", EQUAL)
def test_the_kl_to_go_stays(agg):
    assert prefix_gradient(agg, "vanilla", kl_coef=0.1).norm() > 1e-4
