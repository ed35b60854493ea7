"""Statistics over the responses of one prompt: GRPO's normalised advantage, whole or at each position, and baselines.

A_i = (r_i - mean r) / (std r + EPS)        over the group
"""

from __future__ import annotations

from typing import Any

import torch

from frpo_verl.core.tokens import Answers, dense_ids

EPS = 1e-6  # added to a standard deviation, in the units of the reward, as in verl's `grpo`


@torch.no_grad()
def group_advantages(scores: torch.Tensor, group_ids: Any, *, norm_by_std: bool = True) -> torch.Tensor:
    """GRPO's outcome advantage of each response (the A of arXiv 2601.10201v2, Eq. 5.1); r_i - mean r without norm_by_std.

    Args:
        scores: (B,) rewards of the verifier.
        group_ids: (B,) ids of any kind, equal for the responses of one prompt.
        norm_by_std: divide by the sample standard deviation (1/(G-1)).

    Returns:
        (B,) float32 (float64 for float64). A group of equal rewards gets 0 up to rounding; a group of one keeps its
        reward, divided by 1 + EPS, as in verl's `grpo`. Raises ValueError for other shapes.

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
        centered = centered / (torch.where(count > 1, variance.sqrt(), 1.0) + EPS)[group]
    return centered.to(torch.float64 if scores.dtype == torch.float64 else torch.float32)


@torch.no_grad()
def at_each_position(x: torch.Tensor, answers: Answers, norm_by_std: bool) -> torch.Tensor:
    """GRPO's normalisation of a value by token, across the group at each position.

        A_{i,p} = (x_{i,p} - mean x_{k,p}) / (std x_{k,p} + EPS)        over the answers k of the group with T_k >= p

    Position p counts response tokens, through all rows of a session. Where one answer of several is that long it is 0; a
    group of one keeps x, divided by 1 + EPS, as in verl's `grpo`. With a mean alone the reward's and the KL's part have
    1 - 1/n of their expected gradient where n answers have a token: exact up to that factor if all are of one length.

    Args:
        x: (R, C) floating; read on response tokens.
        answers: whole groups, from the door.
        norm_by_std: divide by the sample standard deviation.

    Returns:
        (R, C) of the dtype of x, 0 off the mask. Raises ValueError without group ids.

    Source: arXiv 2601.10201v2, Appendix F.1, strategy (c).
    """
    group, position, packed, present = _by_position(torch.where(answers.valid, x, 0.0).double(), answers)
    answered = torch.bincount(group, (answers.length[:, 0] > 0).double())
    alone = (answered == 1)[:, None]

    def over_groups(y: torch.Tensor) -> torch.Tensor:
        return y.new_zeros(len(answered), y.shape[1]).index_add_(0, group, y)

    count = over_groups(present)
    mean = torch.where(alone, 0.0, over_groups(packed) / count.clamp(min=1))
    centred = packed.sub_(mean[group]).masked_fill_(present == 0, 0.0)
    if norm_by_std:
        std = (over_groups(centred.square()) / (count - 1).clamp(min=1)).sqrt_()
        centred /= (torch.where(alone, 1.0, std) + EPS)[group]
    return torch.where(answers.valid, centred.gather(1, position).to(x.dtype), 0.0)


def _by_position(x: torch.Tensor, answers: Answers) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(R,) group, (R, C) position of each column, x (0 off the mask) at each position, and 1 where there is a token."""
    if answers.group is None:
        raise ValueError("baseline='position' and placement='reward_to_go' need group_ids: one for each response")
    position = answers.position.clamp(min=0).long()
    packed, present = (
        torch.zeros_like(x).scatter_add_(1, position, y) for y in (x, answers.valid.to(x.dtype))
    )  # masked entries add 0
    return torch.unique(answers.group, return_inverse=True)[1], position, packed, present


@torch.no_grad()
def remaining_baseline(answers: Answers, mean_cost: float) -> torch.Tensor:
    """The baseline of the paper's Table 2, biased: what the T - t tokens behind a token cost on average.

        b_t = (T - t) * D,    D = mean over the batch of f(w)/w, per response token

    T is the answer's own length, which its tokens decide: an expected gradient that has this term pushes the length. It
    has none where all answers are of one length.

    (R, C), 0 off the mask; `mean_cost` is D, in nats of the divergence.

    Source: arXiv 2601.10201v2, Table 2.
    """
    behind = (answers.length - 1 - answers.position).to(answers.delta.dtype)
    return torch.where(answers.valid, behind * mean_cost, 0.0)


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
        (R, C) of the dtype of reg, 0 off the mask. Raises ValueError without group ids.
    """
    group, position, packed, present = _by_position(reg, answers)
    if whole:
        length = answers.length
        packed = torch.where(present > 0, packed, reg.sum(-1, keepdim=True) / length.clamp(min=1))
        present = (length > 0).to(reg.dtype).expand_as(present)

    def of_others(x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(packed).index_add_(0, group, x)[group] - x

    count = of_others(present)
    mean = torch.where(count > 0, of_others(packed) / count.clamp(min=1), 0.0)
    return torch.where(answers.valid, mean.gather(1, position), 0.0)
