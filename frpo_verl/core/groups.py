"""Statistics over the responses of one prompt: GRPO's normalised advantage, the leave-one-out baseline."""

from __future__ import annotations

from typing import Any

import torch

from frpo_verl.core.tokens import Answers, dense_ids

__all__ = ["group_advantages", "position_baseline"]


@torch.no_grad()
def group_advantages(
    scores: torch.Tensor, group_ids: Any, *, norm_by_std: bool = True, eps: float = 1e-6
) -> torch.Tensor:
    """GRPO's outcome advantage of each response (the A of arXiv 2601.10201v2, Eq. 5.1).

        A_i = (r_i - mean r) / (std r + eps)        over the group; without norm_by_std: r_i - mean r

    Args:
        scores: (B,) rewards of the verifier.
        group_ids: (B,) ids of any kind, equal for the responses of one prompt.
        norm_by_std: divide by the sample standard deviation (1/(G-1)).
        eps: added to the standard deviation, in the units of the reward.

    Returns:
        (B,) float32 (float64 for float64). A group of equal rewards gets 0 up to rounding; a group of one keeps its
        reward, divided by 1 + eps, as in verl's `grpo`.

    Raises:
        ValueError: scores is not (B,), or not one id for each response.

    Differs from the paper, which writes the standard deviation with 1/G: verl's `grpo` takes 1/(G-1), and so does this.
    """
    if scores.dim() != 1:
        raise ValueError(f"scores must be (B,), got shape {tuple(scores.shape)}")
    group = dense_ids(group_ids, scores.shape[0]).to(scores.device)
    r = scores.double()
    count = torch.bincount(group).double()
    mean = torch.zeros_like(count).index_add_(0, group, r) / count
    mean = torch.where(count > 1, mean, 0.0)
    centered = r - mean[group]
    if norm_by_std:
        variance = torch.zeros_like(count).index_add_(0, group, centered.square()) / (count - 1)
        centered = centered / (torch.where(count > 1, variance.sqrt(), 1.0) + eps)[group]
    return centered.to(torch.float64 if scores.dtype == torch.float64 else torch.float32)


@torch.no_grad()
def position_baseline(reg: torch.Tensor, answers: Answers, *, whole: bool = False) -> torch.Tensor:
    """Mean over the group's other responses at the same position, 0 where none of them reaches it.

        b_{i,p} = mean { reg_{k,p} : k in the group of i, k != i, T_k >= p }
        whole:    the same without T_k >= p, reg_{k,p} = mean over t of reg_{k,t} behind the end of k

    Position p counts response tokens, through all rows of a session. The baseline depends on other, independent
    responses only, so subtracting it does not change the expected gradient; one that contains the response's own value,
    or its own length, would bias it.

    Args:
        reg: (R, C) floating, 0 off the mask.
        answers: whole groups, from the door.
        whole: for a reg of the whole response (placement `sequence`), which a response has at every position. Then reward
            and KL are centred over the same responses, and no answer of another policy needs a weight.

    Returns:
        (R, C) of the dtype of reg, 0 off the mask.

    Raises:
        ValueError: no group ids.
    """
    if answers.group is None:
        raise ValueError("baseline='position' needs group_ids: one id for each response, equal within a prompt")
    group, valid = torch.unique(answers.group, return_inverse=True)[1], answers.valid
    position = answers.position.clamp(min=0).long()
    packed = torch.zeros_like(reg).scatter_add_(1, position, reg)  # masked entries add 0
    present = torch.zeros_like(reg).scatter_add_(1, position, valid.to(reg.dtype))
    if whole:
        length = answers.length
        packed = torch.where(present > 0, packed, reg.sum(-1, keepdim=True) / length.clamp(min=1))
        present = (length > 0).to(reg.dtype).expand_as(present)

    def of_others(x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(packed).index_add_(0, group, x)[group] - x

    count = of_others(present)
    mean = torch.where(count > 0, of_others(packed) / count.clamp(min=1), 0.0)
    return torch.where(valid, mean.gather(1, position), 0.0)
