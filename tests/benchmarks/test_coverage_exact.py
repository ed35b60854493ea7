"""benchmarks/coverage_exact.py: its policies are the ones that gradient ascent finds, and the formula's where there is one."""

import numpy as np
import pytest
import torch

pytest.importorskip("verl")
exact = pytest.importorskip("coverage_exact")
import coverage_optimum as optimum  # noqa: E402

from frpo_verl.quickstart import coverage  # noqa: E402

F = np.array(coverage.SHARES)


@pytest.mark.parametrize("beta", [0.03, 0.1, 0.3])
def test_future_ends_at_the_formulas_optimum(beta):
    chances, kl = exact.reached(F, beta, "future")
    start = (exact.START * exact.SUCCESS)[None] / exact.START.sum()
    best = optimum.optimum(start, coverage.SHARES, beta)
    np.testing.assert_allclose(chances, best[0], atol=1e-9)
    assert kl == pytest.approx(optimum.divergence(best, start), abs=1e-6)


@pytest.mark.parametrize("method", exact.METHODS)
def test_gradient_ascent_ends_there(method, monkeypatch):
    """Four tokens: what each method's expected gradient adds up, written as a loss whose penalties see what the method sees."""
    beta, length = 0.15, 4
    monkeypatch.setattr(exact, "LENGTH", length)
    start = torch.tensor(exact.START / exact.START.sum())
    right = torch.tensor(exact.SUCCESS ** (1 / (length - 1))).expand(length - 1, 3)
    worth = torch.tensor(F)
    first, later = start.log().clone().requires_grad_(), torch.logit(right).clone().requires_grad_()
    optimizer = torch.optim.Adam([first, later], lr=0.02)
    reverse, whole = method in ("future", "local"), method in ("future", "forward")

    def distance(p, q):
        return (p * (p / q).log()).sum(0) if reverse else (q * (q / p).log()).sum(0)

    for _ in range(2500):
        pi, p = first.softmax(0), later.sigmoid()
        reach = torch.cat([torch.ones(1, 3, dtype=p.dtype), p.cumprod(0)[:-1]])  # of a way, the tokens before right
        token = distance(torch.stack([p, 1 - p]), torch.stack([right, 1 - right]))
        visits = pi * reach if whole else (pi * reach).detach()  # a local term does not see where it leads
        loss = -(pi * p.prod(0) * worth).sum() + beta * (distance(pi, start) + (visits * token).sum())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        chances = (first.softmax(0) * later.sigmoid().prod(0)).numpy()
    np.testing.assert_allclose(exact.reached(F, beta, method)[0], chances, atol=2e-3)
