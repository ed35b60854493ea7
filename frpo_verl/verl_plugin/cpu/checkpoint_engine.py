"""The checkpoint engine `zmq`: weights from the trainer to a rollout with processes of its own, without an accelerator.

verl moves them by NCCL and its like; its trainers `separate_async`, fully_async and one_step_off ask for such an engine. Here
each rollout worker opens a socket, and the trainer's first rank sends it buckets in the safetensors format, which runs no
code when it is read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import ray
import safetensors.torch
import torch
import zmq
from verl.checkpoint_engine.base import CheckpointEngine, CheckpointEngineRegistry

from ..rollout_hf.buckets import buckets


@CheckpointEngineRegistry.register("zmq")
class ZmqCheckpointEngine(CheckpointEngine):
    """One sender, the trainer's first rank, and one socket for each rollout worker.

    Args:
        bucket_size: bytes of a message.
        is_master: whether this is the trainer's first rank.
        timeout_s: seconds without a message before the other side counts as gone.
    """

    def __init__(self, bucket_size: int, is_master: bool = False, timeout_s: float = 600.0):
        self.bucket_size, self.is_master, self.timeout_s = bucket_size, is_master, timeout_s
        self.sockets: list[zmq.Socket] = []

    def _open(self, kind: int) -> zmq.Socket:
        socket: zmq.Socket = zmq.Context.instance().socket(kind)
        socket.setsockopt(zmq.SNDHWM, 1)  # a bucket may be as large as the model
        socket.setsockopt(zmq.RCVHWM, 1)
        socket.setsockopt(zmq.LINGER, 0)
        for option in (zmq.SNDTIMEO, zmq.RCVTIMEO):
            socket.setsockopt(option, int(self.timeout_s * 1000))
        self.sockets.append(socket)
        return socket

    def prepare(self) -> str | None:
        """The address at which this worker takes weights; the sender has none."""
        if self.is_master:
            return None
        ip = ray.util.get_node_ip_address().strip("[]")
        return f"tcp://{ip}:{self._open(zmq.PULL).bind_to_random_port(f'tcp://{ip}')}"

    @classmethod
    def build_topology(cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list) -> tuple[dict, dict]:
        """What `init_process_group` of each rank is given: the addresses of all rollout workers."""
        addresses = metadata[actor_wg_world_size:]
        return {"addresses": [addresses] * actor_wg_world_size}, {"addresses": [addresses] * rollout_world_size}

    def init_process_group(self, addresses: list[str]) -> None:
        """Connect the sender."""
        for address in addresses if self.is_master else ():
            self._open(zmq.PUSH).connect(address)

    def finalize(self) -> None:
        """Close what `prepare` and `init_process_group` have opened."""
        while self.sockets:
            self.sockets.pop().close()

    async def send_weights(self, weights: Any, global_steps: int | None = None) -> None:
        """Send every weight to every rollout worker; the trainer's other ranks only take part in producing them.

        Raises RuntimeError: a rollout worker takes none.
        """
        async for bucket, last in buckets(weights, self.bucket_size):
            data = safetensors.torch.save(bucket) if self.is_master else b""
            for socket in self.sockets if self.is_master else ():
                self._wait(socket.send_multipart, [b"last" if last else b"", data])

    async def receive_weights(self, global_steps: int | None = None) -> AsyncIterator[tuple[str, torch.Tensor]]:
        """The weights by name, as they come. Raises RuntimeError: none comes."""
        last = b""
        while not last:
            last, data = self._wait(self.sockets[0].recv_multipart)
            for name, tensor in safetensors.torch.load(data).items():
                yield name, tensor

    def _wait(self, call: Any, *args: Any) -> Any:
        try:
            return call(*args)
        except zmq.Again:
            raise RuntimeError(
                f"checkpoint_engine.backend=zmq: the other side of the weights' transfer was silent for {self.timeout_s:.0f} s; "
                "look above for what ended it, and start the same command again to resume"
            ) from None
