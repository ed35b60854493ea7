"""What the regulariser did in a batch, as numbers; docs/diagnostics.md says what to do when one looks wrong.

All-masked, pad and dropped rows never count. A metric that nothing can be said about (a quartile without tokens, a
share of zero) is left out rather than reported as 0.
"""

from __future__ import annotations

from typing import Any

import torch

from frpo_verl.core.tokens import Tokens, dense_ids, keep, reverse_cumsum, select_

__all__ = ["METRIC_NAMES", "MetricSums", "outcome_shift", "policy_clip_fractions"]

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
        self.quarters = torch.arange(5, device=device, dtype=torch.int32)
        self.length = torch.zeros(rows, 1, dtype=torch.int32, device=device)
        self.kl_to_go = torch.zeros(
            rows, 5, dtype=torch.float64, device=device
        )  # where each quarter of a response begins, and at its end
        self.entropy_to_go: torch.Tensor | None = None
        self.outcome = torch.zeros(rows, 1, dtype=torch.float64, device=device)
        self.outcome_size: float | None = None
        self.clipped = self.flips = 0
        self.k3 = self.reg_size = 0.0
        self.largest_difference: float | None = None
        self.has_regularizer = False

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
            difference: (R, T) log-prob minus another engine's, for the largest of them; overwritten.
        """
        if tokens.valid.numel() == 0:
            return
        length, columns = self._quarters(tokens)
        self.length[rows] = length
        self.kl_to_go[rows] = kl_to_go.gather(1, columns).double()
        self.clipped += tokens.clipped
        self.k3 += float(torch.neg(tokens.delta).exp_().sub_(1).sum())  # the sum of delta is added in `result`
        if entropy is not None:
            if self.entropy_to_go is None:
                self.entropy_to_go = torch.zeros_like(self.kl_to_go)
            self.entropy_to_go[rows] = reverse_cumsum(keep(entropy, tokens.valid)).gather(1, columns).double()
        if difference is not None:
            low, high = select_(difference, tokens.bits).aminmax()
            largest = max(-float(low), float(high), key=lambda x: (x != x, x))
            self.largest_difference = max(largest, self.largest_difference or 0.0, key=lambda x: (x != x, x))

    def add_regularizer(
        self,
        rows: slice | torch.Tensor,
        tokens: Tokens,
        outcome: torch.Tensor,
        reg: torch.Tensor,
        advantages: torch.Tensor,
    ) -> None:
        """Count what the regulariser did to the advantages of some rows.

        Args:
            rows: which rows of the batch these are.
            tokens: their tokens.
            outcome: (R, 1) or (R, T) advantage before the regulariser.
            reg: (R, T) what beta multiplies, 0 off the mask.
            advantages: (R, T) the result, 0 off the mask.
        """
        if tokens.valid.numel() == 0:
            return
        self.has_regularizer = True
        if outcome.shape[1] > 1:
            outcome = keep(outcome, tokens.valid)
            self.outcome_size = (self.outcome_size or 0.0) + float(outcome.abs().sum())
            self.outcome[rows] = outcome.gather(1, tokens.valid.to(torch.uint8).argmax(-1, keepdim=True)).double()
        else:
            self.outcome[rows] = outcome.double()
            of_row = outcome[:, 0]  # only rows whose extreme has the other sign need a look at their tokens
            extreme = torch.where(of_row > 0, advantages.amin(-1), -advantages.amax(-1))
            turned = (extreme < 0) & (of_row != 0)
            outcome, advantages = outcome[turned], advantages[turned]
        self.reg_size += float(reg.abs().sum())
        self.flips += int((advantages * outcome).lt_(0).sum())

    def _quarters(self, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
        """(R, 1) numbers of tokens and (R, 5) columns where each quarter of a row's tokens begins."""
        last = tokens.valid.shape[1] - 1
        ones = tokens.valid.view(torch.int8)
        if last > 0 and bool((ones[:, 1:] - ones[:, :-1]).amax() > 0):  # the mask has gaps, or starts late
            count = tokens.valid.cumsum(-1, dtype=torch.int32)
            length = count[:, -1:]
            columns = torch.searchsorted(count, self._bounds(length) + 1)
        else:
            length = tokens.bits.sum(-1, keepdim=True, dtype=torch.int32).neg_()
            columns = self._bounds(length).long()
        return length, columns.clamp_(max=last)

    def _bounds(self, length: torch.Tensor) -> torch.Tensor:
        """(R, 5) numbers of tokens before each quarter, token p of n being in quarter floor(4 p / n), and n itself."""
        return (self.quarters * length + 3) >> 2

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
        tokens = int(self.length.sum())
        out = {"frpo/log_ratio_clip_frac": self.clipped / max(tokens, 1)}
        if self.largest_difference is not None:
            out["frpo/rollout_log_prob_diff_max"] = self.largest_difference
        if tokens == 0:
            return out
        bounds = self._bounds(self.length)
        within, used = bounds < self.length, self.length[:, 0] > 0
        kl_to_go = keep(self.kl_to_go, within)
        out["frpo/kl_to_ref/k1"] = float(kl_to_go[:, 0].sum()) / tokens
        out["frpo/kl_to_ref/k3"] = max(self.k3 + float(kl_to_go[:, 0].sum()), 0.0) / tokens
        out["frpo/kl_to_go/first_token/mean"] = float(kl_to_go[used, 0].mean())
        out["frpo/kl_to_go/first_token/max"] = float(kl_to_go[used, 0].max())
        if self.has_regularizer:
            size = self.outcome_size
            size = float(keep(self.outcome.abs() * self.length, self.length).sum()) if size is None else size
            out["frpo/sign_flip_frac"] = self.flips / tokens
            if size > 0:
                out["frpo/regularizer_share"] = abs(beta) * self.reg_size / size
        counts = bounds.diff().sum(0).tolist()
        for kind, to_go in (("kl", self.kl_to_go), ("entropy", self.entropy_to_go)):
            if to_go is not None:
                sums = (-keep(to_go, within).diff().sum(0)).tolist()
                for q, total, count in zip(QUARTILES, sums, counts, strict=True):
                    if count:
                        out[f"frpo/{kind}_by_position/{q}"] = total / count
        if group_ids is not None and (scores is not None or self.has_regularizer):
            group = dense_ids(group_ids, len(used)).to(used.device)
            share = _zero_variance_share(self.outcome[:, 0] if scores is None else scores.double(), group, used)
            if share is not None:
                out["frpo/zero_variance_groups"] = share
        return out


