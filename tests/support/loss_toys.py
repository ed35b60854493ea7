"""A language small enough to enumerate: every answer, every probability, in float64."""

import itertools

import torch

VOCABULARY, EOS, HORIZON = 3, 2, 3


class Toy:
    """All answers over {0, 1, EOS} that end with EOS or reach the horizon, and tabular policies over them.

    A policy is a logit table (states, V), one row for each prefix; `log_prob(table)` gives log pi of every
    token of every answer, (N, T), with `fill` on the positions after EOS.
    """

    def __init__(self, seed: int = 0, horizon: int = HORIZON):
        prefixes = [()]
        for length in range(1, horizon):
            prefixes += list(itertools.product(range(EOS), repeat=length))
        state_of = {p: i for i, p in enumerate(prefixes)}
        answers = [p + (EOS,) for p in prefixes] + list(itertools.product(range(EOS), repeat=horizon))
        self.horizon, self.states, self.answers = horizon, len(prefixes), len(answers)
        self.state = torch.zeros(self.answers, horizon, dtype=torch.long)
        self.action = torch.zeros(self.answers, horizon, dtype=torch.long)
        self.mask = torch.zeros(self.answers, horizon, dtype=torch.bool)
        for i, answer in enumerate(answers):
            for t, token in enumerate(answer):
                self.state[i, t], self.action[i, t], self.mask[i, t] = state_of[answer[:t]], token, True
        self.generator = torch.Generator().manual_seed(seed)
        self.reward = torch.randn(self.answers, generator=self.generator, dtype=torch.float64)

    def table(self, scale: float = 1.0, near: torch.Tensor | None = None) -> torch.Tensor:
        noise = scale * torch.randn(self.states, VOCABULARY, generator=self.generator, dtype=torch.float64)
        return noise if near is None else near + noise

    def log_prob(self, table: torch.Tensor, fill: float = float("nan")) -> torch.Tensor:
        log_prob = torch.log_softmax(table, dim=-1)[self.state, self.action]
        return torch.where(self.mask, log_prob, fill)

    def log_sequence(self, table: torch.Tensor) -> torch.Tensor:
        return torch.where(self.mask, self.log_prob(table), 0.0).sum(-1)

    def probability(self, table: torch.Tensor) -> torch.Tensor:
        return self.log_sequence(table).exp()

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
    scale = b.norm()
    assert scale > 1e-6, "nothing to compare: the reference is zero"
    error = float((a - b).norm() / scale)
    assert error < tolerance, f"relative error {error:.3g}"


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))
