"""Sizes that must fit: ranks, batches, token budgets, the queue, the shards of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omegaconf import OmegaConf

from ...methods.settings import ConfigError
from .data import count_rows

ROOT = "actor_rollout_ref"
ULYSSES = "ulysses_sequence_parallel_size"


def select(config, key: str, default=None):
    value = OmegaConf.select(config, key, default=default)
    return default if value is None else value


def _parallel(config) -> tuple[int, int]:
    """(ranks that share one sequence, ranks that share one copy of the data)."""
    actor = f"{ROOT}.actor"
    strategy = str(select(config, f"{actor}.strategy", "fsdp"))
    if strategy == "megatron":
        tensor, pipeline, context = (
            int(select(config, f"{actor}.megatron.{name}_parallel_size", 1))
            for name in ("tensor_model", "pipeline_model", "context")
        )
        return context, tensor * pipeline * context
    if strategy == "veomni":
        ulysses = int(select(config, f"{actor}.veomni.ulysses_parallel_size", 1))
        return ulysses, ulysses
    if strategy == "torchtitan":
        tensor, pipeline, context = (
            int(select(config, f"{actor}.torchtitan.{name}_parallel_size", 1))
            for name in ("tensor", "pipeline", "context")
        )
        return tensor, tensor * pipeline * context
    return (_ulysses(config, "actor"),) * 2


def _ulysses(config, role: str) -> int:
    """Ranks that share one sequence under FSDP: the deprecated key wins, and the reference follows only the actor's."""
    old = int(select(config, f"{ROOT}.{role}.{ULYSSES}", 1))
    return old if old > 1 else int(select(config, f"{ROOT}.{role}.fsdp_config.{ULYSSES}", 1))


def _budgets(config, has_reference: bool) -> Iterator[tuple[str, str, int]]:
    """(the switch for dynamic batches, the token budget, the ranks that share it) of every pass."""
    shared, _ = _parallel(config)
    yield f"{ROOT}.actor.use_dynamic_bsz", f"{ROOT}.actor.ppo_max_token_len_per_gpu", shared
    key = "log_prob_use_dynamic_bsz", "log_prob_max_token_len_per_gpu"
    yield f"{ROOT}.rollout.{key[0]}", f"{ROOT}.rollout.{key[1]}", shared
    if has_reference and not lora_ranks(config):  # with LoRA the actor is the reference too
        fsdp = str(select(config, f"{ROOT}.ref.strategy", "fsdp")).startswith("fsdp")
        yield f"{ROOT}.ref.{key[0]}", f"{ROOT}.ref.{key[1]}", _ulysses(config, "ref") if fsdp else shared


def check_token_budgets(config, has_reference: bool) -> None:
    """A micro-batch holds at least one prompt with its answer: budget * sequence parallel >= prompt + response."""
    prompt, response = (
        int(select(config, "data.max_prompt_length", 512)),
        int(select(config, "data.max_response_length", 512)),
    )
    for switch, key, shared in _budgets(config, has_reference):
        budget = select(config, key)
        if select(config, switch, False) and budget is not None and int(budget) * shared < prompt + response:
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
    per_node, nodes = int(select(config, "trainer.n_gpus_per_node", 8)), int(select(config, "trainer.nnodes", 1))
    if per_node < 1 or nodes < 1:
        raise ConfigError(
            f"trainer.n_gpus_per_node={per_node} x nnodes={nodes}: a run needs a rank; set both to 1 or more"
        )
    return per_node * nodes, f"trainer.n_gpus_per_node={per_node} x nnodes={nodes}"


def check_model_ranks(config) -> None:
    """The ranks are divided over copies of the model, over its experts and over the rollout engines: without a rest."""
    if not select(config, f"{ROOT}.hybrid_engine", True):
        return
    world, gpus = _gpus(config)
    _, copies = _parallel(config)
    if world % copies:
        raise ConfigError(f"{gpus} is not a multiple of the {copies} ranks that hold one model; change one of them")
    _check_experts(config, world, gpus)
    engine = 1
    for name in ("tensor_model", "data", "pipeline_model"):
        engine *= int(select(config, f"{ROOT}.rollout.{name}_parallel_size", 1))
    if world % engine:
        raise ConfigError(
            f"{ROOT}.rollout.tensor_model_parallel_size={select(config, f'{ROOT}.rollout.tensor_model_parallel_size', 1)}: "
            f"{gpus} is not a multiple of a rollout engine's {engine} GPUs; set it to a divisor"
        )


