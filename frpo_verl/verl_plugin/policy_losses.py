"""The registered policy losses: verl's micro-batch in, the core's unreduced loss, verl's aggregation out.

verl's `agg_loss` divides by the token and sequence counts of the whole mini-batch (`config.global_batch_info`), so the
way a mini-batch is cut into micro-batches changes nothing. A sequence loss is put on the response's first token and
aggregated by `seq-mean-token-sum`, whatever `loss_agg_mode` says.
"""

from __future__ import annotations

import functools

import torch
from verl.trainer.ppo import core_algos

from .. import advantages as core
from .. import names
from ..diagnostics import policy_clip_fractions
from ..losses import LossTerms, divergence_clip_loss, f_grpo_loss, rpg_loss
from ..losses.terms import row_value
from ..masking import keep
from . import context
from .checks import refuse_if_troubled
from .loss_config import section


def _column(name: str, loss_mode: str) -> torch.Tensor:
    data = context.current_loss_call()
    if data is None or name not in data.keys():
        raise RuntimeError(
            f"loss_mode={loss_mode} needs {name!r} in the micro-batch and it is missing: the plugin must be loaded in "
            "the workers and where the trainer starts (run `python -m frpo_verl doctor`)"
        )
    return data.select(name).to_padded_tensor()[name]


def _reference(loss_mode: str, mask: torch.Tensor) -> torch.Tensor:
    ref = _column("ref_log_prob", loss_mode)
    if bool(mask.any()) and not bool(keep(ref, mask).any()):
        raise RuntimeError(
            f"loss_mode={loss_mode}: ref_log_prob is 0 on every token, a placeholder and not a reference; check that "
            "the reference model is loaded (actor_rollout_ref.ref)"
        )
    return ref


def _aggregate(terms: LossTerms, mask, loss_agg_mode: str, config, rollout_is_weights) -> torch.Tensor:
    if terms.sequence_loss is None:
        loss = terms.token_loss
        if rollout_is_weights is not None:
            loss = loss * keep(rollout_is_weights, mask)
        return core_algos.agg_loss(
            loss_mat=loss, loss_mask=mask, loss_agg_mode=loss_agg_mode, **config.global_batch_info
        )
    loss = terms.sequence_loss
    if rollout_is_weights is not None:
        loss = loss * row_value(rollout_is_weights, mask.bool(), "rollout_is_weights")
    first = mask.bool().to(torch.int8).argmax(dim=-1, keepdim=True)
    spread = torch.zeros_like(mask, dtype=loss.dtype).scatter(-1, first, loss.unsqueeze(-1))
    return core_algos.agg_loss(
        loss_mat=spread, loss_mask=mask, loss_agg_mode="seq-mean-token-sum", **config.global_batch_info
    )


def _rpg(loss_mode: str, log_prob, old_log_prob, advantages, mask, config) -> LossTerms:
    s = section(config.policy_loss, "rpg")
    return rpg_loss(
        log_prob,
        old_log_prob,
        advantages,
        mask,
        variant=loss_mode.rsplit("_", 1)[1],
        reinforce=loss_mode.startswith("rpg_rf_"),
        kl_coef=s.kl_coef,
        level=s.level,
        ref_log_prob=_reference(loss_mode, mask) if s.reference == "ref" else None,
        clip_low=s.clip_low,
        clip_high=s.clip_high,
        dual_clip_c=s.dual_clip_c,
    )


def _clip(loss_mode: str, log_prob, old_log_prob, advantages, mask, config) -> LossTerms:
    s = section(config.policy_loss, "clip")
    return divergence_clip_loss(
        log_prob, old_log_prob, advantages, mask, measure=s.measure, delta=s.delta, dual_clip_c=config.clip_ratio_c
    )


def _f_grpo(loss_mode: str, log_prob, old_log_prob, advantages, mask, config) -> LossTerms:
    s = section(config.policy_loss, "f_grpo")
    return f_grpo_loss(
        log_prob,
        old_log_prob,
        _reference(loss_mode, mask),
        advantages,
        mask,
        divergence=s.divergence,
        beta=s.beta,
        weights="none",  # softmax weights need whole groups: the driver has put them into the advantages
        length_normalize=s.length_normalize,
    )


