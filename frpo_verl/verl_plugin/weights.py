"""A checkpoint of a run of ours holds finite weights, or it is not written; one that finds no room says so."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from .run import current


class BrokenWeights(RuntimeError):
    """A weight is NaN or infinite."""


class NoRoom(RuntimeError):
    """The disk is full."""


def save(original: Callable, worker: Any, args: tuple, kwargs: dict) -> Any:
    """Around verl's `TrainingWorker.save_checkpoint`: the last checkpoint stays the one to resume from."""
    run = current()
    if run is None or not run.ours:
        return original(worker, *args, **kwargs)
    module = getattr(worker.engine, "module", None)
    modules = module if isinstance(module, list | tuple) else [] if module is None else [module]
    refuse_nonfinite(modules)
    try:
        return original(worker, *args, **kwargs)
    except Exception as error:
        folder = args[0] if args else kwargs.get("local_path")
        if folder is None or (room := no_room(error, Path(folder), modules)) is None:
            raise
        raise NoRoom(
            f"no room for the checkpoint {folder}: {room / 2**30:.1f} GiB are free there, and this rank's weights alone are "
            f"{size_of(modules) / 2**30:.1f} GiB (with Adam's state three times that). Make room, or set "
            "trainer.max_actor_ckpt_to_keep or trainer.default_local_dir, and start the same command again: it resumes "
            "from the last whole checkpoint"
        ) from error


def size_of(modules: Iterable[torch.nn.Module]) -> int:
    """Bytes of the weights that this rank holds."""
    parts = [getattr(p, "_local_tensor", p) for module in modules for p in module.parameters()]
    return sum(p.numel() * p.element_size() for p in parts)


def no_room(error: BaseException, folder: Path, modules: Iterable[torch.nn.Module]) -> int | None:
    """Free bytes where a checkpoint could not be written, None if the error has another cause.

    torch's writer does not say why it failed, so the disk is asked: a disk with less room than the weights is full.
    """
    link: BaseException | None = error
    full = False
    while link is not None and not full:
        full = isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT)
        link = link.__cause__ or link.__context__
    there = next((p for p in (folder, *folder.absolute().parents) if p.exists()), None)
    if there is None:
        return None
    free = shutil.disk_usage(there).free
    return free if full or free < size_of(modules) else None


def _held(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of a module that this rank can read, by name.

    Megatron's `param_offload` frees the storage under the parameters outside of a step, and keeps it as `cpu_data` of the
    buffers that they are views of.
    """
    freed = False
    for name, parameter in module.named_parameters():
        value = getattr(parameter, "_local_tensor", parameter)
        if value.numel() and value.untyped_storage().nbytes() == 0:
            freed = True
        else:
            yield name, value
    for kind in ("buffers", "expert_parallel_buffers") if freed else ():
        buffers = getattr(module, kind, ())
        for i, buffer in enumerate(() if callable(buffers) else buffers):
            copy = getattr(buffer.param_data, "cpu_data", None)
            if copy is not None:
                yield f"{kind}[{i}]", copy


@torch.no_grad()
def refuse_nonfinite(modules: Iterable[torch.nn.Module]) -> None:
    """Raise if a weight that this rank holds is NaN or infinite.

    Args:
        modules: the parts of the model; of a sharded weight this rank's part is looked at.

    Raises:
        BrokenWeights: with the first such weight and what to do.
    """
    named = [pair for module in modules for pair in _held(module)]
    finite = [torch.isfinite(value).all() for _, value in named]
    if all(torch.stack([flag.cpu() for flag in finite]).tolist() if finite else []):
        return
    broken = [name for (name, _), flag in zip(named, finite, strict=True) if not flag]
    raise BrokenWeights(
        f"{broken[0]} (and {len(broken) - 1} more of {len(named)} weights) holds NaN or inf: the checkpoint is not written. "
        "Start the same command again to resume from the last one; if it comes back, lower actor_rollout_ref.actor.optim.lr"
    )
