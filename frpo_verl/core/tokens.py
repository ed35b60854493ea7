"""The door: log-probs and a mask in, a clean log-ratio out, and the few tools that the rooms share.

Masks select by `torch.where`, never by multiplication: `0 * nan` is NaN, so a product lets garbage on padded positions
through, in the value and in the gradient. At the door a mask may have any dtype, non-zero means valid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from frpo_verl.methods import ranges

__all__ = [
    "Tokens",
    "all_zero",
    "check_2d",
    "dense_ids",
    "float_dtype",
    "keep",
    "masked_mean",
    "masked_sum",
    "nonfinite_rows",
    "read_rows",
    "read_tokens",
    "reverse_cumsum",
    "row_chunks",
    "select_",
]


class Tokens(NamedTuple):
    """The response tokens of some rows, fit for arithmetic.

    valid: (R, T) bool, True on response tokens.
    delta: (R, T) float32 or float64, log w = log pi - log ref in nats; exactly 0 off `valid`, |delta| <= clip, finite,
        without gradient.
    clipped: number of valid tokens whose log-ratio lay beyond the bound.
    bad_rows: (R,) bool, rows with a NaN or infinite log-prob on a response token; they have no valid token and delta 0
        everywhere. None if there is none.
    bits: (R, T) integers as wide as delta, -1 (all bits set) on valid tokens and 0 elsewhere, for `select_`.
    """

    valid: torch.Tensor
    delta: torch.Tensor
    clipped: int
    bad_rows: torch.Tensor | None
    bits: torch.Tensor


def keep(x: torch.Tensor, mask: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
    """`x` where the mask is valid, `fill` elsewhere; whatever stands on a masked position has no effect.

        keep(x, m)_i = x_i if m_i != 0 else fill

    The gradient to a masked position is exactly 0. Apply it to the *inputs* of a calculation that is differentiated:
    the chain rule multiplies that 0 with the local derivative of whatever came before.

    Args:
        x: (...) any dtype.
        mask: broadcastable to x, any dtype; non-zero = valid.
        fill: the value of masked positions, in the units of x.

    Returns:
        tensor of the dtype of x and the broadcast shape.
    """
    return torch.where(mask.bool(), x, torch.full((), fill, dtype=x.dtype, device=x.device))


def select_(x: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """In place: `x` where all bits are set, 0 where none is; `keep` at a fifth of its cost on a CPU.

    Args:
        x: (R, T) contiguous float32 or float64, without gradient.
        bits: (R, T) from `Tokens`, integers as wide as x.

    Returns:
        x.
    """
    x.view(bits.dtype).bitwise_and_(bits)
    return x


def float_dtype(*tensors: torch.Tensor) -> torch.dtype:
    """The dtype to compute in: float64 if one of the tensors is, float32 otherwise."""
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def masked_sum(x: torch.Tensor, mask: torch.Tensor, dim: int | tuple[int, ...] | None = None) -> torch.Tensor:
    """Sum of `x` over valid positions, accumulated in float32 (float64 for float64).

    Args:
        x: (...) floating point or integer.
        mask: broadcastable to x; non-zero = valid.
        dim: dimension(s) to reduce, all by default.

    Returns:
        the sum; 0 where nothing is valid.
    """
    return keep(x, mask).sum(dim=dim, dtype=float_dtype(x))


def masked_mean(x: torch.Tensor, mask: torch.Tensor, dim: int | tuple[int, ...] | None = None) -> torch.Tensor:
    """Mean of `x` over valid positions, accumulated in float32 (float64 for float64).

    Args:
        x: (...) floating point or integer.
        mask: broadcastable to x; non-zero = valid.
        dim: dimension(s) to reduce, all by default.

    Returns:
        the mean; the mean over nothing is 0.
    """
    count = mask.bool().expand_as(x).sum(dim=dim)
    return masked_sum(x, mask, dim) / count.clamp(min=1)


def reverse_cumsum(x: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """Inclusive suffix sum in float32 (float64 for float64), differentiable.

        y_t = x_t + x_{t+1} + ... + x_T

    Args:
        x: (...) numbers, masked already: a NaN poisons every earlier position of its row.
        dim: the dimension that is time.

    Returns:
        tensor of the shape of x.
    """
    return x.to(float_dtype(x)).flip(dim).cumsum(dim).flip(dim)


def row_chunks(rows: int, columns: int, device: torch.device | str = "cpu") -> Iterator[slice]:
    """Slices of consecutive rows, so few that temporaries stay in the cache (accelerator: some dozen MB).

    Args:
        rows, columns: shape of the tensor that is worked through.
        device: where it lies.
    """
    step = max(1, chunk_elements(device) // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def chunk_elements(device: torch.device | str) -> int:
    """How many elements of a (rows, columns) tensor make a chunk on this device."""
    return 2**17 if torch.device(device).type == "cpu" else 2**24


def dense_ids(ids: Any, rows: int, name: str = "group_ids") -> torch.Tensor:
    """Ids of any kind -> integers 0..n-1, equal exactly where the ids are.

    Args:
        ids: one id for each response: tensor, array or sequence of anything hashable.
        rows: how many responses there are.
        name: what the error message calls them.

    Returns:
        (rows,) int64, on the device of `ids` if that is a tensor, else on the CPU.

    Raises:
        ValueError: not one id for each response.
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


