"""Methods beside each other on a tiny model that adds numbers: the same data, the same seeds, verl's main_ppo on a CPU.

    python benchmarks/methods.py --methods frpo --seeds 1 2 3
    python benchmarks/methods.py --methods frpo frpo_local frpo_sequence frpo_reward --steps 40 --picture placements.png

Needs data and model: python -m frpo_verl.quickstart.tiny_model --out build/arithmetic/model. Each run is a folder below --out and can be looked at with
`python -m frpo_verl report`; a finished one is not run again, a broken one resumes. The table gives means over the seeds.

Every checkpoint is merged by verl's own tool and judged on the whole test set, 16 answers a problem. With one update for
each rollout (`--updates 1`) ratios are 1 and losses that differ in how they clip are the same.

Methods that know no reference get one at coefficient 0, to measure the distance from it; its pass is left out of their
step time. f_hal gets a quarter of its prompts as recorded pairs: a right answer, and one with a wrong digit.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from frpo_verl.evaluation import pass_at_k
from frpo_verl.quickstart import arithmetic
from frpo_verl.quickstart.tiny_model import count_right, read_problems, with_slip
from frpo_verl.quickstart.tokenizer import load_tokenizer
from frpo_verl.report import cli
from frpo_verl.report.collect import as_json, load_run, metric_files, read_metrics

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path("build/arithmetic")
SUMS = [f"data.train_files={FOLDER}/data/train.parquet", f"data.val_files={FOLDER}/data/test.parquet",
        f"actor_rollout_ref.model.path={FOLDER}/model", "data.max_prompt_length=32", "data.max_response_length=24",
        "reward.custom_reward_function.path=pkg://frpo_verl.rewards.math", "actor_rollout_ref.actor.optim.lr=4e-4",
        "actor_rollout_ref.actor.optim.lr_warmup_steps=5"]  # fmt: skip
PAIRS = 1024
BATCH = 16  # prompts in a step of the recipe
SAMPLES = 16
COLUMNS = ("pass@1", "pass@8", "entropy", "KL to reference")


def has_no_reference(method: str) -> bool:
    return method in ("grpo", "atr_grpo") or method.startswith("rpg_")


def mixed_data(out: Path) -> Path:
    """The quickstart's problems with recorded pairs among them, for f-HAL."""
    target = out / "mixed"
    if (target / "train.parquet").exists():
        return target / "train.parquet"
    target.mkdir(parents=True, exist_ok=True)
    rng, test = random.Random(0), {p.key for p in read_problems(FOLDER / "data/test.parquet")}
    with open(target / "pairs.jsonl", "w") as file:
        for p in islice(arithmetic.stream(0, arithmetic.DEFAULT_LEVELS, exclude=test), PAIRS):
            pair = {"prompt": p.question, "chosen": p.solution, "rejected": with_slip(p, rng, 1.0)}
            file.write(json.dumps(pair) + "\n")
    command = [sys.executable, ROOT / "data_preprocess/preference.py", "--local_dataset_path", target / "pairs.jsonl",
               "--local_save_dir", target, "--mix", FOLDER / "data/train.parquet", "--ratio", "0.25",
               "--tokenizer", FOLDER / "model", "--max_tokens", "24"]  # fmt: skip
    subprocess.run(command, check=True)
    return target / "train.parquet"


def extra_settings(method: str, out: Path) -> list[str]:
    if has_no_reference(method):
        return ["algorithm.use_kl_in_reward=true", "algorithm.kl_ctrl.kl_coef=0.0"]
    if method == "f_hal":
        return [f"data.train_files={mixed_data(out)}", "data.shuffle=false"]
    return []


def train(folder: Path, method: str, seed: int, steps: int, updates: int, overrides: list[str]) -> str | None:
    """Run one method; returns None, or the last error line of a run that failed."""
    tracker = folder / "checkpoints" / "latest_checkpointed_iteration.txt"
    if tracker.exists() and int(tracker.read_text() or 0) >= steps:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "verl.trainer.main_ppo", "+recipe=quickstart_cpu", f"method={method}",
               f"run_dir={folder}", f"hydra.run.dir={folder}/hydra", f"trainer.total_training_steps={steps}",
               f"actor_rollout_ref.actor.ppo_mini_batch_size={BATCH // updates}", f"trainer.save_freq={steps}",
               "trainer.val_before_train=false", "trainer.test_freq=-1", f"data.seed={seed}",
               f"actor_rollout_ref.rollout.seed={seed}", *SUMS, *extra_settings(method, folder.parent), *overrides]  # fmt: skip
    env = {**os.environ, "VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    with open(folder / "train.log", "ab") as log:
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=env).returncode
    if status == 0:
        return None
    lines = (folder / "train.log").read_text(errors="replace").splitlines()
    return next((line for line in reversed(lines) if "Error" in line), f"exit status {status}")


