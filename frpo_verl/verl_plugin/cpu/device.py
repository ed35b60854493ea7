"""The platform `cpu` for verl, chosen by `VERL_PLATFORM=cpu` and by nothing else.

verl asks its platform object for a device name, a `torch.<device>` namespace and a collective backend. Here that is
plain `torch.device("cpu")` with gloo; memory statistics are zero because there is no device memory to account for.
It never claims to be available to verl's auto-detection: a GPU cluster's driver and reward processes see no GPU either.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from verl.plugin.platform import PlatformRegistry
from verl.plugin.platform.platform_base import PlatformBase


def gives(value: Any) -> Callable[..., Any]:
    """A function, or a method, that is always right with one value."""
    return lambda *args, **kwargs: value


class _NullStream:
    """Stands in for a CUDA stream or event where verl asks for one without checking."""

    def __getattr__(self, _name: str):
        return gives(None)


CPU = torch.device("cpu")  # an int would mean "accelerator N" to Tensor.to
# shaped like `torch.cuda`, with the functions that verl calls unguarded
DEVICE = types.ModuleType("frpo_verl_cpu_device")
vars(DEVICE).update(
    is_available=gives(False), device_count=gives(1), current_device=gives(CPU), get_device_name=gives("cpu"),
    mem_get_info=gives((0, 0)), memory_stats=lambda *args, **kwargs: {},
    max_memory_allocated=gives(0), max_memory_reserved=gives(0), memory_allocated=gives(0), memory_reserved=gives(0),
    empty_cache=gives(None), ipc_collect=gives(None), reset_peak_memory_stats=gives(None), set_device=gives(None),
    reset_max_memory_allocated=gives(None), set_per_process_memory_fraction=gives(None), synchronize=gives(None),
    manual_seed=torch.manual_seed, manual_seed_all=torch.manual_seed,
    get_rng_state=lambda *args, **kwargs: torch.get_rng_state(),
    set_rng_state=lambda state, *args, **kwargs: torch.set_rng_state(state),
    Stream=gives(_NullStream()), Event=gives(_NullStream()), current_stream=gives(_NullStream()),
    stream=lambda *args, **kwargs: nullcontext(),
)  # fmt: skip


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """verl on the host CPU: gloo collectives, no device memory, one logical accelerator slot per rank in Ray."""

    device_name = vendor_name = property(gives("cpu"))
    device_module = property(gives(DEVICE))
    is_available, is_platform_available = gives(True), gives(False)  # never auto-detected
    current_device, device_count, get_device_capability = gives(CPU), gives(1), gives((None, None))
    set_device = synchronize = set_allocator_settings = empty_cache = gives(None)
    profiler_start = profiler_stop = cudart = gives(None)
    communication_backend_name, is_ipc_supported = gives("gloo"), gives(False)
    visible_devices_envvar = gives("CUDA_VISIBLE_DEVICES")
    ray_resource_name = gives("GPU")  # the recipes give Ray that many logical ones (ray_kwargs.ray_init.num_gpus)

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def nvtx_range(self, msg: str):
        return nullcontext()

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]