FAMILIES = {"rpg": _rpg, "clip": _clip, "f_grpo": _f_grpo}


def policy_loss(
    old_log_prob: torch.Tensor,
    log_prob: torch.Tensor,
    advantages: torch.Tensor,
    response_mask: torch.Tensor,
    loss_agg_mode: str = "token-mean",
    config=None,
    rollout_is_weights: torch.Tensor | None = None,
    *,
    loss_mode: str,
):
    """A policy loss of ours under verl's signature; all tensors (B, T). Returns (loss, metrics)."""
    refuse_if_troubled()
    family = FAMILIES[names.section_of_loss(loss_mode)]
    terms = family(loss_mode, log_prob, old_log_prob, advantages, response_mask, config)
    loss = _aggregate(terms, response_mask, loss_agg_mode, config, rollout_is_weights)
    return loss, {name: float(value) for name, value in terms.metrics.items()}


CLIP_FRACTIONS = {f"frpo/policy_clip_frac/{sign}_advantage": 0.0 for sign in ("positive", "negative")}


def clip_widths(config) -> tuple[float, float]:
    """How far verl's vanilla loss lets the ratio go below and above 1."""
    low, high = config.clip_ratio_low, config.clip_ratio_high
    return (config.clip_ratio if low is None else low), (config.clip_ratio if high is None else high)


def frpo_policy_loss(
    old_log_prob, log_prob, advantages, response_mask, loss_agg_mode="token-mean", config=None, rollout_is_weights=None
):
    """`loss_mode: frpo`: verl's vanilla loss on A - beta * KL-to-go of the current policy.

        A_t = sg[ A_outcome - beta * reg_t(pi_theta, ref) ],  then PPO's clipped surrogate with rho = pi_theta/pi_old

    Differs from the paper (arXiv 2601.10201), whose term is frozen at the rollout; with one update per rollout the two
    are equal.
    """
    refuse_if_troubled()
    s = section(config.policy_loss, "frpo")
    metrics: dict[str, float] = {}
    if s.kl_coef > 0:
        with torch.no_grad():
            delta, clipped = core.log_ratio(
                log_prob.detach(), _reference("frpo", response_mask), response_mask, clip=s.log_ratio_clip
            )
            row = dict(divergence=s.divergence, alpha=s.alpha)
            regularizer = core.regularizer(delta, response_mask, placement="future", **row)
            advantages = core.token_advantages(advantages, regularizer, response_mask, kl_coef=s.kl_coef)
            count = response_mask.bool().sum().clamp(min=1)
            metrics["frpo/loss_kl_to_ref"] = float(delta.sum() / count)
            metrics["frpo/loss_log_ratio_clip_frac"] = float(clipped)
    with torch.no_grad():
        ratio = (log_prob.detach().float() - old_log_prob.float()).clamp(-20, 20).exp()
        fractions = CLIP_FRACTIONS | policy_clip_fractions(ratio, advantages, response_mask, *clip_widths(config))
    loss, vanilla = core_algos.get_policy_loss_fn("vanilla")(
        old_log_prob=old_log_prob,
        log_prob=log_prob,
        advantages=advantages,
        response_mask=response_mask,
        loss_agg_mode=loss_agg_mode,
        config=config,
        rollout_is_weights=rollout_is_weights,
    )
    return loss, {**vanilla, **fractions, **metrics}


def register_policy_losses(module) -> None:
    """Put every loss of ours into verl's registry (again is harmless)."""
    for name in names.POLICY_LOSSES:
        if getattr(module.POLICY_LOSS_REGISTRY.get(name), "frpo_verl", False):
            continue
        function = (
            functools.partial(policy_loss, loss_mode=name) if name != "frpo" else functools.partial(frpo_policy_loss)
        )
        function.frpo_verl = True
        module.register_policy_loss(name)(function)
