"""FRPO inside the loss: the KL-to-go recomputed from the current policy in every update."""

from __future__ import annotations

import torch

from frpo_verl.core.divergences import Divergence
from frpo_verl.core.losses.terms import LossInputs
from frpo_verl.core.regularizers import Regularizer, regularizer
from frpo_verl.core.tokens import keep, read_tokens
from frpo_verl.methods import ranges

__all__ = ["frpo_loss_advantages"]


@torch.no_grad()
def frpo_loss_advantages(
    inputs: LossInputs, *, kl_coef: float, divergence: Divergence, log_ratio_clip: float = 20.0
) -> tuple[torch.Tensor, dict[str, float]]:
    """The advantages of the inputs minus beta times the KL-to-go of the current policy.

        A_t <- A_t - beta * reg_t(pi_theta, ref)

    Args:
        inputs: with ref_log_prob; their advantages are those before the regulariser.
        kl_coef: beta >= 0.
        divergence: a row of the divergence table, or one's own.
        log_ratio_clip: bound of |log w| in nats.

    Returns:
        advantages: (B, T) without gradient, 0 off the mask. NaN on the response tokens of a row with a NaN or infinite
            log-prob: a loss must not hide it.
        metrics: frpo/loss_kl_to_ref, mean log pi/ref over response tokens, and frpo/loss_log_ratio_clip_frac.

    Raises:
        ValueError: no reference, or numbers out of their range.

    Source: arXiv 2601.10201, Eq. 5.1. Differs from the paper, whose term is frozen at the rollout; with one update per
    rollout the two are equal.
    """
    if inputs.ref_log_prob is None:
        raise ValueError("ref_log_prob is missing: the regulariser compares the policy with a reference")
    ranges.KL_COEF.check("kl_coef", kl_coef)
    tokens = read_tokens(inputs.log_prob, inputs.ref_log_prob, inputs.mask, clip=log_ratio_clip)
    advantages = inputs.advantages - kl_coef * regularizer(tokens, Regularizer(divergence))
    if tokens.bad_rows is not None:
        advantages = keep(advantages, ~(tokens.bad_rows[:, None] & inputs.mask), fill=torch.nan)
    count = max(int(tokens.valid.sum()), 1)
    metrics = {
        "frpo/loss_kl_to_ref": float(tokens.delta.sum()) / count,
        "frpo/loss_log_ratio_clip_frac": tokens.clipped / count,
    }
    return advantages, metrics
