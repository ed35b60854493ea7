"""Sizes that must fit: ranks, batches, token budgets, the queue, the schedule, the shards of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..run import Run
from .data import count_rows
from .layout import ROLLOUT, ROOT, lora_ranks

ACTOR, ULYSSES = f"{ROOT}.actor", "ulysses_sequence_parallel_size"
MEGATRON = f"{ACTOR}.megatron"


def refusals(run: Run) -> Iterator[str]:
    """Sizes at which verl stops, most of them after the first rollout."""
    yield from _queue(run)
    if run.get(f"{ROOT}.hybrid_engine", True):
        yield from _ranks(run)
    yield from _warmup(run)
    yield from _checkpoint(run)
    if not run.get("trainer.val_only", False):
        yield from _token_budgets(run)
        if run.get(f"{ROOT}.hybrid_engine", True):
            yield from _mini_batch(run)


def _int(run: Run, key: str, default: int) -> int:
    return int(run.get(key, default))


def _strategy(run: Run) -> str:
    return str(run.get(f"{ACTOR}.strategy", "fsdp"))


def _gpus(run: Run) -> tuple[int, str]:
    """The number of GPUs, and how it was typed."""
    per_node, nodes = _int(run, "trainer.n_gpus_per_node", 8), _int(run, "trainer.nnodes", 1)
    return per_node * nodes, f"trainer.n_gpus_per_node={per_node} x nnodes={nodes}"


def _parallel(run: Run) -> tuple[int, int]:
    """(ranks that share one sequence, ranks that share one copy of the data)."""
    strategy = _strategy(run)
    if strategy in ("megatron", "torchtitan"):
        first = "tensor_model" if strategy == "megatron" else "tensor"
        names = (first, "pipeline_model" if strategy == "megatron" else "pipeline", "context")
        tensor, pipeline, context = (_int(run, f"{ACTOR}.{strategy}.{name}_parallel_size", 1) for name in names)
        return context if strategy == "megatron" else tensor, tensor * pipeline * context
    if strategy == "veomni":
        return (_int(run, f"{ACTOR}.veomni.ulysses_parallel_size", 1),) * 2
    return (_ulysses(run, "actor"),) * 2


def _ulysses(run: Run, role: str) -> int:
    """Ranks that share one sequence under FSDP: the deprecated key wins, and the reference follows only the actor's."""
    old = _int(run, f"{ROOT}.{role}.{ULYSSES}", 1)
    return old if old > 1 else _int(run, f"{ROOT}.{role}.fsdp_config.{ULYSSES}", 1)


def _queue(run: Run) -> Iterator[str]:
    """The queue between rollout and trainer refuses samples above its capacity, in the middle of a validation."""
    key = "transfer_queue.backend.SimpleStorage.total_storage_size"
    capacity = run.get(key)
    if capacity is None or run.get("transfer_queue.backend.storage_backend", "SimpleStorage") != "SimpleStorage":
        return
    mode = run.get("trainer.v1.trainer_mode", "sync")
    ahead = float(run.get(f"trainer.v1.{mode}.num_warmup_batches", 0))  # batches that generation is ahead
    answers = _int(run, "data.train_batch_size", 0) * _int(run, f"{ROLLOUT}.n", 1)
    also = f" x (1 + {mode}.num_warmup_batches)" if ahead else ""
    wanted = {f"data.train_batch_size x rollout.n{also}": int(answers * (1 + ahead))}
    rows = count_rows(run.get("data.val_files"))
    if rows is not None:
        limit = _int(run, "data.val_max_samples", -1)
        rows = min(rows, limit) if limit > 0 else rows
        wanted["problems of data.val_files x val_kwargs.n"] = rows * _int(run, f"{ROLLOUT}.val_kwargs.n", 1)
    for what, samples in wanted.items():
        if samples > int(capacity):
            yield (
                f"{key}={capacity} holds fewer samples than {what} = {samples}: set it to {2 * samples} or lower the number of answers"
            )


def _ranks(run: Run) -> Iterator[str]:
    """The ranks are divided over copies of the model, over its experts and over the rollout engines: without a rest."""
    (world, gpus), (_, copies) = _gpus(run), _parallel(run)
    if world < 1:
        yield f"{gpus}: a run needs a rank; set both to 1 or more"
    if world % copies:
        yield f"{gpus} is not a multiple of the {copies} ranks that hold one model; change one of them"
    key = f"{MEGATRON}.expert_model_parallel_size"
    parallel, experts = _int(run, key, 1), _int(run, "experts", 0)
    if parallel > 1 and "experts" in run.config and (not experts or experts % parallel):
        yield (
            f"{key}={parallel} with experts={experts}: the model's experts cannot be spread over that many ranks; use "
            "layout=megatron for a dense model, or set experts to what the model has"
        )
    tensor = _int(
        run, f"{MEGATRON}.expert_tensor_parallel_size", _int(run, f"{MEGATRON}.tensor_model_parallel_size", 1)
    )
    group = parallel * tensor * _int(run, f"{MEGATRON}.pipeline_model_parallel_size", 1)
    if parallel > 1 and world % group:
        yield f"{key}={parallel}: {gpus} is not a multiple of the {group} ranks that hold all experts; change one"
    engine = 1
    for name in ("tensor_model", "data", "pipeline_model"):
        engine *= _int(run, f"{ROLLOUT}.{name}_parallel_size", 1)
    if world % engine:
        yield (
            f"{ROLLOUT}.tensor_model_parallel_size={run.get(f'{ROLLOUT}.tensor_model_parallel_size', 1)}: {gpus} is not a "
            f"multiple of a rollout engine's {engine} GPUs; set it to a divisor"
        )


