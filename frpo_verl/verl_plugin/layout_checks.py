"""Checks of a run's layout: settings that verl accepts and that change the method, or that die after the first rollout.

Each error is one line: the key, its value, what is allowed, what to do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from omegaconf import OmegaConf

from ..methods.settings import ConfigError
from .cpu import vllm_cpu
from .data_checks import count_rows

ROOT = "actor_rollout_ref"
ULYSSES = "ulysses_sequence_parallel_size"
ENGINES = {"McoreActorConfig": "megatron", "VeOmniActorConfig": "veomni", "TorchTitanActorConfig": "torchtitan"}


def check_layout(config, *, has_reference: bool) -> None:
    """Refuse a layout that would change the method in silence or stop the run after its first rollout.

    Args:
        config: the composed configuration of main_ppo; it is only read.
        has_reference: whether the run compares with a reference model.

    Raises:
        ConfigError: on the first thing that is wrong.
    """
    _check_folder(config)
    _check_engine(config)
    if has_reference:
        _check_model_dtype(config)
    _check_capacity(config)
    _check_model_ranks(config)
    _check_lora(config, has_reference)
    _check_warmup(config)
    _check_checkpoint(config)
    if _select(config, "trainer.val_only", False):
        if not _select(config, "trainer.val_before_train", True):
            raise ConfigError(
                "trainer.val_before_train=false beside val_only=true: verl would train instead of validating; set it to true"
            )
        return
    _check_sampling(config)
    _check_token_budgets(config, has_reference)
    _check_mini_batch(config)


def _select(config, key: str, default=None):
    value = OmegaConf.select(config, key, default=default)
    return default if value is None else value


def check_cpu(config) -> None:
    """VERL_PLATFORM=cpu, a platform of ours: refuse what a CPU cannot run.

    Raises:
        ConfigError: on the first thing that is wrong.
    """
    strategy, rollout = _select(config, f"{ROOT}.actor.strategy"), _select(config, f"{ROOT}.rollout.name")
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
    mode = _select(config, "trainer.v1.trainer_mode", "sync")
    if mode == "separate_async":
        raise ConfigError(
            f"trainer.v1.trainer_mode={mode} with VERL_PLATFORM=cpu: it wants a checkpoint engine that moves weights between "
            "accelerators; set it to colocate_async or sync"
        )
    engine = _select(config, f"{ROOT}.rollout.checkpoint_engine.backend", "naive")
    if engine != "naive":
        raise ConfigError(
            f"actor_rollout_ref.rollout.checkpoint_engine.backend={engine} with VERL_PLATFORM=cpu: it moves weights between "
            "accelerators; set it to naive (trainers that cannot work with it, fully_async and one_step_off, need accelerators)"
        )


def _check_visible_devices(config) -> None:
    """Ray starts no more logical GPUs than CUDA_VISIBLE_DEVICES names; in Ray's own processes Ray sets the variable."""
    ray, visible = sys.modules.get("ray"), os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = int(_select(config, "ray_kwargs.ray_init.num_gpus", 0))
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


def _check_folder(config) -> None:
    """An evaluation whose model has no name has no folder either."""
    if OmegaConf.is_missing(config, "name"):
        raise ConfigError(
            "name is not set: it names the evaluated model's folder, so that no model overwrites "
            "another's answers; add name=SOME_NAME"
        )


def _check_engine(config) -> None:
    """The class of the actor's (and the reference's) settings, the strategy and the sections belong to one engine."""
    for role in ("actor", "ref"):
        target = str(_select(config, f"{ROOT}.{role}._target_", "")).rpartition(".")[2]
        strategy = str(_select(config, f"{ROOT}.{role}.strategy", ""))
        engine = ENGINES.get(target)
        if target and not strategy.startswith(engine or "fsdp"):
            wanted = engine or "fsdp2"
            raise ConfigError(
                f"{ROOT}.{role}.strategy={strategy} does not belong to {target}: use layout=fsdp or layout=megatron beside "
                f"a recipe, else set model_engine and strategy together (here strategy={wanted})"
            )
        section = "fsdp_config" if engine else "megatron"
        if _select(config, f"{ROOT}.{role}.{section}") is not None:
            raise ConfigError(
                f"{ROOT}.{role}.{section} is set and strategy={strategy} does not know it: its worker would stop; remove it"
            )


