"""From log-probs to the regularised token advantage (FRPO, arXiv 2601.10201v2).

    A_t = A - beta * reg_t                                     Eq. 5.1
    reg_t = f'(w_t) + sum_{j>t} f(w_j)/w_j                     Theorem 4.1, w = pi/ref on the sampled token

Tensors are padded (B, T): B rows, T columns, a mask that is non-zero on response tokens (EOS included) and zero on padding
and, in multi-turn data, on tool tokens. The rows of a session are one response: the sums run through them in their order.
Advantages are constants of the policy gradient: nothing here carries a gradient.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from frpo_verl.core import metrics
from frpo_verl.core.chunks import Sums, one_pass
from frpo_verl.core.divergences import Divergence
from frpo_verl.core.groups import at_each_position, position_baseline, remaining_baseline
from frpo_verl.core.regularizers import Regularizer, regularize
from frpo_verl.core.tokens import Answers, Columns


class Regularized(NamedTuple):
    """What `regularized_advantages` returns.

    advantages: (B, T) float32 (float64 if a log-prob tensor is), 0 off the mask.
    metrics: floats under names of `metrics.METRIC_NAMES`.
    """

    advantages: torch.Tensor
    metrics: dict[str, float]


def regularized_advantages(columns: Columns, kind: Regularizer) -> Regularized:
    """The regularised token advantage and what the regulariser did, in one pass over the rows.

        A_t = A - beta * (reg_t - baseline_t) on response tokens, exactly 0 elsewhere
        reward_to_go:  A_it = (x_it - mean_k x_kt) / (std_k x_kt + eps),   x_it = r_i - beta * reg_it

    Args:
        columns: the batch, with an outcome (for reward_to_go the reward r itself); with group_ids for it and baseline
            position.
        kind: beta, divergence, placement, discount, baseline.

    Returns:
        Regularized.

    Raises:
        ValueError: ids, steps or numbers that do not fit, or no outcome.
        FloatingPointError: NaN or infinity on a response token.

    Source: arXiv 2601.10201v2, Eq. 5.1; reward_to_go: its strategy (c), Appendix F.1, whose sum leaves the token itself
    out (j > t). Differs from that in `j >= t`, without which no gradient is exact.

    Example:
        >>> log_prob, ref_log_prob = torch.tensor([[-1.0, -2.0, -0.5]]), torch.tensor([[-1.5, -2.0, -1.0]])
        >>> batch = Columns(log_prob, ref_log_prob, mask=torch.tensor([[1, 1, 0]]), outcome=torch.tensor([1.0]))
        >>> result = regularized_advantages(batch, Regularizer(kl_coef=0.1))
        >>> result.advantages
        tensor([[0.9500, 1.0000, 0.0000]])
        >>> result.metrics["frpo/kl_to_ref/k1"]
        0.25
    """
    if columns.outcome is None:
        raise ValueError("outcome is missing: the advantage of each response before the regulariser")

    mean_cost = _mean_cost(columns, kind) if kind.baseline == "remaining" else 0.0
    compared = kind.placement == "reward_to_go"  # normalised at each position, the regulariser within

    def compute(a: Answers) -> tuple[torch.Tensor, Sums]:
        assert a.outcome is not None
        reg = regularize(a, kind)
        if kind.baseline == "position":
            reg = reg - position_baseline(reg, a, whole=kind.placement == "sequence")
        elif kind.baseline == "remaining":
            reg = reg - remaining_baseline(a, mean_cost)
        advantages = torch.sub(a.outcome, reg, alpha=kind.kl_coef)
        if compared:
            before, advantages = (
                at_each_position(x, a, kind.norm_by_std) for x in (a.outcome.expand_as(reg), advantages)
            )
            a, reg = replace(a, outcome=before), (before - advantages) / max(kind.kl_coef, 1e-30)
        return advantages, {**metrics.distance(a), **metrics.effect(a, reg, advantages)}

    whole_groups = compared or kind.baseline == "position"
    advantages, sums = one_pass(columns, compute, clip=kind.log_ratio_clip, whole_groups=whole_groups)
    return Regularized(advantages, metrics.report(sums, kind.kl_coef))


def _mean_cost(columns: Columns, kind: Regularizer) -> float:
    """Mean of f(w)/w over the response tokens of a batch: the D of the paper's baseline."""

    def compute(a: Answers) -> tuple[torch.Tensor, Sums]:
        cost = kind.divergence.cost(a.delta).sum(-1)
        return cost, {"cost": cost.double(), "length": a.length}

    sums = one_pass(columns, compute, clip=kind.log_ratio_clip)[1]
    return float(sums["cost"].sum()) / max(1, int(sums["length"].sum()))


def sequence_divergence(
    columns: Columns, divergence: Divergence, log_ratio_clip: float = 20.0
) -> tuple[torch.Tensor, dict[str, float]]:
    """The sampled divergence of a whole response, to be put into its reward (placement `reward`).

        D_i = sum_t f(w_t)/w_t     (reverse KL: the sequence log-ratio), unbiased for sum_t D_f(s_t)

    Args:
        columns: the batch; no outcome is read.
        divergence: a row of the divergence table, or one's own.
        log_ratio_clip: bound of |log w| in nats.

    Returns:
        cost: (B,) float32 (float64 for float64), nats; 0 for a response without valid tokens. The rows of a session
            share its sum.
        metrics: those of `regularized_advantages` that need no regulariser.

    Raises:
        ValueError: ids that do not fit. FloatingPointError: NaN or infinity on a response token.

    Source: arXiv 2601.10201v2, Eq. 4.1 and Appendix D.1.
    """

    def compute(a: Answers) -> tuple[torch.Tensor, Sums]:
        return divergence.cost(a.delta).sum(-1), metrics.distance(a)

    cost, sums = one_pass(columns, compute, clip=log_ratio_clip)
    return cost, metrics.report(sums)
