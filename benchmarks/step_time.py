"""Steps of `frpo` beside verl's `grpo` with a k3 KL loss of the same coefficient, interleaved, through main_ppo.

    make quickstart                                     # its data and model are used
    python benchmarks/step_time.py --rounds 3 --steps 10

Both load the reference; FRPO has no KL term in the backward pass. Prints the median of verl's own timers over all steps but
the first of each run, and their ratio.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import records

from frpo_verl.report.collect import metric_files, read_metrics

TIMERS = ("timing_s/step", "timing_s/gen", "timing_s/adv", "timing_s/update_actor", "timing_s/ref")
METHODS = {"frpo": ["method=frpo"], "grpo + k3 loss": ["method=grpo_kl_loss"]}


def one_run(overrides: list[str], steps: int, folder: Path) -> list[dict]:
    """The metrics of all steps but the first."""
    command = [sys.executable, "-m", "verl.trainer.main_ppo", "+recipe=quickstart_cpu", *overrides, f"run_dir={folder}",
               f"hydra.run.dir={folder}/hydra", f"trainer.total_training_steps={steps}", "trainer.save_freq=-1",
               "trainer.test_freq=-1", "trainer.val_before_train=false"]  # fmt: skip
    env = {**os.environ, "VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    folder.mkdir(parents=True)
    with open(folder / "log", "wb") as log:
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=env).returncode:
            raise SystemExit(f"a run failed: {(folder / 'log').read_text(errors='replace')[-3000:]}")
    return [row for step, row in read_metrics(metric_files(folder)).items() if step > 1]


def main() -> None:
    parser = records.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    rows: dict[str, list[dict]] = {name: [] for name in METHODS}
    with tempfile.TemporaryDirectory(prefix="step-time-") as root:
        for r in range(args.rounds):
            for number, name in enumerate(list(METHODS)[:: -1 if r % 2 else 1]):
                rows[name] += one_run(METHODS[name], args.steps, Path(root) / f"{r}-{number}")
    found = {timer: [median(row[timer] for row in rows[name]) for name in METHODS] for timer in TIMERS}
    print(f"{args.rounds} rounds of {args.steps} steps, medians in seconds\n")
    lines = ([timer, f"{x:.3f}", f"{y:.3f}", f"{x / y:.2f}"] for timer, (x, y) in found.items())
    print(records.table(["", *METHODS, "ratio"], lines))


if __name__ == "__main__":
    main()