@functools.cache
def held_out(model: Path) -> tuple[float, float]:
    """pass@1 and pass@8 over every problem of the test set, from SAMPLES answers each."""
    tokenizer, problems = load_tokenizer(model), read_problems(FOLDER / "data/test.parquet")
    made = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    right = count_right(made, tokenizer, problems, samples=SAMPLES)
    return tuple(statistics.mean(pass_at_k(SAMPLES, c, k) for c in right) for k in (1, 8))


def merged(folder: Path, steps: int) -> Path:
    """The checkpoint as an ordinary transformers folder, by verl's own merger."""
    target = folder / f"model-{steps}"
    if not (target / "model.safetensors").exists():
        os.environ["VERL_PLATFORM"] = "cpu"
        from verl.model_merger.base_model_merger import ModelMergerConfig
        from verl.model_merger.fsdp_model_merger import FSDPModelMerger

        checkpoint = folder / f"checkpoints/global_step_{steps}/actor"
        target.mkdir(exist_ok=True)
        merger = FSDPModelMerger(
            ModelMergerConfig(
                operation="merge", backend="fsdp", local_dir=str(checkpoint), target_dir=str(target),
                hf_model_config_path=str(checkpoint / "huggingface"),
            )
        )  # fmt: skip
        merger.merge_and_save()
        merger.cleanup()
    return target


def figures(folder: Path, method: str, steps: int) -> dict[str, tuple[float, float]]:
    """label -> (before, after), and the median time of a training step under "step"."""
    rows = {r["label"]: (r["before"], r["after"]) for r in as_json(load_run(folder))["table"]}
    times = []
    for m in read_metrics(metric_files(folder)).values():
        if "timing_s/step" in m:
            besides = ["timing_s/save_checkpoint"] + ["timing_s/ref"] * has_no_reference(method)
            times.append(m["timing_s/step"] - sum(m.get(name, 0.0) for name in besides))
    learnt = zip(held_out(FOLDER / "model"), held_out(merged(folder, steps)), strict=True)
    return {**rows, **dict(zip(COLUMNS[:2], learnt, strict=True)), "step": (statistics.median(times),) * 2}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--methods", nargs="+", required=True, help="names of recipes/method")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--updates", type=int, default=4, help="mini-batches for each rollout")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--picture", type=Path, default=None, help="curves of the first seed over each other")
    parser.add_argument("--override", nargs="*", default=[], help="overrides for every run")
    args = parser.parse_args()
    jobs = [(m, s, args.out / f"{m}-seed{s}") for m in args.methods for s in args.seeds]
    with ThreadPoolExecutor(args.jobs) as pool:
        errors = list(pool.map(lambda j: train(j[2], j[0], j[1], args.steps, args.updates, args.override), jobs))
    table = Table(
        title=f"{args.steps} steps of {args.updates} updates, means over {len(args.seeds)} seed(s): before -> after"
    )
    for column in ("method", *COLUMNS, "step"):
        table.add_column(column)
    result, failed = {}, 0
    for method in args.methods:
        mine = [(j, e) for j, e in zip(jobs, errors, strict=True) if j[0] == method]
        bad = [e for _, e in mine if e]
        if bad:
            failed += 1
            table.add_row(method, bad[0])
            continue
        found = {j[1]: figures(j[2], method, args.steps) for j, _ in mine}
        result[method] = found
        cells = []
        for column in COLUMNS:
            pairs = [f[column] for f in found.values() if column in f]
            cells.append(" -> ".join(f"{statistics.mean(x):.3f}" for x in zip(*pairs, strict=True)) if pairs else "-")
        table.add_row(method, *cells, f"{statistics.median(f['step'][0] for f in found.values()):.2f} s")
    Console(width=130).print(table)
    (args.out / "methods.json").write_text(json.dumps(result, indent=1) + "\n")
    if args.picture and not failed:
        first = [str(j[2]) for j in jobs if j[1] == args.seeds[0]]
        names = [x for m in args.methods for x in ("--name", m)]
        cli.main([*first, *names, "--out", str(args.picture)])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
