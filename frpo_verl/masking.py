"""The one place where a mask meets a tensor: selection by `torch.where`, never multiplication.

`0 * nan` and `0 * inf` are NaN, so a product with a mask lets garbage on padded positions through, in the
value and in the gradient; `torch.where` does not. A mask may have any dtype: non-zero means valid.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

__all__ = ["keep", "masked_mean", "masked_sum", "reverse_cumsum", "row_chunks", "valid_positions"]


def valid_positions(mask: torch.Tensor) -> torch.Tensor:
    """The mask as booleans: True where it is non-zero (bool, integer or float masks).

    Args:
        mask: any shape, any dtype; non-zero = valid.

    Returns:
        bool tensor of the mask's shape (the mask itself when it is boolean already).
    """
    return mask if mask.dtype == torch.bool else mask.bool()


def keep(x: torch.Tensor, mask: torch.Tensor, fill: float = 0.0, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """`x` where the mask is valid, `fill` elsewhere; whatever stands on a masked position has no effect.

        keep(x, m)_i = x_i if m_i != 0 else fill

    The gradient to a masked position is exactly 0. Apply it to the *inputs* of a calculation that is
    differentiated: the chain rule multiplies that 0 with the local derivative of whatever came before.

    Args:
        x: (...) any dtype.
        mask: broadcastable to x; non-zero = valid.
        fill: the value of masked positions, in the units of x.
        out: optional tensor that receives the result.

    Returns:
        tensor of the dtype of x and the broadcast shape.
    """
    other = torch.full((), fill, dtype=x.dtype, device=x.device)
    if out is None:
        return torch.where(valid_positions(mask), x, other)
    return torch.where(valid_positions(mask), x, other, out=out)


def _accumulation_dtype(x: torch.Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def masked_sum(x: torch.Tensor, mask: torch.Tensor, dim: int | tuple[int, ...] | None = None) -> torch.Tensor:
    """Sum of `x` over valid positions, accumulated in float32 (float64 for float64).

    Args:
        x: (...) floating point or integer.
        mask: broadcastable to x; non-zero = valid.
        dim: dimension(s) to reduce, all by default.

    Returns:
        the sum; 0 where nothing is valid.
    """
    return keep(x, mask).sum(dim=dim, dtype=_accumulation_dtype(x))


def masked_mean(x: torch.Tensor, mask: torch.Tensor, dim: int | tuple[int, ...] | None = None) -> torch.Tensor:
    """Mean of `x` over valid positions, accumulated in float32 (float64 for float64).

    Args:
        x: (...) floating point or integer.
        mask: broadcastable to x; non-zero = valid.
        dim: dimension(s) to reduce, all by default.

    Returns:
        the mean; the mean over nothing is 0.
    """
    count = valid_positions(mask).expand_as(x).sum(dim=dim)
    return masked_sum(x, mask, dim) / count.clamp(min=1)


def row_chunks(rows: int, columns: int, device: torch.device | str = "cpu") -> Iterator[slice]:
    """Slices of consecutive rows, so few that temporaries stay in the cache (accelerator: some dozen MB).

    Args:
        rows, columns: shape of the tensor that is worked through.
        device: where it lies.
    """
    elements = 2**18 if torch.device(device).type == "cpu" else 2**24
    step = max(1, elements // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def reverse_cumsum(x: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """Inclusive suffix sum in float32 (float64 for float64).

        y_t = x_t + x_{t+1} + ... + x_T

    Args:
        x: (...) numbers, masked already: a NaN poisons every earlier position of its row.
        dim: the dimension that is time.

    Returns:
        tensor of the shape of x. Differentiable; where no gradient is asked for, the only full-size
        allocation is the result.
    """
    dtype = _accumulation_dtype(x)
    if x.dim() != 2 or dim not in (-1, 1) or (x.requires_grad and torch.is_grad_enabled()):
        return x.to(dtype).flip(dim).cumsum(dim).flip(dim)
    out = torch.empty(x.shape, dtype=dtype, device=x.device)
    for rows in row_chunks(*x.shape, device=x.device):
        out[rows] = x[rows].to(dtype).flip(-1).cumsum(-1).flip(-1)
    return out
