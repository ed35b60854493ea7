"""What beta multiplies inside the token advantage: the equations, one function a placement.

    local     reg_t = f'(w_t)                                         what a correct loss term can reach
    future    reg_t = f'(w_t) + sum_{j>t} discount^(j-t) f(w_j)/w_j   FRPO, Theorem 4.1
    sequence  reg_t = f'(w_t) + sum_{j!=t} f(w_j)/w_j                 unbiased like future, more variance
    reward_to_go: reg_t of `future`, and r - beta * reg_t is normalised across the group at each position (`groups.at_each_position`)

For reverse KL these are delta itself, the inclusive suffix sum of delta, and the sum over the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from frpo_verl.core.divergences import DIVERGENCES, Divergence
from frpo_verl.core.tokens import Answers, reverse_cumsum
from frpo_verl.methods import names, ranges


@dataclass(frozen=True)
class Regularizer:
    """Which divergence enters the token advantage, where, and how strongly.

    kl_coef: beta >= 0.
    divergence: a row of the table, or one's own.
    placement: future | local | sequence | reward_to_go. (`reward` is no token-level term: see `advantages.sequence_divergence`.)
    discount: of the future sum; 1 is exact, 0 keeps the local part only. It counts response tokens: a masked token in
        the middle of a response neither contributes nor discounts.
    baseline: none | position: minus the mean over the group's other responses at the same position | remaining: minus
        (T - t) times the mean cost of a token; biased.
    log_ratio_clip: bound of |log w| in nats.
    norm_by_std: for reward_to_go: divide by the group's standard deviation at the position.
    """

    kl_coef: float = 0.01
    divergence: Divergence = DIVERGENCES["reverse_kl"]
    placement: str = "future"
    discount: float = 1.0
    baseline: str = "none"
    log_ratio_clip: float = 20.0
    norm_by_std: bool = True

    def __post_init__(self) -> None:
        ranges.KL_COEF.check("kl_coef", self.kl_coef)
        ranges.LOG_RATIO_CLIP.check("log_ratio_clip", self.log_ratio_clip)
        if self.placement not in PLACEMENTS:
            raise ValueError(
                f"placement={self.placement!r}: must be one of {', '.join(PLACEMENTS)}"
                f"{names.nearest(self.placement, tuple(PLACEMENTS))}; a divergence in the reward is `sequence_divergence`"
            )
        if self.baseline not in names.BASELINES:
            raise ValueError(f"baseline={self.baseline!r}: must be one of {', '.join(names.BASELINES)}")
        ranges.DISCOUNT.check("discount", self.discount)
        if self.placement != "future" and self.discount != 1.0:
            raise ValueError(
                f"discount={self.discount!r}: placement={self.placement} has no future sum, leave it at 1 "
                "or take placement=future"
            )
        if self.placement == "reward_to_go" and self.baseline != "none":
            raise ValueError(
                f"baseline={self.baseline!r}: placement=reward_to_go has a mean of its own, leave it at none"
            )
        if self.baseline == "remaining" and (self.placement, self.discount) != ("future", 1.0):
            raise ValueError("baseline='remaining': (T - t) tokens are those of placement=future with discount=1")


def regularize(answers: Answers, kind: Regularizer) -> torch.Tensor:
    """The equation of a placement; (R, C) in nats of the divergence, exactly 0 off the mask.

        future with steps, s(t) = first token of the step of t:
                  reg_t = f'(w_t) + sum_{j>=s(t), j!=t} f(w_j)/w_j        PRL's steps, exact for every length

    `future` and `sequence` with discount 1 and any steps have the expected gradient of sum_t D_f(pi||ref)(s_t); `local`
    misses that the policy also chooses which states it visits. The sum must include the current token: without it the
    estimate is biased.

    Args:
        answers: from the door.
        kind: what to compute; its baseline is subtracted elsewhere (`groups`).

    Raises:
        ValueError: steps with a placement that has no future sum, with a discount, or with baseline remaining.

    Source: arXiv 2601.10201v2, Theorem 4.1, Eq. 4.5 and 4.6. Differs from the paper in dropping the constant f'(1),
    which no expected gradient contains (Eq. 4.5 does so for reverse KL), so that reg is 0 wherever pi = ref; and from
    PRL's public code in taking a step's suffix at its start, not at its end.
    """
    if answers.step_begins is not None and (
        (kind.placement, kind.discount) != ("future", 1.0) or kind.baseline == "remaining"
    ):
        raise ValueError(
            f"placement={kind.placement!r}, discount={kind.discount!r}, baseline={kind.baseline!r}: steps need "
            "placement=future, discount=1 and another baseline than remaining"
        )
    return PLACEMENTS[kind.placement](answers, kind)


def local(a: Answers, kind: Regularizer) -> torch.Tensor:
    """reg_t = f'(w_t)"""
    return torch.where(a.valid, kind.divergence.slope(a.delta), 0.0)


def future(a: Answers, kind: Regularizer) -> torch.Tensor:
    """reg_t = f'(w_t) + sum_{j>t} discount^(j-t) f(w_j)/w_j, the sum from the first token of t's step on."""
    f = kind.divergence
    if f.cost_is_slope and kind.discount == 1.0 and a.step_begins is None:
        return a.kl_to_go  # reverse KL: cost and slope are log w
    cost = f.cost(a.delta)
    to_go = reverse_cumsum(cost) if kind.discount == 1.0 else _discounted(cost, a.valid, kind.discount)
    if a.step_begins is not None:
        column = torch.arange(cost.shape[1], device=cost.device).expand_as(cost)
        to_go = to_go.gather(1, torch.where(a.step_begins, column, 0).cummax(-1).values)
    return _with_slope(a, f, to_go, cost)


def sequence(a: Answers, kind: Regularizer) -> torch.Tensor:
    """reg_t = f'(w_t) + sum_{j!=t} f(w_j)/w_j"""
    cost = kind.divergence.cost(a.delta)
    return _with_slope(a, kind.divergence, cost.sum(-1, keepdim=True), cost)


def _with_slope(a: Answers, f: Divergence, total: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
    """The token's own cost in `total` replaced by f'(w_t), which for reverse KL it is."""
    return torch.where(a.valid, total if f.cost_is_slope else total - cost + f.slope(a.delta), 0.0)


PLACEMENTS: dict[str, Callable[[Answers, Regularizer], torch.Tensor]] = {
    "future": future,
    "local": local,
    "sequence": sequence,
    "reward_to_go": future,
}


def _discounted(cost: torch.Tensor, valid: torch.Tensor, discount: float) -> torch.Tensor:
    """(R, C) inclusive suffix sum that discounts by response token.

        y_t = cost_t + carry_t y_{t+1},    carry_t = discount where t+1 is a response token, else 1

    Computed in log2(C) rounds: after round k, y_t holds a window of 2^k columns. No division and no power above 1: the
    error is that of a pairwise sum. In float64, since 0.9999 rounded to float32 is another discount after 10,000 tokens.
    """
    y = cost.to(torch.float64, copy=True)
    carry = torch.ones_like(y)
    carry[:, :-1] = torch.where(valid[:, 1:], discount, carry[:, :-1])
    width, columns = 1, cost.shape[-1]
    while width < columns:
        y[:, :-width] += carry[:, :-width] * y[:, width:]
        if 2 * width < columns:
            carry[:, :-width] *= carry[:, width:].clone()
            if not carry[:, : -2 * width].any():
                break
        width *= 2
    return y.to(cost.dtype)
