"""The study of beta over time: every run of a batch has the advantages of its own beta, and steers it by its own KL."""

import horizon
import kl_coef
import numpy as np
import pytest
from kl_coef import Plan, Walk

from frpo_verl.core.coefficient import steered

RUNS, ROWS, TOKENS = 3, horizon.GROUPS * horizon.GROUP, 6


def test_a_schedule_ends_at_the_last_beta_after_half_the_run():
    assert [Plan(10).beta(k, 0.1, 8) for k in (1, 3, 5, 8)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    assert Plan().beta(1, 0.1, 8) == Plan().beta(7, 0.1, 8) == 0.1


def test_the_runs_of_a_batch_are_steered_apart():
    rng = np.random.default_rng(0)
    cell = Walk("commit", False, 0.1, TOKENS, kl_coef.METHOD, 100, plan=Plan(3, target=0.5, horizon=5))
    both = kl_coef.Advantages(cell, RUNS * ROWS)
    betas = both.betas.copy()
    for _ in range(3):
        log_ref = np.log(rng.uniform(0.1, 0.9, (RUNS * ROWS, TOKENS)))
        drift = np.repeat([0.0, 0.08, 0.2], ROWS)[:, None]  # below, near and above the target: 0, 0.48, 1.2 nats
        batch = rng.integers(0, 2, RUNS * ROWS).astype(float), log_ref + drift, log_ref
        weight = both(*batch)
        for run in range(RUNS):
            part = slice(run * ROWS, (run + 1) * ROWS)
            plain = horizon.Advantages(Walk("commit", False, float(betas[run]), TOKENS, kl_coef.METHOD, 100), ROWS)
            np.testing.assert_allclose(weight[part], plain(*(x[part] for x in batch)), atol=1e-5)
            betas[run] = steered(betas[run], TOKENS * drift[run * ROWS, 0], 0.5, 5)
        np.testing.assert_allclose(both.betas, betas)
    assert betas[0] < betas[1] < 0.3 < betas[2]
