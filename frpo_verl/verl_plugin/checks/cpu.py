"""VERL_PLATFORM=cpu: what a CPU cannot run."""

from __future__ import annotations

import os
import sys

from ...methods.settings import ConfigError
from ..cpu import vllm_cpu
from .sizes import ROOT, select


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
    mode = select(config, "trainer.v1.trainer_mode", "sync")
    if mode == "separate_async":
        raise ConfigError(
            f"trainer.v1.trainer_mode={mode} with VERL_PLATFORM=cpu: it wants a checkpoint engine that moves weights between "
            "accelerators; set it to colocate_async or sync"
        )
    engine = select(config, f"{ROOT}.rollout.checkpoint_engine.backend", "naive")
    if engine != "naive":
        raise ConfigError(
            f"actor_rollout_ref.rollout.checkpoint_engine.backend={engine} with VERL_PLATFORM=cpu: it moves weights between "
            "accelerators; set it to naive (trainers that cannot work with it, fully_async and one_step_off, need accelerators)"
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
