"""RPG: KL-regularised policy gradients, exact for samples from an older policy (arXiv 2505.17508).

gradient = -w A^ grad log pi,    A^ = A - beta K' / w,    w = pi/old,  K = an estimate of the KL over samples from old
"""

from __future__ import annotations

import math

import torch

from frpo_verl.core.losses.clipping import clip_metrics, dual_clip_ceiling, signed_clamp
from frpo_verl.core.losses.terms import LOG_RATIO_CLIP, LossInputs, LossTerms, attach_gradient, row_value
from frpo_verl.core.tokens import keep
from frpo_verl.methods import names, ranges


def rpg_loss(
    inputs: LossInputs,
    *,
    variant: str = "urkl",
    reinforce: bool = False,
    kl_coef: float = 1e-4,
    level: str = "token",
    reference: str = "old",
    clip_low: float | None = 0.2,
    clip_high: float | None = 0.28,
    dual_clip_c: float | None = 10.0,
) -> LossTerms:
    """Loss whose gradient over samples from old is that of `E_pi R - beta KL`, for four forms of the KL.

    With w = pi/old, d = log(pi/ref), q = ref/old (the paper: ref = old, d = log w, q = 1), A = R - baseline:

        variant  KL term                      estimate K (loss: -w A + beta K)   A^ = A - beta K' / w
        fkl      KL(ref||pi)                  -q d                               A + beta q / w
        ufkl     UKL(ref||pi)                 w - q - q d                        A - beta (1 - q / w)
        rkl      KL(pi||ref)                  w d                                A - beta (d + 1)
        urkl     UKL(pi||ref)                 w d - w + q                        A - beta d

    K' = dK / d log pi; UKL(p||q) = sum p log(p/q) - p + q. The unclipped gradient is -w A^ grad log pi everywhere. The clip
    (PPO's, with dual clip) stops it where

        A^ >= 0 and w > 1 + clip_high,    A^ < 0 and w < 1 - clip_low,    A^ < 0 and w > dual_clip_c

    In the fully differentiable fkl and ufkl the clip acts on -w A alone, by the sign of A; K stays unclipped.

    Args:
        inputs: from `read_loss_inputs`; advantages are reward minus baseline, at level sequence one value per response.
        variant: fkl, ufkl, rkl or urkl.
        reinforce: the REINFORCE form, -sg[w A^] log pi, clipped by the sign of A^.
        kl_coef: beta >= 0.
        level: token (w, d, q of each token: the gradient of the local KL with the states of old) or sequence (w, d, q
            of the whole response: the objective as stated).
        reference: old (the paper), or ref: the fixed reference of the inputs.
        clip_low, clip_high, dual_clip_c: see above; None switches one off.

    Returns:
        LossTerms with token_loss (B, T), or sequence_loss (B,) at level sequence. Metrics: those of the clip, and
        actor/rpg_kl, the mean of K.

    Raises:
        ValueError: names and numbers outside the ranges above, reference ref without ref_log_prob, level sequence with
            advantages that vary within a response.

    Source: arXiv 2505.17508, sections 3 and 4, algorithms 1 and 2. Differs from the paper in that A^ carries no
    gradient of its own (algorithm 1 as printed adds beta w grad log pi for rkl and urkl, zero in expectation) and in
    leaving out the constant Z, the mass of an unnormalised old; from the public code in having no clamp on K and in the
    sign that the clip looks at. The log-ratio is bounded at 20 inside exp only.

    Examples:
        >>> from frpo_verl.core.losses.terms import read_loss_inputs
        >>> log_prob = torch.tensor([[-1.0, -2.0]], requires_grad=True)
        >>> old = torch.tensor([[-1.1, -3.0]])
        >>> advantages, mask = torch.tensor([1.0]), torch.tensor([[1, 1]])
        >>> inputs = read_loss_inputs(log_prob=log_prob, old_log_prob=old, advantages=advantages, mask=mask)
        >>> terms = rpg_loss(inputs, variant="urkl", kl_coef=0.1)
        >>> terms.token_loss.sum().backward()
        >>> log_prob.grad  # -w (A - beta log w) at w = exp(0.1); the second ratio is beyond the clip
        tensor([[-1.0941,  0.0000]])
        >>> round(float(terms.metrics["actor/pg_clipfrac_at_high"]), 2)
        0.5
    """
    for name, given, known in (
        ("variant", variant, names.RPG_VARIANTS),
        ("level", level, names.LEVELS),
        ("reference", reference, names.RPG_REFERENCES),
    ):
        if given not in known:
            raise ValueError(f"{name}={given!r}: expected one of {', '.join(known)}")
    for name, number, allowed in (
        ("kl_coef", kl_coef, ranges.KL_COEF),
        ("clip_low", clip_low, ranges.CLIP_LOW),
        ("clip_high", clip_high, ranges.CLIP_HIGH),
    ):
        if number is not None or name == "kl_coef":
            allowed.check(name, number)
    lower = 1.0 - clip_low if clip_low is not None else 0.0
    upper = 1.0 + clip_high if clip_high is not None else math.inf
    ceiling = dual_clip_ceiling(dual_clip_c)
    log_prob, old, advantage, valid, ref = inputs
    log_ratio = log_prob.detach() - old
    log_q = torch.zeros_like(log_ratio)
    if reference == "ref":
        if ref is None:
            raise ValueError("reference='ref': ref_log_prob is missing, hand it to read_loss_inputs")
        log_q = ref - old
    if level == "sequence":
        advantage = row_value(advantage, valid, "advantages")
        valid = valid.any(dim=-1)
        log_prob, log_ratio, log_q = (x.sum(-1) for x in (log_prob, log_ratio, log_q))

    with torch.no_grad():
        d, q = log_ratio - log_q, torch.exp(log_q.clamp(-LOG_RATIO_CLIP, LOG_RATIO_CLIP))
        log_ratio = log_ratio.clamp(-LOG_RATIO_CLIP, LOG_RATIO_CLIP)
        w = torch.exp(log_ratio)
        kl, kl_slope = _kl_terms(variant, w, d, q)
        joint_clip = reinforce or variant in ("rkl", "urkl")
        signed = advantage - kl_coef * kl_slope / w if joint_clip else advantage
        clipped = signed_clamp(w, signed < 0, lower, upper, ceiling)
        stopped, metrics = clip_metrics(w, log_ratio, clipped, signed, valid)
        weight = -signed * clipped
        coefficient = weight.masked_fill(stopped, 0.0)
        if not joint_clip:
            coefficient = coefficient + kl_coef * kl_slope
        value = weight * log_prob if reinforce else kl_coef * kl - advantage * clipped
        coefficient, value = keep(coefficient, valid), keep(value, valid)  # a KL term need not be 0 at w = 1
        metrics["actor/rpg_kl"] = keep(kl, valid).sum() / valid.sum().clamp(min=1)
    loss = attach_gradient(value, coefficient, log_prob)
    return LossTerms(loss, None, metrics) if level == "token" else LossTerms(None, loss, metrics)


def _kl_terms(variant: str, w: torch.Tensor, d: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The estimate K of the KL over samples from old, and dK / d log pi."""
    if variant == "fkl":
        return -q * d, -q
    if variant == "ufkl":
        excess = w - q
        return excess - q * d, excess
    if variant == "rkl":
        kl = w * d
        return kl, kl + w
    kl_slope = w * d
    return kl_slope - w + q, kl_slope
