"""VERL_PLATFORM=cpu: what a CPU cannot run."""

from __future__ import annotations

import os
import sys

from ...methods.settings import ConfigError
from ..cpu import vllm_cpu
from ..run import EXPERIMENTAL, Run
from .sizes import ROOT, select

ENGINE = "zmq"  # cpu/checkpoint_engine.py


def check_cpu(config) -> None:
    """VERL_PLATFORM=cpu, a platform of ours: refuse what a CPU cannot run.

    Raises:
        ConfigError: on the first thing that is wrong.
    """
    strategy, rollout = select(config, f"{ROOT}.actor.strategy"), select(config, f"{ROOT}.rollout.name")
    if strategy != "fsdp2" and not _registered_on_cpu(strategy):
        raise ConfigError(
            f"{ROOT}.actor.strategy={strategy} with VERL_PLATFORM=cpu: FSDP1 and Megatron need an accelerator; set layout=cpu, or "
            f"{ROOT}.actor.strategy=fsdp2"
        )
    if rollout not in ("hf", "vllm"):
        raise ConfigError(
            f"actor_rollout_ref.rollout.name={rollout} with VERL_PLATFORM=cpu: this engine needs an accelerator; set "
            "layout=cpu, or actor_rollout_ref.rollout.name=hf"
        )
    if rollout == "vllm" and not vllm_cpu.installed():
        raise ConfigError(
            "actor_rollout_ref.rollout.name=vllm with VERL_PLATFORM=cpu: vLLM is not installed; install its build for "
            "CPUs (docs/engines.md), or set layout=cpu"
        )
    _check_visible_devices(config)
    _check_checkpoint_engine(config)


def _check_checkpoint_engine(config) -> None:
    """A rollout with processes of its own takes its weights over the network, from an engine that a CPU has."""
    engine = f"{ROOT}.rollout.checkpoint_engine"
    backend, run = select(config, f"{engine}.backend", "naive"), Run(config)
    apart = run.trainer in ("separate_async", *EXPERIMENTAL)
    if backend not in (ENGINE, "naive") and select(config, f"{engine}.custom_backend_module") is None:
        raise ConfigError(
            f"{engine}.backend={backend} with VERL_PLATFORM=cpu: it moves weights between accelerators; set it to "
            f"{ENGINE if apart else 'naive'}{', or layout=cpu_async' if apart else ''}"
        )
    if backend == "naive" and apart:
        raise ConfigError(
            f"{engine}.backend=naive: {run.trainer} has a rollout with processes of its own, which takes weights over the network; "
            f"set layout=cpu_async, or it to {ENGINE}"
        )


def _check_visible_devices(config) -> None:
    """Ray starts no more logical GPUs than CUDA_VISIBLE_DEVICES names; in Ray's own processes Ray sets the variable."""
    ray, visible = sys.modules.get("ray"), os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = int(select(config, "ray_kwargs.ray_init.num_gpus", 0))
    if visible is None or (ray is not None and ray.is_initialized()):
        return
    if wanted > (0 if visible in ("", "NoDevFiles") else len(visible.split(","))):
        raise ConfigError(
            f"CUDA_VISIBLE_DEVICES={visible!r} with VERL_PLATFORM=cpu: Ray would not start with "
            f"ray_kwargs.ray_init.num_gpus={wanted}, which are logical here; unset CUDA_VISIBLE_DEVICES"
        )


def _registered_on_cpu(strategy: object) -> bool:
    """Whether somebody has registered an engine of this kind for CPUs before the run."""
    module = sys.modules.get("verl.workers.engine.base")
    engines = getattr(getattr(module, "EngineRegistry", None), "_engines", {})
    return "cpu" in engines.get("language_model", {}).get(strategy, {})
