"""f-GRPO: raise a bound on the divergence between good and bad answers; f-HAL adds recorded preferences.

loss = (1 + 1/beta) |a| { -g(v) for a good answer | f*(g(v)) for another },      v = beta log(pi/ref)(answer)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from frpo_verl.core.losses.terms import LOG_RATIO_CLIP, LossInputs, LossTerms, attach_gradient, row_value
from frpo_verl.core.tokens import dense_ids, float_dtype, keep
from frpo_verl.methods import names, ranges

LOG_2 = math.log(2.0)


class Link(NamedTuple):
    """Link g and composite f*(g(v)) of one divergence with their slopes; each function maps v (...) -> (...).

    good: g(v). good_slope: g'(v) > 0. bad: f*(g(v)). bad_slope: its derivative, >= 0.
    """

    good: Callable[[torch.Tensor], torch.Tensor]
    good_slope: Callable[[torch.Tensor], torch.Tensor]
    bad: Callable[[torch.Tensor], torch.Tensor]
    bad_slope: Callable[[torch.Tensor], torch.Tensor]


def _bounded(v: torch.Tensor) -> torch.Tensor:
    return v.clamp(-LOG_RATIO_CLIP, LOG_RATIO_CLIP)


def _exp(v: torch.Tensor) -> torch.Tensor:
    return torch.exp(_bounded(v))


def _expm1(v: torch.Tensor) -> torch.Tensor:
    return torch.expm1(_bounded(v))


def _half_sech2(v: torch.Tensor) -> torch.Tensor:
    """sech(v)^2 / 2 = 2 exp(-2|v|) / (1 + exp(-2|v|))^2, without cancellation."""
    e = torch.exp(-2 * _bounded(v).abs())
    return 2 * e / (1 + e).square()


LINKS = {
    # f(u) = u log u, g(v) = v, f*(t) = exp(t - 1)
    "kl": Link(lambda v: v, torch.ones_like, lambda v: _exp(v - 1), lambda v: _exp(v - 1)),
    # f(u) = -log u, g(v) = -exp(-v), f*(t) = -1 - log(-t)
    "reverse_kl": Link(lambda v: -_exp(-v), lambda v: _exp(-v), lambda v: v - 1, torch.ones_like),
    # f(u) = (u - 1)^2, g(v) = v, f*(t) = t + t^2/4 for t >= -2, else -1: t held at -2
    "pearson": Link(
        lambda v: v,
        torch.ones_like,
        lambda v: (v.clamp(min=-2.0) / 2 + 1).square() - 1,
        lambda v: v.clamp(min=-2.0) / 2 + 1,
    ),
    # f(u) = (sqrt u - 1)^2, g(v) = 1 - exp(-v), f*(t) = t / (1 - t)
    "squared_hellinger": Link(lambda v: -_expm1(-v), lambda v: _exp(-v), _expm1, _exp),
    # f(u) = u log u - (u + 1) log((u + 1)/2), g(v) = log 2 - softplus(-v), f*(t) = -log(2 - exp t)
    "js": Link(
        lambda v: LOG_2 - F.softplus(-v),
        lambda v: torch.sigmoid(-_bounded(v)),
        lambda v: F.softplus(v) - LOG_2,
        lambda v: torch.sigmoid(_bounded(v)),
    ),
    # f(u) = |u - 1| / 2, g(v) = tanh(v) / 2, f*(t) = t for |t| <= 1/2
    "total_variation": Link(lambda v: torch.tanh(v) / 2, _half_sech2, lambda v: torch.tanh(v) / 2, _half_sech2),
}


def f_grpo_loss(
    inputs: LossInputs, *, divergence: str = "js", beta: float = 0.1, length_normalize: bool = False
) -> LossTerms:
    """One loss for each response, from its log-ratio to the reference and its signed weight a.

        v_i = beta sum_t log(pi/ref)                    (length_normalize: mean over t)
        a_i > 0:  loss_i = -(1 + 1/beta) |a_i| g(v_i)
        else   :  loss_i = +(1 + 1/beta) |a_i| f*(g(v_i))

    f* is the conjugate and g the link of `divergence` (`LINKS`; u there is the ratio of the good to the bad answers'
    density, not the pi/ref of the FRPO table). Aggregate as the mean over responses. The paper's importance weights
    (`softmax_weights`) and preference rows (`signed_weights`) come in through a.

    Args:
        inputs: from `read_loss_inputs`, with ref_log_prob; advantages hold one value for each response, a.
            old_log_prob is read by the drift metric alone.
        divergence: a key of LINKS.
        beta: > 0, scale of the implicit reward.
        length_normalize: the mean over a response's tokens in place of the sum.

    Returns:
        LossTerms with sequence_loss (B,); 0 for a response without valid tokens.

    Raises:
        ValueError: an unknown divergence, beta out of its range, no reference, advantages that vary within a response.

    Source: arXiv 2602.05946. Differs from the paper in the conjugate of pearson (clamped: the raw one pulls a
    suppressed bad answer up again for v < -2) and in bounding exponents at 20, so that v in the hundreds stays finite
    in float32.

    Examples:
        >>> from frpo_verl.core.losses.terms import read_loss_inputs
        >>> log_prob = torch.tensor([[-1.0, -2.0], [-1.0, -2.0]], requires_grad=True)
        >>> fixed, mask = log_prob.detach(), torch.tensor([[1, 1], [1, 0]])
        >>> inputs = read_loss_inputs(
        ...     log_prob=log_prob, old_log_prob=fixed, ref_log_prob=fixed, advantages=torch.tensor([1.0, -1.0]), mask=mask
        ... )
        >>> f_grpo_loss(inputs, divergence="js", beta=0.5).sequence_loss.sum().backward()
        >>> log_prob.grad  # the good answer up, the bad one down: (1 + beta) g'(0) = 1.5 * 0.5
        tensor([[-0.7500, -0.7500],
                [ 0.7500,  0.0000]])
    """
    if divergence not in LINKS:
        raise ValueError(
            f"divergence={divergence!r}{names.nearest(divergence, LINKS)}: expected one of {', '.join(LINKS)}"
        )
    link = LINKS[divergence]
    ranges.BETA.check("beta", beta)
    log_prob, old_log_prob, advantages, mask, ref_log_prob = inputs
    if ref_log_prob is None:
        raise ValueError("ref_log_prob is missing: the loss compares the policy with a reference")
    weight = row_value(advantages, mask, "advantages")
    scale = torch.full_like(weight, beta)
    if length_normalize:
        scale = scale / mask.sum(dim=-1).clamp(min=1)
    reward = scale * log_prob.sum(-1)  # carries the gradient; a constant short of v
    with torch.no_grad():
        v = scale * (log_prob - ref_log_prob).sum(-1)
        size = (1 + 1 / beta) * weight.abs()
        value = size * torch.where(weight > 0, -link.good(v), link.bad(v))
        slope = size * torch.where(weight > 0, -link.good_slope(v), link.bad_slope(v))
        metrics = _metrics(v, weight, log_prob - old_log_prob, mask)
    return LossTerms(None, attach_gradient(value, slope, reward), metrics)


def _metrics(
    v: torch.Tensor, weight: torch.Tensor, log_ratio_old: torch.Tensor, mask: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Means over responses with tokens; margin: mean v of the pushed-up minus mean v of the pushed-down."""
    rows = mask.any(dim=-1)
    count = rows.sum().clamp(min=1)
    good, bad = weight > 0, weight < 0
    mean_good = keep(v, good).sum() / good.sum().clamp(min=1)
    mean_bad = keep(v, bad).sum() / bad.sum().clamp(min=1)
    return {
        "actor/ppo_kl": -log_ratio_old.sum() / mask.sum().clamp(min=1),
        "actor/f_grpo/v_good": mean_good,
        "actor/f_grpo/v_bad": mean_bad,
        "actor/f_grpo/margin": mean_good - mean_bad,
        "actor/f_grpo/good_frac": good.sum() / count,
        "actor/f_grpo/v_clip_frac": (v.abs() > LOG_RATIO_CLIP).sum() / count,
    }