def _check_model_dtype(config) -> None:
    """FSDP casts the whole module to model_dtype, the rotary frequencies too: the reference is then another model."""
    for role in ("actor", "ref"):
        key = f"{ROOT}.{role}.fsdp_config.model_dtype"
        value = str(_select(config, key, "fp32")).removeprefix("torch.")
        if value not in ("fp32", "float32", "float"):
            raise ConfigError(
                f"{key}={value}: FSDP then rounds the rotary frequencies as well, and the log-ratio to the reference is that "
                "of two other models; allowed is fp32 (the passes compute in fsdp_config.dtype=bfloat16 all the same)"
            )


def _check_sampling(config) -> None:
    """With top-p or top-k the answers are not drawn from the policy whose log-probs the method uses."""
    top_p, top_k = _select(config, f"{ROOT}.rollout.top_p", 1.0), _select(config, f"{ROOT}.rollout.top_k", -1)
    if float(top_p) != 1.0:
        raise ConfigError(
            f"{ROOT}.rollout.top_p={top_p}: answers would not be samples of the policy whose log-probs are used; set it to 1 "
            "(val_kwargs.top_p is for validation)"
        )
    if int(top_k) not in (-1, 0):
        raise ConfigError(
            f"{ROOT}.rollout.top_k={top_k}: answers would not be samples of the policy whose log-probs are used; set it to -1 "
            "(val_kwargs.top_k is for validation)"
        )


def _parallel(config) -> tuple[int, int]:
    """(ranks that share one sequence, ranks that share one copy of the data)."""
    actor = f"{ROOT}.actor"
    strategy = str(_select(config, f"{actor}.strategy", "fsdp"))
    if strategy == "megatron":
        tensor, pipeline, context = (
            int(_select(config, f"{actor}.megatron.{name}_parallel_size", 1))
            for name in ("tensor_model", "pipeline_model", "context")
        )
        return context, tensor * pipeline * context
    if strategy == "veomni":
        ulysses = int(_select(config, f"{actor}.veomni.ulysses_parallel_size", 1))
        return ulysses, ulysses
    if strategy == "torchtitan":
        tensor, pipeline, context = (
            int(_select(config, f"{actor}.torchtitan.{name}_parallel_size", 1))
            for name in ("tensor", "pipeline", "context")
        )
        return tensor, tensor * pipeline * context
    return (_ulysses(config, "actor"),) * 2


def _ulysses(config, role: str) -> int:
    """Ranks that share one sequence under FSDP: the deprecated key wins, and the reference follows only the actor's."""
    old = int(_select(config, f"{ROOT}.{role}.{ULYSSES}", 1))
    return old if old > 1 else int(_select(config, f"{ROOT}.{role}.fsdp_config.{ULYSSES}", 1))


def _budgets(config, has_reference: bool) -> Iterator[tuple[str, str, int]]:
    """(the switch for dynamic batches, the token budget, the ranks that share it) of every pass."""
    shared, _ = _parallel(config)
    yield f"{ROOT}.actor.use_dynamic_bsz", f"{ROOT}.actor.ppo_max_token_len_per_gpu", shared
    key = "log_prob_use_dynamic_bsz", "log_prob_max_token_len_per_gpu"
    yield f"{ROOT}.rollout.{key[0]}", f"{ROOT}.rollout.{key[1]}", shared
    if has_reference and not _lora_ranks(config):  # with LoRA the actor is the reference too
        fsdp = str(_select(config, f"{ROOT}.ref.strategy", "fsdp")).startswith("fsdp")
        yield f"{ROOT}.ref.{key[0]}", f"{ROOT}.ref.{key[1]}", _ulysses(config, "ref") if fsdp else shared


def _check_token_budgets(config, has_reference: bool) -> None:
    """A micro-batch holds at least one prompt with its answer: budget * sequence parallel >= prompt + response."""
    prompt, response = (
        int(_select(config, "data.max_prompt_length", 512)),
        int(_select(config, "data.max_response_length", 512)),
    )
    for switch, key, shared in _budgets(config, has_reference):
        budget = _select(config, key)
        if _select(config, switch, False) and budget is not None and int(budget) * shared < prompt + response:
            times = f" on {shared} ranks" if shared > 1 else ""
            whole = _parallel(config)[0]
            also = (
                f", or {ROOT}.actor.{ULYSSES}={whole}, which the reference follows too (it does not follow the actor's "
                "fsdp_config)"
                if shared < whole
                else ""
            )
            raise ConfigError(
                f"{key}={budget}{times} does not hold one prompt and answer of data.max_prompt_length={prompt} + "
                f"max_response_length={response} tokens: set it to {-(-(prompt + response) // shared)} or more{also}"
            )