@torch.no_grad()
def all_zero(x: torch.Tensor, mask: torch.Tensor) -> bool:
    """Whether `x` is 0 on every valid position and there is one: a placeholder. Stops at the first chunk that is not.

    Args:
        x: (B, T).
        mask: (B, T) any dtype; non-zero = valid.
    """
    for rows in row_chunks(mask.shape[0], mask.shape[1], mask.device):
        if bool(keep(x[rows], mask[rows]).any()):
            return False
    return bool(mask.any())


@torch.no_grad()
def read_tokens(
    log_prob: torch.Tensor, ref_log_prob: torch.Tensor, mask: torch.Tensor, *, clip: float = 20.0
) -> Tokens:
    """The door: per-token log-ratio of the policy to the reference, masked, finite and bounded.

        delta_t = clip( log pi(a_t|s_t) - log ref(a_t|s_t), -clip, +clip ) on response tokens, 0 elsewhere

    Args:
        log_prob: (B, T) log pi of the sampled tokens, nats; half precision is computed in float32.
        ref_log_prob: (B, T) log ref of the same tokens, nats, at the same temperature.
        mask: (B, T) any dtype, non-zero = response token. NaN and inf elsewhere have no effect.
        clip: bound of |delta_t| in nats.

    Returns:
        Tokens. A row with a NaN or infinite log-prob on a response token is dropped whole and reported in `bad_rows`:
        a suffix sum would spread it over all tokens before it.

    Raises:
        ValueError: shapes or dtypes that do not fit, or clip out of its range.
    """
    check_2d(mask, log_prob=log_prob, ref_log_prob=ref_log_prob)
    ranges.LOG_RATIO_CLIP.check("clip", clip)
    return read_rows(log_prob, ref_log_prob, mask, clip, float_dtype(log_prob, ref_log_prob))


@torch.no_grad()
def read_rows(
    log_prob: torch.Tensor, ref_log_prob: torch.Tensor, mask: torch.Tensor, clip: float, dtype: torch.dtype
) -> Tokens:
    """`read_tokens` without the checks, for the chunks of a batch whose shapes were checked."""
    valid, bad_rows, clipped = mask.bool(), None, 0
    bits = valid.to(torch.int64 if dtype == torch.float64 else torch.int32).neg_()
    delta = select_(torch.sub(log_prob.to(dtype), ref_log_prob.to(dtype)).contiguous(), bits)
    low, high = (float(x) for x in delta.aminmax()) if delta.numel() else (0.0, 0.0)  # NaN if one of them is
    largest = max(-low, high)
    if not largest <= clip:
        if not math.isfinite(largest):
            rows = _nonfinite(log_prob, ref_log_prob, valid).any(-1)
            if bool(rows.any()):
                bad_rows, valid = rows, valid & ~rows[:, None]
                delta, bits = keep(delta, valid), keep(bits, valid, fill=0)
        clipped = int((delta.abs() > clip).sum())
        delta.clamp_(-clip, clip)
    return Tokens(valid, delta, clipped, bad_rows, bits)


def _nonfinite(log_prob: torch.Tensor, ref_log_prob: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return valid & ~(torch.isfinite(log_prob) & torch.isfinite(ref_log_prob))


@torch.no_grad()
def nonfinite_rows(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
    """Which rows hold NaN or infinity on a valid token.

    Args:
        x: (B, T) floating.
        mask: (B, T) any dtype, non-zero = valid; other positions are not looked at.

    Returns:
        (B,) bool, or None if all is finite.
    """
    check_2d(mask, x=x)
    if bool(torch.isfinite(x.sum(dtype=float_dtype(x)))):
        return None
    rows = (mask.bool() & ~torch.isfinite(x)).any(-1)
    return rows if bool(rows.any()) else None
