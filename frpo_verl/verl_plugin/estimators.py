"""The registered advantage estimators: verl's batch in, the core's arithmetic, token advantages out.

    A_t = A_outcome - beta * reg_t

The outcome term is that of verl's `grpo`, without its loop over the rows, and verl's own rule for sessions with several
outputs; the regulariser is `frpo_verl.core.advantages`. With `kl_coef: 0` verl's result is returned untouched.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch

from .. import methods
from ..core.advantages import regularized_advantages, sequence_divergence
from ..core.losses.f_grpo import signed_weights, softmax_weights
from ..core.losses.terms import row_value
from ..core.metrics import outcome_shift
from ..core.outcomes import batch_mean_advantages, corpo_advantages, maxrl_advantages
from ..core.regularizers import Regularizer
from ..core.steps import steps_by_length, steps_by_newline
from ..core.tokens import Columns, float_dtype, keep
from ..custom import load_divergence
from ..methods.settings import CorpoSettings, FGrpoSettings, FHalSettings, FrpoSettings
from . import steering
from .batch import Batch, current_batch
from .columns import clean
from .health import require
from .hooks import say_once
from .outcomes import by_answer, grpo_rows, grpo_tokens, of_groups, outcome_of
from .run import Run, plain


def estimate(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    config: Any = None,
    index: Any = None,
    batch: Any = None,
    non_tensor_batch: Any = None,
    *,
    method: methods.Method,
    **_unused: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """An estimator of the table under verl's signature; returns (advantages, returns), both (B, T)."""
    require()
    settings = None
    if method.section is not None:
        settings = method.parse(plain((config or {}).get(method.section.KEY.rsplit(".", 1)[1])))
    view = current_batch()
    judged = view is not None
    if view is None or len(view.mask) != len(response_mask):  # without the trainer's function, or a batch of its own
        columns = batch if batch is not None else {"response_mask": response_mask}
        objects = non_tensor_batch if non_tensor_batch is not None else {} if index is None else {"uid": index}
        data = SimpleNamespace(batch=columns, non_tensor_batch=objects)
        view = Batch(data, Run.of_algorithm(config), from_trainer=batch is not None)
    norm = config.get("norm_adv_by_std_in_grpo", True) if config is not None else True
    rewards = token_level_rewards.to(float_dtype(token_level_rewards))  # whole rewards have advantages in between
    with nullcontext() if judged else clean(view):
        mask = response_mask if judged else view.mask
        advantages = method.load_adapter()(view, rewards, mask, settings, norm)
    return advantages, advantages if view.returns is None else view.returns


