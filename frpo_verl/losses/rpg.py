"""RPG: KL-regularised policy gradients, exact for samples from an older policy (arXiv 2505.17508)."""

import math

import torch

from frpo_verl.losses.clipping import check_dual_clip, clip_metrics, signed_clamp
from frpo_verl.losses.terms import (
    LOG_RATIO_CLIP,
    LossTerms,
    attach_gradient,
    check_token_tensors,
    group_index,
    row_value,
    upcast,
)
from frpo_verl.masking import keep, masked_sum

VARIANTS = ("fkl", "ufkl", "rkl", "urkl")
LEVELS = ("token", "sequence")
BASELINES = ("group_mean", "batch_mean")


def rpg_loss(
    log_prob: torch.Tensor,
    old_log_prob: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    *,
    variant: str = "urkl",
    reinforce: bool = False,
    kl_coef: float = 1e-4,
    level: str = "token",
    ref_log_prob: torch.Tensor | None = None,
    clip_low: float | None = 0.2,
    clip_high: float | None = 0.28,
    dual_clip_c: float | None = 10.0,
    z: float = 1.0,
) -> LossTerms:
    """Loss whose gradient over samples from old is that of `E_pi R - beta KL`, for four forms of the KL.

    With w = pi/old, d = log(pi/ref), q = ref/old (the paper: ref = old, d = log w, q = 1), A = R - baseline:

        variant  KL term                      estimate K (loss: -w A + beta K)   A^ = A - beta K' / w
        fkl      KL(ref||pi)                  -q d                               A + beta q / w
        ufkl     UKL(ref||pi)                 w - q - q d                        A - beta (1 - q / w)
        rkl      KL(pi||ref)                  w d                                A - beta (d + 1)
        urkl     UKL(pi||ref)                 w d - w + q                        A - beta d

    K' = dK / d log pi; UKL(p||q) = sum p log(p/q) - p + q; the two U losses are multiplied by z. The
    unclipped gradient is -w A^ grad log pi everywhere. The clip (PPO's, with dual clip) stops it where

        A^ >= 0 and w > 1 + clip_high,    A^ < 0 and w < 1 - clip_low,    A^ < 0 and w > dual_clip_c

    In the fully differentiable fkl and ufkl the clip acts on -w A alone, by the sign of A; K stays unclipped.

    Args:
        log_prob, old_log_prob: (B, T) of the sampled tokens, nats; only log_prob carries gradient.
        advantages: (B, T), reward minus baseline; level sequence: one value per response, also as (B,).
        mask: (B, T), non-zero on response tokens; other positions have no effect whatever they hold.
        variant: fkl, ufkl, rkl or urkl.
        reinforce: the REINFORCE form, -sg[w A^] log pi, clipped by the sign of A^.
        kl_coef: beta >= 0.
        level: token (w, d, q of each token: the gradient of the local KL with the states of old) or sequence
            (w, d, q of the whole response: the objective as stated).
        ref_log_prob: (B, T) of a fixed reference, nats; None takes old as the reference.
        clip_low, clip_high, dual_clip_c: see above; None switches one off.
        z: total mass of an unnormalised old, the paper's Z.
    Returns: LossTerms with token_loss (B, T), or sequence_loss (B,) at level sequence. Metrics: those of the
        clip, and actor/rpg_kl, the mean of K.
    Raises: ValueError on shapes and on values outside the ranges above.
    Source: arXiv 2505.17508, sections 3 and 4, algorithms 1 and 2.
    Differs from the paper in that A^ carries no gradient of its own (algorithm 1 as printed adds
    beta w grad log pi for rkl and urkl, zero in expectation), and from the public code in having no clamp on
    K and in the sign that the clip looks at. The log-ratio is bounded at 20 inside exp only.
    """
    _check(variant, kl_coef, level, clip_low, clip_high, z)
    check_token_tensors(mask, log_prob=log_prob, old_log_prob=old_log_prob)
    lower = 1.0 - clip_low if clip_low is not None else 0.0
    upper = 1.0 + clip_high if clip_high is not None else math.inf
    ceiling = check_dual_clip(dual_clip_c)
    mask = mask.bool()
    log_prob = upcast(log_prob)
    if level == "token":
        check_token_tensors(mask, advantages=advantages)
        valid = mask
        advantage = keep(upcast(advantages), mask)
        log_ratio = keep(log_prob.detach() - upcast(old_log_prob), mask)
    else:
        valid = mask.any(dim=-1)
        advantage = row_value(upcast(advantages), mask, "advantages")
        log_ratio = masked_sum(log_prob.detach() - upcast(old_log_prob), mask, dim=-1)
        log_prob = masked_sum(log_prob, mask, dim=-1)
    if ref_log_prob is None:
        d, q = log_ratio, 1.0
    else:
        check_token_tensors(mask, ref_log_prob=ref_log_prob)
        log_q = upcast(ref_log_prob) - upcast(old_log_prob)
        log_q = keep(log_q, mask) if level == "token" else masked_sum(log_q, mask, dim=-1)
        d, q = log_ratio - log_q, torch.exp(log_q.clamp(-LOG_RATIO_CLIP, LOG_RATIO_CLIP))

    with torch.no_grad():
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
        value = weight * keep(log_prob, valid) if reinforce else kl_coef * kl - advantage * clipped
        if variant in ("ufkl", "urkl") and z != 1.0:
            coefficient, value = z * coefficient, z * value
        coefficient, value = keep(coefficient, valid), keep(value, valid)
        metrics["actor/rpg_kl"] = keep(kl, valid).sum() / valid.sum().clamp(min=1)
    loss = attach_gradient(value, coefficient, log_prob)
    return LossTerms(loss, None, metrics) if level == "token" else LossTerms(None, loss, metrics)


