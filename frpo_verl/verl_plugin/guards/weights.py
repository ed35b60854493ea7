"""Needed until verl looks at what it saves (verl#637): a checkpoint holds finite weights, or it is not written; a full disk is said."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from ..hooks import Call
from ..run import current_of_ours


class BrokenWeights(RuntimeError):
    """A weight is NaN or infinite."""


class NoRoom(RuntimeError):
    """The disk is full."""


def save(call: Call) -> Any:
    """Around verl's `TrainingWorker.save_checkpoint`: the last checkpoint stays the one to resume from.

    Raises:
        BrokenWeights: a weight that this rank holds is NaN or infinite.
        NoRoom: there was none for the checkpoint.
    """
    if current_of_ours() is None:
        return call()
    module = getattr(call["self"].engine, "module", None)
    modules = module if isinstance(module, list | tuple) else [] if module is None else [module]
    refuse_nonfinite(modules)
    try:
        return call()
    except Exception as error:
        folder = call["local_path"]
        size = sum(p.numel() * p.element_size() for m in modules for p in map(_local, m.parameters()))
        if (room := no_room(error, Path(folder), size)) is None:
            raise
        raise NoRoom(
            f"no room for the checkpoint {folder}: {room / 2**30:.1f} GiB are free there, and this rank's weights alone are "
            f"{size / 2**30:.1f} GiB (with Adam's state three times that). Make room, or set trainer.max_actor_ckpt_to_keep or "
            "trainer.default_local_dir, and start the same command again: it resumes from the last whole checkpoint"
        ) from error


def no_room(error: BaseException, folder: Path, size: int) -> int | None:
    """Free bytes where a checkpoint could not be written, None if the error has another cause.

    torch's writer does not say why it failed, so the disk is asked: one with less room than the weights' `size` is full.
    """
    link: BaseException | None = error
    full = False
    while link is not None and not full:
        full = isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT)
        link = link.__cause__ or link.__context__
    there = next((p for p in (folder, *folder.absolute().parents) if p.exists()), None)
    free = shutil.disk_usage(there).free if there is not None else size
    return free if there is not None and (full or free < size) else None


def _local(parameter: torch.Tensor) -> torch.Tensor:
    return getattr(parameter, "_local_tensor", parameter)  # of a sharded weight, this rank's part


def _held(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of a module that this rank can read, by name.

    Megatron's `param_offload` frees the storage under the parameters outside of a step, and keeps it as `cpu_data` of the
    buffers that they are views of.
    """
    freed = False
    for name, parameter in module.named_parameters():
        value = _local(parameter)
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
    """Raise BrokenWeights with the first weight of these modules that is NaN or infinite, and what to do."""
    named = [pair for module in modules for pair in _held(module)]
    finite = [torch.isfinite(value).all() for _, value in named]
    broken = [name for (name, _), flag in zip(named, finite, strict=True) if not flag]
    if broken:
        raise BrokenWeights(
            f"{broken[0]} (and {len(broken) - 1} more of {len(named)} weights) holds NaN or inf: the checkpoint is not written. "
            "Start the same command again to resume from the last one; if it comes back, lower actor_rollout_ref.actor.optim.lr"
        )