def _spread(rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return keep(rows.unsqueeze(-1).expand(mask.shape), mask)


# ------------------------------------------------------------------------------------------------ frpo


def frpo(view: Batch, rewards: torch.Tensor, mask: torch.Tensor, s: FrpoSettings, norm: bool) -> torch.Tensor:
    """`adv_estimator=frpo*`: A - beta * reg_t, see `frpo_verl.core.advantages`; A by `outcome`; (B, T).

    Source: arXiv 2601.10201v2, Theorem 4.1 and Eq. 5.1. Raises RuntimeError for a batch without log-probs; that these
    are finite is the business of `columns.clean`.
    """
    if s.kl_coef == 0:
        return _alone(view, rewards, mask, s, norm)
    kl_coef, columns = steering.of_step(view, s), _columns(view, rewards, mask, s)
    divergence = load_divergence(s.divergence, s.alpha)
    if s.placement == "reward":
        scores = rewards.sum(dim=-1)
        cost, found = sequence_divergence(columns, divergence, s.log_ratio_clip)
        fused = scores - kl_coef * cost.to(scores.dtype)
        before, after = (_outcome_of_scores(view, x, mask, s.outcome, norm) for x in (scores, fused))
        advantages, found = _spread(after, mask), found | outcome_shift(before, after, mask)
    else:
        if s.placement == "reward_to_go":
            scores = rewards.sum(dim=-1)
            outcome = by_answer(view, lambda last: scores[last])
        else:
            outcome = outcome_of(view, rewards, mask, s.outcome, norm)
        columns = replace(columns, outcome=outcome)
        kind = Regularizer(kl_coef, divergence, s.placement, s.discount, s.baseline, s.log_ratio_clip, norm)
        advantages, found = regularized_advantages(columns, kind)
    view.metrics.update(found, **{steering.METRIC: kl_coef})
    steering.observe(view, s)
    return advantages.to(rewards.dtype)


def _columns(view: Batch, rewards: torch.Tensor, mask: torch.Tensor, s: FrpoSettings) -> Columns:
    """What the core reads of verl's batch."""
    scores = view.optional("token_level_scores")  # rewards may hold verl's KL (`use_kl_in_reward`)
    return Columns(
        view.column("old_log_probs"),
        view.column("ref_log_prob"),
        mask,
        group_ids=view.groups,
        step_begins=_step_begins(view, mask, s),
        scores=(rewards if scores is None else scores).sum(dim=-1),
        entropy=view.optional("entropy", fetch=True),
        other_log_prob=view.optional("rollout_log_probs"),  # the engine's mismatch: bypass mode would add it up
        **view.sessions,
    )


def _step_begins(view: Batch, mask: torch.Tensor, s: FrpoSettings) -> torch.Tensor | None:
    """(B, T) bool, where a step of PRL's begins; None where every token is a step."""
    if s.step == "token":
        return None
    if s.step == "length":
        return steps_by_length(mask, int(s.step_length))
    ids = view.optional("responses", fetch=True)
    if ids is None:
        raise RuntimeError("algorithm.frpo.step=newline needs the responses and the batch has none: use step=length")
    tokenizer = view.tokenizer("algorithm.frpo.step=newline")
    return steps_by_newline(ids, mask, lambda token: tokenizer.decode([token]))


def _alone(view: Batch, rewards: torch.Tensor, mask: torch.Tensor, s: FrpoSettings, norm: bool) -> torch.Tensor:
    """The outcome without a KL; (B, T). verl's `grpo` bit for bit."""
    if s.outcome == "grpo":
        return grpo_tokens(view, rewards, mask, norm)
    outcome = outcome_of(view, rewards, mask, s.outcome, norm)
    return keep(outcome, mask) if outcome.dim() == 2 else _spread(outcome, mask)


def _outcome_of_scores(view: Batch, scores: torch.Tensor, mask: torch.Tensor, name: str, norm: bool) -> torch.Tensor:
    """(B,) the outcome of each response, whose last token is rewarded with its score."""
    last = torch.where(mask.bool(), torch.arange(mask.shape[1], device=mask.device), 0).amax(dim=-1, keepdim=True)
    rewards = scores.new_zeros(mask.shape).scatter(-1, last, scores.unsqueeze(-1))
    outcome = outcome_of(view, rewards, mask, name, norm)
    return outcome if outcome.dim() == 1 else row_value(outcome, mask.bool(), "advantages")


# ------------------------------------------------------------------------------------------------ f-HAL, RPG, f-GRPO


def f_hal(view: Batch, rewards: torch.Tensor, mask: torch.Tensor, s: FHalSettings, norm: bool) -> torch.Tensor:
    """`adv_estimator=f_hal`: signed weights for `loss_mode=f_grpo`, see `signed_weights`; (B, T).

    On-policy rows: verl's grpo advantage times 1 - lambda. Recorded pairs: +lambda (chosen), -lambda (rejected).
    Source: arXiv 2602.05946.
    """
    if view.source is None:
        raise RuntimeError("adv_estimator=f_hal runs in verl's V1 trainer only: set trainer.use_v1=true")
    fields = view.source.objects("extra_fields")
    if len(fields) != len(mask):
        raise RuntimeError(f"adv_estimator=f_hal: {len(fields)} rows of extra_fields for {len(mask)} responses")
    sign = torch.tensor([int((f or {}).get("preference", 0) or 0) for f in fields])
    # pad rows have no token and a group of their own; a pad row copies a real row's fields, its mask tells
    valid = mask.bool().any(dim=-1)
    rows = keep(grpo_rows(view, rewards.sum(dim=-1), norm), valid)
    loss = view.run.loss_settings
    if view.run.softmax_weights:
        rows = rows * _softmax(view, rewards, rows, mask)
    beta = loss.beta if isinstance(loss, FGrpoSettings) else FGrpoSettings().beta
    weights = signed_weights(rows, keep(sign, valid), s.preference_weight, beta, valid=valid)
    for name, of_kind in (("on_policy", sign == 0), ("chosen", sign > 0), ("rejected", sign < 0)):
        view.metrics[f"frpo/f_hal/{name}_rows"] = int((valid & of_kind).sum())
    if s.preference_weight > 0 and not bool((valid & (sign != 0)).any()):
        say_once(
            f"adv_estimator=f_hal: no recorded pair in this batch, so algorithm.f_hal.preference_weight="
            f"{s.preference_weight:g} weighs nothing; rows with pairs come from `python -m frpo_verl data preference`, and "
            "data.train_files must hold them beside the prompts"
        )
    view.policy_rows = sign == 0  # recorded answers say nothing of the policy
    return _spread(weights, mask).to(rewards.dtype)


def corpo(view: Batch, rewards: torch.Tensor, mask: torch.Tensor, s: CorpoSettings, norm: bool) -> torch.Tensor:
    """`adv_estimator=corpo`: r - max(threshold, group mean), see `corpo_advantages`; (B, T)."""
    scores = rewards.sum(dim=-1)
    if bool(((scores == 0) | (scores == 1)).all()) and not 0 < s.threshold < 1:
        what = "no right answer is pushed up" if s.threshold >= 1 else "it is the plain mean baseline"
        say_once(f"algorithm.corpo.threshold={s.threshold:g} with rewards of 0 and 1: {what}; set one between them")
    return of_groups(view, rewards, mask, functools.partial(corpo_advantages, threshold=s.threshold))


def maxrl(view: Batch, rewards: torch.Tensor, mask: torch.Tensor, _: None, norm: bool) -> torch.Tensor:
    """`adv_estimator=maxrl`: (r - group mean) / group mean, see `maxrl_advantages`; (B, T)."""
    return of_groups(view, rewards, mask, maxrl_advantages)


def rpg_batch_mean(view: Batch, rewards: torch.Tensor, mask: torch.Tensor, _: None, norm: bool) -> torch.Tensor:
    """`adv_estimator=rpg_batch_mean`: R minus the mean of R over the batch, see `batch_mean_advantages`; (B, T)."""
    scores, valid = rewards.sum(dim=-1), mask.bool().any(dim=-1)
    rows = by_answer(view, lambda last: batch_mean_advantages(scores[last], valid[last]))  # verl's rule for sessions
    return _spread(rows, mask).to(rewards.dtype)


def _softmax(view: Batch, rewards: torch.Tensor, rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    old = view.column("old_log_probs")
    old = keep(old, mask).sum(-1, dtype=float_dtype(old))
    return softmax_weights(rewards.sum(dim=-1), old, rows, view.groups, valid=mask.bool().any(dim=-1))


def apply_softmax_weights(data: Any) -> None:
    """f-GRPO's `weights: softmax` on the advantages of a batch of whole groups, in place of its loss.

    The weights compare the answers of a group; a micro-batch in a worker may hold half of it.
    """
    view = current_batch()
    assert view is not None, "called while the batch's advantages are computed"
    part = Batch(data, view.run)  # verl's session rule looks at a part of the rows
    mask = part.mask
    rows = row_value(data.batch["advantages"], mask.bool(), "advantages")
    weights = _softmax(part, data.batch["token_level_rewards"], rows, mask)
    data.batch["advantages"] = _spread(rows * weights, mask).to(data.batch["advantages"].dtype)
