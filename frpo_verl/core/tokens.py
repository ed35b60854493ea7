"""The door: the columns of a batch in, answers fit for arithmetic out.

    delta_t = log w_t = log pi(a_t|s_t) - log ref(a_t|s_t)        0 off the mask, |delta_t| bounded, finite

What comes from outside is checked, upcast and masked here, once; the equations and the metrics behind the door take
`Answers` and need nothing else. Masks select by `torch.where`, never by multiplication: `0 * nan` is NaN, so a product
lets garbage on padded positions through, in the value and in the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from frpo_verl.methods import ranges


@dataclass(frozen=True)
class Columns:
    """A batch of B rows and T columns.

    log_prob: (B, T) log pi of the sampled tokens, nats; half precision is computed in float32.
    ref_log_prob: (B, T) log ref of the same tokens, nats, at the same temperature.
    mask: (B, T) any dtype, non-zero = response token. NaN and inf elsewhere have no effect.
    outcome: (B,) advantage of each response (group-normalised verifier reward), or (B, T) one per token.
    group_ids: (B,) ids of any kind, equal for the responses of one prompt; kept as integers 0 to n-1.
    session_ids: the same for the rows of one session, which are one response; None: each row is one.
    session_index: (B,) the row's place in its session, gaps allowed; by default the order of the batch.
    step_begins: (B, T) bool, True on the first token of a step (`frpo_verl.core.steps`); None for steps of one token.
    scores: (B,) raw rewards, for the metric zero_variance_groups; by default the outcome.
    entropy: (B, T) of the policy at each token in nats, for its metrics.
    other_log_prob: (B, T) log-probs from another engine, for the metric rollout_log_prob_diff_max.

    Raises ValueError: shapes, dtypes or ids that do not fit.
    """

    log_prob: torch.Tensor
    ref_log_prob: torch.Tensor
    mask: torch.Tensor
    outcome: torch.Tensor | None = None
    group_ids: Any = None
    session_ids: Any = None
    session_index: torch.Tensor | None = None
    step_begins: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    entropy: torch.Tensor | None = None
    other_log_prob: torch.Tensor | None = None

    def __post_init__(self) -> None:
        floats = ("log_prob", "ref_log_prob", "entropy", "other_log_prob")
        check_2d(self.mask, **{name: getattr(self, name) for name in floats})
        shape = self.mask.shape
        rows = shape[:1]
        allowed_shapes = {
            "outcome": (rows, shape),
            "scores": (rows,),
            "session_index": (rows,),
            "step_begins": (shape,),
        }
        for name, fits in allowed_shapes.items():
            x = getattr(self, name)
            if x is not None and x.shape not in fits:
                allowed = " or ".join(str(tuple(s)) for s in fits)
                raise ValueError(f"{name} has shape {tuple(x.shape)}: must be {allowed}, as the mask is {tuple(shape)}")
        for name in ("group_ids", "session_ids"):
            ids = getattr(self, name)
            if ids is not None:
                object.__setattr__(self, name, dense_ids(ids, len(self.mask), name).to(self.mask.device))


@dataclass(frozen=True)
class Answers:
    """Some answers of a batch: R rows of C columns; every float is 0 off `valid`, nothing carries a gradient.

    valid: (R, C) bool, True on response tokens.
    position: (R, C) int32, which of the answer's response tokens it is, from 0; grows along the row, off `valid` too.
    length: (R, 1) int32, number of response tokens.
    delta: (R, C) float32 or float64, log w = log pi - log ref in nats, |delta| <= clip.
    kl_to_go: (R, C) sum of delta from each token on.
    clipped: (R,) int64, tokens whose log-ratio lay beyond the bound.
    broken: (R,) bool, a log-prob of a response token is NaN or infinite, and delta NaN there; None if none is.
    outcome: (R, 1) or (R, C); step_begins, entropy: (R, C); scores: (R,). As in `Columns`.
    group: (R,) integers, equal for the answers to one prompt.
    difference: (R, C) log_prob minus the other engine's.
    """

    valid: torch.Tensor
    position: torch.Tensor
    length: torch.Tensor
    delta: torch.Tensor
    kl_to_go: torch.Tensor
    clipped: torch.Tensor
    broken: torch.Tensor | None
    outcome: torch.Tensor | None
    group: torch.Tensor | None
    step_begins: torch.Tensor | None
    scores: torch.Tensor | None
    entropy: torch.Tensor | None
    difference: torch.Tensor | None


@torch.no_grad()
def read_answers(
    log_prob: torch.Tensor,
    ref_log_prob: torch.Tensor,
    mask: torch.Tensor,
    clip: float = 20.0,
    *,
    outcome: torch.Tensor | None = None,
    group: torch.Tensor | None = None,
    step_begins: torch.Tensor | None = None,
    scores: torch.Tensor | None = None,
    entropy: torch.Tensor | None = None,
    other_log_prob: torch.Tensor | None = None,
) -> Answers:
    """Per-token log-ratio of the policy to the reference, masked and bounded, and what goes with it.

        delta_t = clip( log pi(a_t|s_t) - log ref(a_t|s_t), -clip, +clip ) on response tokens, 0 elsewhere

    Args:
        log_prob, ref_log_prob, mask, outcome, step_begins, scores, entropy, other_log_prob: as in `Columns`, of rows that
            are an answer each.
        clip: bound of |delta_t| in nats.
        group: (R,) integers, equal for the answers to one prompt.

    Raises ValueError: shapes or dtypes that do not fit, or clip out of its range.
    """
    check_2d(mask, log_prob=log_prob, ref_log_prob=ref_log_prob, entropy=entropy, other_log_prob=other_log_prob)
    ranges.LOG_RATIO_CLIP.check("log_ratio_clip", clip)
    dtype, valid = float_dtype(log_prob, ref_log_prob), mask.bool()

    zero = torch.zeros((), dtype=dtype, device=mask.device)

    def clean(x: torch.Tensor) -> torch.Tensor:
        return torch.where(valid, x.to(dtype), zero)

    def difference(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        apart = x.to(dtype) - y.to(dtype)
        return torch.where(valid, apart, zero, out=apart)

    delta = difference(log_prob, ref_log_prob)
    clipped, broken = torch.zeros(len(delta), dtype=torch.int64, device=delta.device), None
    low, high = delta.aminmax() if delta.numel() else (0.0, 0.0)
    if not -clip <= low <= high <= clip:  # seldom; NaN comes here too
        bad = valid & ~(log_prob.isfinite() & ref_log_prob.isfinite())
        broken = bad.any(-1) if bool(bad.any()) else None
        clipped = (delta.abs() > clip).sum(-1)
        delta = torch.where(bad, torch.nan, delta.clamp(-clip, clip))
    kl_to_go = reverse_cumsum(delta)
    position = torch.arange(delta.shape[1], dtype=torch.int32, device=delta.device).expand_as(delta)
    if valid[:, 1:].numel() and bool((valid[:, 1:] > valid[:, :-1]).view(torch.int8).amax()):  # gaps, or a late start
        position, kl_to_go = valid.cumsum(-1, dtype=torch.int32) - 1, clean(kl_to_go)
    if outcome is not None:
        outcome = outcome.to(dtype)[:, None] if outcome.dim() == 1 else clean(outcome)
    return Answers(
        valid=valid,
        position=position,
        length=valid.sum(-1, keepdim=True, dtype=torch.int32),
        delta=delta,
        kl_to_go=kl_to_go,
        clipped=clipped,
        broken=broken,
        outcome=outcome,
        group=group,
        step_begins=step_begins,
        scores=scores,
        entropy=None if entropy is None else clean(entropy),
        difference=None if other_log_prob is None else difference(log_prob, other_log_prob),
    )


def keep(x: torch.Tensor, mask: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
    """`x` where the mask is valid, `fill` elsewhere; whatever stands on a masked position has no effect.

        keep(x, m)_i = x_i if m_i != 0 else fill

    The gradient to a masked position is exactly 0. Apply it to the *inputs* of a calculation that is differentiated:
    the chain rule multiplies that 0 with the local derivative of whatever came before. x: (...) of any dtype, which the
    result has; mask: broadcastable to it, of any dtype.
    """
    return torch.where(mask.bool(), x, torch.full((), fill, dtype=x.dtype, device=x.device))


def float_dtype(*tensors: torch.Tensor) -> torch.dtype:
    """The dtype to compute in: float64 if one of the tensors is, float32 otherwise."""
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def reverse_cumsum(x: torch.Tensor) -> torch.Tensor:
    """Inclusive suffix sum of (..., T) numbers, masked already: y_t = x_t + x_{t+1} + ... + x_T, differentiable."""
    return x.flip(-1).cumsum(-1).flip(-1)


def dense_ids(ids: Any, rows: int, name: str = "group_ids") -> torch.Tensor:
    """Ids of any kind -> integers 0..n-1, equal exactly where the ids are; (rows,) int64.

    Args:
        ids: one id for each response: tensor, array or sequence of anything hashable.
        rows: how many responses there are; another number of ids raises ValueError.
        name: what the error message calls them.
    """
    shape = tuple(ids.shape) if hasattr(ids, "shape") else (len(ids),)
    if shape != (rows,):
        raise ValueError(f"{name} has shape {shape}: must hold one id for each of the {rows} responses")
    if isinstance(ids, torch.Tensor):
        inverse: torch.Tensor = torch.unique(ids, return_inverse=True)[1]
        return inverse
    labels: dict[Any, int] = {}
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    return torch.tensor([labels.setdefault(i, len(labels)) for i in values], dtype=torch.int64)


def check_2d(mask: torch.Tensor, **tensors: torch.Tensor | None) -> None:
    """Raise ValueError unless the mask is (B, T) and every named tensor is floating and of its shape (None passes)."""
    if mask.dim() != 2:
        raise ValueError(f"mask must be (B, T), got shape {tuple(mask.shape)}")
    for name, x in tensors.items():
        if x is None:
            continue
        if x.dim() != 2 or not x.is_floating_point():
            raise ValueError(f"{name} must be a floating (B, T) tensor, got {x.dtype} of shape {tuple(x.shape)}")
        if x.shape != mask.shape:
            raise ValueError(f"{name} has shape {tuple(x.shape)}, the mask {tuple(mask.shape)}: both must be (B, T)")