def _gpus(config) -> tuple[int, str]:
    """The number of GPUs, and how it was typed."""
    per_node, nodes = int(_select(config, "trainer.n_gpus_per_node", 8)), int(_select(config, "trainer.nnodes", 1))
    if per_node < 1 or nodes < 1:
        raise ConfigError(
            f"trainer.n_gpus_per_node={per_node} x nnodes={nodes}: a run needs a rank; set both to 1 or more"
        )
    return per_node * nodes, f"trainer.n_gpus_per_node={per_node} x nnodes={nodes}"


def _check_model_ranks(config) -> None:
    """The ranks are divided over copies of the model, over its experts and over the rollout engines: without a rest."""
    if not _select(config, f"{ROOT}.hybrid_engine", True):
        return
    world, gpus = _gpus(config)
    _, copies = _parallel(config)
    if world % copies:
        raise ConfigError(f"{gpus} is not a multiple of the {copies} ranks that hold one model; change one of them")
    _check_experts(config, world, gpus)
    engine = 1
    for name in ("tensor_model", "data", "pipeline_model"):
        engine *= int(_select(config, f"{ROOT}.rollout.{name}_parallel_size", 1))
    if world % engine:
        raise ConfigError(
            f"{ROOT}.rollout.tensor_model_parallel_size={_select(config, f'{ROOT}.rollout.tensor_model_parallel_size', 1)}: "
            f"{gpus} is not a multiple of a rollout engine's {engine} GPUs; set it to a divisor"
        )


def _check_mini_batch(config) -> None:
    """Mini-batches are divided over the data-parallel ranks without a rest."""
    if not _select(config, f"{ROOT}.hybrid_engine", True):
        return
    world, gpus = _gpus(config)
    ranks = world // _parallel(config)[1]
    mini, n = (
        int(_select(config, f"{ROOT}.actor.ppo_mini_batch_size", 256)),
        int(_select(config, f"{ROOT}.rollout.n", 1)),
    )
    if mini * n % ranks:
        raise ConfigError(
            f"{ROOT}.actor.ppo_mini_batch_size={mini} x rollout.n={n} = {mini * n} answers cannot be divided over {ranks} "
            f"data-parallel ranks ({gpus}): change the mini-batch or the number of GPUs"
        )


def _check_experts(config, world: int, gpus: str) -> None:
    """Experts are divided over expert-parallel ranks, and a dense model has none."""
    key = f"{ROOT}.actor.megatron.expert_model_parallel_size"
    parallel, experts = int(_select(config, key, 1)), int(_select(config, "experts", 0))
    if parallel == 1:
        return
    if "experts" in config and (not experts or experts % parallel):
        raise ConfigError(
            f"{key}={parallel} with experts={experts}: the model's experts cannot be spread over that many ranks; use "
            "layout=megatron for a dense model, or set experts to what the model has"
        )
    tensor = _select(config, f"{ROOT}.actor.megatron.expert_tensor_parallel_size")
    if tensor is None:
        tensor = _select(config, f"{ROOT}.actor.megatron.tensor_model_parallel_size", 1)
    group = parallel * int(tensor) * int(_select(config, f"{ROOT}.actor.megatron.pipeline_model_parallel_size", 1))
    if world % group:
        raise ConfigError(
            f"{key}={parallel}: {gpus} is not a multiple of the {group} ranks that hold all experts; change one"
        )


def _lora_ranks(config) -> dict[str, int]:
    """The keys of LoRA's rank that are set: lora_rank is FSDP's, lora.rank is Megatron's, the trainer reads both."""
    ranks = {key: int(_select(config, f"{ROOT}.model.{key}", 0)) for key in ("lora_rank", "lora.rank")}
    return {key: rank for key, rank in ranks.items() if rank > 0}


def _check_lora(config, has_reference: bool) -> None:
    """The trainer takes the actor without adapters for the reference as soon as one key is set: its engine must read it."""
    strategy, ranks = str(_select(config, f"{ROOT}.actor.strategy", "fsdp")), _lora_ranks(config)
    if strategy != "megatron" and not strategy.startswith("fsdp"):
        return
    other, own = ("lora_rank", "lora.rank") if strategy == "megatron" else ("lora.rank", "lora_rank")
    if other in ranks and own not in ranks:
        raise ConfigError(
            f"{ROOT}.model.{other}={ranks[other]} with {ROOT}.actor.strategy={strategy}, which reads {ROOT}.model.{own}=0: "
            "there would be no adapters, and the policy would be its own reference; set "
            f"{own}, or use layout={'fsdp' if own == 'lora.rank' else 'megatron'}"
        )
    if (
        ranks
        and _select(config, f"{ROOT}.rollout.name") == "hf"
        and not _select(config, f"{ROOT}.model.lora.merge", False)
    ):
        raise ConfigError(
            f"{ROOT}.model.lora.merge=false with {ROOT}.rollout.name=hf: this engine takes merged weights only; set it to true"
        )
    _check_adapter(config, strategy, own if own in ranks else None, has_reference)


