"""What the regulariser did in a batch, as numbers; docs/diagnostics.md says what to do when one looks wrong.

    k1 = mean delta,   k3 = mean exp(-delta) - 1 + delta,   regularizer_share = mean |beta * reg_t| / mean |A_t|    over tokens

All-masked and pad rows never count. A metric that nothing can be said about (a quartile without tokens, a
share of zero) is left out rather than reported as 0.
"""

from __future__ import annotations

import torch

from frpo_verl.core.tokens import Answers, reverse_cumsum

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
    "frpo/rollout_log_prob_diff_max",
    "frpo/policy_clip_frac/positive_advantage",
    "frpo/policy_clip_frac/negative_advantage",
)
Sums = dict[str, torch.Tensor]  # one row for each answer


def distance(a: Answers) -> Sums:
    """What answers say about their distance from the reference: sums over tokens, (R,), or (R, 4) by quarter."""
    found = {
        "length": a.length[:, 0],
        "clipped": a.clipped,
        "kl": _by_quarter(a, a.kl_to_go),
        "k3": torch.neg(a.delta).exp_().sub_(1).sum(-1),  # without the sum of delta
    }
    if a.entropy is not None:
        found["entropy"] = _by_quarter(a, reverse_cumsum(a.entropy))
    if a.difference is not None:
        found["difference"] = (
            torch.maximum(a.difference.amax(-1), -a.difference.amin(-1)) if a.valid.shape[1] else found["k3"]
        )
    if a.group is not None:
        found["group"] = a.group
    if a.scores is not None:
        found["score"] = a.scores
    return found


def effect(a: Answers, reg: torch.Tensor, advantages: torch.Tensor) -> Sums:
    """What beta times `reg` did to the advantages of answers, both (R, C): sizes, and how many signs turned; (R,).

    `reg` is 0 off the mask, where an advantage is then the outcome itself and keeps its sign.
    """
    assert a.outcome is not None, "an advantage has an outcome"
    tokens = 1 if a.outcome.shape[1] == reg.shape[1] else a.length[:, 0]  # that share an outcome
    found = {
        "outcome_size": torch.where(a.length > 0, a.outcome.abs(), 0.0).sum(-1) * tokens,
        "reg_size": reg.abs().sum(-1),
        "flips": (advantages * a.outcome).lt_(0).sum(-1),
    }
    if a.scores is None:
        found["score"] = torch.where(a.valid & (a.position == 0), a.outcome, 0.0).sum(-1)  # at the first token
    return found


def report(sums: Sums, kl_coef: float = 0.0) -> dict[str, float]:
    """The metrics of all answers together, under names of METRIC_NAMES.

    Args:
        sums: from `distance`, and from `effect` where there is a regulariser; (A,) and (A, 4).
        kl_coef: beta.
    """
    length = sums["length"].long()
    tokens, used = int(length.sum()), length > 0
    out = {"frpo/log_ratio_clip_frac": int(sums["clipped"].sum()) / max(tokens, 1)}
    if tokens == 0:
        return out
    kl_to_go = sums["kl"].sum(-1)[used]
    out["frpo/kl_to_ref/k1"] = float(kl_to_go.sum()) / tokens
    out["frpo/kl_to_ref/k3"] = max(float(sums["k3"].double().sum() + kl_to_go.sum()), 0.0) / tokens
    out["frpo/kl_to_go/first_token/mean"] = float(kl_to_go.mean())
    out["frpo/kl_to_go/first_token/max"] = float(kl_to_go.max())
    if "difference" in sums:
        out["frpo/rollout_log_prob_diff_max"] = float(sums["difference"].max())
    if "reg_size" in sums:
        reg_size, size = (float(sums[name].double().sum()) for name in ("reg_size", "outcome_size"))
        out["frpo/sign_flip_frac"] = float(sums["flips"].double().sum()) / tokens
        if size > 0:
            out["frpo/regularizer_share"] = abs(kl_coef) * reg_size / size
    counts = _bounds(length[:, None]).diff(dim=-1).sum(0).tolist()
    for kind in ("kl", "entropy"):
        if kind in sums:
            for q, total, count in zip(QUARTILES, sums[kind].sum(0).tolist(), counts, strict=True):
                if count:
                    out[f"frpo/{kind}_by_position/{q}"] = total / count
    if "group" in sums and "score" in sums:
        share = _zero_variance_share(sums["score"].double()[used], sums["group"][used])
        if share is not None:
            out["frpo/zero_variance_groups"] = share
    return out


