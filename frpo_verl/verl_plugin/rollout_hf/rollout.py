"""The rollout `hf` (`actor_rollout_ref.rollout.name=hf`): its replica in the driver and its adapter in the workers.

`HFReplica` starts one server actor for each replica; `HFAdapter` lives in every training worker and hands the trainer's
weights over. All ranks drain the weight generator, because gathering a sharded tensor is a collective; only the
replica's first rank sends.
"""

from __future__ import annotations

import asyncio
import os

import ray
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.device import get_visible_devices_keyword
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica

from .buckets import buckets
from .server import HFServer


def _server_name(replica_rank: int, suffix: str = "") -> str:
    return f"hf_server_{replica_rank}_0{suffix}"


class HFReplica(RolloutReplica):
    """A rollout replica of exactly one training rank, served by one transformers model."""

    async def launch_servers(self):
        if self.world_size != 1:
            raise ValueError(
                f"rollout.name=hf runs one model on one device, got a replica of {self.world_size} ranks: set "
                "actor_rollout_ref.rollout.tensor_model_parallel_size=1 (and data/pipeline parallel sizes to 1)"
            )
        ((node_id, accelerators),) = await asyncio.gather(
            self.workers[0].__ray_call__.remote(
                lambda self: (
                    ray.get_runtime_context().get_node_id(),
                    ray.get_runtime_context().get_accelerator_ids().get("GPU", []),
                )
            )
        )
        env_vars = {
            "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1",
            get_visible_devices_keyword(): ",".join(accelerators),
        }
        server = (
            ray.remote(HFServer)
            .options(
                scheduling_strategy=ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id, soft=False),
                runtime_env={"env_vars": env_vars},
                name=_server_name(self.replica_rank, self.name_suffix),
                max_concurrency=self.max_concurrency,
            )
            .remote(
                config=self.config,
                model_config=omega_conf_to_dataclass(self.model_config),
                replica_rank=self.replica_rank,
                threads=int(os.getenv("FRPO_VERL_HF_THREADS", "0")) or None,
            )
        )
        await server.ping.remote()
        self.servers = [server]
        self._server_handle = server
        self._server_address = _server_name(self.replica_rank, self.name_suffix)


class HFAdapter(BaseRollout):
    """What a training worker holds of its rollout: a handle that takes weights."""

    def __init__(self, config, model_config, device_mesh, replica_rank: int = -1):
        super().__init__(config, model_config, device_mesh)
        rank = int(os.environ["RANK"])
        self.replica_rank = rank if replica_rank == -1 else replica_rank
        self._server = None

    def _handle(self):
        if self._server is None:
            self._server = ray.get_actor(_server_name(self.replica_rank))
        return self._server

    async def resume(self, tags: list[str]):
        await self._handle().wake_up.remote(tags=tags)

    async def release(self):
        await self._handle().sleep.remote()

    async def update_weights(
        self, weights, global_steps: int | None = None, wire_format: str = "named_tensors", **kwargs
    ):
        """Send every named tensor to the server in buckets of `update_weights_bucket_megabytes`."""
        if wire_format != "named_tensors":
            raise ValueError(f"rollout.name=hf takes wire_format='named_tensors', got {wire_format!r}")
        if kwargs.get("peft_config") is not None:
            raise ValueError("rollout.name=hf serves merged weights only: set actor_rollout_ref.model.lora.merge=true")
        limit = self.config.checkpoint_engine.update_weights_bucket_megabytes << 20
        async for bucket, last in buckets(weights, limit):
            await self._handle().load_weights.remote(bucket, last=last, global_steps=global_steps)
