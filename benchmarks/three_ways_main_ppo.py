"""Three ways through verl's main_ppo: the placements of the KL beside each other, several seeds.

    make quickstart                                              # its data and model are used
    python benchmarks/three_ways_main_ppo.py --seeds 1 2 3 4 5   # 25 runs on a CPU
    python benchmarks/three_ways_main_ppo.py --table             # train nothing; what is there
    python benchmarks/three_ways_main_ppo.py --table --out docs/results    # the recorded runs

Recipe `quickstart_cpu`, beta 0.3, mean baseline, 40 steps; before, halfway and after, all 128 held-out problems get 4
answers. A run that is complete is kept as JSON (curve and validations) and not run again; a broken one resumes. All of
them together: three_ways_main_ppo.json below --out.

Longer answers and a larger model, on a GPU (what follows the options goes to main_ppo; a list such as `--seeds 1 2` must not stand last):

    python benchmarks/three_ways_main_ppo.py --folder build/large --gpu --jobs 5 actor_rollout_ref.actor.optim.lr=1e-4

with data and model of docs/results/README.md, section "On a GPU".
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from horizon import machine

from frpo_verl.files import write_atomically
from frpo_verl.quickstart.__main__ import BUILD, MEAN, RUNS, environment
from frpo_verl.quickstart.ways_model import read_problems, shape_of
from frpo_verl.report.collect import load_run, metric_files, read_metrics
from frpo_verl.report.facts import as_json

BETA = 0.3
METHODS = {
    "no KL": [*RUNS["no KL"]],
    "future": [f"algorithm.frpo.kl_coef={BETA}"],
    "local": [f"algorithm.frpo.kl_coef={BETA}", "+algorithm.frpo.placement=local"],
    "k3 loss": ["method=grpo_kl_loss", f"actor_rollout_ref.actor.kl_loss_coef={BETA}"],
    "reward": [f"algorithm.frpo.kl_coef={BETA}", "+algorithm.frpo.placement=reward"],
}
CURVE = {
    "reward": "critic/score/mean",
    "kl": "frpo/kl_to_go/first_token/mean",  # of a whole answer
    "entropy": "actor/entropy",
    "length": "response_length/mean",
}
SHARE = "val-aux/three_ways/way_{}/mean@{}"
PASS = "val-core/three_ways/acc/mean@{}"
SAMPLES = 4


def task(folder: Path, gpu: bool) -> list[str]:
    """Overrides for the data and the model in a folder, and for where they train."""
    problems = read_problems(folder / "data/test.parquet")
    digits, terms = shape_of(problems)
    longest = len(problems[0].written("C")) + 1  # tokens of the longest way, with the end marker
    words = [f"data.train_files={folder}/data/train.parquet", f"data.val_files={folder}/data/test.parquet",
             f"actor_rollout_ref.model.path={folder}/model", f"data.max_response_length={longest}",
             f"data.max_prompt_length={(digits + 1) * terms + 6}"]  # fmt: skip
    if gpu:  # float32, as on a CPU
        words += [
            "layout=hf",
            "actor_rollout_ref.rollout.dtype=float32",
            "actor_rollout_ref.actor.use_torch_compile=false",
        ]
        precision = "{param_dtype:fp32,reduce_dtype:fp32,buffer_dtype:fp32}"
        for role in ("actor", "ref"):
            section = f"actor_rollout_ref.{role}.fsdp_config"
            words += [
                f"{section}.dtype=float32",
                f"{section}.use_torch_compile=false",
                f"+{section}.mixed_precision={precision}",
            ]
    return words


def train(folder: Path, method: str, seed: int, steps: int, gpu: bool, overrides: list[str]) -> None:
    """One run of main_ppo; raises RuntimeError with the last error line of its log."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "verl.trainer.main_ppo", "+recipe=quickstart_cpu", f"run_dir={folder}", MEAN,
               f"hydra.run.dir={folder}/hydra", f"trainer.total_training_steps={steps}",
               f"trainer.test_freq={max(1, steps // 2)}", f"trainer.save_freq={max(1, steps // 2)}", f"data.seed={seed}",
               f"actor_rollout_ref.rollout.seed={seed}", f"actor_rollout_ref.rollout.val_kwargs.n={SAMPLES}",
               *METHODS[method], *overrides]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="ray-") as ray_folder, open(folder / "train.log", "ab") as log:
        env = environment(Path(ray_folder))  # runs side by side must not find each other's Ray
        if gpu:
            env["VERL_PLATFORM"] = ""
            del env["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"]
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=env).returncode
    if status:
        lines = (folder / "train.log").read_text(errors="replace").splitlines()
        error = next((line for line in reversed(lines) if "Error" in line), f"exit status {status}")
        raise RuntimeError(f"{folder}: {error}")