def _zero_variance_share(score: torch.Tensor, group: torch.Tensor, rows: torch.Tensor) -> float | None:
    """Share of groups of two or more responses whose scores are all equal; None if there is none to ask."""
    group, score = group[rows], score[rows]
    groups = int(group.max()) + 1 if group.numel() else 0
    low = score.new_full((groups,), torch.inf).scatter_reduce_(0, group, score, "amin")
    high = score.new_full((groups,), -torch.inf).scatter_reduce_(0, group, score, "amax")
    counted = torch.bincount(group, minlength=groups) > 1
    return float((low == high)[counted].double().mean()) if bool(counted.any()) else None


@torch.no_grad()
def outcome_shift(before: torch.Tensor, after: torch.Tensor, mask: torch.Tensor) -> dict[str, float]:
    """What a KL inside the reward did to the advantages of whole responses.

        regularizer_share = mean |A'_i - A_i| / mean |A_i|,   sign_flip_frac = share with A'_i A_i < 0,   over response tokens

    Args:
        before: (B,) A, the advantage of the reward alone.
        after: (B,) A', that of the reward with the KL in it.
        mask: (B, T) any dtype, non-zero = response token.

    Returns:
        dict with frpo/sign_flip_frac and frpo/regularizer_share; the share is left out where every A is 0, both where
        there is no token.
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
