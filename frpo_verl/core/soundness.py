"""Is a column of log-probs fit to be used? Judged on the whole batch, before anything is computed from it.

placeholder:  x_t = 0 on every response token          broken row:  x_t is NaN or infinite on one of its tokens
"""

from __future__ import annotations

import torch

from frpo_verl.core.tokens import check_2d, float_dtype, keep


@torch.no_grad()
def all_zero(x: torch.Tensor, mask: torch.Tensor) -> bool:
    """Whether `x`, (B, T), is 0 on every valid position and there is one: a placeholder. Stops at the first row that is not."""
    return not any(bool(keep(*row).any()) for row in zip(x, mask, strict=True)) and bool(mask.any())


@torch.no_grad()
def nonfinite_rows(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
    """Which rows of `x`, (B, T), hold NaN or infinity on a valid token; (B,) bool, None if all is finite."""
    check_2d(mask, x=x)
    if bool(torch.isfinite(x.sum(dtype=float_dtype(x)))):
        return None
    rows = (mask.bool() & ~torch.isfinite(x)).any(-1)
    return rows if bool(rows.any()) else None
