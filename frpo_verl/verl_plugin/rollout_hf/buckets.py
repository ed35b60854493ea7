"""Weights in buckets, for the two that send them on: the rollout's adapter and the checkpoint engine of a CPU."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import torch
from verl.workers.rollout.utils import ensure_async_iterator


async def buckets(weights: Any, limit: int) -> AsyncIterator[tuple[dict[str, torch.Tensor], bool]]:
    """(bucket, whether it is the last) of named tensors, copied to the host.

    Args:
        weights: (name, tensor) pairs; taking one may be a collective of all ranks.
        limit: bytes of a bucket; a larger tensor has a bucket of its own.
    """
    bucket: dict[str, torch.Tensor] = {}
    size = 0
    async for name, tensor in ensure_async_iterator(weights):
        value = tensor.detach().to("cpu", copy=True).contiguous()
        if bucket and size + value.nbytes > limit:
            yield bucket, False
            bucket, size = {}, 0
        bucket[name] = value
        size += value.nbytes
    yield bucket, True
