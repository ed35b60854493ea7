"""What the advantage costs: the estimators that a run calls, through verl's `compute_advantage`, metrics included.

    python benchmarks/advantage_cost.py [--shape 1024x4096] [--rounds 15] [--threads 1] [--beside CHECKOUT] [--json FILE]

    verl grpo                             compute_advantage with adv_estimator=grpo
    verl reinforce_plus_plus + KL         apply_kl_penalty, then compute_advantage with adv_estimator=reinforce_plus_plus
    frpo                                  compute_advantage with adv_estimator=frpo, kl_coef 0.01, its metrics

A batch as verl's V1 trainer makes it: float32 log-probs, int64 mask, groups of 8, lengths uniform between a quarter of the
width and the width. The rows are timed in turn, round after round, so that whatever else the machine does hits all alike;
times are processor times of the process, ratios are of the medians. With --beside each call is followed by the same one of
another checkout of this project; either has a process of its own. Memory: the growth of the resident set at the worst
moment of one call, in float32 tensors of the batch's shape, in a process whose C library gives freed memory back at once; what
it would keep is not counted.
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

import numpy as np
import records
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto
from verl.trainer.ppo.core_algos import FixedKLController
from verl.trainer.ppo.ray_trainer import apply_kl_penalty, compute_advantage

GRPO, KL_IN_REWARD, FRPO = ROWS = ("verl grpo", "verl reinforce_plus_plus + KL", "frpo")


def make_batch(rows: int, columns: int) -> DataProto:
    """verl's batch of one training step."""
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


def call(row: str, data: DataProto):
    """What the trainer does for one row."""
    batch = data.select(deepcopy=False)
    batch.batch = batch.batch.clone(recurse=False)
    if row == GRPO:
        return compute_advantage(batch, adv_estimator="grpo")
    config = OmegaConf.create({"adv_estimator": "reinforce_plus_plus", "gamma": 1.0, "frpo": {"kl_coef": 0.01}})
    if row == KL_IN_REWARD:
        batch, _ = apply_kl_penalty(batch, kl_ctrl=FixedKLController(kl_coef=0.01))
        return compute_advantage(batch, adv_estimator="reinforce_plus_plus", config=config)
    return compute_advantage(batch, adv_estimator="frpo", config=config)


def seconds_of(row: str, data: DataProto) -> float:
    start = time.process_time()
    call(row, data)
    return time.process_time() - start


def serve(data: DataProto) -> None:
    """Answer each line of standard input, which names a row, with its seconds."""
    for line in sys.stdin:
        print("seconds", seconds_of(line.rstrip("\n"), data), flush=True)


def memory_of(row: str, data: DataProto) -> int:
    """Bytes by which the resident set grows at the worst moment of one call."""
    call(row, data)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = _status("VmRSS")
    result = call(row, data)
    grown = _status("VmHWM") - before
    del result
    return grown


def _status(key: str) -> int:
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(key))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = records.parser(__doc__)
    parser.add_argument("--shape", default="1024x4096")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--beside", type=Path, help="another checkout, timed between the calls of this one")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=("memory", "serve"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        torch.set_num_threads(args.threads)
        rows, columns = (int(n) for n in args.shape.split("x"))
        data = make_batch(rows, columns)
        if args.child == "serve":
            return serve(data)
        return print(json.dumps({row: memory_of(row, data) / (4 * rows * columns) for row in ROWS}))
    child = [sys.executable, "-W", "ignore", __file__, "--shape", args.shape, "--threads", str(args.threads), "--child"]
    checkouts = {"": Path(__file__).resolve().parents[1]}
    if args.beside:
        checkouts[" (beside)"] = args.beside.resolve()
    tensors, timers = {}, {}
    for name, path in checkouts.items():
        own = {**os.environ, "PYTHONPATH": str(path)}
        found = subprocess.check_output([*child, "memory"], env={**own, "MALLOC_MMAP_THRESHOLD_": "65536"}, text=True)
        tensors |= {row + name: x for row, x in json.loads(found.splitlines()[-1]).items()}
        timers[name] = subprocess.Popen(
            [*child, "serve"], env=own, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    times: dict[str, list[float]] = {row + name: [] for row in ROWS for name in checkouts}
    for number in range(args.rounds + 1):
        for row in ROWS:
            for name, timer in timers.items():
                print(row, file=timer.stdin, flush=True)
                answer = next(line for line in timer.stdout if line.startswith("seconds"))
                if number:  # the first round warms up
                    times[row + name].append(float(answer.split()[1]))
    middle = {row: median(values) for row, values in times.items()}
    result = {
        row: {
            "median_ms": 1e3 * middle[row], "best_ms": 1e3 * min(times[row]), "of_grpo": middle[row] / middle[GRPO],
            "of_reinforce_plus_plus": middle[row] / middle[KL_IN_REWARD],
            "tensors": tensors[row],
        }
        for row in times
    }  # fmt: skip
    load = os.getloadavg()[0]
    print(f"{args.shape}, {args.threads} thread(s), {args.rounds} rounds, load {load:.1f}\n")
    head = ("", "median ms", "of verl's grpo", "of reinforce_plus_plus + KL", "extra memory, tensors")
    keys = ("median_ms", "of_grpo", "of_reinforce_plus_plus", "tensors")
    print(records.table(head, ([row, *(f"{r[key]:.2f}" for key in keys)] for row, r in result.items())))
    if args.json:
        facts = {"shape": args.shape, "threads": args.threads, "rounds": args.rounds, "load": load}
        records.write(args.json, {**facts, "rows": result})


if __name__ == "__main__":
    main()
