"""A checkpoint of a run of ours holds finite weights, or it is not written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from .run import current


class BrokenWeights(RuntimeError):
    """A weight is NaN or infinite."""


def save(original: Callable, worker: Any, args: tuple, kwargs: dict) -> Any:
    """Around verl's `TrainingWorker.save_checkpoint`: the last checkpoint stays the one to resume from."""
    run = current()
    if run is not None and run.ours:
        module = getattr(worker.engine, "module", None)
        refuse_nonfinite(module if isinstance(module, list | tuple) else [] if module is None else [module])
    return original(worker, *args, **kwargs)


@torch.no_grad()
def refuse_nonfinite(modules: Iterable[torch.nn.Module]) -> None:
    """Raise if a weight that this rank holds is NaN or infinite.

    Args:
        modules: the parts of the model; of a sharded weight this rank's part is looked at.

    Raises:
        BrokenWeights: with the first such weight and what to do.
    """
    named = [(name, getattr(p, "_local_tensor", p)) for module in modules for name, p in module.named_parameters()]
    finite = [torch.isfinite(value).all() for _, value in named]
    if all(torch.stack([flag.cpu() for flag in finite]).tolist() if finite else []):
        return
    broken = [name for (name, _), flag in zip(named, finite, strict=True) if not flag]
    raise BrokenWeights(
        f"{broken[0]} (and {len(broken) - 1} more of {len(named)} weights) holds NaN or inf: the checkpoint is not written. "
        "Start the same command again to resume from the last one; if it comes back, lower actor_rollout_ref.actor.optim.lr"
    )
