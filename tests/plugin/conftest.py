"""Each test has a process of its own, as far as the plugin knows."""

import pytest
from omegaconf import OmegaConf

from frpo_verl.verl_plugin import metrics, run


@pytest.fixture(autouse=True)
def nothing_remembered():
    """No run and no metrics of another test."""
    run.forget()
    metrics.take()
    yield
    run.forget()
    metrics.take()


@pytest.fixture
def ours():
    """This process trains a run of a recipe."""
    run.remember(OmegaConf.create({"composed_by": "frpo_verl"}))


@pytest.fixture(params=["no run", "grpo"])
def not_ours(request):
    """This process trains no run, or somebody else's."""
    if request.param == "grpo":
        run.remember(OmegaConf.create({"algorithm": {"adv_estimator": "grpo"}}))
