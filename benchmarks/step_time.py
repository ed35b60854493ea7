"""Steps of `frpo` beside verl's `grpo` with a k3 KL loss of the same coefficient, interleaved, through main_ppo.

    python benchmarks/step_time.py --rounds 3 --steps 10

Both load the reference; FRPO has no KL term in the backward pass. Needs the quickstart's data and model (`make
quickstart`). Prints the median of verl's own timers over all steps but the first of each run, their ratio, and the peak
resident memory of the training worker.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from frpo_verl.report.collect import metric_files, read_metrics

TIMERS = ("timing_s/step", "timing_s/gen", "timing_s/adv", "timing_s/update_actor", "timing_s/ref")
METHODS = {"frpo": ["method=frpo"], "grpo + k3 loss": ["method=grpo_kl_loss"]}


def peak_worker_memory(process: subprocess.Popen, out: list[float]) -> None:
    """Follow the resident memory (GiB) of Ray's training worker until the run ends."""
    while process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                if "WorkerDict" in " ".join(child.cmdline()):
                    out.append(child.memory_info().rss / 2**30)
            except psutil.Error:
                continue
        time.sleep(0.5)


def one_run(overrides: list[str], steps: int, folder: Path) -> tuple[dict[str, list[float]], float]:
    command = [sys.executable, "-m", "verl.trainer.main_ppo", "+recipe=quickstart_cpu", *overrides, f"run_dir={folder}",
               f"hydra.run.dir={folder}/hydra", f"trainer.total_training_steps={steps}", "trainer.save_freq=-1",
               "trainer.test_freq=-1", "trainer.val_before_train=false"]  # fmt: skip
    env = {**os.environ, "VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    folder.mkdir(parents=True)
    memory: list[float] = []
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
        watcher = threading.Thread(target=peak_worker_memory, args=(process, memory), daemon=True)
        watcher.start()
        if process.wait():
            raise SystemExit(f"a run failed, see {folder / 'log'}")
    rows = [row for step, row in read_metrics(metric_files(folder)).items() if step > 1]
    return {t: [row[t] for row in rows] for t in TIMERS}, max(memory, default=float("nan"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="step-time-"))
    times = {name: {t: [] for t in TIMERS} for name in METHODS}
    memory = {name: [] for name in METHODS}
    for r in range(args.rounds):
        for name in list(METHODS)[:: 1 if r % 2 == 0 else -1]:
            found, peak = one_run(METHODS[name], args.steps, root / f"{r}-{name.split()[0]}")
            memory[name].append(peak)
            for timer in TIMERS:
                times[name][timer] += found[timer]
    a, b = METHODS
    table = Table(title=f"{args.rounds} rounds of {args.steps} steps, medians in seconds")
    for column in ("", a, b, "ratio"):
        table.add_column(column)
    result = {}
    for timer in TIMERS:
        x, y = statistics.median(times[a][timer]), statistics.median(times[b][timer])
        result[timer] = {a: x, b: y, "ratio": x / y}
        table.add_row(timer, f"{x:.3f}", f"{y:.3f}", f"{x / y:.2f}")
    x, y = statistics.median(memory[a]), statistics.median(memory[b])
    result["peak GiB of the worker"] = {a: x, b: y, "ratio": x / y}
    table.add_row("peak GiB of the worker", f"{x:.3f}", f"{y:.3f}", f"{x / y:.3f}")
    Console().print(table)
    shutil.rmtree(root)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
