"""What the advantage costs: the estimators that a run calls, through verl's `compute_advantage`, metrics included.

    python benchmarks/advantage_cost.py [--shape 1024x4096] [--rounds 15] [--threads 1] [--beside CHECKOUT] [--json FILE]

    verl grpo                             compute_advantage with adv_estimator=grpo
    verl reinforce_plus_plus + KL         apply_kl_penalty, then compute_advantage with adv_estimator=reinforce_plus_plus
    frpo                                  compute_advantage with adv_estimator=frpo, kl_coef 0.01, its metrics

A batch as verl's V1 trainer makes it: float32 log-probs, int64 mask, groups of 8, lengths uniform between a quarter of the
width and the width. The rows are timed in turn, round after round, so that whatever else the machine does hits all alike;
times are processor times of the process, ratios are of the medians. With --beside the same rows of another checkout of this project run between ours, in a process
of their own. Memory: the growth of the resident set at the worst moment of one call, in float32 tensors of the batch's
shape, in a process whose C library gives freed memory back at once; what it would keep is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROWS = ("verl grpo", "verl reinforce_plus_plus + KL", "frpo")


def make_batch(rows: int, columns: int):
    """verl's DataProto of one training batch."""
    import numpy as np
    import torch
    from tensordict import TensorDict
    from verl import DataProto

    generator = torch.Generator().manual_seed(0)
    log_prob = -torch.rand(rows, columns, generator=generator)
    length = torch.randint(columns // 4, columns + 1, (rows, 1), generator=generator)
    scores = torch.zeros(rows, columns)
    scores[torch.arange(rows), length[:, 0] - 1] = torch.randint(0, 2, (rows,), generator=generator).float()
    tensors = {
        "old_log_probs": log_prob, "ref_log_prob": log_prob + 0.05 * torch.randn(rows, columns, generator=generator),
        "rollout_log_probs": log_prob + 0.01 * torch.randn(rows, columns, generator=generator),
        "response_mask": (torch.arange(columns) < length).long(), "token_level_scores": scores,
        "token_level_rewards": scores,
    }  # fmt: skip
    data = DataProto(batch=TensorDict(tensors, batch_size=rows))
    data.non_tensor_batch["uid"] = np.array([f"prompt-{i // 8}" for i in range(rows)], dtype=object)
    return data


def caller(row: str, data):
    """A function that does what the trainer does for one row."""
    from omegaconf import OmegaConf
    from verl.trainer.ppo.core_algos import FixedKLController
    from verl.trainer.ppo.ray_trainer import apply_kl_penalty, compute_advantage

    config = OmegaConf.create({"adv_estimator": row, "gamma": 1.0, "frpo": {"kl_coef": 0.01}})

    def call():
        batch = data.select(deepcopy=False)
        batch.batch = batch.batch.clone(recurse=False)
        if row == "verl grpo":
            return compute_advantage(batch, adv_estimator="grpo")
        if row == "frpo":
            return compute_advantage(batch, adv_estimator="frpo", config=config)
        batch, _ = apply_kl_penalty(batch, kl_ctrl=FixedKLController(kl_coef=0.01))
        config.adv_estimator = "reinforce_plus_plus"
        return compute_advantage(batch, adv_estimator="reinforce_plus_plus", config=config)

    return call


def memory_of(call) -> int:
    """Bytes by which the resident set grows at the worst moment of one call."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = _status("VmRSS")
    result = call()
    grown = _status("VmHWM") - before
    del result
    return grown


def _status(key: str) -> int:
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(key))
    return int(line.split()[1]) * 1024


def serve(rows: int, columns: int, threads: int) -> None:
    """A worker: one line of standard input names a row; the answer is its time, or its memory."""
    import torch

    torch.set_num_threads(threads)
    data = make_batch(rows, columns)
    calls = {row: caller(row, data) for row in ROWS}
    for call in calls.values():
        call()
    print("ready", flush=True)
    for line in sys.stdin:
        what, row = line.rstrip("\n").split(" ", 1)
        if what == "memory":
            print("answer", memory_of(calls[row]), flush=True)
            continue
        start = time.process_time()
        result = calls[row]()
        print("answer", time.process_time() - start, flush=True)
        del result


class Worker:
    """A process that runs the rows of one checkout."""

    def __init__(self, checkout: Path, shape: str, threads: int, **variables: str):
        command = [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), "--serve", "--shape", shape]
        self.process = subprocess.Popen(
            [*command, "--threads", str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(checkout), **variables},
        )  # fmt: skip
        self._line("ready")

    def _line(self, begins: str) -> str:
        for line in self.process.stdout:
            if line.startswith(begins):
                return line[len(begins) :].strip()
        raise SystemExit("a worker ended before it answered")

    def ask(self, what: str, row: str) -> float:
        self.process.stdin.write(f"{what} {row}\n")
        self.process.stdin.flush()
        return float(self._line("answer"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="1024x4096")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--beside", type=Path, help="another checkout, timed between the rounds of this one")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    rows, columns = (int(n) for n in args.shape.split("x"))
    if args.serve:
        return serve(rows, columns, args.threads)

    here = Path(__file__).resolve().parents[1]
    checkouts = {"": here, " (beside)": args.beside.resolve()} if args.beside else {"": here}
    workers = {name: Worker(path, args.shape, args.threads) for name, path in checkouts.items()}
    times: dict[str, list[float]] = {row + name: [] for row in ROWS for name in workers}
    for number in range(args.rounds):
        print(f"\rround {number + 1}/{args.rounds}", end="", file=sys.stderr, flush=True)
        for row in ROWS:
            for name, worker in workers.items():
                times[row + name].append(worker.ask("time", row))
    print(file=sys.stderr)
    tensor = 4 * rows * columns
    at_once = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    workers = {name: Worker(path, args.shape, args.threads, **at_once) for name, path in checkouts.items()}
    memory = {row + name: worker.ask("memory", row) / tensor for row in ROWS for name, worker in workers.items()}

    result = {
        row: {
            "median_ms": 1e3 * median(values), "best_ms": 1e3 * min(values),
            "of_grpo": median(values) / median(times[ROWS[0]]),
            "of_reinforce_plus_plus": median(values) / median(times[ROWS[1]]), "tensors": memory[row],
        }
        for row, values in times.items()
    }  # fmt: skip
    print(f"{args.shape}, {args.threads} thread(s), {args.rounds} rounds, load {os.getloadavg()[0]:.1f}\n")
    print(
        "| | median ms | of verl's grpo | of reinforce_plus_plus + KL | extra memory, tensors |\n|---|---|---|---|---|"
    )
    for row, r in result.items():
        print(
            f"| {row} | {r['median_ms']:.1f} | {r['of_grpo']:.2f} | {r['of_reinforce_plus_plus']:.2f} | {r['tensors']:.1f} |"
        )
    if args.json:
        from frpo_verl.files import write_atomically

        facts = {"shape": args.shape, "threads": args.threads, "rounds": args.rounds, "load": os.getloadavg()[0]}
        write_atomically(args.json, json.dumps({**facts, "rows": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
