"""Code that says `device="cuda"` runs on a CPU: torch's own functions, changed for this process.

Megatron-Core names CUDA in some four hundred places; nearly all of them reach the device through the functions below.
The change cannot be taken back, so it belongs into a process of its own.
"""

from __future__ import annotations

import contextlib
import functools
import types

import torch
import torch._dynamo  # noqa: F401 - first: it sorts every function of torch, and would find changed ones

CPU = torch.device("cpu")
FACTORIES = (
    "arange as_tensor empty empty_like empty_strided eye full full_like linspace ones ones_like rand rand_like randint "
    "randn randn_like tensor zeros zeros_like"
).split()
NOTHING_TO_DO = "empty_cache ipc_collect reset_peak_memory_stats set_device synchronize".split()
NOTHING_USED = "max_memory_allocated max_memory_reserved memory_allocated memory_reserved".split()


class FinishedStream:
    """A CUDA stream or event whose work is done: every method gives the stream itself."""

    def __init__(self, *args, **kwargs):
        pass

    def __getattr__(self, name):
        return lambda *args, **kwargs: self


def _on_processor(device):
    kind = device.type if isinstance(device, torch.device) else device
    return CPU if isinstance(kind, str) and kind.startswith("cuda") else device


def _with_device(function):
    """`function`, told `cpu` where the caller says `cuda`, by keyword or (for `Tensor.to`) in the first place."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        if "device" in kwargs:
            kwargs["device"] = _on_processor(kwargs["device"])
        return function(*args, **kwargs)

    return wrapper


def _replace_tensor_methods() -> None:
    to, type_name = _with_device(torch.Tensor.to), torch.Tensor.type
    torch.Tensor.to = lambda self, *args, **kwargs: to(self, *map(_on_processor, args), **kwargs)
    same = lambda self, *args, **kwargs: self  # noqa: E731
    torch.Tensor.cuda = torch.Tensor.pin_memory = torch.nn.Module.cuda = same

    def type_on_cuda(self, *args, **kwargs):
        """Megatron's optimizers compare a parameter's type with 'torch.cuda.FloatTensor'."""
        name = type_name(self, *args, **kwargs)
        return name.replace("torch.", "torch.cuda.", 1) if isinstance(name, str) else name

    torch.Tensor.type = type_on_cuda


def _replace_cuda_module() -> None:
    nothing = lambda *args, **kwargs: None  # noqa: E731
    for module in (torch.cuda, torch.cuda.random):
        module.get_rng_state = lambda *args, **kwargs: torch.get_rng_state()
        module.set_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)
        module.manual_seed = torch.default_generator.manual_seed  # `torch.manual_seed` would call manual_seed_all
        module.manual_seed_all = nothing
    for name in NOTHING_TO_DO:
        setattr(torch.cuda, name, nothing)
    for name in NOTHING_USED:
        setattr(torch.cuda, name, lambda *args, **kwargs: 0)
    torch.cuda.current_device = lambda: CPU
    torch.cuda.device_count = lambda: 1
    torch.cuda.Stream = torch.cuda.Event = FinishedStream
    torch.cuda.current_stream = torch.cuda.default_stream = lambda *args, **kwargs: FinishedStream()
    torch.cuda.stream = lambda *args, **kwargs: contextlib.nullcontext()
    torch.cuda.nvtx = types.SimpleNamespace(range_push=nothing, range_pop=nothing, mark=nothing)


@functools.cache
def install() -> None:
    """Change torch in this process; again is harmless."""
    torch.compile = lambda function=None, **kwargs: function if function is not None else (lambda f: f)
    for name in FACTORIES:
        setattr(torch, name, _with_device(getattr(torch, name)))
    _replace_tensor_methods()
    _replace_cuda_module()
