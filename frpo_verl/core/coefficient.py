"""The coefficient beta over time: a schedule, which is a function of the step alone, and a target for the KL.

    schedule   beta_k = start + (end - start) s(min(k - 1, n) / n),    s(x) = x (linear) or (1 - cos pi x) / 2 (cosine)
    target     beta_{k+1} = beta_k (1 + clip(KL_k / target - 1, -0.2, 0.2) / horizon)

k counts training steps from 1.
"""

from __future__ import annotations

import math

from frpo_verl.methods import names, ranges

LARGEST_ERROR = 0.2  # of KL / target - 1, as in the adaptive controllers of verl, TRL and OpenRLHF


def scheduled(step: int, start: float, end: float, steps: int, shape: str = "linear") -> float:
    """The coefficient of one training step under a schedule, between start and end.

    Args:
        step: k, the training step, from 1.
        start, end: the coefficient at step 1, and from step n + 1 on.
        steps: n, over how many steps it changes.
        shape: linear or cosine.

    Raises ValueError: an unknown shape, a coefficient below 0, or a step or number of steps below 1.
    """
    for name, value in (("start", start), ("end", end)):
        ranges.KL_COEF.check(name, value)
    ranges.SCHEDULE_STEPS.check("steps", steps)
    ranges.SCHEDULE_STEPS.check("step", step)
    if shape not in names.COEF_SHAPES:
        raise ValueError(f"shape={shape!r}: not one of {', '.join(names.COEF_SHAPES)}")
    x = min(step - 1, steps) / steps
    if shape == "cosine":
        x = (1 - math.cos(math.pi * x)) / 2
    return start + (end - start) * x


def steered(coefficient: float, kl: float, target: float, horizon: float) -> float:
    """The coefficient of the next step, beta_{k+1}, when the KL of a response is steered to a target.

    Args:
        coefficient: beta_k, above 0.
        kl: KL_k, the batch's mean divergence of a response from the reference, in nats. One that is not finite
            leaves the coefficient as it is.
        target: the KL to reach, in nats.
        horizon: steps; a step changes the coefficient by at most 0.2 / horizon of itself.

    Source: the adaptive controller of Ziegler et al. (arXiv 1909.08593), as verl has it for the KL in the reward.
    Differs from it in counting steps where that counts responses.
    """
    ranges.KL_TARGET.check("target", target)
    ranges.KL_HORIZON.check("horizon", horizon)
    if not math.isfinite(kl):
        return coefficient
    error = max(-LARGEST_ERROR, min(LARGEST_ERROR, kl / target - 1))
    return coefficient * (1 + error / horizon)
