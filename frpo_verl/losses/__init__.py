"""Policy losses: tensors in, unreduced losses and metrics out."""

from frpo_verl.losses.clipping import (
    divergence_clip_loss,
    kl3_bounds,
    kl3_delta_for_lower,
    kl3_delta_for_upper,
    ratio_bounds,
)
from frpo_verl.losses.f_grpo import f_grpo_loss, signed_weights, softmax_weights
from frpo_verl.losses.local_kl import local_kl
from frpo_verl.losses.rpg import baseline_advantage, rpg_loss
from frpo_verl.losses.terms import LossTerms

__all__ = [
    "LossTerms",
    "baseline_advantage",
    "divergence_clip_loss",
    "f_grpo_loss",
    "kl3_bounds",
    "kl3_delta_for_lower",
    "kl3_delta_for_upper",
    "local_kl",
    "ratio_bounds",
    "rpg_loss",
    "signed_weights",
    "softmax_weights",
]
