"""FRPO inside the loss: the KL-to-go recomputed from the current policy in every update.

A_t <- A_t - beta * reg_t(pi_theta, ref)
"""

from __future__ import annotations

import torch

from frpo_verl.core.divergences import Divergence
from frpo_verl.core.losses.terms import LossInputs
from frpo_verl.core.regularizers import Regularizer, regularize
from frpo_verl.core.tokens import read_answers


@torch.no_grad()
def frpo_loss_advantages(
    inputs: LossInputs, *, kl_coef: float, divergence: Divergence, log_ratio_clip: float = 20.0
) -> tuple[torch.Tensor, dict[str, float]]:
    """The advantages of the inputs minus beta times the KL-to-go of the current policy.

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
    kind = Regularizer(kl_coef, divergence, log_ratio_clip=log_ratio_clip)
    answers = read_answers(inputs.log_prob, inputs.ref_log_prob, inputs.mask, log_ratio_clip)
    advantages = inputs.advantages - kl_coef * regularize(answers, kind)
    if answers.broken is not None:
        advantages = torch.where(answers.broken[:, None] & inputs.mask, torch.nan, advantages)
    count = max(int(answers.length.sum()), 1)
    metrics = {
        "frpo/loss_kl_to_ref": float(answers.delta.nansum()) / count,
        "frpo/loss_log_ratio_clip_frac": int(answers.clipped.sum()) / count,
    }
    return advantages, metrics