def _bounds(length: torch.Tensor) -> torch.Tensor:
    """(R, 5) numbers of tokens before each quarter, token p of n being in quarter floor(4 p / n), and n itself."""
    return (torch.arange(5, dtype=length.dtype, device=length.device) * length + 3) >> 2


def _by_quarter(a: Answers, to_go: torch.Tensor) -> torch.Tensor:
    """(R, 4) float64 sums over the quarters of an answer, from the sums (R, C) of what is still to come."""
    bounds, last = _bounds(a.length), to_go.shape[1] - 1
    if last < 0:
        return to_go.new_zeros(len(to_go), 4, dtype=torch.float64)
    shared = a.position.stride(0) == 0  # one for all rows, where no answer has a gap
    first = torch.searchsorted(a.position[:1].flatten() if shared else a.position, bounds).clamp(max=last)
    return -torch.where(bounds < a.length, to_go.gather(1, first), 0.0).double().diff(dim=-1)


def _zero_variance_share(score: torch.Tensor, group: torch.Tensor) -> float | None:
    """Share of groups of two or more responses whose scores are all equal; None if there is none to ask."""
    groups = int(group.max()) + 1
    low = score.new_full((groups,), torch.inf).scatter_reduce_(0, group, score, "amin")
    high = score.new_full((groups,), -torch.inf).scatter_reduce_(0, group, score, "amax")
    counted = torch.bincount(group, minlength=groups) > 1
    return float((low == high)[counted].double().mean()) if bool(counted.any()) else None


@torch.no_grad()
def outcome_shift(before: torch.Tensor, after: torch.Tensor, mask: torch.Tensor) -> dict[str, float]:
    """What a KL inside the reward did to the advantages of whole responses, (B,) each: A without it, A' with it.

        regularizer_share = mean |A'_i - A_i| / mean |A_i|,   sign_flip_frac = share with A'_i A_i < 0,   over response tokens

    The share is left out where every A is 0, both where there is no token.
    """
    length = mask.bool().sum(-1).double()
    before, after = before.double(), after.double()
    tokens, size = float(length.sum()), float((length * before.abs()).sum())
    if tokens == 0:
        return {}
    out = {"frpo/sign_flip_frac": float((length * (before * after < 0)).sum()) / tokens}
    if size > 0:
        out["frpo/regularizer_share"] = float((length * (after - before).abs()).sum()) / size
    return out


@torch.no_grad()
def policy_clip_fractions(
    ratio: torch.Tensor, adv: torch.Tensor, mask: torch.Tensor, low: float, high: float
) -> dict[str, float]:
    """Which share of tokens PPO's clip holds still, by the sign of the advantage.

        positive: A > 0 and rho > 1 + high   over tokens with A > 0
        negative: A < 0 and rho < 1 - low    over tokens with A < 0

    The sign is that of the advantage the loss is given: inside one response the FRPO advantage may change its sign. A sign
    without tokens is left out.

    Args:
        ratio: (B, T) rho = pi/old of the sampled tokens.
        adv: (B, T) the advantage that multiplies rho.
        mask: (B, T) any dtype, non-zero = response token.
        low, high: widths of the clip interval [1 - low, 1 + high].

    Raises ValueError: shapes that do not fit.
    """
    if ratio.shape != mask.shape or adv.shape != mask.shape:
        raise ValueError(
            f"ratio {tuple(ratio.shape)}, adv {tuple(adv.shape)} and mask {tuple(mask.shape)} differ in shape"
        )
    valid = mask.bool()
    out = {}
    for name, sign, held in (("positive", adv > 0, ratio > 1 + high), ("negative", adv < 0, ratio < 1 - low)):
        tokens = valid & sign
        count = int(tokens.sum())
        if count:
            out[f"frpo/policy_clip_frac/{name}_advantage"] = int((tokens & held).sum()) / count
    return out