def check_mini_batch(config) -> None:
    """Mini-batches are divided over the data-parallel ranks without a rest."""
    if not select(config, f"{ROOT}.hybrid_engine", True):
        return
    world, gpus = _gpus(config)
    ranks = world // _parallel(config)[1]
    mini, n = (
        int(select(config, f"{ROOT}.actor.ppo_mini_batch_size", 256)),
        int(select(config, f"{ROOT}.rollout.n", 1)),
    )
    if mini * n % ranks:
        raise ConfigError(
            f"{ROOT}.actor.ppo_mini_batch_size={mini} x rollout.n={n} = {mini * n} answers cannot be divided over {ranks} "
            f"data-parallel ranks ({gpus}): change the mini-batch or the number of GPUs"
        )


def _check_experts(config, world: int, gpus: str) -> None:
    """Experts are divided over expert-parallel ranks, and a dense model has none."""
    key = f"{ROOT}.actor.megatron.expert_model_parallel_size"
    parallel, experts = int(select(config, key, 1)), int(select(config, "experts", 0))
    if parallel == 1:
        return
    if "experts" in config and (not experts or experts % parallel):
        raise ConfigError(
            f"{key}={parallel} with experts={experts}: the model's experts cannot be spread over that many ranks; use "
            "layout=megatron for a dense model, or set experts to what the model has"
        )
    tensor = select(config, f"{ROOT}.actor.megatron.expert_tensor_parallel_size")
    if tensor is None:
        tensor = select(config, f"{ROOT}.actor.megatron.tensor_model_parallel_size", 1)
    group = parallel * int(tensor) * int(select(config, f"{ROOT}.actor.megatron.pipeline_model_parallel_size", 1))
    if world % group:
        raise ConfigError(
            f"{key}={parallel}: {gpus} is not a multiple of the {group} ranks that hold all experts; change one"
        )


def lora_ranks(config) -> dict[str, int]:
    """The keys of LoRA's rank that are set: lora_rank is FSDP's, lora.rank is Megatron's, the trainer reads both."""
    ranks = {key: int(select(config, f"{ROOT}.model.{key}", 0)) for key in ("lora_rank", "lora.rank")}
    return {key: rank for key, rank in ranks.items() if rank > 0}


def check_checkpoint(config) -> None:
    """A checkpoint of FSDP has a file for each rank, named by their number."""
    path = select(config, "trainer.resume_from_path")
    if select(config, "trainer.resume_mode", "auto") != "resume_path" or path is None:
        return
    files = Path(str(path)).expanduser().glob("actor/model_world_size_*_rank_0.pt")
    worlds = sorted({int(file.name.split("_")[3]) for file in files})
    world, gpus = _gpus(config)
    if worlds and world not in worlds and str(select(config, f"{ROOT}.actor.strategy", "fsdp")).startswith("fsdp"):
        raise ConfigError(
            f"trainer.resume_from_path={path} is of {worlds[0]} ranks, and {gpus} has {world}: set them to the run's, or "
            "merge it with `python -m verl.model_merger` and give the result as actor_rollout_ref.model.path"
        )


def check_capacity(config) -> None:
    """The queue between rollout and trainer refuses samples above its capacity, in the middle of a validation."""
    key = "transfer_queue.backend.SimpleStorage.total_storage_size"
    capacity = select(config, key)
    if capacity is None or select(config, "transfer_queue.backend.storage_backend", "SimpleStorage") != "SimpleStorage":
        return
    mode = select(config, "trainer.v1.trainer_mode", "sync")
    ahead = float(select(config, f"trainer.v1.{mode}.num_warmup_batches", 0))  # batches that generation is ahead
    answers = int(select(config, "data.train_batch_size", 0)) * int(select(config, f"{ROOT}.rollout.n", 1))
    also = f" x (1 + {mode}.num_warmup_batches)" if ahead else ""
    wanted = [(f"data.train_batch_size x rollout.n{also}", int(answers * (1 + ahead)))]
    rows = count_rows(select(config, "data.val_files"))
    if rows is not None:
        limit = int(select(config, "data.val_max_samples", -1))
        rows = min(rows, limit) if limit > 0 else rows
        wanted.append(
            (
                "problems of data.val_files x val_kwargs.n",
                rows * int(select(config, f"{ROOT}.rollout.val_kwargs.n", 1)),
            )
        )
    for what, samples in wanted:
        if samples > int(capacity):
            raise ConfigError(
                f"{key}={capacity} holds fewer samples than {what} = {samples}: set it to {2 * samples} or lower the number of answers"
            )
