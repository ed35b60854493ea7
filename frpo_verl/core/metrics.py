"""What the regulariser did in a batch, as numbers; docs/diagnostics.md says what to do when one looks wrong.

All-masked, pad and dropped rows never count. A metric that nothing can be said about (a quartile without tokens, a
share of zero) is left out rather than reported as 0.
"""

from __future__ import annotations

from typing import Any

import torch

from frpo_verl.core.tokens import Tokens, dense_ids, keep, reverse_cumsum

__all__ = ["METRIC_NAMES", "MetricSums", "policy_clip_fractions"]

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


class MetricSums:
    """Sums over the chunks of a batch, and the metrics they add up to.

    rows: number of rows of the whole batch.
    device: where its tensors lie.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        f64: dict[str, Any] = {"dtype": torch.float64, "device": device}
        self.length = torch.zeros(rows, dtype=torch.int64, device=device)
        self.sequence_kl = torch.zeros(rows, **f64)
        self.outcome = torch.zeros(rows, **f64)
        self.by_quartile = torch.zeros(3, 4, **f64)  # numbers of tokens, sums of delta, sums of entropy
        self.clipped = self.flips = 0
        self.k3 = self.reg_size = self.outcome_size = 0.0
        self.largest_difference: float | None = None
        self.has_regularizer = self.has_entropy = False

    def add_tokens(
        self,
        rows: slice | torch.Tensor,
        tokens: Tokens,
        kl_to_go: torch.Tensor,
        entropy: torch.Tensor | None = None,
        difference: torch.Tensor | None = None,
    ) -> None:
        """Count what the tokens of some rows say about the distance from the reference.

        Args:
            rows: which rows of the batch these are.
            tokens: their tokens.
            kl_to_go: (R, T) suffix sums of delta, read on valid tokens only.
            entropy: (R, T) of the policy at each token, nats.
            difference: (R, T) log-prob minus another engine's, for the largest of them.
        """
        valid, delta = tokens.valid, tokens.delta
        bounds, columns = _quartiles(valid)
        self.clipped += tokens.clipped
        self.length[rows] = bounds[:, 4]
        self.by_quartile[0] += bounds.diff().sum(0)
        to_go = _at(kl_to_go, columns, bounds)
        self.sequence_kl[rows] = to_go[:, 0]
        self.by_quartile[1] -= to_go.diff().sum(0)
        self.k3 += float(torch.exp(-delta).sub_(1).add_(delta).sum())
        if entropy is not None:
            self.has_entropy = True
            entropy_to_go = reverse_cumsum(keep(entropy, valid))
            self.by_quartile[2] -= _at(entropy_to_go, columns, bounds).diff().sum(0)
        if difference is not None and difference.numel():
            largest = float(keep(difference, valid).abs().amax())
            self.largest_difference = max(largest, self.largest_difference or 0.0, key=lambda x: (x != x, x))

    def add_regularizer(
        self,
        rows: slice | torch.Tensor,
        tokens: Tokens,
        outcome: torch.Tensor,
        reg: torch.Tensor,
        advantages: torch.Tensor,
    ) -> None:
        """Count what the regulariser did to the advantages of some rows, after `add_tokens` for the same rows.

        Args:
            rows: which rows of the batch these are.
            tokens: their tokens.
            outcome: (R, 1) or (R, T) advantage before the regulariser.
            reg: (R, T) what beta multiplies, 0 off the mask.
            advantages: (R, T) the result, 0 off the mask.
        """
        self.has_regularizer = True
        length = self.length[rows]
        if outcome.shape[1] == 1:
            size = outcome.abs().double() * length[:, None]
            self.outcome[rows] = outcome.squeeze(1).double()
            self.outcome_size += float(keep(size, length[:, None]).sum())
        else:
            outcome = keep(outcome, tokens.valid)
            first = tokens.valid.to(torch.uint8).argmax(-1, keepdim=True)
            self.outcome[rows] = outcome.gather(1, first).squeeze(1).double()
            self.outcome_size += float(outcome.abs().sum())
        self.reg_size += float(reg.abs().sum())
        self.flips += int((advantages * outcome).lt_(0).sum())

    def result(
        self, *, beta: float = 0.0, group_ids: Any = None, scores: torch.Tensor | None = None
    ) -> dict[str, float]:
        """The metrics of everything that was added.

            regularizer_share = mean |beta * reg_t| / mean |A_t|       over response tokens

        Args:
            beta: the KL coefficient.
            group_ids: (B,) ids of any kind, equal for the responses of one prompt; without it zero_variance_groups is
                left out.
            scores: (B,) raw rewards for zero_variance_groups; by default the outcome advantages, which are equal
                exactly where the scores are.

        Returns:
            dict of floats under the names of METRIC_NAMES; see docs/diagnostics.md.
        """
        used = self.length > 0
        tokens = int(self.length.sum())
        out = {"frpo/log_ratio_clip_frac": self.clipped / max(tokens, 1)}
        if self.largest_difference is not None:
            out["frpo/rollout_log_prob_diff_max"] = self.largest_difference
        if tokens == 0:
            return out
        out["frpo/kl_to_ref/k1"] = float(self.sequence_kl.sum()) / tokens
        out["frpo/kl_to_ref/k3"] = max(self.k3, 0.0) / tokens
        out["frpo/kl_to_go/first_token/mean"] = float(self.sequence_kl[used].mean())
        out["frpo/kl_to_go/first_token/max"] = float(self.sequence_kl[used].max())
        if self.has_regularizer:
            out["frpo/sign_flip_frac"] = self.flips / tokens
            if self.outcome_size > 0:
                out["frpo/regularizer_share"] = abs(beta) * self.reg_size / self.outcome_size
        for i, q in enumerate(QUARTILES):
            if self.by_quartile[0, i] > 0:
                out[f"frpo/kl_by_position/{q}"] = float(self.by_quartile[1, i] / self.by_quartile[0, i])
                if self.has_entropy:
                    out[f"frpo/entropy_by_position/{q}"] = float(self.by_quartile[2, i] / self.by_quartile[0, i])
        if group_ids is not None and (scores is not None or self.has_regularizer):
            group = dense_ids(group_ids, len(used)).to(used.device)
            share = _zero_variance_share(self.outcome if scores is None else scores.double(), group, used)
            if share is not None:
                out["frpo/zero_variance_groups"] = share
        return out


def _quartiles(valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each row's quarters of tokens begin: (R, 5) numbers of tokens before them, (R, 5) columns.

    Token p of n is in quartile floor(4 p / n). The fifth bound is n itself; a bound that is n has no column (0 here).
    """
    if bool(torch.gt(valid[:, 1:], valid[:, :-1]).any()):  # the mask has gaps, or starts late
        count = valid.cumsum(-1, dtype=torch.int32)
        bounds = _bounds(count[:, -1:].long())
        columns = torch.searchsorted(count, (bounds + 1).int())
    else:
        bounds = columns = _bounds(valid.sum(-1, keepdim=True))
    return bounds, columns.where(bounds < bounds[:, 4:], torch.zeros_like(columns))


