"""From log-probs to the regulariser inside the token advantage (FRPO, arXiv 2601.10201v2).

    A_t = A - beta * reg_t                                     Eq. 5.1
    reg_t = f'(w_t) + sum_{j>t} f(w_j)/w_j                     Theorem 4.1, w = pi/ref on the sampled token

Everything here is a plain function of padded (B, T) tensors: B responses, T columns, a mask that is non-zero
on response tokens (EOS included) and zero on padding and, in multi-turn data, on tool tokens. Nothing here
carries a gradient: advantages are constants of the policy gradient. Work goes through the rows in chunks, so
that temporaries stay small.
"""

from __future__ import annotations

import math

import torch

from frpo_verl.divergences import Divergence, get_divergence
from frpo_verl.groups import subtract_position_baseline
from frpo_verl.masking import keep, row_chunks, valid_positions

__all__ = [
    "BASELINES",
    "PLACEMENTS",
    "find_nonfinite",
    "kl_to_go",
    "log_ratio",
    "regularizer",
    "rows_with_nonfinite",
    "sequence_divergence",
    "token_advantages",
]

PLACEMENTS = ("future", "local", "sequence", "reward")
BASELINES = ("none", "position")


def _check_2d(mask: torch.Tensor, **tensors: torch.Tensor) -> None:
    for name, x in tensors.items():
        if x.dim() != 2 or not x.is_floating_point():
            raise ValueError(f"{name} must be a floating (B, T) tensor, got {x.dtype} of shape {tuple(x.shape)}")
        if x.shape != mask.shape:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)} but the mask has {tuple(mask.shape)}: both must be (B, T)"
            )


def _float_dtype(*tensors: torch.Tensor) -> torch.dtype:
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


@torch.no_grad()
def log_ratio(
    log_prob: torch.Tensor, ref_log_prob: torch.Tensor, mask: torch.Tensor, *, clip: float = 20.0
) -> tuple[torch.Tensor, float]:
    """Per-token log-ratio of the policy to the reference, clipped, zero off the mask.

        delta_t = clip( log pi(a_t|s_t) - log ref(a_t|s_t), -clip, +clip )

    Args:
        log_prob: (B, T) log pi of the sampled tokens, nats; half precision is computed in float32.
        ref_log_prob: (B, T) log ref of the same tokens, nats, at the same temperature.
        mask: (B, T) any dtype, non-zero = response token. NaN and inf elsewhere have no effect.
        clip: bound of |delta_t| in nats; positive, `inf` for none.

    Returns:
        delta: (B, T) float32 (float64 if an input is), exactly 0 off the mask, without gradient. NaN, never a
            clipped number, on a valid token where a log-prob is NaN or infinite: see `rows_with_nonfinite`.
        clipped_fraction: share of valid tokens whose log-ratio was finite and beyond the bound (0 if none is
            valid).

    Raises:
        ValueError: shapes or dtypes that do not fit, or clip not positive.
    """
    _check_2d(mask, log_prob=log_prob, ref_log_prob=ref_log_prob)
    if not clip > 0:
        raise ValueError(f"clip={clip!r}: the bound of the per-token log-ratio must be positive (20.0 is the default)")
    dtype = _float_dtype(log_prob, ref_log_prob)
    delta = torch.empty(mask.shape, dtype=dtype, device=log_prob.device)
    clipped, tokens = 0, 0
    for rows in row_chunks(*mask.shape, device=log_prob.device):
        valid = valid_positions(mask[rows])
        d = torch.sub(log_prob[rows].to(dtype), ref_log_prob[rows].to(dtype), out=delta[rows])
        keep(d, valid, out=d)
        tokens += int(torch.count_nonzero(valid))
        bound = float(torch.stack(d.aminmax()).abs().amax()) if d.numel() else 0.0
        if not math.isfinite(bound):
            d.copy_(torch.where(torch.isfinite(d), d, math.nan))
        if not bound <= clip:
            clipped += int((d.abs() > clip).sum())
            d.clamp_(-clip, clip)
    return delta, clipped / max(tokens, 1)


