"""The registered advantage estimators: verl's batch in, the core's arithmetic, token advantages out.

    A_t = A_outcome - beta * reg_t

The outcome term is verl's own `grpo` (its group statistics, its rule for sessions with several outputs); the
regulariser is `frpo_verl.advantages`. With `kl_coef: 0` verl's result is returned untouched.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from verl.trainer.ppo import core_algos

from .. import advantages as core
from .. import diagnostics, names
from ..config import FrpoConfig
from ..masking import keep
from . import context
from .checks import refuse_if_troubled


def group_ids(index) -> torch.Tensor:
    """Prompt ids of any kind -> integers 0..n-1, shape (B,)."""
    return torch.from_numpy(np.unique(np.asarray(index, dtype=str), return_inverse=True)[1].reshape(-1))


def _columns(batch, non_tensor_batch):
    """The batch that came with the call, or else the one that the wrap of `compute_advantage` keeps."""
    call = context.current_advantage_call()
    if batch is None and call is not None:
        return call.data.batch, call.data.non_tensor_batch
    return batch, non_tensor_batch


def _log_probs(batch, estimator: str):
    if batch is None:
        raise RuntimeError(
            f"adv_estimator={estimator} was called without the batch: the plugin is not loaded in this process "
            "(run `python -m frpo_verl doctor`), or this trainer does not go through verl's compute_advantage"
        )
    for key, cure in (
        ("old_log_probs", "recompute them (algorithm.rollout_correction.bypass_mode=false)"),
        ("ref_log_prob", "the reference model is not running: the plugin must be loaded where the trainer starts"),
    ):
        if key not in batch.keys():
            raise RuntimeError(f"adv_estimator={estimator} needs {key!r} in the batch and it is missing: {cure}")
    return batch["old_log_probs"], batch["ref_log_prob"]


def _refuse_placeholder(old, ref, mask, estimator: str) -> None:
    valid_ref, valid_old = keep(ref, mask), keep(old, mask)
    if not bool(valid_ref.any()) and bool(valid_old.any()):
        raise RuntimeError(
            f"adv_estimator={estimator}: ref_log_prob is 0 on every token, a placeholder and not a reference; "
            "check that the reference model is loaded (actor_rollout_ref.ref)"
        )


def outcome_advantage(rewards, mask, index, config) -> torch.Tensor:
    """verl's `grpo` advantage of these token rewards, session rule included, shape (B, T)."""
    norm_by_std = config.get("norm_adv_by_std_in_grpo", True) if config is not None else True
    call = context.current_advantage_call()
    if call is not None and call.multi_trajectories is not None:
        data = call.data.select(deepcopy=False)
        data.batch = data.batch.clone(recurse=False)
        data.batch["token_level_rewards"] = rewards
        result = call.multi_trajectories(
            data,
            batch_keys=call.batch_keys,
            adv_estimator=core_algos.AdvantageEstimator.GRPO,
            norm_adv_by_std_in_grpo=norm_by_std,
            config=config,
        )
        return result.batch["advantages"]
    return core_algos.compute_grpo_outcome_advantage(
        token_level_rewards=rewards, response_mask=mask, index=index, norm_adv_by_std_in_grpo=norm_by_std
    )[0]


def _nonfinite_rows(old, ref, mask, index, settings: FrpoConfig, estimator: str) -> torch.Tensor:
    """Rows with NaN or inf on a valid token, (B,) bool; raises instead unless `on_nonfinite: zero_row`."""
    found = core.find_nonfinite(old, ref, mask)
    if settings.on_nonfinite == "raise":
        name, row, position = found[0]
        uid = "" if index is None else f", uid {index[row]}"
        raise FloatingPointError(
            f"adv_estimator={estimator}: {name} is not finite at row {row}{uid}, response position {position} "
            f"({len(found)} such values); a reverse sum would spread it over the whole prefix. "
            "Set algorithm.frpo.on_nonfinite=zero_row to drop such responses, or find the cause in the actor"
        )
    rows = torch.zeros(old.shape[0], dtype=torch.bool, device=old.device)
    rows[[row for _, row, _ in found]] = True
    return rows


def _step_starts(settings: FrpoConfig, mask, batch):
    if settings.step == "token":
        return None
    from .. import steps

    if settings.step == "length":
        return steps.step_starts_by_length(mask, int(settings.step_length))
    from .step_text import response_ids

    ids, decode = response_ids(batch, mask)
    return steps.step_starts_by_newline(ids, mask, decode)


def _session_ids() -> torch.Tensor | None:
    """Rows of one session are one answer in several outputs: they may not be each other's baseline."""
    call = context.current_advantage_call()
    if call is None or call.batch_keys is None:
        return None
    return group_ids([key.rsplit("_", 1)[0] for key in call.batch_keys])


