"""Every answer of a small language (`frpo_verl.core.enumeration`) with a reward, for losses off policy."""

import torch

from frpo_verl.core import enumeration

VOCABULARY, HORIZON = 3, 3


class Toy:
    """All answers, tabular policies over them, and a reward for each.

    `log_prob(table)` gives log pi of every token of every answer, (N, T), with `fill` on the positions after EOS.
    """

    def __init__(self, seed: int = 0, horizon: int = HORIZON):
        self.all = enumeration.enumerate_trajectories(VOCABULARY, horizon)
        self.horizon, self.states, self.answers = horizon, self.all.states, self.all.count
        self.state, self.action, self.mask = self.all.state, self.all.tokens, self.all.mask
        self.generator = torch.Generator().manual_seed(seed)
        self.reward = torch.randn(self.answers, generator=self.generator, dtype=torch.float64)

    def table(self, scale: float = 1.0, near: torch.Tensor | None = None) -> torch.Tensor:
        noise = scale * torch.randn(self.states, VOCABULARY, generator=self.generator, dtype=torch.float64)
        return noise if near is None else near + noise

    def log_prob(self, table: torch.Tensor, fill: float = float("nan")) -> torch.Tensor:
        return torch.where(self.mask, enumeration.log_prob(self.all, table), fill)

    def log_sequence(self, table: torch.Tensor) -> torch.Tensor:
        return self.log_prob(table, 0.0).sum(-1)

    def probability(self, table: torch.Tensor) -> torch.Tensor:
        return enumeration.probability(self.all, table)

    def state_visits(self, table: torch.Tensor) -> torch.Tensor:
        """(states,) probability that an answer passes through each prefix and chooses a token there."""
        p = self.probability(table).detach()
        visits = torch.zeros(self.states, dtype=torch.float64)
        return visits.index_add_(0, self.state[self.mask], p[:, None].expand_as(self.mask)[self.mask])


def gradient(scalar: torch.Tensor, *leaves: torch.Tensor) -> torch.Tensor:
    grads = torch.autograd.grad(scalar, leaves, allow_unused=True, retain_graph=True)
    return torch.cat(
        [torch.zeros_like(x).flatten() if g is None else g.flatten() for g, x in zip(grads, leaves, strict=True)]
    )


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-10) -> None:
    """Asserts relative equality in norm, and that the reference is not zero."""
    assert b.norm() > 1e-6, "nothing to compare: the reference is zero"
    error = enumeration.relative_error(a, b)
    assert error < tolerance, f"relative error {error:.3g}"


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))
