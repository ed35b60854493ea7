"""Statistics over the responses of one prompt: GRPO's normalised advantage, leave-one-out baselines."""

from __future__ import annotations

from bisect import bisect_right

import torch

from frpo_verl.masking import keep, valid_positions

__all__ = ["group_advantages", "subtract_position_baseline"]


def _dense_ids(ids: torch.Tensor, name: str, rows: int, device: torch.device) -> torch.Tensor:
    ids = torch.as_tensor(ids)
    if ids.shape != (rows,) or ids.is_floating_point() or ids.is_complex():
        raise ValueError(f"{name} must be ({rows},) integers, got {ids.dtype} of shape {tuple(ids.shape)}")
    return torch.unique(ids, return_inverse=True)[1].to(device)


@torch.no_grad()
def group_advantages(
    scores: torch.Tensor, group_ids: torch.Tensor, *, norm_by_std: bool = True, eps: float = 1e-6
) -> torch.Tensor:
    """GRPO's outcome advantage of each response (the A of arXiv 2601.10201v2, Eq. 5.1).

        A_i = (r_i - mean r) / (std r + eps)        over the group; without norm_by_std: r_i - mean r

    Args:
        scores: (B,) rewards of the verifier.
        group_ids: (B,) integers, equal for the responses of one prompt.
        norm_by_std: divide by the sample standard deviation (1/(G-1)).
        eps: added to the standard deviation, in the units of the reward.

    Returns:
        (B,) float32 (float64 for float64). A group of equal rewards gets 0 up to rounding; a group of one
        keeps its reward, divided by 1 + eps, as in verl's `grpo`.

    Raises:
        ValueError: scores is not (B,), or group_ids are not (B,) integers.

    Differs from the paper, which writes the standard deviation with 1/G: verl's `grpo` takes 1/(G-1), and so
    does this.
    """
    if scores.dim() != 1:
        raise ValueError(f"scores must be (B,), got shape {tuple(scores.shape)}")
    group = _dense_ids(group_ids, "group_ids", scores.shape[0], scores.device)
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
def subtract_position_baseline(
    reg: torch.Tensor, mask: torch.Tensor, group_ids: torch.Tensor, session_ids: torch.Tensor | None = None
) -> None:
    """In place: minus the mean over the group's other responses at the same position, if any reaches it.

        reg_{i,p} <- reg_{i,p} - mean { reg_{k,p} : k in the group of i, k not in the session of i, T_k >= p }

    Position p counts response tokens. The baseline depends on other, independent responses only, so the
    expected gradient does not change; one that contains the response's own value, or its own length, would
    bias it.

    Args:
        reg: (B, T) floating, zero off the mask; overwritten.
        mask: (B, T) any dtype, non-zero = response token.
        group_ids: (B,) integers, equal for the responses of one prompt.
        session_ids: (B,) integers or None; rows that share one are left out together. By default each row is
            alone.

    Raises:
        ValueError: ids that are not (B,) integers.
    """
    rows_total, columns = reg.shape
    group = _dense_ids(group_ids, "group_ids", rows_total, reg.device)
    unit = torch.arange(rows_total, device=reg.device)  # what is left out together: the row, or its session
    if session_ids is not None:
        unit = _dense_ids(session_ids, "session_ids", rows_total, reg.device)
        unit = torch.unique(group * rows_total + unit, return_inverse=True)[1]
    order = torch.argsort(group, stable=True)
    ends = torch.bincount(group).cumsum(0).tolist()  # of the groups, in that order
    budget = max(1, (2**18 if reg.device.type == "cpu" else 2**24) // max(1, columns))
    start = 0
    while start < rows_total:  # whole groups, as many as fit the budget, at least one
        stop = ends[max(bisect_right(ends, start), bisect_right(ends, start + budget) - 1)]
        rows = order[start:stop]
        reg[rows] -= _leave_one_out_mean(reg[rows], valid_positions(mask[rows]), group[rows], unit[rows])
        start = stop


def _leave_one_out_mean(
    reg: torch.Tensor, valid: torch.Tensor, group: torch.Tensor, unit: torch.Tensor
) -> torch.Tensor:
    """(R, T) mean of reg over rows of the same group but another unit, by position; 0 where there is none."""
    position = (valid.cumsum(-1) - 1).clamp(min=0)
    packed = torch.zeros_like(reg).scatter_add_(1, position, reg)  # masked entries add 0
    present = torch.zeros_like(reg).scatter_add_(1, position, valid.to(reg.dtype))

    def sum_over(ids: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        ids = torch.unique(ids, return_inverse=True)[1]
        return x.new_zeros(int(ids.max()) + 1, x.shape[1]).index_add_(0, ids, x)[ids]

    count = sum_over(group, present) - sum_over(unit, present)
    mean = (sum_over(group, packed) - sum_over(unit, packed)) / count.clamp(min=1)
    return keep(keep(mean, count).gather(1, position), valid)