def _bounds(length: torch.Tensor) -> torch.Tensor:
    return (torch.arange(5, device=length.device, dtype=length.dtype) * length + 3) // 4


def _at(to_go: torch.Tensor, columns: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """(R, 5) float64 sums from the token of each bound on; 0 at the end of the row."""
    if to_go.shape[1] == 0:
        return torch.zeros(bounds.shape, dtype=torch.float64, device=bounds.device)
    return keep(to_go.gather(1, columns).double(), bounds < bounds[:, 4:])


def _zero_variance_share(score: torch.Tensor, group: torch.Tensor, rows: torch.Tensor) -> float | None:
    """Share of groups of two or more responses whose scores are all equal; None if there is none to ask."""
    group, score = group[rows], score[rows]
    groups = int(group.max()) + 1 if group.numel() else 0
    low = score.new_full((groups,), torch.inf).scatter_reduce_(0, group, score, "amin")
    high = score.new_full((groups,), -torch.inf).scatter_reduce_(0, group, score, "amax")
    counted = torch.bincount(group, minlength=groups) > 1
    return float((low == high)[counted].double().mean()) if bool(counted.any()) else None


@torch.no_grad()
def policy_clip_fractions(
    ratio: torch.Tensor, adv: torch.Tensor, mask: torch.Tensor, low: float, high: float
) -> dict[str, float]:
    """Which share of tokens PPO's clip holds still, by the sign of the advantage.

        positive: A > 0 and rho > 1 + high   over tokens with A > 0
        negative: A < 0 and rho < 1 - low    over tokens with A < 0

    The sign is that of the advantage the loss is given: inside one response the FRPO advantage may change its sign.

    Args:
        ratio: (B, T) rho = pi/old of the sampled tokens.
        adv: (B, T) the advantage that multiplies rho.
        mask: (B, T) any dtype, non-zero = response token.
        low, high: widths of the clip interval [1 - low, 1 + high].

    Returns:
        dict with frpo/policy_clip_frac/positive_advantage and .../negative_advantage; a sign without tokens is left out.

    Raises:
        ValueError: shapes that do not fit.
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
