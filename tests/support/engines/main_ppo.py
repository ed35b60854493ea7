"""verl's main_ppo for a few steps with one engine or another, everything else the same."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import e2e
import psutil
import torch

from . import engine_settings
from .launch import environment

ROLLOUT = "actor_rollout_ref.rollout"


def make_inputs(folder: Path) -> Path:
    """Those of e2e, with a model that never samples the pad token.

    transformers keeps that token's embedding at 0 and untrained, Megatron trains it; and behind a norm the gradient of a
    vector that is 0 is a thousand times one's. Here the first coordinate of every hidden state is large, and the pad token
    is what points the other way.
    """
    from transformers import AutoModelForCausalLM

    inputs = e2e.make_inputs(folder)
    model = AutoModelForCausalLM.from_pretrained(inputs / "model", dtype=torch.float32)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 3.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[model.config.pad_token_id] = 0.0
        model.lm_head.weight[model.config.pad_token_id, 0] = -20.0
    model.save_pretrained(inputs / "model")
    return inputs


def command(
    inputs: Path, run: Path, engine: str, steps: int, tensor_parallel: int, pipeline_parallel: int
) -> list[str]:
    ranks = tensor_parallel * pipeline_parallel
    chosen = (
        engine_settings.megatron(tensor_parallel, pipeline_parallel)
        if engine == "megatron"
        else engine_settings.fsdp2()
    )
    return [
        sys.executable, "-m", "verl.trainer.main_ppo", *chosen, f"hydra.run.dir={run}/hydra",
        f"data.train_files={inputs}/train.parquet", f"data.val_files={inputs}/val.parquet",
        "data.train_batch_size=4", "data.max_prompt_length=16", "data.max_response_length=8", "data.seed=1",
        "data.dataloader_num_workers=0", "data.filter_overlong_prompts=false",
        f"actor_rollout_ref.model.path={inputs}/model", "actor_rollout_ref.model.use_remove_padding=false",
        "actor_rollout_ref.model.enable_gradient_checkpointing=false",
        "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
        "actor_rollout_ref.actor.ppo_mini_batch_size=4", "actor_rollout_ref.actor.use_dynamic_bsz=true",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=128", "actor_rollout_ref.actor.optim.lr=1e-3",
        "actor_rollout_ref.actor.optim.lr_warmup_steps=0",
        f"{ROLLOUT}.name=hf", f"{ROLLOUT}.n=4", f"{ROLLOUT}.val_kwargs.n=1", f"{ROLLOUT}.dtype=float32",
        f"{ROLLOUT}.tensor_model_parallel_size=1", f"{ROLLOUT}.n_gpus_per_node=1", f"{ROLLOUT}.max_num_seqs=256",
        f"{ROLLOUT}.calculate_log_probs=true", f"{ROLLOUT}.load_format=auto", f"{ROLLOUT}.agent.num_workers=1",
        "reward.num_workers=1", "reward.custom_reward_function.path=pkg://e2e_reward",
        "reward.custom_reward_function.name=compute_score",
        "trainer.device=cpu", f"trainer.n_gpus_per_node={ranks}", "trainer.nnodes=1", "trainer.use_v1=true",
        "trainer.logger=[console,file]", "trainer.val_before_train=false", "trainer.test_freq=-1", "trainer.save_freq=-1",
        f"trainer.total_training_steps={steps}", "trainer.total_epochs=100", "trainer.project_name=engines",
        f"trainer.experiment_name={run.name}", f"trainer.default_local_dir={run}/checkpoints",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
        "++ray_kwargs.ray_init.num_cpus=32", f"++ray_kwargs.ray_init.num_gpus={ranks}",
        "++ray_kwargs.ray_init.include_dashboard=false",
        "algorithm.adv_estimator=frpo", "+algorithm.frpo.kl_coef=0.01",
    ]  # fmt: skip


def train(
    inputs: Path, run: Path, engine: str, steps: int = 3, tensor_parallel: int = 1, pipeline_parallel: int = 1,
    timeout: float = 600,
) -> tuple[dict[int, dict], float, float]:  # fmt: skip
    """({step: metrics}, seconds, peak memory in GB of the whole tree of processes) of one run.

    Raises:
        RuntimeError: the run failed; the end of its output is in the message.
    """
    run.mkdir(parents=True)
    metrics = run / "metrics.jsonl"
    env = {**environment(), **e2e.environment(run), "VERL_FILE_LOGGER_PATH": str(metrics)}
    env["PYTHONPATH"] = environment()["PYTHONPATH"] + ":" + str(Path(e2e.__file__).parent)
    if engine == "megatron":
        env["VERL_USE_EXTERNAL_MODULES"] = "megatron_on_processor"
    begin, peak = time.monotonic(), 0.0
    with open(run / "train.log", "w") as log:
        arguments = command(inputs, run, engine, steps, tensor_parallel, pipeline_parallel)
        process = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT, env=env)
        while process.poll() is None:
            if time.monotonic() - begin > timeout:
                e2e.kill_tree(process.pid)
            peak = max(peak, _memory(process.pid))
            time.sleep(0.5)
    if process.returncode:
        raise RuntimeError(f"main_ppo with {engine}: {(run / 'train.log').read_text(errors='replace')[-4000:]}")
    return e2e.read_metrics([metrics]), time.monotonic() - begin, peak


def _memory(pid: int) -> float:
    """Proportional memory of a process and all that it started, in GB."""
    total = 0
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in tree:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**30