def figures(folder: Path, method: str, seed: int, steps: int) -> dict:
    """The curve and the last figures of a finished run."""
    metrics = read_metrics(metric_files(folder))
    curve = [{name: row[key] for name, key in CURVE.items() if key in row} for _, row in sorted(metrics.items())]
    table = {row["label"]: (row["before"], row["after"]) for row in as_json(load_run(folder))["table"]}
    kl = [row["kl"] for row in curve if "kl" in row]
    validations = {
        step: {"pass@1": row[PASS.format(SAMPLES)], "shares": [row[SHARE.format(way, SAMPLES)] for way in "ABC"]}
        for step, row in sorted(metrics.items())
        if PASS.format(SAMPLES) in row
    }
    seconds = [row["timing_s/step"] for row in metrics.values() if "timing_s/step" in row]
    return {"method": method, "seed": seed, "steps": steps, "curve": [row for row in curve if row], "table": table,
            "validations": validations, "shares": validations[max(validations)]["shares"],
            "kl": statistics.mean(kl[-5:]), "step_seconds": statistics.median(seconds),
            "machine": machine()}  # fmt: skip


def show(results: list[dict]) -> str:
    """Markdown: means over the seeds with 95 % intervals (Student's t). J = pass@1 - beta KL."""
    from scipy.stats import t

    def cell(values: list[float]) -> str:
        text = f"{statistics.mean(values):.3f}"
        if len(values) > 1:
            half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
            text += f" ± {half:.3f}"
        return text

    lines = [
        "| method | n | pass@1 before | halfway | after | KL of an answer, last 5 steps | J | shares A / B / C after |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        runs = [r for r in results if r["method"] == method]
        if runs:
            passes = [[v["pass@1"] for _, v in sorted(r["validations"].items(), key=lambda x: int(x[0]))] for r in runs]
            half = cell([p[1] for p in passes]) if all(len(p) == 3 for p in passes) else ""
            pass_rates = f"{cell([p[0] for p in passes])} | {half} | {cell([p[-1] for p in passes])}"
            kl = cell([r["kl"] for r in runs])
            objective = cell([p[-1] - BETA * r["kl"] for p, r in zip(passes, runs, strict=True)])
            shares = " / ".join(f"{statistics.mean(x):.2f}" for x in zip(*(r["shares"] for r in runs), strict=True))
            lines.append(f"| {method} | {len(runs)} | {pass_rates} | {kl} | {objective} | {shares} |")
    return "\n".join(lines) + "\n"


def collect(folder: Path, steps: int) -> list[dict]:
    """All results of runs of that length, by seed and method; what one file already holds and the runs' own files."""
    whole = folder / "three_ways_main_ppo.json"
    found = json.loads(whole.read_text()) if whole.exists() else []
    found += [json.loads(path.read_text()) for path in folder.glob("*-seed*.json")]
    order = list(METHODS)
    by_run = {(r["steps"], r["seed"], order.index(r["method"])): r for r in found}
    if by_run:
        lines = ",\n".join(json.dumps(r) for _, r in sorted(by_run.items()))
        write_atomically(whole, f"[\n{lines}\n]\n")
    return [r for key, r in sorted(by_run.items()) if key[0] == steps]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--table", action="store_true", help="train nothing; the table of what is there")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--gpu", action="store_true", help="layout=hf on one GPU instead of layout=cpu")
    parser.add_argument("--folder", type=Path, default=BUILD, help="folder with data/ and model/")
    parser.add_argument("--out", type=Path, default=Path("runs/three_ways"))
    parser.add_argument("overrides", nargs="*", help="overrides for main_ppo")
    args = parser.parse_args()

    def job(seed: int, method: str) -> None:
        name = f"{method.replace(' ', '_')}-{args.steps}-seed{seed}"
        target = args.out / f"{name}.json"
        if not target.exists():
            overrides = [*task(args.folder, args.gpu), *args.overrides]
            train(args.out / name, method, seed, args.steps, args.gpu, overrides)
            result = figures(args.out / name, method, seed, args.steps)
            write_atomically(target, json.dumps(result) + "\n")
            print(f"{name}: pass@1 {result['table']['held-out pass@1'][1]:.3f} KL {result['kl']:.3f}", flush=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(job, seed, m) for seed in ([] if args.table else args.seeds) for m in args.methods]
        failed = [str(error) for error in (j.exception() for j in jobs) if error]
    print(show(collect(args.out, args.steps)))
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