def _warmup(run: Run) -> Iterator[str]:
    """Megatron wants a warm-up that ends before the run does."""
    optim, steps = f"{ACTOR}.optim", _int(run, "trainer.total_training_steps", 0)
    mode = run.get("trainer.v1.trainer_mode", "sync")
    updates = steps * _int(run, f"trainer.v1.{mode}.parameter_sync_step", 1)
    warmup, decay = _int(run, f"{optim}.lr_warmup_steps", 0), _int(run, f"{optim}.lr_decay_steps", updates)
    if _strategy(run) == "megatron" and steps and 0 < warmup >= decay:
        yield (
            f"{optim}.lr_warmup_steps={warmup} is not below the {decay} steps of the schedule "
            f"(trainer.total_training_steps={steps}), and Megatron would stop: set it to -1 or less than {decay}"
        )


def _checkpoint(run: Run) -> Iterator[str]:
    """A checkpoint of FSDP has a file for each rank, named by their number."""
    path = run.get("trainer.resume_from_path")
    if run.get("trainer.resume_mode", "auto") != "resume_path" or path is None or not _strategy(run).startswith("fsdp"):
        return
    files = Path(str(path)).expanduser().glob("actor/model_world_size_*_rank_0.pt")
    worlds, (world, gpus) = sorted({int(file.name.split("_")[3]) for file in files}), _gpus(run)
    if worlds and world not in worlds:
        yield (
            f"trainer.resume_from_path={path} is of {worlds[0]} ranks, and {gpus} has {world}: set them to the run's, or "
            "merge it with `python -m verl.model_merger` and give the result as actor_rollout_ref.model.path"
        )


def _token_budgets(run: Run) -> Iterator[str]:
    """A micro-batch holds at least one prompt with its answer: budget * sequence parallel >= prompt + response."""
    prompt, response = (_int(run, f"data.max_{part}_length", 512) for part in ("prompt", "response"))
    shared, _ = _parallel(run)
    switch, budget = "log_prob_use_dynamic_bsz", "log_prob_max_token_len_per_gpu"
    passes = [  # the switch for dynamic batches, the token budget, the ranks that share it
        (f"{ACTOR}.use_dynamic_bsz", f"{ACTOR}.ppo_max_token_len_per_gpu", shared),
        (f"{ROLLOUT}.{switch}", f"{ROLLOUT}.{budget}", shared),
    ]
    if run.has_reference and not lora_ranks(run):  # with LoRA the actor is the reference too
        fsdp = str(run.get(f"{ROOT}.ref.strategy", "fsdp")).startswith("fsdp")
        passes.append((f"{ROOT}.ref.{switch}", f"{ROOT}.ref.{budget}", _ulysses(run, "ref") if fsdp else shared))
    for dynamic, key, ranks in passes:
        tokens = run.get(key)
        if not run.get(dynamic, False) or tokens is None or int(tokens) * ranks >= prompt + response:
            continue
        times = f" on {ranks} ranks" if ranks > 1 else ""
        also = (
            f", or {ACTOR}.{ULYSSES}={shared}, which the reference follows too (it does not follow the actor's fsdp_config)"
            if ranks < shared
            else ""
        )
        yield (
            f"{key}={tokens}{times} does not hold one prompt and answer of data.max_prompt_length={prompt} + "
            f"max_response_length={response} tokens: set it to {-(-(prompt + response) // ranks)} or more{also}"
        )


def _mini_batch(run: Run) -> Iterator[str]:
    """Mini-batches are divided over the data-parallel ranks without a rest."""
    world, gpus = _gpus(run)
    ranks = world // _parallel(run)[1]
    mini, n = _int(run, f"{ACTOR}.ppo_mini_batch_size", 256), _int(run, f"{ROLLOUT}.n", 1)
    if mini * n % ranks:
        yield (
            f"{ACTOR}.ppo_mini_batch_size={mini} x rollout.n={n} = {mini * n} answers cannot be divided over {ranks} "
            f"data-parallel ranks ({gpus}): change the mini-batch or the number of GPUs"
        )
