"""Divergences that are none, for the checks that must notice."""

import torch

from frpo_verl.core.divergences import Divergence

NOT_CONVEX = Divergence(
    name="not_convex", formula="sin(w - 1)^2", value=lambda x: torch.sin(3 * torch.expm1(x)).square()
)
WRONG_SLOPE = Divergence(
    name="wrong_slope", formula="(w - 1)^2", value=lambda x: torch.expm1(x).square(), slope=lambda x: torch.expm1(x)
)
