"""What the tests add to `frpo_verl.core.enumeration`: garbage on padding, and the local objective."""

from __future__ import annotations

import dataclasses

import torch

from frpo_verl.core.advantages import regularized_advantages
from frpo_verl.core.divergences import get_divergence
from frpo_verl.core.enumeration import Trajectories, probability, state_divergence
from frpo_verl.core.regularizers import Regularizer
from frpo_verl.core.tokens import Columns


def local_objective(toy: Trajectories, logits: torch.Tensor, ref_logits: torch.Tensor, f) -> torch.Tensor:
    """The objective with the visited states held fixed: only the divergence at each state carries a gradient."""
    per_state = state_divergence(logits, ref_logits, f)[toy.state]
    return (probability(toy, logits).detach() * torch.where(toy.mask, per_state, 0.0).sum(-1)).sum()


def garbage(toy: Trajectories, x: torch.Tensor) -> torch.Tensor:
    """x with NaN, infinities and large numbers on padded positions."""
    junk = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, -1e30], dtype=x.dtype)
    return torch.where(toy.mask, x, junk[torch.arange(x.numel()).reshape(x.shape) % len(junk)])


OF_KIND = [field.name for field in dataclasses.fields(Regularizer)]


def frpo(outcome, log_prob, ref_log_prob, mask, **more):
    """`regularized_advantages` of a batch, its columns and its settings by name; kl_coef 0.1 unless it is given."""
    kind = {"kl_coef": 0.1, **{name: more.pop(name) for name in OF_KIND if name in more}}
    return regularized_advantages(Columns(log_prob, ref_log_prob, mask, outcome, **more), Regularizer(**kind))


def regularize(delta, mask, *, divergence: str = "reverse_kl", alpha: float | None = None, **more) -> torch.Tensor:
    """What beta multiplies, (B, T), by way of the advantages: outcome 0 and beta 1 give minus that."""
    zeros = torch.zeros(mask.shape[0])
    row = get_divergence(divergence, alpha)
    return -frpo(zeros, delta, torch.zeros_like(delta), mask, kl_coef=1.0, divergence=row, **more).advantages


def to_go(log_prob, ref_log_prob, mask):
    """The log-ratio of each token and of those after it, summed; 0 off the mask."""
    delta = torch.where(mask.bool(), log_prob - ref_log_prob, 0.0)
    return torch.where(mask.bool(), delta.flip(-1).cumsum(-1).flip(-1), 0.0)


def group_norm(scores, groups):
    """(score - mean) / (std + 1e-6) of its group, as verl's grpo has it."""
    out = torch.zeros_like(scores)
    for group in set(groups):
        rows = torch.tensor([g == group for g in groups])
        out[rows] = (scores[rows] - scores[rows].mean()) / (scores[rows].std() + 1e-6)
    return out
