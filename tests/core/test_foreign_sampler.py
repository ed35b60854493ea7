"""Answers of another policy: which placement leads to the optimum without importance weights, and which does not.

With x_i = r_i - beta sum_t log(pi/ref), centred over the group, every token of answer i is weighted by x_i - mean x. Under
any sampler mu of full support that is the gradient of -E_mu (x - E_mu x)^2 / (2 beta), whose only minimum is where x is the
same for all answers: pi* ~ ref exp(r/beta).
"""

import itertools

import pytest
import torch
from scipy.optimize import root
from toys import frpo

from frpo_verl.core import enumeration as exact
from frpo_verl.core.advantages import Columns, Regularizer, sequence_divergence
from frpo_verl.core.groups import group_advantages

BETA, SEEDS = 0.5, range(4)
LENGTHS = {"of one length": False, "of any length": True}  # whether a token ends an answer


class Problem:
    """A reference, rewards, and a policy of full support that writes all answers."""

    def __init__(self, seed: int, ends: bool):
        self.all = exact.enumerate_trajectories(vocabulary=3, horizon=3, eos=ends)
        self.ref, self.mu = exact.random_logits(self.all, seed), exact.random_logits(self.all, 100 + seed)
        generator = torch.Generator().manual_seed(seed)
        self.reward = torch.rand(self.all.count, generator=generator, dtype=torch.float64)
        self.chance = exact.probability(self.all, self.mu)

    def best(self, beta: float) -> torch.Tensor:
        """Logits of pi* ~ ref exp(r/beta)."""
        weight = exact.probability(self.all, self.ref) * (self.reward / beta).exp()
        table = torch.zeros_like(self.ref)
        for t in range(self.all.mask.shape[1]):
            rows = self.all.mask[:, t]
            table.index_put_((self.all.state[rows, t], self.all.tokens[rows, t]), weight[rows], accumulate=True)
        return table.log()

    def regret(self, logits: torch.Tensor) -> float:
        def value(table):
            log_ratio = exact.log_prob(self.all, table) - exact.log_prob(self.all, self.ref)
            return float((exact.probability(self.all, table) * (self.reward - BETA * log_ratio.sum(-1))).sum())

        return value(self.best(BETA)) - value(logits)

    def of_groups(self, logits: torch.Tensor, how: str, size: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
        """The package's advantages in every group of `size` answers, (groups * size, T), and each row's answer."""
        rows = torch.tensor(list(itertools.product(range(self.all.count), repeat=size)))
        answer, group = rows.flatten(), torch.arange(len(rows)).repeat_interleave(size)
        log_prob, ref = (exact.log_prob(self.all, x)[answer] for x in (logits, self.ref))
        mask, reward = self.all.mask[answer], self.reward[answer]
        if how == "reward":
            cost, _ = sequence_divergence(Columns(log_prob, ref, mask), Regularizer().divergence)
            outcome = group_advantages(reward - BETA * cost, group, norm_by_std=False)
            return torch.where(mask, outcome[:, None], 0.0), answer
        outcome = group_advantages(reward, group, norm_by_std=False)
        if how == "sequence, other answers' mean":  # rloo: centred as the baseline centres the sum
            how, outcome = "sequence", outcome * size / (size - 1)
        baseline = "position" if how == "sequence" else "none"
        result = frpo(outcome, log_prob, ref, mask, kl_coef=BETA, placement=how, baseline=baseline, group_ids=group)
        return result.advantages, answer

    def expected_update(self, logits: torch.Tensor, how: str, size: int = 2) -> torch.Tensor:
        """E over groups that mu writes of the mean over their answers of sum_t A_t grad log pi: no importance weight."""
        advantages, answer = self.of_groups(logits, how, size)
        weight = self.chance[answer].view(-1, size).prod(-1).repeat_interleave(size) / size
        logits = logits.clone().requires_grad_()
        log_prob = exact.log_prob(self.all, logits)[answer]
        return exact.gradient((weight[:, None] * advantages * log_prob).sum(), logits)

    def in_the_limit(self, logits: torch.Tensor, how: str) -> torch.Tensor:
        """The same for groups without end, whose means are those of mu."""
        log_ratio = exact.log_prob(self.all, logits) - exact.log_prob(self.all, self.ref)
        mean = lambda x: (self.chance * x).sum()  # noqa: E731
        outcome = self.reward - mean(self.reward)
        if how in ("sequence", "reward"):
            outcome = outcome + BETA * mean(log_ratio.sum(-1))
        placement = "sequence" if how == "reward" else how
        zero = torch.zeros_like(log_ratio)
        a = frpo(outcome, log_ratio, zero, self.all.mask, kl_coef=BETA, placement=placement).advantages
        logits = logits.clone().requires_grad_()
        return exact.gradient((self.chance[:, None] * a * exact.log_prob(self.all, logits)).sum(), logits)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [2, 3])
def test_at_the_optimum_every_advantage_is_zero_whoever_wrote_the_answers(size, seed, lengths):
    """Not only in expectation. A mean with the answer in it makes (1 - 1/G) of the reward: there beta is beta G/(G - 1)."""
    if size == 3 and seed > 0:
        return
    problem = Problem(seed, LENGTHS[lengths])
    right, shrunk = problem.best(BETA), problem.best(BETA * size / (size - 1))
    for how, logits in (("sequence, other answers' mean", right), ("reward", right), ("sequence", shrunk)):
        assert problem.of_groups(logits, how, size)[0].abs().max() < 1e-12, how
        assert problem.of_groups(problem.ref, how, size)[0].abs().max() > 0.1


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", ["future", "local"])
def test_future_and_local_leave_it(how, seed, lengths):
    problem = Problem(seed, LENGTHS[lengths])
    assert problem.expected_update(problem.best(BETA), how).norm() > 1e-3


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("how, factor", [("sequence, other answers' mean", 1.0), ("reward", 0.5)])
def test_groups_of_two_have_the_expected_update_of_groups_without_end(how, factor, lengths):
    problem = Problem(0, LENGTHS[lengths])
    logits = exact.random_logits(problem.all, 7)
    limit = problem.in_the_limit(logits, how.partition(",")[0])
    assert exact.relative_error(problem.expected_update(logits, how), factor * limit) < 1e-12


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("seed", SEEDS)
def test_where_the_update_stands_still_only_they_have_no_regret(seed, lengths):
    """The root of the expected update, from the reference; the sum of a state's logits, which no update moves, is held."""
    problem = Problem(seed, LENGTHS[lengths])
    shape, regret = problem.ref.shape, {}
    for how in ("sequence", "future", "local"):

        def update(flat, how=how):
            logits = torch.from_numpy(flat).view(shape)
            held = (logits - problem.ref).mean(-1, keepdim=True)
            return (problem.in_the_limit(logits, how) + held).flatten().numpy()

        found = root(update, problem.ref.flatten().numpy(), method="lm", tol=1e-12)
        assert how != "sequence" or abs(found.fun).max() < 1e-7  # the others may run off to where a probability is 0
        regret[how] = problem.regret(torch.from_numpy(found.x).view(shape))
    assert abs(regret["sequence"]) < 1e-10 and min(regret["future"], regret["local"]) > 3e-3, regret
