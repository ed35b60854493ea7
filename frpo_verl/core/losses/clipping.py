"""Clipped surrogates whose trust region bounds a divergence estimate; ATR-GRPO is the `kl3` measure.

loss = -A clip(w, l, u),    w = pi/old,    [l, u] = the ratios at which the estimate stays within delta
"""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy.special import lambertw

from frpo_verl.core.losses.terms import LOG_RATIO_CLIP, LossInputs, LossTerms, attach_gradient
from frpo_verl.methods import names, ranges

OF_PROBABILITIES = ("binary_kl", "prob_tv")  # their interval depends on the old probability


def kl3_bounds(delta: float) -> tuple[float, float]:
    """The ratios at which KL3 = w - 1 - log w equals delta.

        l = -W_0(-exp(-(1 + delta))),   u = -W_{-1}(-exp(-(1 + delta)))       (Lambert W)
        l, u = 1 -/+ s + s^2/3 -/+ s^3/36 - ...,  s = sqrt(2 delta)           (used for delta < 1e-3)

    KL3(w) <= delta exactly for l <= w <= u, and u - 1 > 1 - l always; 0 < l < 1 < u. delta: nats, in (0, 700], else ValueError.

    Source: arXiv 2602.05494.

    Examples:
        >>> [round(bound, 4) for bound in kl3_bounds(0.0231)]
        [0.8002, 1.2306]
    """
    ranges.CLIP_DELTA.check("delta", delta)
    if delta < 1e-3:  # W loses half its digits near its branch point; the series error here is below 1e-15
        s = math.sqrt(2 * delta)
        return _kl3_series(-s), _kl3_series(s)
    z = -math.exp(-(1 + delta))
    return -float(lambertw(z, 0).real), -float(lambertw(z, -1).real)


def _kl3_series(s: float) -> float:
    """The solution w of w - 1 - log w = s^2 / 2 on the side of s (Temme's expansion)."""
    coefficients = (1.0, 1.0, 1 / 3, 1 / 36, -1 / 270, 1 / 4320, 1 / 17010)
    return sum(c * s**k for k, c in enumerate(coefficients))


def kl3_delta_for_lower(lower: float) -> float:
    """The delta whose KL3 region starts at the ratio `lower`: delta = l - 1 - log l, for 0 < l < 1."""
    if not 0 < lower < 1:
        raise ValueError(f"lower ratio bound {lower!r}: expected a number between 0 and 1, both excluded")
    return _kl3(lower - 1)


def kl3_delta_for_upper(upper: float) -> float:
    """The delta whose KL3 region ends at the ratio `upper`: delta = u - 1 - log u, for u > 1."""
    if not 1 < upper < math.inf:
        raise ValueError(f"upper ratio bound {upper!r}: expected a finite number above 1")
    return _kl3(upper - 1)


def _kl3(x: float) -> float:
    """x - log(1 + x) without cancellation for small x."""
    if abs(x) < 1e-3:
        return x * x * (1 / 2 - x * (1 / 3 - x * (1 / 4 - x * (1 / 5 - x * (1 / 6 - x / 7)))))
    return x - math.log1p(x)


def ratio_bounds(measure: str, delta: float | tuple[float, float]) -> tuple[float, float]:
    """The interval of ratios w = pi/old on which a divergence estimate stays within delta.

        ratio  -low <= w - 1 <= high   [1 - low, 1 + high]   delta: a number, or a pair (low, high)
        kl1    |log w| <= delta        [exp(-delta), exp(delta)]
        kl2    (log w)^2 / 2 <= delta  [exp(-sqrt(2 delta)), exp(sqrt(2 delta))]
        kl3    w - 1 - log w <= delta  [l, u] by Lambert W
        tv     |w - 1| / 2 <= delta    [1 - 2 delta, 1 + 2 delta]

    0 <= lower < 1 < upper: a lower bound below 0 is 0, no ratio can reach it.

    Args:
        measure: one of `names.CLIP_MEASURES` but those of OF_PROBABILITIES, for which see `probability_bounds`.
        delta: in (0, 700], nats for the kl measures; a pair only for ratio.

    Raises:
        ValueError: an unknown measure, a delta out of its range, or a pair with another measure.

    Source: arXiv 2602.05494 (ratio and kl3). Differs from the paper in kl1, where the absolute value is
    taken: the raw estimate -log w is negative above 1 and would leave that side unclipped.
    """
    if measure not in names.CLIP_MEASURES or measure in OF_PROBABILITIES:
        raise ValueError(f"measure={measure!r}: expected one of {', '.join(names.CLIP_MEASURES)}")
    pair = tuple(delta) if isinstance(delta, (tuple, list)) else (delta, delta)
    if isinstance(delta, (tuple, list)) and (measure != "ratio" or len(pair) != 2):
        raise ValueError(f"delta={delta!r} with measure {measure}: expected one number (a pair goes with ratio)")
    for number in pair:
        ranges.CLIP_DELTA.check("delta", number)
    low, high = float(pair[0]), float(pair[1])
    if measure == "ratio":
        return max(0.0, 1 - low), 1 + high
    if measure == "tv":
        return max(0.0, 1 - 2 * low), 1 + 2 * low
    if measure == "kl3":
        return kl3_bounds(low)
    width = low if measure == "kl1" else math.sqrt(2 * low)
    return math.exp(-width), math.exp(width)


