"""Policy losses: `LossInputs` in, unreduced losses and metrics out."""

from frpo_verl.core.losses.clipping import (
    divergence_clip_loss,
    kl3_bounds,
    kl3_delta_for_lower,
    kl3_delta_for_upper,
    ratio_bounds,
)
from frpo_verl.core.losses.f_grpo import f_grpo_loss, signed_weights, softmax_weights
from frpo_verl.core.losses.frpo import frpo_loss_advantages
from frpo_verl.core.losses.local_kl import local_kl
from frpo_verl.core.losses.rpg import baseline_advantage, rpg_loss
from frpo_verl.core.losses.terms import LossInputs, LossTerms, read_loss_inputs

__all__ = [
    "LossInputs",
    "LossTerms",
    "baseline_advantage",
    "divergence_clip_loss",
    "f_grpo_loss",
    "frpo_loss_advantages",
    "kl3_bounds",
    "kl3_delta_for_lower",
    "kl3_delta_for_upper",
    "local_kl",
    "ratio_bounds",
    "read_loss_inputs",
    "rpg_loss",
    "signed_weights",
    "softmax_weights",
]
