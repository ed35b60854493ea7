"""Time and peak extra memory of the regularised advantage, against verl's estimators and a plain copy.

    python benchmarks/advantage_speed.py [--shapes 256x2048 1024x4096 1024x16384] [--repeats 7] [--json FILE]

Every candidate gets the same batch (float32 log-probs, int64 mask, groups of 8, lengths uniform between a
quarter of the width and the width) and is timed in turn, round after round, so that whatever else the machine
does hits all of them alike; the table shows the fastest round. On a processor times are processor
time, which other processes disturb less than the clock on the wall, with one thread unless --threads says more.

    copy              x.clone(), one float32 tensor of the batch's shape into fresh memory: the unit of a column
    verl ...          verl's estimators as its trainer calls them; reinforce_plus_plus after apply_kl_penalty
    core ROW          `regularized_advantages`: log-ratio, regulariser, token advantage, metrics
    frpo, registered  the estimator that verl calls when the plugin is loaded: settings and outcome advantage as well

Memory is what the process grows by at the worst moment of one call: the resident set in a forked child, or
the allocator's peak on a GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import time
from collections.abc import Callable

import numpy as np
import torch

from frpo_verl.core.advantages import Regularizer, regularized_advantages
from frpo_verl.core.divergences import DIVERGENCES, get_divergence


def make_batch(rows: int, columns: int, device: str) -> dict:
    generator = torch.Generator().manual_seed(0)
    log_prob = -torch.rand(rows, columns, generator=generator)
    ref = log_prob + 0.05 * torch.randn(rows, columns, generator=generator)
    length = torch.randint(columns // 4, columns + 1, (rows, 1), generator=generator)
    mask = (torch.arange(columns) < length).long()
    scores = torch.zeros(rows, columns)
    scores[torch.arange(rows), length[:, 0] - 1] = torch.randint(0, 2, (rows,), generator=generator).float()
    tensors = {
        "old_log_probs": log_prob,
        "ref_log_prob": ref,
        "response_mask": mask,
        "token_level_scores": scores,
    }
    batch = {name: x.to(device) for name, x in tensors.items()}
    batch["index"] = np.array([f"prompt-{i // 8}" for i in range(rows)], dtype=object)
    batch["scores"] = batch["token_level_scores"].sum(-1)
    return batch


def core(batch: dict, divergence: str) -> torch.Tensor:
    row = get_divergence(divergence, 0.5 if divergence == "alpha" else None)
    return regularized_advantages(
        batch["scores"],
        batch["old_log_probs"],
        batch["ref_log_prob"],
        batch["response_mask"],
        kl_coef=0.01,
        regularizer=Regularizer(row),
        group_ids=batch["index"],
    ).advantages


def reinforce_plus_plus(batch: dict) -> torch.Tensor:
    from omegaconf import OmegaConf
    from verl import DataProto
    from verl.trainer.ppo import core_algos
    from verl.trainer.ppo.ray_trainer import apply_kl_penalty

    names = ("old_log_probs", "ref_log_prob", "response_mask", "token_level_scores")
    data = DataProto.from_single_dict({name: batch[name] for name in names})
    data, _ = apply_kl_penalty(data, core_algos.FixedKLController(0.01), kl_penalty="kl")
    return core_algos.compute_reinforce_plus_plus_outcome_advantage(
        data.batch["token_level_rewards"], batch["response_mask"], config=OmegaConf.create({"gamma": 1.0})
    )[0]


def registered(batch: dict) -> torch.Tensor:
    from omegaconf import OmegaConf
    from verl.trainer.ppo import core_algos

    config = OmegaConf.create({"norm_adv_by_std_in_grpo": True, "frpo": {"kl_coef": 0.01}})
    names = ("old_log_probs", "ref_log_prob", "response_mask")
    return core_algos.get_adv_estimator_fn("frpo")(
        token_level_rewards=batch["token_level_scores"],
        response_mask=batch["response_mask"],
        index=batch["index"],
        config=config,
        batch={name: batch[name] for name in names},
        non_tensor_batch={"uid": batch["index"]},
    )[0]


def candidates(batch: dict) -> dict[str, Callable[[], object]]:
    from verl.trainer.ppo import core_algos

    outcome = (batch["token_level_scores"], batch["response_mask"], batch["index"])
    found: dict[str, Callable[[], object]] = {
        "copy": lambda: batch["old_log_probs"].clone(),
        "verl grpo": lambda: core_algos.compute_grpo_outcome_advantage(*outcome),
        "verl reinforce_plus_plus + KL in reward": lambda: reinforce_plus_plus(batch),
    }
    for name in DIVERGENCES:
        found[f"core {name}"] = lambda n=name: core(batch, n)
    if "frpo" in core_algos.ADV_ESTIMATOR_REGISTRY:
        found["frpo, registered (reverse_kl)"] = lambda: registered(batch)
    return found


def seconds(call: Callable[[], object], device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def _status(field: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field + ":"))


def peak_extra_bytes(call: Callable[[], object], device: str) -> int | None:
    """Growth at the worst moment of one call; None where it cannot be measured."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    if not os.path.exists("/proc/self/clear_refs"):
        return None
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            call()  # touches the pages that parent and child share
            ctypes.CDLL(None).malloc_trim(0)  # free heap would be reused and not counted
            with open("/proc/self/clear_refs", "w") as clear:
                clear.write("5")  # resets the high-water mark
            before = _status("VmRSS")
            call()
            os.write(write, str(max(_status("VmHWM") - before, 0)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return int(text) if text else None


def measure(rows: int, columns: int, repeats: int, device: str, only: str) -> list[dict]:
    batch = make_batch(rows, columns, device)
    units = ("copy", "verl reinforce_plus_plus + KL in reward")
    calls = {name: call for name, call in candidates(batch).items() if name in units or re.search(only, name)}
    for call in calls.values():  # warm up: imports, allocator, page faults
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(call, device))
    best = {name: min(t) for name, t in times.items()}
    slow = best["verl reinforce_plus_plus + KL in reward"]
    size = batch["old_log_probs"].nbytes
    return [
        {
            "shape": f"{rows}x{columns}",
            "estimator": name,
            "milliseconds": 1e3 * best[name],
            "median_milliseconds": 1e3 * sorted(times[name])[repeats // 2],
            "copies": best[name] / best["copy"],
            "of_reinforce_plus_plus": best[name] / slow,
            "extra_tensors": None if (peak := peak_extra_bytes(call, device)) is None else peak / size,
        }
        for name, call in calls.items()
    ]


def show(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"shape {rows[0]['shape']} (float32)")
    columns = (
        "estimator",
        "best ms",
        "median ms",
        "in copies",
        "of reinforce++ & KL",
        "peak extra, in tensors",
    )
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for r in rows:
        memory = "-" if r["extra_tensors"] is None else f"{r['extra_tensors']:.2f}"
        table.add_row(
            r["estimator"],
            f"{r['milliseconds']:.2f}",
            f"{r['median_milliseconds']:.2f}",
            f"{r['copies']:.1f}",
            f"{r['of_reinforce_plus_plus']:.3f}",
            memory,
        )
    Console(width=118).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["256x2048", "1024x4096", "1024x16384"])
    parser.add_argument("--repeats", type=int, default=7, help="rounds; the fastest of each candidate counts")
    parser.add_argument("--only", default="", help="regular expression on the names, to measure some of them")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch on a CPU")
    parser.add_argument("--json", default=None, help="write the rows to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for shape in args.shapes:
        b, t = (int(n) for n in shape.split("x"))
        rows += measure(b, t, args.repeats, args.device, args.only)
        show(rows[-len([r for r in rows if r["shape"] == shape]) :])
    if args.json:
        result = {
            "device": args.device,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "rows": rows,
        }
        with open(args.json + ".part", "w") as out:
            json.dump(result, out, indent=1)
        os.replace(args.json + ".part", args.json)


if __name__ == "__main__":
    main()