@torch.no_grad()
def rows_with_nonfinite(log_prob: torch.Tensor, ref_log_prob: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Which responses hold a NaN or infinite log-prob on a valid token: it would poison every earlier sum.

    Args:
        log_prob, ref_log_prob: (B, T) nats.
        mask: (B, T) non-zero = response token; other positions are not looked at.

    Returns:
        (B,) bool.
    """
    _check_2d(mask, log_prob=log_prob, ref_log_prob=ref_log_prob)
    bad = torch.zeros(mask.shape[0], dtype=torch.bool, device=log_prob.device)
    for rows in row_chunks(*mask.shape, device=log_prob.device):
        difference = keep(log_prob[rows] - ref_log_prob[rows], mask[rows])  # finite exactly where both are
        if not math.isfinite(difference.sum(dtype=torch.float64)):
            bad[rows] = ~torch.isfinite(difference).all(-1)
    return bad


@torch.no_grad()
def find_nonfinite(
    log_prob: torch.Tensor, ref_log_prob: torch.Tensor, mask: torch.Tensor
) -> list[tuple[str, int, int]]:
    """Where NaN or infinite log-probs stand on valid tokens: the first of each response and tensor.

    Args:
        log_prob, ref_log_prob: (B, T) nats.
        mask: (B, T) non-zero = response token; other positions are not looked at.

    Returns:
        list of (tensor, row, column), tensor "log_prob" or "ref_log_prob", by row; empty if all is finite.
    """
    found: list[tuple[str, int, int]] = []
    for row in rows_with_nonfinite(log_prob, ref_log_prob, mask).nonzero().flatten().tolist():
        for name, x in (("log_prob", log_prob), ("ref_log_prob", ref_log_prob)):
            bad = keep(~torch.isfinite(x[row]), mask[row]).nonzero().flatten()
            if bad.numel():
                found.append((name, row, int(bad[0])))
    return found


def _discounted_suffix(cost: torch.Tensor, carry: torch.Tensor) -> torch.Tensor:
    """y_t = cost_t + carry_t * y_{t+1} in log2(T) rounds: after round k, y_t holds a window of 2^k columns.

    Both arguments are overwritten; float64, since 0.9999 rounded to float32 is another discount after 10,000
    tokens. No division and no power above 1: the error is that of a pairwise sum.
    """
    width, columns = 1, cost.shape[-1]
    while width < columns:
        cost[:, :-width] += carry[:, :-width] * cost[:, width:]
        if 2 * width < columns:
            carry[:, :-width] *= carry[:, width:].clone()
            if carry[:, : -2 * width].amax() == 0:
                break
        width *= 2
    return cost


def _suffix(cost: torch.Tensor, valid: torch.Tensor, discount: float, starts: torch.Tensor | None) -> torch.Tensor:
    """Inclusive (discounted) suffix sums of some rows, each taken at the start of the token's step."""
    if discount == 1.0:
        suffix = cost.flip(-1).cumsum(-1).flip(-1)
    else:
        begins = valid  # columns that begin a step; without steps every response token does
        if starts is not None:
            begins = valid & (starts == torch.arange(valid.shape[1], device=valid.device))
        carry = torch.ones_like(cost, dtype=torch.float64)
        carry[:, :-1] = keep(carry[:, :-1], ~begins[:, 1:], fill=discount)
        suffix = _discounted_suffix(cost.to(torch.float64, copy=True), carry).to(cost.dtype)
    return suffix if starts is None else suffix.gather(1, starts)


def _regularizer_rows(
    delta: torch.Tensor,
    mask: torch.Tensor,
    divergence: Divergence,
    placement: str,
    discount: float,
    starts: torch.Tensor | None,
    out: torch.Tensor,
) -> None:
    valid = valid_positions(mask)
    delta = keep(delta, valid, out=out)
    if placement == "local":
        out.copy_(divergence.centered_local(delta))  # exactly 0 where delta is
        return
    cost = divergence.future(delta)  # exactly 0 where delta is
    if placement == "sequence":
        reg = cost.sum(-1, keepdim=True).expand_as(cost)
    else:
        reg = _suffix(cost, valid, discount, starts)
    if not divergence.future_equals_local:
        reg = reg - cost + divergence.centered_local(delta)
    keep(reg, valid, out=out)


@torch.no_grad()
def regularizer(
    delta: torch.Tensor,
    mask: torch.Tensor,
    *,
    divergence: str = "reverse_kl",
    alpha: float | None = None,
    placement: str = "future",
    discount: float = 1.0,
    step_start: torch.Tensor | None = None,
    group_ids: torch.Tensor | None = None,
    baseline: str = "none",
    session_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """What beta multiplies inside the token advantage, for every divergence and placement.

        future    reg_t = f'(w_t) + sum_{j>t} discount^(j-t) f(w_j)/w_j   FRPO, Theorem 4.1
        local     reg_t = f'(w_t)                                         what a correct loss term can reach
        sequence  reg_t = f'(w_t) + sum_{j!=t} f(w_j)/w_j                 unbiased like future, more variance
        future with step_start, s(t) = first token of the step of t:
                  reg_t = f'(w_t) + sum_{j>=s(t), j!=t} f(w_j)/w_j        PRL's steps, exact for every length

    For reverse KL these are the inclusive suffix sum of delta, delta itself, the sum over the response, and
    the suffix sum at the step's start. `future` and `sequence` with discount 1 and any `step_start` have the
    expected gradient of sum_t D_f(pi||ref)(s_t); `local` misses that the policy also chooses which states it
    visits.

    Args:
        delta: (B, T) log w in nats, as `log_ratio` returns it.
        mask: (B, T) any dtype, non-zero = response token.
        divergence, alpha: a row of the divergence table, see `get_divergence`.
        placement: future | local | sequence. (`reward` is not a token-level regulariser: see
            `sequence_divergence`.)
        discount: in [0, 1]; 1 is exact. It counts response tokens: a masked token in the middle of a response
            neither contributes nor discounts. With step_start it counts steps: within a step nothing is
            discounted.
        step_start: (B, T) int64, the column of the first token of each token's step, see `frpo_verl.steps`.
        group_ids: (B,) integers, equal for the responses of one prompt; needed by baseline position.
        baseline: none | position. `position` subtracts the mean of reg over the group's *other* responses at
            the same position, counted in response tokens; 0 where no other response reaches it. It depends on
            other, independent responses only, so the expected gradient is unchanged.
        session_ids: (B,) integers or None; rows that share one (several outputs of one conversation) are not
            independent and are left out of each other's baseline.

    Returns:
        (B, T) float32 (float64 for float64), in nats of the divergence, exactly 0 off the mask.

    Raises:
        ValueError: an unknown name, a discount outside [0, 1], a discount or step_start that the placement
            would ignore, baseline position without group_ids, shapes that do not fit.

    Differs from the paper in dropping the constant f'(1), which no expected gradient contains (Eq. 4.5 does
    so for reverse KL), so that reg is 0 wherever pi = ref; in leaving out the paper's baseline (T - t) * mean
    KL, which depends on the response's own length and is biased; and from PRL's public code in taking a
    step's suffix at its start, not at its end.
    """
    _check_2d(mask, delta=delta)
    row = get_divergence(divergence, alpha)
    if placement not in PLACEMENTS or placement == "reward":
        raise ValueError(
            f"placement={placement!r} must be future, local or sequence "
            "(reward: put sequence_divergence into the scores before they are normalised)"
        )
    if not 0.0 <= discount <= 1.0:
        raise ValueError(f"discount={discount!r} must be a number in [0, 1]; 1 is exact, 0 keeps the local part only")
    if placement != "future" and (discount != 1.0 or step_start is not None):
        raise ValueError(f"placement={placement!r} has no future sum: discount and step_start need placement=future")
    if step_start is not None and (step_start.shape != mask.shape or step_start.dtype != torch.int64):
        raise ValueError(
            f"step_start must be int64 of shape {tuple(mask.shape)}, "
            f"got {step_start.dtype} of shape {tuple(step_start.shape)}"
        )
    if baseline not in BASELINES:
        raise ValueError(f"baseline={baseline!r} must be one of {', '.join(BASELINES)}")
    if baseline == "position" and group_ids is None:
        raise ValueError("baseline='position' needs group_ids: (B,) integers, equal for the responses of one prompt")

    reg = torch.empty(mask.shape, dtype=_float_dtype(delta), device=delta.device)
    for rows in row_chunks(*mask.shape, device=delta.device):
        starts = None if step_start is None else step_start[rows]
        _regularizer_rows(delta[rows].to(reg.dtype), mask[rows], row, placement, discount, starts, out=reg[rows])
    if baseline == "position":
        subtract_position_baseline(reg, mask, group_ids, session_ids)
    return reg


def kl_to_go(
    delta: torch.Tensor,
    mask: torch.Tensor,
    *,
    divergence: str = "reverse_kl",
    alpha: float | None = None,
    discount: float = 1.0,
    step_start: torch.Tensor | None = None,
) -> torch.Tensor:
    """The future-divergence coefficient of each token: `regularizer` with placement future and no baseline.

        reg_t = f'(w_t) - f'(1) + sum_{j>t} discount^(j-t) f(w_j)/w_j      (reverse KL: sum_{j>=t} delta_j)

    The action-independent constant f'(1) (1 for reverse KL) is dropped, so that discount 1 gives the
    inclusive suffix sum. The sum must include the current token: without it the estimate is biased.

    Args, Returns, Raises: see `regularizer`. Source: arXiv 2601.10201v2, Theorem 4.1, Eq. 4.5 and 4.6.
    """
    return regularizer(delta, mask, divergence=divergence, alpha=alpha, discount=discount, step_start=step_start)


@torch.no_grad()
def sequence_divergence(
    delta: torch.Tensor, mask: torch.Tensor, divergence: str = "reverse_kl", alpha: float | None = None
) -> torch.Tensor:
    """The sampled divergence of a whole response, to be put into its reward (placement `reward`).

        D_i = sum_t f(w_t)/w_t     (reverse KL: the sequence log-ratio), unbiased for sum_t D_f(s_t)

    Args:
        delta: (B, T) log w in nats, as `log_ratio` returns it.
        mask: (B, T) any dtype, non-zero = response token.
        divergence, alpha: a row of the divergence table, see `get_divergence`.

    Returns:
        (B,) float32 (float64 for float64), nats; 0 for a row without valid tokens.

    Raises:
        ValueError: unknown divergence, shapes that do not fit. Source: arXiv 2601.10201v2, Eq. 4.1 and
            Appendix D.1.
    """
    _check_2d(mask, delta=delta)
    row = get_divergence(divergence, alpha)
    out = torch.empty(mask.shape[0], dtype=_float_dtype(delta), device=delta.device)
    for rows in row_chunks(*mask.shape, device=delta.device):
        out[rows] = row.future(keep(delta[rows].to(out.dtype), mask[rows])).sum(-1)
    return out


@torch.no_grad()
def token_advantages(
    outcome: torch.Tensor, reg: torch.Tensor, mask: torch.Tensor, *, kl_coef: float, out: torch.Tensor | None = None
) -> torch.Tensor:
    """The regularised token advantage (Eq. 5.1 of arXiv 2601.10201v2).

        A_t = A - beta * reg_t on response tokens, exactly 0 elsewhere

    Args:
        outcome: (B,) advantage of each response (group-normalised verifier reward), or (B, T) one per token.
        reg: (B, T) from `regularizer`.
        mask: (B, T) any dtype, non-zero = response token.
        kl_coef: beta >= 0.
        out: optional tensor that receives the result; may be reg itself.

    Returns:
        (B, T) in the dtype of reg.

    Raises:
        ValueError: shapes that do not fit.
    """
    _check_2d(mask, reg=reg)
    if outcome.shape not in (mask.shape, mask.shape[:1]):
        raise ValueError(f"outcome has shape {tuple(outcome.shape)}: must be (B,) or (B, T) of {tuple(mask.shape)}")
    out = torch.empty_like(reg) if out is None else out
    for rows in row_chunks(*mask.shape, device=reg.device):
        a = outcome[rows].to(reg.dtype)
        a = torch.sub(a if a.dim() == 2 else a[:, None], reg[rows], alpha=kl_coef, out=out[rows])
        keep(a, mask[rows], out=a)
    return out
