"""Runs of verl's main_ppo on a CPU, small enough for a test."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from frpo_verl.quickstart.tokenizer import load_tokenizer, write_tokenizer
from frpo_verl.report.collect import metric_files, read_metrics

SMALL = [
    "data.train_batch_size=4",
    "data.max_prompt_length=16",
    "data.max_response_length=8",
    "actor_rollout_ref.actor.ppo_mini_batch_size=4",
    "actor_rollout_ref.actor.optim.lr=1e-3",
    "actor_rollout_ref.actor.optim.lr_warmup_steps=0",
    "actor_rollout_ref.rollout.n=4",
    "actor_rollout_ref.rollout.val_kwargs.n=1",
    "trainer.test_freq=-1",
    "trainer.val_before_train=false",
    "reward.custom_reward_function.path=pkg://e2e_reward",  # a random model solves nothing; this one it can improve
]


def make_inputs(folder: Path, head_dim: int = 16) -> Path:
    """A random two-layer model and eight rows of arithmetic to train on and to validate with in `folder`."""
    model = folder / "model"
    model.mkdir(parents=True)
    write_tokenizer(model)
    tokenizer = load_tokenizer(model)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=head_dim, max_position_embeddings=256, tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, initializer_range=0.2,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(model)
    for name, first in (("train", 1), ("val", 21)):  # apart: an answer's random stream depends on its prompt
        rows = [
            {
                "data_source": "arithmetic",
                "prompt": [{"role": "user", "content": f"{i}+{i}="}],
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": str(2 * i)},
                "extra_info": {"split": name, "index": i},
            }
            for i in range(first, first + 8)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return folder


def command(
    inputs: Path, run: Path, *overrides: str, recipe: str = "quickstart_cpu", module: str = "verl.trainer.main_ppo"
) -> list[str]:
    return [
        sys.executable, "-m", module, f"+recipe={recipe}", f"run_dir={run}", f"hydra.run.dir={run}/hydra",
        f"data.train_files={inputs}/train.parquet", f"data.val_files={inputs}/val.parquet",
        f"actor_rollout_ref.model.path={inputs}/model", *SMALL, *overrides,
    ]  # fmt: skip


def ray_folder(run: Path) -> str:
    """Where Ray keeps its sockets for a run, and looks for a cluster: one run never joins another's. Short, see Ray."""
    folder = Path(tempfile.gettempdir()) / f"e2e{zlib.crc32(str(run).encode()):08x}"
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(folder)


def environment(run: Path) -> dict[str, str]:
    return {
        **os.environ,
        "RAY_TMPDIR": ray_folder(run),
        "VERL_PLATFORM": "cpu",
        "OMP_NUM_THREADS": "1",
        "RAY_worker_niceness": "0",
        "RAY_prestart_worker_first_driver": "0",  # else Ray starts 32 processes that no actor of verl's can use
        "RAY_enable_worker_prestart": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "PYTHONWARNINGS": "ignore",
        "HF_HUB_OFFLINE": "1",
        "TENSORBOARD_DIR": f"{run}/tensorboard_log",
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(run),
        "MLFLOW_TRACKING_URI": f"file://{run}/mlruns",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }


def train(inputs: Path, run: Path, *overrides: str, kill_after_step: int | None = None, timeout: float = 600, **kwargs):
    """Run main_ppo with a recipe; returns (exit status, {step: metrics}, output). With `kill_after_step`, kill -9 the
    whole tree as soon as that step's metrics are written."""
    status, output = execute(command(inputs, run, *overrides, **kwargs), run, {}, kill_after_step, timeout)
    return status, metrics(run), output


def execute(
    command: list[str], run: Path, variables: dict[str, str], kill_after_step: int | None = None, timeout: float = 600
) -> tuple[int, str]:
    """Run a command of main_ppo's with its output in the run's folder; returns (exit status, output)."""
    run.mkdir(parents=True, exist_ok=True)
    log = run / "train.log"
    with open(log, "ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**environment(run), **variables})
    deadline = time.monotonic() + timeout
    while process.poll() is None:
        if time.monotonic() > deadline:
            kill_tree(process.pid)
            raise TimeoutError(f"main_ppo ran for {timeout} s; {log.read_text(errors='replace')[-3000:]}")
        if kill_after_step is not None and kill_after_step in metrics(run):
            kill_tree(process.pid)
        time.sleep(0.2)
    return process.returncode, log.read_text(errors="replace")


def kill_tree(pid: int) -> None:
    """SIGKILL a process and all it started, Ray's servers included."""
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in tree:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(tree[1:], timeout=10)


def metrics(run: Path) -> dict[int, dict]:
    return read_metrics(metric_files(run))
