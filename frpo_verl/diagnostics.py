"""What the regulariser did in a batch, as numbers; docs/diagnostics.md says what to do when one looks wrong.

All-masked rows and pad rows never count. A metric that nothing can be said about (a quartile without tokens,
a share of zero) is left out of the dict rather than reported as 0.
"""

from __future__ import annotations

import torch

from frpo_verl.masking import keep, row_chunks, valid_positions

__all__ = ["METRIC_NAMES", "policy_clip_fractions", "regularizer_metrics"]

QUARTILES = ("q1", "q2", "q3", "q4")
METRIC_NAMES = (
    "frpo/kl_to_ref/k1",
    "frpo/kl_to_ref/k3",
    "frpo/kl_to_go/first_token/mean",
    "frpo/kl_to_go/first_token/max",
    "frpo/regularizer_share",
    "frpo/sign_flip_frac",
    *(f"frpo/kl_by_position/{q}" for q in QUARTILES),
    *(f"frpo/entropy_by_position/{q}" for q in QUARTILES),
    "frpo/log_ratio_clip_frac",
    "frpo/zero_variance_groups",
    "frpo/policy_clip_frac/positive_advantage",
    "frpo/policy_clip_frac/negative_advantage",
)


def _quartile_sums(x: torch.Tensor, count: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """(4,) sums of x over the quartiles of each row's valid tokens, by differences of its running sum.

    count is the running number of valid tokens (R, T); bounds (R, 5) are the numbers of tokens before each
    quartile.
    """
    running = torch.cumsum(x, -1, dtype=torch.float64)
    column = torch.searchsorted(count, bounds)  # where the bounds[k]-th token stands
    at_bound = keep(running.gather(1, column), bounds)
    return (at_bound[:, 1:] - at_bound[:, :-1]).sum(0)


def _zero_variance_share(score: torch.Tensor, group_ids: torch.Tensor, rows: torch.Tensor) -> float | None:
    """Share of groups of two or more responses whose scores are all equal; None if there is none to ask."""
    group = torch.unique(torch.as_tensor(group_ids, device=score.device)[rows], return_inverse=True)[1]
    score = score[rows]
    groups = int(group.max()) + 1 if group.numel() else 0
    low = score.new_full((groups,), torch.inf).scatter_reduce_(0, group, score, "amin")
    high = score.new_full((groups,), -torch.inf).scatter_reduce_(0, group, score, "amax")
    counted = torch.bincount(group, minlength=groups) > 1
    return float((low == high)[counted].double().mean()) if counted.any() else None


@torch.no_grad()
def regularizer_metrics(
    delta: torch.Tensor,
    reg: torch.Tensor,
    outcome_adv: torch.Tensor,
    mask: torch.Tensor,
    *,
    beta: float,
    clip_frac: float,
    group_ids: torch.Tensor | None = None,
    entropy: torch.Tensor | None = None,
    scores: torch.Tensor | None = None,
) -> dict[str, float]:
    """Metrics of one batch.

        regularizer_share = mean |beta * reg_t| / mean |A_t|       over response tokens

    Args:
        delta: (B, T) log pi/ref in nats, from `log_ratio`.
        reg: (B, T) what beta multiplies, from `regularizer`.
        outcome_adv: (B,) or (B, T) advantage before the regulariser.
        mask: (B, T) any dtype, non-zero = response token.
        beta: the KL coefficient.
        clip_frac: share of log-ratios beyond the bound, from `log_ratio`.
        group_ids: (B,) integers, equal for the responses of one prompt; without it zero_variance_groups is
            left out.
        entropy: (B, T) entropy of the policy at each token in nats, optional.
        scores: (B,) raw rewards for zero_variance_groups; by default the outcome advantages, which are equal
            exactly where the scores are.

    Returns:
        dict of floats under the names of METRIC_NAMES; see docs/diagnostics.md.

    Raises:
        ValueError: shapes that do not fit.
    """
    for name, x in {"delta": delta, "reg": reg, "entropy": entropy}.items():
        if x is not None and (x.shape != mask.shape or x.dim() != 2):
            raise ValueError(f"{name} has shape {tuple(x.shape)}, the mask {tuple(mask.shape)}: both must be (B, T)")
    if outcome_adv.shape not in (mask.shape, mask.shape[:1]):
        raise ValueError(
            f"outcome_adv has shape {tuple(outcome_adv.shape)}: must be (B,) or (B, T) = {tuple(mask.shape)}"
        )

    f64 = {"dtype": torch.float64, "device": delta.device}
    k3 = reg_size = outcome_size = flips = 0.0
    by_quartile = torch.zeros(3, 4, **f64)  # token counts, sums of delta, sums of entropy
    sequence_kl, row_outcome = torch.zeros(2, mask.shape[0], **f64)
    length = torch.zeros(mask.shape[0], dtype=torch.int64, device=delta.device)
    if mask.shape[1] == 0:
        mask, delta, reg, entropy = mask[:0], delta[:0], reg[:0], None
    for rows in row_chunks(*mask.shape, device=delta.device):
        valid = valid_positions(mask[rows])
        d, r = keep(delta[rows], valid), keep(reg[rows], valid)
        a = keep(outcome_adv[rows], valid) if outcome_adv.dim() == 2 else outcome_adv[rows, None]
        count = valid.cumsum(-1, dtype=torch.int32)
        length[rows] = count[:, -1].long()
        quarter = torch.arange(5, device=count.device, dtype=torch.int32)
        bounds = (quarter * count[:, -1:] + 3) // 4  # token p of n is in quartile floor(4p/n)
        sequence_kl[rows] = d.sum(-1, dtype=torch.float64)
        if outcome_adv.dim() == 2:
            first = torch.searchsorted(count, torch.ones_like(count[:, :1])).clamp(max=mask.shape[1] - 1)
            row_outcome[rows] = a.gather(1, first).squeeze(1).double()
            outcome_size += float(a.abs().sum(-1).double().sum())
        else:
            row_outcome[rows] = a.squeeze(1).double()
            outcome_size += float(keep(a.squeeze(1).abs().double() * length[rows], length[rows]).sum())
        k3 += float(torch.exp(-d).sub_(1).add_(d).sum(-1).double().sum())
        reg_size += float(r.abs().sum(-1).double().sum())
        flips += int(torch.count_nonzero((a - beta * r).mul_(a) < 0))  # reg is 0 off the mask: a * a there
        by_quartile[0] += (bounds[:, 1:] - bounds[:, :-1]).sum(0)
        by_quartile[1] += _quartile_sums(d, count, bounds)
        if entropy is not None:
            by_quartile[2] += _quartile_sums(keep(entropy[rows], valid), count, bounds)

    tokens = int(length.sum())
    used = length > 0
    out = {"frpo/log_ratio_clip_frac": float(clip_frac)}
    if tokens == 0:
        return out
    out["frpo/kl_to_ref/k1"] = float(sequence_kl.sum()) / tokens
    out["frpo/kl_to_ref/k3"] = max(k3, 0.0) / tokens
    out["frpo/kl_to_go/first_token/mean"] = float(sequence_kl[used].mean())
    out["frpo/kl_to_go/first_token/max"] = float(sequence_kl[used].max())
    out["frpo/sign_flip_frac"] = flips / tokens
    if outcome_size > 0:
        out["frpo/regularizer_share"] = abs(beta) * reg_size / outcome_size
    for i, q in enumerate(QUARTILES):
        if by_quartile[0, i] > 0:
            out[f"frpo/kl_by_position/{q}"] = float(by_quartile[1, i] / by_quartile[0, i])
            if entropy is not None:
                out[f"frpo/entropy_by_position/{q}"] = float(by_quartile[2, i] / by_quartile[0, i])
    if group_ids is not None:
        share = _zero_variance_share(row_outcome if scores is None else scores.double(), group_ids, used)
        if share is not None:
            out["frpo/zero_variance_groups"] = share
    return out


@torch.no_grad()
def policy_clip_fractions(
    ratio: torch.Tensor, adv: torch.Tensor, mask: torch.Tensor, low: float, high: float
) -> dict[str, float]:
    """Which share of tokens PPO's clip holds still, by the sign of the advantage.

        positive: A > 0 and rho > 1 + high   over tokens with A > 0
        negative: A < 0 and rho < 1 - low    over tokens with A < 0

    The sign is that of the advantage the loss is given: inside one response the FRPO advantage may change its
    sign.

    Args:
        ratio: (B, T) rho = pi/old of the sampled tokens.
        adv: (B, T) the advantage that multiplies rho.
        mask: (B, T) any dtype, non-zero = response token.
        low, high: widths of the clip interval [1 - low, 1 + high].

    Returns:
        dict with frpo/policy_clip_frac/positive_advantage and .../negative_advantage; a sign without tokens
        is left out.

    Raises:
        ValueError: shapes that do not fit.
    """
    if ratio.shape != mask.shape or adv.shape != mask.shape:
        raise ValueError(
            f"ratio {tuple(ratio.shape)}, adv {tuple(adv.shape)} and mask {tuple(mask.shape)} differ in shape"
        )
    valid = valid_positions(mask)
    out = {}
    for name, sign, held in (("positive", adv > 0, ratio > 1 + high), ("negative", adv < 0, ratio < 1 - low)):
        tokens = valid & sign
        count = int(tokens.sum())
        if count:
            out[f"frpo/policy_clip_frac/{name}_advantage"] = int((tokens & held).sum()) / count
    return out
