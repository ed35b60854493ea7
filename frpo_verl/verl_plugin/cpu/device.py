"""The platform `cpu` for verl, chosen by `VERL_PLATFORM=cpu` and by nothing else.

verl asks its platform object for a device name, a `torch.<device>` namespace and a collective backend. Here that is
plain `torch.device("cpu")` with gloo; memory statistics are zero because there is no device memory to account for.
It never claims to be available to verl's auto-detection: a GPU cluster's driver and reward processes see no GPU either.
"""

from __future__ import annotations

import types
from contextlib import nullcontext
from typing import Any

import torch
from verl.plugin.platform import PlatformRegistry
from verl.plugin.platform.platform_base import PlatformBase


class _NullStream:
    """Stands in for a CUDA stream or event where verl asks for one without checking."""

    def __getattr__(self, _name: str):
        return _nothing


def _nothing(*_args, **_kwargs) -> None:
    return None


ZERO = ("max_memory_allocated", "max_memory_reserved", "memory_allocated", "memory_reserved")
NOTHING = (
    *("empty_cache", "ipc_collect", "reset_peak_memory_stats", "reset_max_memory_allocated", "set_device"),
    *("set_per_process_memory_fraction", "synchronize"),
)


def _build_device_module() -> types.ModuleType:
    """A namespace shaped like `torch.cuda` with the functions that verl calls unguarded."""
    module: Any = types.ModuleType("frpo_verl_cpu_device")
    module.is_available = lambda: False
    module.device_count = lambda: 1
    module.current_device = lambda: torch.device("cpu")
    module.get_device_name = lambda *args, **kwargs: "cpu"
    module.mem_get_info = lambda *args, **kwargs: (0, 0)
    module.memory_stats = lambda *args, **kwargs: {}
    vars(module).update({name: lambda *args, **kwargs: 0 for name in ZERO} | dict.fromkeys(NOTHING, _nothing))
    module.manual_seed = torch.manual_seed
    module.manual_seed_all = torch.manual_seed
    module.get_rng_state = lambda *args, **kwargs: torch.get_rng_state()
    module.set_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)
    module.Stream = module.Event = lambda *args, **kwargs: _NullStream()
    module.current_stream = lambda *args, **kwargs: _NullStream()
    module.stream = lambda *args, **kwargs: nullcontext()
    return module


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """verl on the host CPU: gloo collectives, no device memory, one logical accelerator slot per rank in Ray."""

    _device_module = _build_device_module()

    @property
    def device_name(self) -> str:
        return "cpu"

    @property
    def vendor_name(self) -> str:
        return "cpu"

    @property
    def device_module(self):
        return self._device_module

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return False  # never auto-detected

    def current_device(self):
        return torch.device("cpu")  # an int would mean "accelerator N" to Tensor.to

    def device_count(self) -> int:
        return 1

    set_device = synchronize = set_allocator_settings = empty_cache = profiler_start = profiler_stop = cudart = _nothing

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    def nvtx_range(self, msg: str):
        return nullcontext()

    def ray_resource_name(self) -> str:
        return "GPU"  # the recipes give Ray that many logical ones (ray_kwargs.ray_init.num_gpus)

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False
