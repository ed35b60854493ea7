"""A divergence of a user's own, f alone: chi squared by another name."""

import torch

from frpo_verl.core.divergences import Divergence

F = Divergence(name="mine", formula="(w - 1)^2", value=lambda x: torch.expm1(x).square())
