"""VERL_PLATFORM=cpu: what a CPU cannot run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from ...methods.settings import ACTOR
from ..cpu import vllm_cpu
from ..run import EXPERIMENTAL, Run

ROLLOUT = "actor_rollout_ref.rollout"
ENGINE = "zmq"  # cpu/checkpoint_engine.py


def refusals(run: Run) -> Iterator[str]:
    """What this platform has no engine for."""
    strategy, rollout = run.get(f"{ACTOR}.strategy"), run.get(f"{ROLLOUT}.name")
    if strategy != "fsdp2" and not _registered_on_cpu(strategy):
        yield (
            f"{ACTOR}.strategy={strategy} with VERL_PLATFORM=cpu: FSDP1 and Megatron need an accelerator; set layout=cpu, or "
            f"{ACTOR}.strategy=fsdp2"
        )
    if rollout not in ("hf", "vllm"):
        yield (
            f"{ROLLOUT}.name={rollout} with VERL_PLATFORM=cpu: this engine needs an accelerator; set layout=cpu, or "
            f"{ROLLOUT}.name=hf"
        )
    if rollout == "vllm" and not vllm_cpu.installed():
        yield (
            f"{ROLLOUT}.name=vllm with VERL_PLATFORM=cpu: vLLM is not installed; install its build for CPUs "
            "(docs/engines.md), or set layout=cpu"
        )
    visible, wanted = _visible_devices(), int(run.get("ray_kwargs.ray_init.num_gpus", 0))
    if visible is not None and wanted > (0 if visible in ("", "NoDevFiles") else len(visible.split(","))):
        yield (
            f"CUDA_VISIBLE_DEVICES={visible!r} with VERL_PLATFORM=cpu: Ray would not start with "
            f"ray_kwargs.ray_init.num_gpus={wanted}, which are logical here; unset CUDA_VISIBLE_DEVICES"
        )
    engine, apart = f"{ROLLOUT}.checkpoint_engine", run.trainer in ("separate_async", *EXPERIMENTAL)
    backend = run.get(f"{engine}.backend", "naive")
    if backend not in (ENGINE, "naive") and run.get(f"{engine}.custom_backend_module") is None:
        yield (
            f"{engine}.backend={backend} with VERL_PLATFORM=cpu: it moves weights between accelerators; set it to "
            f"{ENGINE if apart else 'naive'}{', or layout=cpu_async' if apart else ''}"
        )
    if backend == "naive" and apart:
        yield (
            f"{engine}.backend=naive: {run.trainer} has a rollout with processes of its own, which takes weights over the network; "
            f"set layout=cpu_async, or it to {ENGINE}"
        )


def _visible_devices() -> str | None:
    """CUDA_VISIBLE_DEVICES, which bounds Ray's logical GPUs; in Ray's own processes Ray sets it, and it says nothing."""
    ray = sys.modules.get("ray")
    return None if ray is not None and ray.is_initialized() else os.environ.get("CUDA_VISIBLE_DEVICES")


def _registered_on_cpu(strategy: object) -> bool:
    """Whether somebody has registered an engine of this kind for CPUs before the run."""
    module = sys.modules.get("verl.workers.engine.base")
    engines = getattr(getattr(module, "EngineRegistry", None), "_engines", {})
    return "cpu" in engines.get("language_model", {}).get(strategy, {})
