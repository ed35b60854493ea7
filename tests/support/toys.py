"""What the tests add to `frpo_verl.core.enumeration`: garbage on padding, and the local objective."""

from __future__ import annotations

import torch

from frpo_verl.core.advantages import regularized_advantages
from frpo_verl.core.divergences import get_divergence
from frpo_verl.core.enumeration import Trajectories, probability, state_divergence
from frpo_verl.core.regularizers import Regularizer


def local_objective(toy: Trajectories, logits: torch.Tensor, ref_logits: torch.Tensor, f) -> torch.Tensor:
    """The objective with the visited states held fixed: only the divergence at each state carries a gradient."""
    per_state = state_divergence(logits, ref_logits, f)[toy.state]
    return (probability(toy, logits).detach() * torch.where(toy.mask, per_state, 0.0).sum(-1)).sum()


def garbage(toy: Trajectories, x: torch.Tensor) -> torch.Tensor:
    """x with NaN, infinities and large numbers on padded positions."""
    junk = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, -1e30], dtype=x.dtype)
    return torch.where(toy.mask, x, junk[torch.arange(x.numel()).reshape(x.shape) % len(junk)])


def regularize(
    delta: torch.Tensor,
    mask: torch.Tensor,
    *,
    divergence: str = "reverse_kl",
    alpha: float | None = None,
    step_start: torch.Tensor | None = None,
    group_ids=None,
    session_ids=None,
    session_index=None,
    log_ratio_clip: float = 20.0,
    **kind,
) -> torch.Tensor:
    """What beta multiplies, (B, T), by way of the advantages: outcome 0 and beta 1 give minus that."""
    result = regularized_advantages(
        torch.zeros(mask.shape[0]),
        delta,
        torch.zeros_like(delta),
        mask,
        kl_coef=1.0,
        regularizer=Regularizer(get_divergence(divergence, alpha), **kind),
        steps=None if step_start is None else lambda rows, valid: step_start[rows],
        group_ids=group_ids,
        session_ids=session_ids,
        session_index=session_index,
        log_ratio_clip=log_ratio_clip,
    )
    return -result.advantages