def _entropy(batch):
    call = context.current_advantage_call()
    if "entropy" in batch.keys():
        return batch["entropy"]
    if call is not None and call.fetch is not None:
        return call.fetch(["entropy"]).get("entropy")
    return None


def frpo_advantage(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    config=None,
    index=None,
    batch=None,
    non_tensor_batch=None,
    *,
    estimator: str = "frpo",
    **_unused,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token advantages of `adv_estimator=frpo*`, registered in verl's `core_algos`.

    token_level_rewards, response_mask: (B, T). Returns (advantages, returns), both (B, T), as verl expects.
    Raises ConfigError for settings, RuntimeError for a batch without log-probs, FloatingPointError for NaN and inf.
    Source: arXiv 2601.10201, Theorem 4.1 and Eq. 5.1.
    """
    refuse_if_troubled()
    settings = FrpoConfig.parse((config or {}).get("frpo"), estimator)
    if settings.kl_coef == 0:
        outcome = outcome_advantage(token_level_rewards, response_mask, index, config)
        return outcome, outcome
    batch, non_tensor_batch = _columns(batch, non_tensor_batch)
    old, ref = _log_probs(batch, estimator)
    mask = response_mask.bool()
    with torch.no_grad():
        delta, clipped = core.log_ratio(old, ref, mask, clip=settings.log_ratio_clip)
        bad_rows = None
        if not bool(torch.isfinite(delta.sum())):  # log_ratio keeps a valid NaN or inf as NaN
            bad_rows = _nonfinite_rows(old, ref, mask, index, settings, estimator)
            mask = keep(mask, ~bad_rows.unsqueeze(-1).expand_as(mask))
            delta, clipped = core.log_ratio(old, ref, mask, clip=settings.log_ratio_clip)
        _refuse_placeholder(old, ref, mask, estimator)
        groups = None if index is None else group_ids(index)
        row = dict(divergence=settings.divergence, alpha=settings.alpha)
        if settings.placement == "reward":
            advantages, regularizer = _kl_in_reward(token_level_rewards, delta, mask, index, config, settings, row)
            outcome = outcome_advantage(token_level_rewards, mask, index, config)
        else:
            outcome = outcome_advantage(token_level_rewards, mask, index, config)
            regularizer = core.regularizer(
                delta,
                mask,
                placement=settings.placement,
                discount=settings.discount,
                step_start=_step_starts(settings, mask, batch),
                group_ids=groups,
                baseline=settings.baseline,
                session_ids=_session_ids(),
                **row,
            )
        metrics = diagnostics.regularizer_metrics(
            delta,
            regularizer,
            outcome,
            mask,
            beta=settings.kl_coef,
            clip_frac=clipped,
            scores=token_level_rewards.sum(dim=-1),
            group_ids=groups,
            entropy=_entropy(batch),
        )
        if settings.placement != "reward":
            advantages = core.token_advantages(outcome, regularizer, mask, kl_coef=settings.kl_coef, out=regularizer)
            advantages = advantages.to(outcome.dtype)
        if settings.on_nonfinite == "zero_row":
            metrics["frpo/nonfinite_rows"] = 0 if bad_rows is None else int(bad_rows.sum())
        if "rollout_log_probs" in batch.keys():  # the engine's mismatch: what bypass mode would sum over every answer
            difference = keep(old.float() - batch["rollout_log_probs"].float(), mask)
            metrics["frpo/rollout_log_prob_diff_max"] = float(difference.abs().max())
        context.log_metrics(metrics)
    return advantages, advantages


def _kl_in_reward(rewards, delta, mask, index, config, settings: FrpoConfig, row: dict):
    """Placement `reward`: each response's divergence leaves its score before verl normalises the group."""
    cost = core.sequence_divergence(delta, mask, **row).to(rewards.dtype)
    last = mask.shape[-1] - 1 - mask.bool().flip(-1).to(torch.int8).argmax(dim=-1)
    with_kl = rewards.clone()
    rows = torch.arange(rewards.shape[0], device=rewards.device)
    with_kl[rows, last] -= settings.kl_coef * cost
    advantages = outcome_advantage(with_kl, mask, index, config)
    return advantages, keep(cost.unsqueeze(-1).expand_as(mask), mask)


def register_estimators(module) -> None:
    """Put every estimator of ours into verl's registry (again is harmless)."""
    from .estimators_rest import f_hal_advantage, rpg_batch_mean_advantage

    functions = {name: functools.partial(frpo_advantage, estimator=name) for name in names.FRPO_ESTIMATORS}
    functions["f_hal"] = functools.partial(f_hal_advantage)
    functions["rpg_batch_mean"] = functools.partial(rpg_batch_mean_advantage)
    for name, function in functions.items():
        if getattr(module.ADV_ESTIMATOR_REGISTRY.get(name), "frpo_verl", False):
            continue
        function.frpo_verl = True
        module.register_adv_est(name)(function)


__all__ = ["frpo_advantage", "group_ids", "register_estimators"]
