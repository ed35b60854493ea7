"""What the tests add to `frpo_verl.core.enumeration`: a policy and its reference, rewards, groups, and garbage on padding."""

from __future__ import annotations

import dataclasses

import torch

from frpo_verl.core import enumeration as exact
from frpo_verl.core.advantages import regularized_advantages
from frpo_verl.core.divergences import DIVERGENCES, get_divergence
from frpo_verl.core.enumeration import Trajectories, probability, state_divergence
from frpo_verl.core.regularizers import Regularizer
from frpo_verl.core.tokens import Columns, read_answers

ROWS = [(name, None) for name in DIVERGENCES if name != "alpha"] + [("alpha", 0.5), ("alpha", 2.5)]
IDS = [name if order is None else f"{name}{order:g}" for name, order in ROWS]
OF_KIND = [field.name for field in dataclasses.fields(Regularizer)]


def garbage(toy: Trajectories, x: torch.Tensor) -> torch.Tensor:
    """x with NaN, infinities and large numbers on padded positions."""
    junk = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, -1e30], dtype=x.dtype)
    return torch.where(toy.mask, x, junk[torch.arange(x.numel()).reshape(x.shape) % len(junk)])


def local_objective(toy, logits, ref_logits, f):
    """The objective with the visited states held fixed: only the divergence at each state carries a gradient."""
    per_state = torch.where(toy.mask, state_divergence(logits, ref_logits, f)[toy.state], 0.0).sum(-1)
    return (probability(toy, logits).detach() * per_state).sum()


# ---------------------------------------------------------------------------------------------------- the advantage


def frpo(outcome, log_prob, ref_log_prob, mask, **more):
    """`regularized_advantages` of a batch, its columns and its settings by name; kl_coef 0.1 unless it is given."""
    kind = {"kl_coef": 0.1, **{name: more.pop(name) for name in OF_KIND if name in more}}
    return regularized_advantages(Columns(log_prob, ref_log_prob, mask, outcome, **more), Regularizer(**kind))


def regularize(delta, mask, *, divergence: str = "reverse_kl", alpha: float | None = None, **more) -> torch.Tensor:
    """What beta multiplies, (B, T), by way of the advantages: outcome 0 and beta 1 give minus that."""
    zeros = torch.zeros(mask.shape[0])
    row = get_divergence(divergence, alpha)
    return -frpo(zeros, delta, torch.zeros_like(delta), mask, kl_coef=1.0, divergence=row, **more).advantages


def to_go(log_prob, ref_log_prob, mask):
    """The log-ratio of each token and of those after it, summed; 0 off the mask."""
    delta = torch.where(mask.bool(), log_prob - ref_log_prob, 0.0)
    return torch.where(mask.bool(), delta.flip(-1).cumsum(-1).flip(-1), 0.0)


def group_norm(scores, groups):
    """(score - mean) / (std + 1e-6) of its group, as verl's grpo has it."""
    out = torch.zeros_like(scores)
    for group in set(groups):
        rows = torch.tensor([g == group for g in groups])
        out[rows] = (scores[rows] - scores[rows].mean()) / (scores[rows].std() + 1e-6)
    return out


class Setting:
    """A policy, a reference and every trajectory's log-ratio, computed from log-probs full of garbage."""

    def __init__(self, vocabulary=3, horizon=4, eos=True, seed=0):
        self.all = exact.enumerate_trajectories(vocabulary, horizon, eos)
        self.ref = exact.random_logits(self.all, seed)
        self.logits = (self.ref + exact.random_logits(self.all, seed + 1)).requires_grad_()
        self.mask = self.all.mask
        self.lp, self.lr = exact.log_prob(self.all, self.logits).detach(), exact.log_prob(self.all, self.ref)
        self.p = probability(self.all, self.logits).detach()
        answers = read_answers(garbage(self.all, self.lp), garbage(self.all, self.lr), self.mask)
        self.delta = answers.delta
        assert not answers.clipped.any() and self.delta.dtype == torch.float64

    def truth(self, divergence, which=exact.objective):
        return exact.gradient(which(self.all, self.logits, self.ref, divergence.value), self.logits)

    def estimate(self, reg):
        return exact.policy_gradient(self.all, self.logits, reg)

    def error(self, reg, divergence, which=exact.objective):
        """Relative error of the expected gradient with this regulariser."""
        return exact.relative_error(self.estimate(reg), self.truth(divergence, which))


def grouped(toy, size):
    """Every tuple of `size` trajectories as one group: rows (groups * size,), group ids, probabilities."""
    n = toy.all.count
    rows = torch.cartesian_prod(*[torch.arange(n)] * size)
    return rows.flatten(), torch.arange(rows.shape[0]).repeat_interleave(size), toy.p[rows].prod(-1)


def grouped_gradient(toy, rows, weight, probability_of_group, size):
    """Expected gradient of the mean over a group's responses of sum_t weight_t * score_t."""
    lp = exact.log_prob(toy.all, toy.logits)[rows]
    w = probability_of_group.repeat_interleave(size)[:, None] * torch.where(toy.mask[rows], weight, 0.0) / size
    return exact.gradient((w.detach() * lp).sum(), toy.logits)


def random_batch(rows=12, columns=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lp, lr = -torch.rand(2, rows, columns, generator=generator, dtype=torch.float64) * 3
    length = torch.randint(0, columns + 1, (rows,), generator=generator)
    mask = (torch.arange(columns) < length[:, None]).long()
    scores = torch.randint(0, 2, (rows,), generator=generator).double()
    return lp, lr, mask, scores, torch.arange(rows) // 4


# ---------------------------------------------------------------------------------------------------- losses off policy


class Toy:
    """All answers of up to three tokens over three symbols, tabular policies over them, and a reward for each.

    `log_prob(table)` gives log pi of every token of every answer, (N, T), with `fill` on the positions after EOS.
    """

    def __init__(self, seed: int = 0):
        self.all = exact.enumerate_trajectories(3, 3)
        self.answers, self.mask = self.all.count, self.all.mask
        self.generator = torch.Generator().manual_seed(seed)
        self.reward = torch.randn(self.answers, generator=self.generator, dtype=torch.float64)

    def table(self, scale: float = 1.0, near: torch.Tensor | float = 0.0) -> torch.Tensor:
        shape = self.all.states, self.all.vocabulary
        return near + scale * torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def log_prob(self, table: torch.Tensor, fill: float = torch.nan) -> torch.Tensor:
        return torch.where(self.mask, exact.log_prob(self.all, table), fill)

    def log_sequence(self, table: torch.Tensor) -> torch.Tensor:
        return exact.log_prob(self.all, table).sum(-1)

    def probability(self, table: torch.Tensor) -> torch.Tensor:
        return probability(self.all, table)

    def state_visits(self, table: torch.Tensor) -> torch.Tensor:
        """(states,) probability that an answer passes through each prefix and chooses a token there."""
        p = self.probability(table).detach()
        visits = torch.zeros(self.all.states, dtype=torch.float64)
        return visits.index_add_(0, self.all.state[self.mask], p[:, None].expand_as(self.mask)[self.mask])


def gradient(scalar: torch.Tensor, *leaves: torch.Tensor) -> torch.Tensor:
    """Of all leaves in one vector, 0 where one has no part in the scalar."""
    grads = torch.autograd.grad(scalar, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in grads])


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-10) -> None:
    """Asserts relative equality in norm, and that the reference is not zero."""
    assert b.norm() > 1e-6, "nothing to compare: the reference is zero"
    error = exact.relative_error(a, b)
    assert error < tolerance, f"relative error {error:.3g}"


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))
