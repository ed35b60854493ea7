"""A checkpoint of a run of ours holds finite weights, or it is not written."""

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from verl.workers.engine_workers import TrainingWorker

from frpo_verl.verl_plugin import run, weights


@pytest.fixture
def worker():
    """A worker whose engine holds two modules, as Megatron's does with virtual pipeline stages."""
    return SimpleNamespace(engine=SimpleNamespace(module=[torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)]))


@pytest.fixture(params=[True, False], ids=["ours", "not ours"])
def ours(request, monkeypatch):
    config = {"composed_by": "frpo_verl"} if request.param else {"algorithm": {"adv_estimator": "grpo"}}
    monkeypatch.setattr(run, "_current", run.Run(OmegaConf.create(config)))
    return request.param


def save(worker):
    """verl's own function, whose worker hands four arguments to its engine."""
    worker.engine.save_checkpoint = lambda path, hdfs, step, keep: (path, step)
    return TrainingWorker.save_checkpoint(worker, "folder", global_step=3)


def test_finite_weights_are_saved(worker, ours):
    assert save(worker) == ("folder", 3)
    worker.engine.module = worker.engine.module[0]
    assert save(worker) == ("folder", 3)
    worker.engine = SimpleNamespace()  # an engine that shows no module
    assert save(worker) == ("folder", 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_weight_is_named_and_not_saved(worker, ours, value):
    with torch.no_grad():
        worker.engine.module[1].bias[2] = value
    if not ours:
        assert save(worker) == ("folder", 3)
        return
    with pytest.raises(
        weights.BrokenWeights, match=r"bias \(and 0 more of 4 weights\) holds NaN or inf.*resume"
    ) as error:
        save(worker)
    assert "\n" not in str(error.value)
