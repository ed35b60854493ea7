"""Placements of the KL beside each other through verl's main_ppo, several seeds, on one of the quickstart's two tasks.

    make quickstart                                                  # its data and model are used
    python benchmarks/main_ppo_seeds.py                              # three ways, 25 runs on a CPU
    python benchmarks/main_ppo_seeds.py --task coverage              # coverage, 20 runs
    python benchmarks/main_ppo_seeds.py --table --out docs/results   # train nothing; the recorded runs

Recipe `quickstart_cpu`, mean baseline, 40 steps. Three ways: beta 0.3, and before, halfway and after all 128 held-out
problems get 4 answers. Coverage: the betas at which coverage.py finds the methods at nearly one pass@1, and 16 answers
after the last step. A run that is complete is kept as JSON (curve and validations) and not run again; a broken one resumes.
All of them together: TASK_main_ppo.json below --out.

Longer answers and a larger model, on a GPU (what follows the options goes to main_ppo; a list such as `--seeds 1 2` must not stand last):

    python benchmarks/main_ppo_seeds.py --folder build/large --gpu --jobs 5 actor_rollout_ref.actor.optim.lr=1e-4

with data and model of docs/results/README.md, section "On a GPU".
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import records
from records import machine, shown

from frpo_verl.data.cli import main as write_data
from frpo_verl.evaluation import read_records, summarize
from frpo_verl.files import write_atomically
from frpo_verl.quickstart.__main__ import BUILD, MEAN, RUNS, environment
from frpo_verl.quickstart.ways_model import read_problems, shape_of
from frpo_verl.report.collect import metric_files, read_metrics

FRPO, K3 = "algorithm.frpo.kl_coef={}", "actor_rollout_ref.actor.kl_loss_coef={}"
METHODS = {
    "no KL": [*RUNS["no KL"]],
    "future": [FRPO],
    "local": [FRPO, "+algorithm.frpo.placement=local"],
    "k3 loss": ["method=grpo_kl_loss", K3],
    "reward": [FRPO, "+algorithm.frpo.placement=reward"],
}
CURVE = {
    "reward": "critic/score/mean",
    "kl": "frpo/kl_to_go/first_token/mean",  # of a whole answer
    "entropy": "actor/entropy",
    "length": "response_length/mean",
}


@dataclass(frozen=True)
class Task:
    """betas: method -> beta; samples: answers to a held-out problem; validations: how many in a run, none before it if one."""

    name: str
    betas: dict[str, float]
    samples: int
    validations: int

    def overrides(self, folder: Path, gpu: bool) -> list[str]:
        """Data, reward and model in a folder, and where they train."""
        problems, data = read_problems(folder / "data/test.parquet"), folder / "data"
        if self.name == "coverage":
            data = folder / "coverage"
            if not (data / "test.parquet").exists():
                write_data(["coverage", "--local_save_dir", str(data)])
        digits, terms = shape_of(problems)
        longest = len(problems[0].written("C")) + 1  # tokens of the longest way, with the end marker
        words = [f"data.train_files={data}/train.parquet", f"data.val_files={data}/test.parquet",
                 f"actor_rollout_ref.model.path={folder}/model", f"data.max_response_length={longest}",
                 f"data.max_prompt_length={(digits + 1) * terms + 6}",
                 f"reward.custom_reward_function.path=pkg://frpo_verl.quickstart.{self.name}"]  # fmt: skip
        return words + (ON_A_GPU if gpu else [])


TASKS = {
    "three_ways": Task("three_ways", {"no KL": 0, "future": 0.3, "local": 0.3, "k3 loss": 0.3, "reward": 0.3}, 4, 3),
    "coverage": Task("coverage", {"no KL": 0, "future": 0.1, "k3 loss": 0.05, "reward": 0.1}, 16, 1),
}
PRECISION = "{param_dtype:fp32,reduce_dtype:fp32,buffer_dtype:fp32}"
ON_A_GPU = [
    "layout=hf", "actor_rollout_ref.rollout.dtype=float32",  # as on a CPU
    *(f"actor_rollout_ref.{role}.{key}" for role in ("actor", "ref") for key in ("fsdp_config.dtype=float32", "fsdp_config.use_torch_compile=false")),
    *(f"+actor_rollout_ref.{role}.fsdp_config.mixed_precision={PRECISION}" for role in ("actor", "ref")),
    "actor_rollout_ref.actor.use_torch_compile=false",
]  # fmt: skip


def train(folder: Path, task: Task, method: str, seed: int, steps: int, gpu: bool, overrides: list[str]) -> None:
    """One run of main_ppo; raises RuntimeError with the last error line of its log."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [word.format(task.betas[method]) for word in METHODS[method]]
    examined = max(1, steps // max(1, task.validations - 1))
    command = [sys.executable, "-m", "verl.trainer.main_ppo", "+recipe=quickstart_cpu", f"run_dir={folder}", MEAN,
               f"hydra.run.dir={folder}/hydra", f"trainer.total_training_steps={steps}", f"trainer.test_freq={examined}",
               f"trainer.val_before_train={task.validations > 1}", f"trainer.save_freq={max(1, steps // 2)}",
               f"data.seed={seed}", f"actor_rollout_ref.rollout.seed={seed}",
               f"actor_rollout_ref.rollout.val_kwargs.n={task.samples}", *words, *overrides]  # fmt: skip
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


def figures(folder: Path, task: Task, method: str, seed: int, steps: int) -> dict:
    """The curve and the last figures of a finished run."""
    metrics = read_metrics(metric_files(folder))
    curve = [{name: row[key] for name, key in CURVE.items() if key in row} for _, row in sorted(metrics.items())]
    passed = f"val-core/{task.name}/acc/mean@{task.samples}"
    share = f"val-aux/{task.name}/way_{{}}/mean@{task.samples}"
    validations = {
        step: {"pass@1": row[passed], "shares": [row[share.format(way)] for way in "ABC"]}
        for step, row in sorted(metrics.items())
        if passed in row
    }
    seconds = [row["timing_s/step"] for row in metrics.values() if "timing_s/step" in row]
    (last,) = summarize(read_records(folder / f"validation/{max(validations)}.jsonl")).values()
    return {"method": method, "seed": seed, "steps": steps, "curve": [row for row in curve if row],
            "validations": validations, "shares": validations[max(validations)]["shares"],
            f"pass@{task.samples}": last["metrics"][f"pass@{task.samples}"]["value"],
            **{name: statistics.mean([row[name] for row in curve if name in row][-5:]) for name in ("kl", "entropy")},
            "step_seconds": statistics.median(seconds), "machine": machine()}  # fmt: skip


def show(results: list[dict], task: Task) -> str:
    """Markdown: means over the seeds with 95 % intervals (Student's t). J = pass@1 - beta KL."""

    many, rows = f"pass@{task.samples}", []
    for method, beta in task.betas.items():
        runs = [r for r in results if r["method"] == method]
        if not runs:
            continue
        passes = [[v["pass@1"] for _, v in sorted(r["validations"].items(), key=lambda x: int(x[0]))] for r in runs]
        each = ", ".join(shown(values) for values in zip(*passes, strict=True))
        cells = [shown([r[name] for r in runs]) if name in runs[0] else "" for name in (many, "kl", "entropy")]
        objective = shown([p[-1] - beta * r["kl"] for p, r in zip(passes, runs, strict=True)]) if beta else ""
        shares = " / ".join(f"{statistics.mean(x):.2f}" for x in zip(*(r["shares"] for r in runs), strict=True))
        rows.append([method, beta or "", len(runs), each, *cells, objective, shares])
    head = ("method", "beta", "n", "pass@1, each validation", f"{many} after", "KL of an answer, last 5 steps",
            "entropy of a token", "J", "shares A / B / C after")  # fmt: skip
    return records.table(head, rows)


def collect(folder: Path, task: Task, steps: int) -> list[dict]:
    """All results of runs of that length, by seed and method; what one file already holds and the runs' own files."""
    whole = folder / f"{task.name}_main_ppo.json"
    found = json.loads(whole.read_text()) if whole.exists() else []
    found += [json.loads(path.read_text()) for path in folder.glob(f"{task.name}-*-seed*.json")]
    order = list(METHODS)
    by_run = {(r["steps"], r["seed"], order.index(r["method"])): r for r in found}
    if by_run:
        lines = ",\n".join(json.dumps(r) for _, r in sorted(by_run.items()))
        write_atomically(whole, f"[\n{lines}\n]\n")
    return [r for key, r in sorted(by_run.items()) if key[0] == steps]


def main() -> int:
    parser = records.parser(__doc__, "runs/main_ppo_seeds")
    parser.add_argument("--task", choices=list(TASKS), default="three_ways")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), help="default: all of the task")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--gpu", action="store_true", help="layout=hf on one GPU instead of layout=cpu")
    parser.add_argument("--folder", type=Path, default=BUILD, help="folder with data/ and model/")
    parser.add_argument("overrides", nargs="*", help="overrides for main_ppo")
    args = parser.parse_args()
    task = TASKS[args.task]

    def job(seed: int, method: str) -> None:
        name = f"{task.name}-{method.replace(' ', '_')}-{args.steps}-seed{seed}"
        target = args.out / f"{name}.json"
        if not target.exists():
            train(args.out / name, task, method, seed, args.steps, args.gpu, overrides)
            result = figures(args.out / name, task, method, seed, args.steps)
            records.write(target, result, indent=None)
            end = result["validations"][max(result["validations"])]
            print(f"{name}: pass@1 {end['pass@1']:.3f} KL {result['kl']:.3f}", flush=True)

    seeds = [] if args.table else args.seeds
    overrides = [*task.overrides(args.folder, args.gpu), *args.overrides] if seeds else []
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(job, seed, m) for seed in seeds for m in args.methods or task.betas]
        failed = [str(error) for error in (j.exception() for j in jobs) if error]
    print(show(collect(args.out, task, args.steps), task))
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
