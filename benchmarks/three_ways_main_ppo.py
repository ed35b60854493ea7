"""Three ways through verl's main_ppo: the placements of the KL beside each other, several seeds, on a processor.

    make quickstart                                              # its data and model are used
    python benchmarks/three_ways_main_ppo.py --seeds 1 2 3 4 5   # 25 runs
    python benchmarks/three_ways_main_ppo.py --table             # train nothing; what is there

Recipe `quickstart_cpu`, beta 0.3, mean baseline, 40 steps; before and after, all 128 held-out problems get 16 answers.
A run that is complete is kept as JSON (curve and last figures) and not run again; a broken one resumes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

from frpo_verl.files import write_atomically
from frpo_verl.quickstart.__main__ import MEAN, RUNS
from frpo_verl.report.collect import as_json, load_run, metric_files, read_metrics

METHODS = {
    "no KL": [*RUNS["no KL"]],
    "future": ["algorithm.frpo.kl_coef=0.3"],
    "local": ["algorithm.frpo.kl_coef=0.3", "+algorithm.frpo.placement=local"],
    "k3 loss": ["method=grpo_kl_loss", "actor_rollout_ref.actor.kl_loss_coef=0.3"],
    "reward": ["algorithm.frpo.kl_coef=0.3", "+algorithm.frpo.placement=reward"],
}
CURVE = {
    "reward": "critic/score/mean",
    "kl": "frpo/kl_to_go/first_token/mean",  # of a whole answer
    "entropy": "actor/entropy",
    "length": "response_length/mean",
}
VALIDATION = "val-aux/three_ways/way_{}/mean@{}"
SAMPLES = 16


def train(folder: Path, method: str, seed: int, steps: int) -> None:
    """One run of main_ppo; raises RuntimeError with the last error line of its log."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "verl.trainer.main_ppo", "+recipe=quickstart_cpu", f"run_dir={folder}", MEAN,
               f"hydra.run.dir={folder}/hydra", f"trainer.total_training_steps={steps}", f"data.seed={seed}",
               f"actor_rollout_ref.rollout.seed={seed}", f"actor_rollout_ref.rollout.val_kwargs.n={SAMPLES}",
               *METHODS[method]]  # fmt: skip
    env = {**os.environ, "VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0",
           "RAY_prestart_worker_first_driver": "0", "RAY_enable_worker_prestart": "0"}  # fmt: skip
    with open(folder / "train.log", "ab") as log:
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=env).returncode
    if status:
        lines = (folder / "train.log").read_text(errors="replace").splitlines()
        error = next((line for line in reversed(lines) if "Error" in line), f"exit status {status}")
        raise RuntimeError(f"{folder}: {error}")


def figures(folder: Path, method: str, seed: int, steps: int) -> dict:
    """The curve and the last figures of a finished run."""
    metrics = read_metrics(metric_files(folder))
    curve = [{name: row[key] for name, key in CURVE.items() if key in row} for _, row in sorted(metrics.items())]
    last = metrics[max(metrics)]
    table = {row["label"]: (row["before"], row["after"]) for row in as_json(load_run(folder))["table"]}
    kl = [row["kl"] for row in curve if "kl" in row]
    return {"method": method, "seed": seed, "steps": steps, "curve": [row for row in curve if row], "table": table,
            "shares": [last[VALIDATION.format(way, SAMPLES)] for way in "ABC"],
            "kl": statistics.mean(kl[-5:])}  # fmt: skip


def show(results: list[dict]) -> str:
    """Markdown: means over the seeds with 95 % intervals (Student's t)."""
    from scipy.stats import t

    def cell(values: list[float]) -> str:
        text = f"{statistics.mean(values):.3f}"
        if len(values) > 1:
            half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
            text += f" ± {half:.3f}"
        return text

    lines = [
        "| method | n | pass@1 | pass@16 | KL of an answer, last 5 steps | shares A / B / C |",
        "|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        runs = [r for r in results if r["method"] == method]
        if runs:
            passes = [cell([r["table"][f"held-out pass@{k}"][1] for r in runs]) for k in (1, SAMPLES)]
            shares = " / ".join(f"{statistics.mean(x):.2f}" for x in zip(*(r["shares"] for r in runs), strict=True))
            lines.append(
                f"| {method} | {len(runs)} | {' | '.join(passes)} | {cell([r['kl'] for r in runs])} | {shares} |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--table", action="store_true", help="train nothing; the table of what is there")
    parser.add_argument("--out", type=Path, default=Path("runs/three_ways"))
    args = parser.parse_args()
    for seed in [] if args.table else args.seeds:
        for method in args.methods:
            name = f"{method.replace(' ', '_')}-{args.steps}-seed{seed}"
            target = args.out / f"{name}.json"
            if not target.exists():
                train(args.out / name, method, seed, args.steps)
                result = figures(args.out / name, method, seed, args.steps)
                write_atomically(target, json.dumps(result) + "\n")
                print(f"{name}: pass@1 {result['table']['held-out pass@1'][1]:.3f} KL {result['kl']:.3f}", flush=True)
    results = [json.loads(p.read_text()) for p in sorted(args.out.glob(f"*-{args.steps}-seed*.json"))]
    print(show(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
