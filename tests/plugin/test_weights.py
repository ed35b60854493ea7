"""A checkpoint of a run of ours holds finite weights, or it is not written; a full disk is named."""

import errno
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from verl.workers.engine_workers import TrainingWorker

from frpo_verl.verl_plugin import run
from frpo_verl.verl_plugin.guards import weights


@pytest.fixture
def worker():
    """A worker whose engine holds two modules, as Megatron's does with virtual pipeline stages."""
    return SimpleNamespace(engine=SimpleNamespace(module=[torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)]))


@pytest.fixture(params=[True, False], ids=["ours", "not ours"])
def ours(request):
    config = {"composed_by": "frpo_verl"} if request.param else {"algorithm": {"adv_estimator": "grpo"}}
    run.remember(OmegaConf.create(config))
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


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_weights_that_are_offloaded_are_read_where_they_are(worker, value):
    """Megatron's `param_offload`: parameters are views of a buffer whose storage is freed, with a copy beside it."""
    run.remember(OmegaConf.create({"composed_by": "frpo_verl"}))
    data = torch.zeros(8)
    module = torch.nn.Linear(2, 3)
    module.weight = torch.nn.Parameter(data[:6].view(3, 2))
    data.cpu_data = torch.full((8,), value)
    data.untyped_storage().resize_(0)
    module.buffers, module.expert_parallel_buffers = [SimpleNamespace(param_data=data)], []
    worker.engine.module = [module]
    if value == 1.0:
        assert save(worker) == ("folder", 3)
        return
    with pytest.raises(weights.BrokenWeights, match=r"^buffers\[0\] \(and 0 more of 2 weights\) holds NaN"):
        save(worker)


FULL = SimpleNamespace(free=40)  # bytes: less than the 60 of the weights
ROOM = SimpleNamespace(free=2**40)


def wrapped(text, cause):
    error = RuntimeError(text)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "disk", "named"),
    [
        (RuntimeError("[enforce fail at inline_container.cc:862] . PytorchStreamWriter failed"), FULL, True),
        (OSError(errno.ENOSPC, "No space left on device"), ROOM, True),  # room again, since somebody has cleaned up
        (wrapped("cannot save", OSError(errno.EDQUOT, "Disk quota exceeded")), ROOM, True),
        (RuntimeError("a collective failed"), ROOM, False),
        (PermissionError(errno.EACCES, "Permission denied"), ROOM, False),
    ],
)
def test_a_full_disk_is_named(worker, ours, monkeypatch, tmp_path, error, disk, named):
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda path: disk)

    def fail(*args):
        raise error

    worker.engine.save_checkpoint = fail
    folder = tmp_path / "checkpoints" / "global_step_3"  # not there yet
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is compared below
        TrainingWorker.save_checkpoint(worker, str(folder), global_step=3)
    if ours and named:
        assert isinstance(raised.value, weights.NoRoom) and raised.value.__cause__ is error
        line = str(raised.value)
        assert str(folder) in line and "max_actor_ckpt_to_keep" in line and "\n" not in line
    else:
        assert raised.value is error