def binary_kl(old_log_prob: torch.Tensor, log_ratio: torch.Tensor) -> torch.Tensor:
    """KL between "this token or another" under old and under pi: a lower bound of KL(old||pi) at that state.

        D = p log(p/q) + (1 - p) log((1 - p)/(1 - q)),   p = old, q = pi = old w

    Args:
        old_log_prob, log_ratio: (...) log p and log w, nats.

    Returns:
        (...) nats in float64, 0 at w = 1, inf from q = 1 on (while p < 1).

    Source: arXiv 2602.04879.
    """
    log_p, x = old_log_prob.double().clamp(max=0.0), log_ratio.double()
    other_p, other_q = -torch.expm1(log_p), -torch.expm1((log_p + x).clamp(max=0.0))
    return -log_p.exp() * x + torch.xlogy(other_p, other_p) - torch.xlogy(other_p, other_q)


def probability_bounds(measure: str, delta: float, old_log_prob: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The interval of ratios w = pi/old on which two probabilities of the sampled token stay within delta.

        binary_kl  D(old, pi) <= delta     by bisection of log w in [-20, 20], see `binary_kl`
        prob_tv    |pi - old| <= delta     [1 - delta / old, 1 + delta / old]

    A rare token's interval is wide, a sure one's is narrow: [1 - delta, 1 + delta] at old = 1 for prob_tv. A lower bound
    that no ratio reaches is 0; an upper one is inf. Both are (...) in float64, 0 <= lower < 1 <= upper.

    Args:
        measure: binary_kl or prob_tv.
        delta: nats in (0, 700], or a difference of probabilities in (0, 1); another raises ValueError.
        old_log_prob: (...) log old of the sampled tokens, nats.

    Source: arXiv 2602.04879.
    """
    ranges.clip_delta(measure).check("delta", delta)
    if measure == "prob_tv":
        width = delta * torch.exp(-old_log_prob.double().clamp(min=-700.0, max=0.0))
        return (1 - width).clamp(min=0.0), 1 + width
    end = torch.tensor([-LOG_RATIO_CLIP, LOG_RATIO_CLIP], dtype=torch.float64, device=old_log_prob.device)
    outside = end.view(2, *(1,) * old_log_prob.dim()).expand(2, *old_log_prob.shape)
    free = binary_kl(old_log_prob, outside) <= delta  # no ratio that the loss tells from another reaches delta
    inside, outside = torch.zeros_like(outside), outside.clone()
    for _ in range(60):
        middle = (inside + outside) / 2
        within = binary_kl(old_log_prob, middle) <= delta
        inside, outside = torch.where(within, middle, inside), torch.where(within, outside, middle)
    lower, upper = inside.exp()
    return lower.masked_fill(free[0], 0.0), upper.masked_fill(free[1], math.inf)


def signed_clamp(
    ratio: torch.Tensor,
    negative: torch.Tensor,
    lower: float | torch.Tensor,
    upper: float | torch.Tensor,
    dual_clip_c: float,
) -> torch.Tensor:
    """The ratio inside PPO's live region, the nearest end of that region outside; (...) each.

    sign not negative: live for w <= upper;   sign negative: live for lower <= w <= dual_clip_c
    """
    bounds = (0.0, lower, upper, dual_clip_c)
    zero, low, high, c = (torch.as_tensor(x, dtype=ratio.dtype, device=ratio.device) for x in bounds)
    floor, ceiling = torch.where(negative, low, zero), torch.where(negative, c, high)
    return torch.clamp(ratio, floor, ceiling)


def dual_clip_ceiling(dual_clip_c: float | None) -> float:
    """The dual clip's constant, inf for None; raises ValueError unless it is above 1."""
    if dual_clip_c is None:
        return math.inf
    ranges.DUAL_CLIP.check("dual_clip_c", dual_clip_c)
    return float(dual_clip_c)


def divergence_clip_loss(
    inputs: LossInputs,
    *,
    measure: str = "kl3",
    delta: float | tuple[float, float] = 0.0231,
    dual_clip_c: float | None = 3.0,
) -> LossTerms:
    """Policy loss that keeps a token's gradient while its divergence estimate from old stays within delta.

        w = pi / old,   [l, u] = ratio_bounds(measure, delta), or a token's own from `probability_bounds`
        A >= 0: loss = -A min(w, u)                  gradient -A w, 0 for w > u
        A <  0: loss = -A min(max(w, l), c)          gradient -A w, 0 for w < l and w > c (dual clip)

    Args:
        inputs: from `read_loss_inputs`.
        measure, delta: the trust region, see `ratio_bounds` and `probability_bounds`.
        dual_clip_c: verl's `clip_ratio_c`; None switches the dual clip off.

    Returns:
        LossTerms with token_loss (B, T).

    Raises:
        ValueError: an unknown measure, delta or dual_clip_c out of their ranges.

    Source: arXiv 2602.05494; binary_kl and prob_tv: arXiv 2602.04879; dual clip: arXiv 1912.09729. With `ratio` it is
    verl's `vanilla`, value and gradient; the last two have the gradient of verl's `dppo_kl` and `dppo_tv` below c.
    Differs from the paper in the constant reported in the clipped region (the nearest bound, as PPO's), not in any
    gradient.
    """
    ceiling = dual_clip_ceiling(dual_clip_c)
    with torch.no_grad():
        lower, upper = _bounds(measure, delta, inputs.old_log_prob)
        log_ratio = (inputs.log_prob - inputs.old_log_prob).clamp_(-LOG_RATIO_CLIP, LOG_RATIO_CLIP)
        ratio, advantage = torch.exp(log_ratio), inputs.advantages
        clipped = signed_clamp(ratio, advantage < 0, lower, upper, ceiling)
        value = -advantage * clipped
        stopped, metrics = clip_metrics(ratio, log_ratio, clipped, advantage, inputs.mask)
        coefficient = value.masked_fill(stopped, 0.0)
    return LossTerms(attach_gradient(value, coefficient, inputs.log_prob), None, metrics)


def _bounds(measure: str, delta: Any, old_log_prob: torch.Tensor) -> tuple[Any, Any]:
    if measure in OF_PROBABILITIES:
        return probability_bounds(measure, delta, old_log_prob)
    return ratio_bounds(measure, delta)


def clip_metrics(
    ratio: torch.Tensor,
    log_ratio: torch.Tensor,
    clipped: torch.Tensor,
    advantage: torch.Tensor,
    mask: torch.Tensor,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Which entries the clip stopped, and the clip fractions over the valid entries.

        actor/ppo_kl               mean of log(old/pi)
        actor/pg_clipfrac          share of entries that the trust region stops, at_low + at_high
        actor/pg_clipfrac_at_low   advantage < 0 and ratio below the lower bound
        actor/pg_clipfrac_at_high  advantage > 0 and ratio above the upper bound
        actor/pg_clipfrac_lower    stopped by the dual clip: advantage < 0 and ratio above c (verl's name)

    All are of one shape; outside the mask log_ratio is 0 and the ratio 1. A NaN ratio is not stopped, so that it shows in
    the gradient.
    """
    count = mask.sum().clamp(min=1).to(ratio.dtype)
    below, above = clipped > ratio, clipped < ratio
    at_low = below.sum() / count
    at_high = (above & (advantage > 0)).sum() / count
    metrics = {
        "actor/ppo_kl": -log_ratio.sum() / count,
        "actor/pg_clipfrac": at_low + at_high,
        "actor/pg_clipfrac_at_low": at_low,
        "actor/pg_clipfrac_at_high": at_high,
        "actor/pg_clipfrac_lower": (above & (advantage < 0)).sum() / count,
    }
    return below | above, metrics
