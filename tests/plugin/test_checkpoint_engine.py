"""The checkpoint engine of a CPU, through verl's own worker and registry; the policy that is kept for old log-probs."""

import asyncio
import threading

import pytest
import torch
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, init_device_mesh
from verl.checkpoint_engine.base import CheckpointEngineRegistry
from verl.utils import fsdp_utils

from frpo_verl.verl_plugin.cpu import checkpoint_engine
from frpo_verl.verl_plugin.cpu.engine import keep_a_copy
from frpo_verl.verl_plugin.hooks import wrap


@pytest.fixture
def ends(monkeypatch):
    """(the trainer's two ranks, two rollout workers), joined in the order of verl's CheckpointEngineManager."""
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    made = []

    def join(**kwargs):
        made.extend(CheckpointEngineRegistry.new("zmq", is_master=not made, **kwargs) for _ in range(4))
        metadata = [engine.prepare() for engine in made]
        actor, rollout = checkpoint_engine.ZmqCheckpointEngine.build_topology(2, 2, metadata)
        for engine, addresses in zip(made, actor["addresses"] + rollout["addresses"], strict=True):
            engine.init_process_group(addresses=addresses)
        return made[:2], made[2:]

    yield join
    for engine in made:
        engine.finalize()


async def collect(engine):
    return {name: tensor async for name, tensor in engine.receive_weights(global_steps=1)}


@pytest.mark.parametrize("bucket_size", [1, 100, 1 << 20])
def test_every_rollout_worker_gets_every_weight(ends, bucket_size):
    (sender, other), receivers = ends(bucket_size=bucket_size, timeout_s=20)
    shared = torch.arange(12.0).reshape(3, 4)
    weights = {"a": shared, "tied": shared, "b": shared.T, "c": torch.tensor(3, dtype=torch.int64),
               "d": torch.randn(50).to(torch.bfloat16), "empty": torch.zeros(0, 3)}  # fmt: skip
    taken = []
    came = [{} for _ in receivers]

    def receive(i):
        came[i] = asyncio.run(collect(receivers[i]))

    threads = [threading.Thread(target=receive, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    asyncio.run(sender.send_weights(iter(weights.items()), global_steps=1))
    asyncio.run(other.send_weights((taken.append(name), (name, w))[1] for name, w in weights.items()))
    for thread in threads:
        thread.join(timeout=30)
    assert taken == list(weights)  # a weight is put together by all ranks
    for found in came:
        assert sorted(found) == sorted(weights)
        for name, weight in weights.items():
            assert found[name].dtype == weight.dtype and torch.equal(found[name], weight), name


@pytest.mark.parametrize("side", ["send", "receive"])
def test_a_side_that_is_gone_is_said(ends, side):
    (sender, _), receivers = ends(bucket_size=1, timeout_s=0.05)
    with pytest.raises(RuntimeError, match=r"checkpoint_engine.backend=zmq: the other side .* was silent for 0 s"):
        if side == "receive":
            asyncio.run(collect(receivers[0]))
        else:
            receivers[0].finalize()
            asyncio.run(sender.send_weights((str(i), torch.ones(1 << 20)) for i in range(9)))


@pytest.fixture
def sharded(tmp_path):
    """A weight as FSDP2 shards it, on one rank."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    model = torch.nn.Linear(2, 2)
    yield fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    torch.distributed.destroy_process_group()


def test_the_policy_that_is_kept_does_not_move_with_the_trained_one(sharded):
    """`separate_async` and fully_async take old log-probs from it when a step has several updates."""
    save = getattr(fsdp_utils.fsdp2_sharded_save_to_cpu, "__wrapped__", fsdp_utils.fsdp2_sharded_save_to_cpu)
    assert isinstance(sharded.weight, DTensor)
    before = sharded.weight.full_tensor().clone()
    kept = wrap(save, lambda: keep_a_copy)(sharded)
    with torch.no_grad():
        sharded.weight.add_(1)
    fsdp_utils.fsdp2_sharded_load_from_cpu(sharded, *kept)
    assert torch.equal(sharded.weight.full_tensor(), before)
