"""Estimators beside FRPO's: f-HAL's signed weights and RPG's batch-mean baseline, and f-GRPO's softmax weights."""

from __future__ import annotations

import torch

from ..config import FHalConfig, from_mapping
from ..losses import baseline_advantage, signed_weights, softmax_weights
from ..losses.terms import row_value
from ..masking import keep, masked_sum
from . import context
from .checks import loss_section_of, refuse_if_troubled
from .estimators import group_ids, outcome_advantage
from .reference_metrics import log_reference


def _preference_sign(rows: int) -> torch.Tensor:
    """(B,) 1 for a chosen, -1 for a rejected recorded answer, 0 for an answer of the policy."""
    call = context.current_advantage_call()
    if call is None or call.fetch_objects is None:
        raise RuntimeError("adv_estimator=f_hal runs in verl's V1 trainer only: set trainer.use_v1=true")
    fields = call.fetch_objects("extra_fields")
    if len(fields) != rows:
        raise RuntimeError(f"adv_estimator=f_hal: {len(fields)} rows of extra_fields for {rows} responses")
    return torch.tensor([int((f or {}).get("preference", 0) or 0) for f in fields])


def _spread(rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return keep(rows.unsqueeze(-1).expand(mask.shape), mask)


def f_hal_advantage(token_level_rewards, response_mask, config=None, index=None, **_unused):
    """`adv_estimator=f_hal`: signed weights for `loss_mode=f_grpo`, see `frpo_verl.losses.signed_weights`.

    On-policy rows: verl's grpo advantage times 1 - lambda. Recorded pairs: +lambda (chosen), -lambda (rejected).
    token_level_rewards, response_mask: (B, T). Source: arXiv 2602.05946.
    """
    refuse_if_troubled()
    settings = from_mapping(FHalConfig, (config or {}).get("f_hal"), "algorithm.f_hal")
    mask = response_mask.bool()
    outcome = outcome_advantage(token_level_rewards, response_mask, index, config)
    sign = _preference_sign(mask.shape[0])
    loss = loss_section_of(context.PROCESS.run_config)
    # pad rows have no token and a group of their own; a pad row copies a real row's fields, its mask tells
    valid = mask.any(dim=-1)
    rows = row_value(outcome, mask, "advantages")
    if getattr(loss, "weights", "none") == "softmax":
        rows = rows * _softmax(token_level_rewards, rows, mask, index)
    weights = signed_weights(
        rows, keep(sign, valid), settings.preference_weight, getattr(loss, "beta", 0.1), valid=valid
    )
    context.log_metrics(
        {
            "frpo/f_hal/on_policy_rows": int((valid & (sign == 0)).sum()),
            "frpo/f_hal/chosen_rows": int((valid & (sign > 0)).sum()),
            "frpo/f_hal/rejected_rows": int((valid & (sign < 0)).sum()),
        }
    )
    log_reference(context.current_advantage_call().data, rows=sign == 0)  # recorded answers say nothing of the policy
    advantages = _spread(weights, mask).to(token_level_rewards.dtype)
    return advantages, advantages


def rpg_batch_mean_advantage(token_level_rewards, response_mask, config=None, index=None, **_unused):
    """`adv_estimator=rpg_batch_mean`: R minus the mean of R over the batch (RPG's algorithm boxes); (B, T).

    The group mean of the authors' scripts is verl's `grpo` with `norm_adv_by_std_in_grpo=false`.
    """
    refuse_if_troubled()
    mask = response_mask.bool()
    scores = token_level_rewards.sum(dim=-1)
    advantages = _spread(baseline_advantage(scores, None, "batch_mean", valid=mask.any(dim=-1)), mask)
    return advantages.to(token_level_rewards.dtype), advantages.to(token_level_rewards.dtype)


def _softmax(rewards, rows, mask, index) -> torch.Tensor:
    call = context.current_advantage_call()
    old = call.data.batch["old_log_probs"]
    return softmax_weights(rewards.sum(dim=-1), masked_sum(old, mask, dim=-1), rows, group_ids(index))


def apply_softmax_weights(data) -> None:
    """f-GRPO's `weights: softmax` on the advantages of a batch of whole groups, in place of its loss.

    The weights compare the answers of a group; a micro-batch in a worker may hold half of it.
    """
    mask = data.batch["response_mask"].bool()
    rows = row_value(data.batch["advantages"], mask, "advantages")
    with context.advantage_call(context.AdvantageCall(data=data)):
        weights = _softmax(data.batch["token_level_rewards"], rows, mask, data.non_tensor_batch["uid"])
    data.batch["advantages"] = _spread(rows * weights, mask).to(data.batch["advantages"].dtype)
