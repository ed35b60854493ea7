"""No benchmark changes verl for the tests behind it."""

import pytest


@pytest.fixture(autouse=True)
def verls_own_grpo(monkeypatch):
    """horizon.py lets verl's vectorised function, which computes in float32, stand in for its loop."""
    from verl.trainer.ppo import core_algos

    monkeypatch.setattr(core_algos, "compute_grpo_outcome_advantage", core_algos.compute_grpo_outcome_advantage)
