"""What beta multiplies inside the token advantage, for every divergence and placement: the equations alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from frpo_verl.core.divergences import DIVERGENCES, Divergence
from frpo_verl.core.tokens import Tokens, keep, reverse_cumsum, select_
from frpo_verl.methods import names, ranges

__all__ = ["FRPO", "PLACEMENTS", "Regularizer", "discounted_suffix", "regularizer"]

PLACEMENTS = tuple(name for name in names.PLACEMENTS if name != "reward")


@dataclass(frozen=True)
class Regularizer:
    """Which divergence enters the token advantage, and where.

    divergence: a row of the table, or one's own.
    placement: future | local | sequence, see `regularizer`. (`reward` is no token-level regulariser: see
        `sequence_divergence`.)
    discount: of the future sum; 1 is exact, 0 keeps the local part only. It counts response tokens: a masked token in
        the middle of a response neither contributes nor discounts. With steps it counts steps.
    baseline: none | position: minus the mean over the group's other responses at the same position; for sequence, whose
        sum a response has at every position, over all of them.
    """

    divergence: Divergence = DIVERGENCES["reverse_kl"]
    placement: str = "future"
    discount: float = 1.0
    baseline: str = "none"

    def __post_init__(self) -> None:
        if self.placement not in PLACEMENTS:
            raise ValueError(
                f"placement={self.placement!r}: must be one of {', '.join(PLACEMENTS)}"
                f"{names.nearest(self.placement, PLACEMENTS)}; a divergence in the reward is `sequence_divergence`"
            )
        if self.baseline not in names.BASELINES:
            raise ValueError(f"baseline={self.baseline!r}: must be one of {', '.join(names.BASELINES)}")
        ranges.DISCOUNT.check("discount", self.discount)
        if self.placement != "future" and self.discount != 1.0:
            raise ValueError(
                f"discount={self.discount!r}: placement={self.placement} has no future sum, leave it at 1 "
                "or take placement=future"
            )


FRPO = Regularizer()


def regularizer(
    tokens: Tokens, regularizer: Regularizer = FRPO, step_start: torch.Tensor | None = None
) -> torch.Tensor:
    """What beta multiplies inside the token advantage.

        future    reg_t = f'(w_t) + sum_{j>t} discount^(j-t) f(w_j)/w_j   FRPO, Theorem 4.1
        local     reg_t = f'(w_t)                                         what a correct loss term can reach
        sequence  reg_t = f'(w_t) + sum_{j!=t} f(w_j)/w_j                 unbiased like future, more variance
        future with step_start, s(t) = first token of the step of t:
                  reg_t = f'(w_t) + sum_{j>=s(t), j!=t} f(w_j)/w_j        PRL's steps, exact for every length

    For reverse KL these are the inclusive suffix sum of delta, delta itself, the sum over the response, and the suffix
    sum at the step's start. `future` and `sequence` with discount 1 and any `step_start` have the expected gradient of
    sum_t D_f(pi||ref)(s_t); `local` misses that the policy also chooses which states it visits. The sum must include
    the current token: without it the estimate is biased.

    Args:
        tokens: from `read_tokens`.
        regularizer: what to compute; its baseline is subtracted elsewhere (`groups.position_baseline`).
        step_start: (R, T) int64, the column of the first token of each token's step, see `frpo_verl.core.steps`; for
            placement future. Within a step nothing is discounted.

    Returns:
        (R, T) of the dtype of delta, in nats of the divergence, exactly 0 off the mask.

    Source: arXiv 2601.10201v2, Theorem 4.1, Eq. 4.5 and 4.6. Differs from the paper in dropping the constant f'(1),
    which no expected gradient contains (Eq. 4.5 does so for reverse KL), so that reg is 0 wherever pi = ref; in leaving
    out the paper's baseline (T - t) * mean KL, which depends on the response's own length and is biased; and from PRL's
    public code in taking a step's suffix at its start, not at its end.
    """
    f, x = regularizer.divergence, tokens.delta
    if regularizer.placement == "local":
        return keep(f.slope(x), tokens.valid)
    cost = f.cost(x)
    if regularizer.placement == "sequence":
        reg = cost.sum(-1, keepdim=True).expand_as(cost).clone()
    elif regularizer.discount == 1.0:
        reg = reverse_cumsum(cost)
    else:
        reg = discounted_suffix(cost, tokens.valid, regularizer.discount, step_start)
    if step_start is not None:
        reg = reg.gather(1, step_start)
    if not f.cost_is_slope:
        reg = reg - cost + f.slope(x)
    return select_(reg, tokens.bits)


def discounted_suffix(
    cost: torch.Tensor, valid: torch.Tensor, discount: float, step_start: torch.Tensor | None = None
) -> torch.Tensor:
    """Inclusive suffix sum that discounts by response token, or by step.

        y_t = cost_t + carry_t y_{t+1},    carry_t = discount where a response token (a step) begins at t+1, else 1

    Args:
        cost: (R, T) 0 off `valid`.
        valid: (R, T) bool.
        discount: in [0, 1].
        step_start: (R, T) int64 columns, or None for steps of one token.

    Returns:
        (R, T) of the dtype of cost. Computed in log2(T) rounds: after round k, y_t holds a window of 2^k columns.
        No division and no power above 1: the error is that of a pairwise sum. In float64, since 0.9999 rounded to
        float32 is another discount after 10,000 tokens.
    """
    begins = valid
    if step_start is not None:
        begins = valid & (step_start == torch.arange(valid.shape[1], device=valid.device))
    y = cost.to(torch.float64, copy=True)
    carry = torch.ones_like(y)
    carry[:, :-1] = keep(carry[:, :-1], ~begins[:, 1:], fill=discount)
    width, columns = 1, cost.shape[-1]
    while width < columns:
        y[:, :-width] += carry[:, :-width] * y[:, width:]
        if 2 * width < columns:
            carry[:, :-width] *= carry[:, width:].clone()
            if carry[:, : -2 * width].amax() == 0:
                break
        width *= 2
    return y.to(cost.dtype)
