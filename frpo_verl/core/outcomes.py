"""Outcome advantages that verl does not have: CoRPO, MaxRL and RPG's mean over the batch.

    CoRPO   A_i = r_i - max(threshold, mean r)
    MaxRL   A_i = (r_i - mean r) / (mean r + eps)
    RPG     A_i = r_i - mean r

The mean is that of the group, for RPG that of the batch, the response itself included. None divides by a standard deviation.
All are (B,) in float32 (float64 for float64), and raise ValueError for scores or ids of another shape.
"""

from __future__ import annotations

from typing import Any

import torch

from frpo_verl.core.tokens import dense_ids, float_dtype, keep


@torch.no_grad()
def corpo_advantages(scores: torch.Tensor, group_ids: Any, *, threshold: float = 0.5) -> torch.Tensor:
    """CoRPO: no response whose reward is below `threshold` is ever pushed up.

        A_i = r_i - max(threshold, mean r)

    A group whose mean lies above the threshold gets the plain mean baseline. The advantages of a group never sum to
    more than 0.

    Args:
        scores: (B,) rewards of the verifier.
        group_ids: (B,) ids of any kind, equal for the responses of one prompt.
        threshold: the reward from which a response counts as good, in the units of the reward.

    Source: CoRPO as several implementations have it. With rewards of 0 and 1, threshold 1 never pushes a right answer
    up, and threshold 0 is the mean baseline: it is meant for graded rewards.
    """
    mean = _group_means(scores, group_ids)
    return (scores.double() - mean.clamp(min=threshold)).to(float_dtype(scores))


@torch.no_grad()
def maxrl_advantages(scores: torch.Tensor, group_ids: Any, *, eps: float = 1e-6) -> torch.Tensor:
    """MaxRL: the group's mean is taken off and divided by; for rewards of 0 and 1 the gradient of log p.

        A_i = (r_i - mean r) / (mean r + eps)

    In a large group the mean is the prompt's pass rate p, and grad p / p is the gradient of log p. A group without a
    right answer gets 0.

    Args:
        scores: (B,) rewards of the verifier, at least 0.
        group_ids: (B,) ids of any kind, equal for the responses of one prompt.
        eps: added to the mean, in the units of the reward.

    Raises:
        ValueError: the mean of a group is negative.

    Source: MaxRL as SkyRL 0.3 computes it.
    """
    mean = _group_means(scores, group_ids)
    if bool((mean < 0).any()):
        raise ValueError(f"the rewards of a group have the mean {float(mean.min()):g}: must be at least 0")
    return ((scores.double() - mean) / (mean + eps)).to(float_dtype(scores))


@torch.no_grad()
def batch_mean_advantages(scores: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """RPG's baseline: A_i = r_i - mean of r over the batch.

    Args:
        scores: (B,) rewards of the verifier.
        valid: (B,) rows that count, non-zero = valid (default all); padding enters no mean and gives 0. A single row keeps
            its reward, as a group of one does in verl's grpo.

    Source: arXiv 2505.17508, algorithms 1 and 2. The group mean of the authors' scripts is verl's grpo without a division
    by the standard deviation.
    """
    if scores.dim() != 1:
        raise ValueError(f"scores must be (B,), got shape {tuple(scores.shape)}")
    scores = scores.to(float_dtype(scores))
    valid = torch.ones_like(scores, dtype=torch.bool) if valid is None else valid.bool()
    scores, size = keep(scores, valid), valid.to(scores.dtype).sum()
    return keep(scores - keep(scores.sum() / size, size > 1), valid)


def _group_means(scores: torch.Tensor, group_ids: Any) -> torch.Tensor:
    if scores.dim() != 1:
        raise ValueError(f"scores must be (B,), got shape {tuple(scores.shape)}")
    group = dense_ids(group_ids, scores.shape[0]).to(scores.device)
    count = torch.bincount(group).double()
    return (torch.zeros_like(count).index_add_(0, group, scores.double()) / count)[group]