def softmax_weights(
    scores: torch.Tensor,
    old_sequence_log_prob: torch.Tensor,
    advantages: torch.Tensor,
    group_ids: Any,
    valid: torch.Tensor | None = None,
) -> torch.Tensor:
    """Importance weights of the reward-tilted good and bad answers of each group, computed in log space.

        a_i > 0:  w_i = n+ softmax over the group's good answers of ( +r_j - log old(y_j))
        else   :  w_i = n- softmax over the group's other answers of ( -r_j - log old(y_j))

    n+ and n- are the sizes of the two sides, so that equal rewards and equal log-probabilities give w = 1.
    Needs whole groups, so it belongs where the whole batch is: multiply it into the advantages there. The
    log-probabilities of long answers differ by hundreds of nats: one takes all of its side.

    Args:
        scores: (B,) outcome rewards.
        old_sequence_log_prob: (B,) sums over the response, nats.
        advantages: (B,), read for their sign.
        group_ids: (B,) ids of any kind.
        valid: (B,) bool, answers that count (default all); others (no token left, a pad row) get weight 0.

    Returns:
        (B,) weights >= 0.

    Raises:
        ValueError: shapes that do not fit.

    Source: arXiv 2602.05946; the scale n+/n- is ours, the paper's normalisation is not known to us.
    """
    rows = scores.shape[0]
    given = {"scores": scores, "old_sequence_log_prob": old_sequence_log_prob, "advantages": advantages}
    for name, x in given.items():
        if x.shape != (rows,):
            raise ValueError(f"{name} has shape {tuple(x.shape)}; expected ({rows},)")
    good = advantages > 0
    side = 2 * dense_ids(group_ids, rows).to(scores.device) + good
    dtype = float_dtype(scores, old_sequence_log_prob)
    logits = torch.where(good, scores, -scores).to(dtype) - old_sequence_log_prob.to(dtype)
    valid = torch.ones_like(good) if valid is None else valid.bool()
    logits = torch.where(valid, logits, -torch.inf)
    sides = int(side.max()) + 1 if rows else 0
    highest = logits.new_full((sides,), -torch.inf).scatter_reduce_(0, side, logits, "amax")
    unnormalised = torch.where(valid, torch.exp(logits - highest[side]), 0.0)
    total = logits.new_zeros(sides).index_add_(0, side, unnormalised)
    count = logits.new_zeros(sides).index_add_(0, side, valid.to(dtype))
    return torch.where(valid, unnormalised * (count / total)[side], 0.0)