def _kl_terms(variant: str, w: torch.Tensor, d: torch.Tensor, q: torch.Tensor | float):
    """The estimate K of the KL over samples from old, and dK / d log pi."""
    if variant == "fkl":
        return -q * d, -q * torch.ones_like(w)
    if variant == "ufkl":
        excess = w - q
        return excess - q * d, excess
    if variant == "rkl":
        kl = w * d
        return kl, kl + w
    kl_slope = w * d
    return kl_slope - w + q, kl_slope


def baseline_advantage(
    scores: torch.Tensor, group_ids, kind: str = "group_mean", valid: torch.Tensor | None = None
) -> torch.Tensor:
    """Reward minus a mean, without division by a standard deviation.

        group_mean: R_i - mean of R over the responses with the same id        (the authors' scripts)
        batch_mean: R_i - mean of R over the batch                             (the paper's algorithm boxes)

    Args:
        scores: (B,) outcome reward of each response.
        group_ids: length B, tensor, array or sequence; not read by batch_mean (may be None).
        kind: group_mean or batch_mean.
        valid: (B,) rows that count, non-zero = valid (default all); padding enters no mean and gives 0.
    Returns: (B,) float32 or better. A group (batch) of one keeps its raw reward, as in verl's grpo.
    Raises: ValueError on shapes or an unknown kind.
    Source: arXiv 2505.17508 section 4.
    """
    if scores.dim() != 1:
        raise ValueError(f"scores has shape {tuple(scores.shape)}; expected (responses,)")
    if kind not in BASELINES:
        raise ValueError(f"baseline kind {kind!r}: expected one of {', '.join(BASELINES)}")
    scores = upcast(scores)
    rows = scores.shape[0]
    index = torch.zeros(rows, dtype=torch.int64) if kind == "batch_mean" else group_index(group_ids, rows)
    index = index.to(scores.device)
    groups = int(index.max()) + 1 if rows else 0
    ones = torch.ones_like(scores)
    if valid is not None:
        scores, ones = keep(scores, valid), keep(ones, valid)
    size = scores.new_zeros(groups).index_add_(0, index, ones)
    mean = keep(scores.new_zeros(groups).index_add_(0, index, scores) / size, size > 1)
    return scores - mean[index] if valid is None else keep(scores - mean[index], valid)


def _check(variant, kl_coef, level, clip_low, clip_high, z) -> None:
    if variant not in VARIANTS:
        raise ValueError(f"rpg variant {variant!r}: expected one of {', '.join(VARIANTS)}")
    if level not in LEVELS:
        raise ValueError(f"rpg.level={level!r}: expected one of {', '.join(LEVELS)}")
    if not 0 <= kl_coef < math.inf:
        raise ValueError(f"rpg.kl_coef={kl_coef!r}: expected a finite number >= 0")
    if clip_low is not None and not 0 < clip_low <= 1:
        raise ValueError(f"rpg.clip_low={clip_low!r}: expected a number in (0, 1], or null to switch it off")
    if clip_high is not None and not clip_high > 0:
        raise ValueError(f"rpg.clip_high={clip_high!r}: expected a number above 0, or null to switch it off")
    if not 0 < z < math.inf:
        raise ValueError(f"rpg z={z!r}: expected a finite number above 0")