def _check_adapter(config, strategy: str, rank: str | None, has_reference: bool) -> None:
    """A trained adapter is loaded where its engine looks for it and beside a rank; the reference is without it."""
    right = "lora.adapter_path" if strategy == "megatron" else "lora_adapter_path"
    for path in ("lora_adapter_path", "lora.adapter_path"):
        value = _select(config, f"{ROOT}.model.{path}")
        if value is None:
            continue
        if path != right or rank is None:
            own = "lora.rank" if strategy == "megatron" else "lora_rank"
            raise ConfigError(
                f"{ROOT}.model.{path}={value}: {strategy} loads the adapter of {right}, and only beside {own}; this one would be "
                f"left out without a word; set {ROOT}.model.{right} and {own} (the adapter's r)"
            )
        if has_reference:
            print(
                f"frpo_verl: {ROOT}.model.{path}={value}: the reference is the model without this adapter, so the KL does not "
                "start at 0; to start at the adapter, merge it into the model (peft: merge_and_unload) and train a new one",
                file=sys.stderr, flush=True,
            )  # fmt: skip


def _check_warmup(config) -> None:
    """Megatron wants a warm-up that ends before the run does."""
    optim = f"{ROOT}.actor.optim"
    warmup, steps = (
        int(_select(config, key, 0)) for key in (f"{optim}.lr_warmup_steps", "trainer.total_training_steps")
    )
    mode = _select(config, "trainer.v1.trainer_mode", "sync")
    updates = steps * int(_select(config, f"trainer.v1.{mode}.parameter_sync_step", 1))
    decay = int(_select(config, f"{optim}.lr_decay_steps", updates))
    if str(_select(config, f"{ROOT}.actor.strategy", "")) == "megatron" and steps and 0 < warmup >= decay:
        raise ConfigError(
            f"{optim}.lr_warmup_steps={warmup} is not below the {decay} steps of the schedule "
            f"(trainer.total_training_steps={steps}), and Megatron would stop: set it to -1 or less than {decay}"
        )


def _check_checkpoint(config) -> None:
    """A checkpoint of FSDP has a file for each rank, named by their number."""
    path = _select(config, "trainer.resume_from_path")
    if _select(config, "trainer.resume_mode", "auto") != "resume_path" or path is None:
        return
    files = Path(str(path)).expanduser().glob("actor/model_world_size_*_rank_0.pt")
    worlds = sorted({int(file.name.split("_")[3]) for file in files})
    world, gpus = _gpus(config)
    if worlds and world not in worlds and str(_select(config, f"{ROOT}.actor.strategy", "fsdp")).startswith("fsdp"):
        raise ConfigError(
            f"trainer.resume_from_path={path} is of {worlds[0]} ranks, and {gpus} has {world}: set them to the run's, or "
            "merge it with `python -m verl.model_merger` and give the result as actor_rollout_ref.model.path"
        )


def _check_capacity(config) -> None:
    """The queue between rollout and trainer refuses samples above its capacity, in the middle of a validation."""
    key = "transfer_queue.backend.SimpleStorage.total_storage_size"
    capacity = _select(config, key)
    if (
        capacity is None
        or _select(config, "transfer_queue.backend.storage_backend", "SimpleStorage") != "SimpleStorage"
    ):
        return
    mode = _select(config, "trainer.v1.trainer_mode", "sync")
    ahead = float(_select(config, f"trainer.v1.{mode}.num_warmup_batches", 0))  # batches that generation is ahead
    answers = int(_select(config, "data.train_batch_size", 0)) * int(_select(config, f"{ROOT}.rollout.n", 1))
    also = f" x (1 + {mode}.num_warmup_batches)" if ahead else ""
    wanted = [(f"data.train_batch_size x rollout.n{also}", int(answers * (1 + ahead)))]
    rows = count_rows(_select(config, "data.val_files"))
    if rows is not None:
        limit = int(_select(config, "data.val_max_samples", -1))
        rows = min(rows, limit) if limit > 0 else rows
        wanted.append(
            (
                "problems of data.val_files x val_kwargs.n",
                rows * int(_select(config, f"{ROOT}.rollout.val_kwargs.n", 1)),
            )
        )
    for what, samples in wanted:
        if samples > int(capacity):
            raise ConfigError(
                f"{key}={capacity} holds fewer samples than {what} = {samples}: set it to {2 * samples} or lower the number of answers"
            )