def signed_weights(
    advantages: torch.Tensor,
    preference_sign: torch.Tensor,
    preference_weight: float,
    beta: float,
    *,
    valid: torch.Tensor | None = None,
) -> torch.Tensor:
    """f-HAL's signed weight of each response, to be handed to `f_grpo_loss` as its advantages.

        on-policy row      s = (1 - lambda) (B / n_on) a
        chosen answer      s = +lambda (B / n_chosen) / (1 + 1/beta)
        rejected answer    s = -lambda (B / n_rejected) / (1 + 1/beta)

    The sum of that loss over all B rows, divided by B, is then

        lambda L_FDO + (1 - lambda) L_f-GRPO
        L_FDO    = -mean over chosen of g(v) + mean over rejected of f*(g(v))
        L_f-GRPO = mean of f_grpo_loss over on-policy rows

    The counts are those of the whole batch: mini-batches of whatever composition then add up to the stated loss. With no
    chosen (rejected, on-policy) rows that mean is 0.

    Args:
        advantages: (B,); not read on preference rows.
        preference_sign: (B,), 1 chosen, -1 rejected, 0 on-policy.
        preference_weight: lambda in [0, 1].
        beta: the same as the loss's.
        valid: (B,) bool, rows that count (default all); others get weight 0.

    Returns:
        (B,) float32 or better.

    Raises:
        ValueError: shapes that do not fit, numbers out of their ranges.

    Source: arXiv 2602.05946.
    """
    if advantages.dim() != 1 or preference_sign.shape != advantages.shape:
        raise ValueError(
            f"advantages {tuple(advantages.shape)} and preference_sign {tuple(preference_sign.shape)}: "
            f"both must be (B,)"
        )
    ranges.PREFERENCE_WEIGHT.check("preference_weight", preference_weight)
    ranges.BETA.check("beta", beta)
    valid = torch.ones_like(preference_sign, dtype=torch.bool) if valid is None else valid.bool()
    chosen, rejected = valid & (preference_sign > 0), valid & (preference_sign < 0)
    on_policy = valid & (preference_sign == 0)
    share = preference_weight / (1 + 1 / beta)
    out = keep(advantages.to(float_dtype(advantages)), on_policy)

    def scale(rows: torch.Tensor) -> torch.Tensor:
        return len(advantages) / rows.sum().clamp(min=1).to(out.dtype)

    out = (1 - preference_weight) * scale(on_policy) * out
    return torch.where(rejected, -share * scale(rejected), torch.where(chosen, share * scale(chosen), out))
