"""`python -m frpo_verl.quickstart`: data, a tiny model, main_ppo with adv_estimator=frpo and the same run without a KL.

Everything goes below the current folder: `build/quickstart` (data, model, caches) and the runs' folders. What exists is
reused: a finished run is only shown again, a longer `--steps` continues it, a killed one resumes. With another method
(`method=NAME`) there is one run, and the recipe's own settings.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from frpo_verl.processes import die_with_parent
from frpo_verl.report.collect import metric_files, read_metrics

BUILD = Path("build/quickstart")
MEAN = "algorithm.norm_adv_by_std_in_grpo=false"  # advantages r - mean: pass rate - beta * KL is what both runs ascend
MEASURE = ("algorithm.use_kl_in_reward=true", "algorithm.kl_ctrl.kl_coef=0")  # loads the reference, to measure by
RUNS = {"FRPO": (MEAN, "algorithm.frpo.kl_coef=0.3"), "no KL": (MEAN, "algorithm.frpo.kl_coef=0", *MEASURE)}
RAY_PATH_LIMIT = 44  # Ray puts unix sockets 62 characters below its folder, and 107 is the system's limit


def environment(sockets: Path) -> dict[str, str]:
    """The variables of the training process: verl on a CPU, every cache inside the clone."""
    cache = (BUILD / "cache").absolute()
    cache.mkdir(parents=True, exist_ok=True)
    defaults = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 2) // 2)),
        "HYDRA_FULL_ERROR": "0",
        "PYTHONWARNINGS": "ignore",
        "TRANSFER_QUEUE_LOG_LEVEL": "ERROR",
        "TQ_LOGGING_LEVEL": "ERROR",
    }
    forced = {
        "VERL_PLATFORM": "cpu",
        "RAY_TMPDIR": str(sockets),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # Ray's default of 15 starves its workers beside anything else
        "RAY_prestart_worker_first_driver": "0",  # else Ray starts 32 processes that no actor of verl's can use
        "RAY_enable_worker_prestart": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "HF_HOME": str(cache / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "MPLCONFIGDIR": str(cache / "matplotlib"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "XDG_CACHE_HOME": str(cache),
    }
    inherited = dict(os.environ)
    inherited.pop("RAY_ADDRESS", None)  # the run has a Ray of its own
    if inherited.get("CUDA_VISIBLE_DEVICES") in ("", "NoDevFiles"):
        inherited.pop("CUDA_VISIBLE_DEVICES")  # no device would contradict Ray's one logical GPU
    return {**defaults, **inherited, **forced}


def ray_folder() -> Path:
    """A folder for Ray's sockets: build/ray if its path is short enough, else a new one in the first place that is.

    Raises:
        SystemExit: with one line, when every place is too long or cannot be written.
    """
    places = [str(Path("build/ray").absolute()), *dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp"))]
    for number, place in enumerate(places):
        try:
            if number == 0 and len(place) <= RAY_PATH_LIMIT:
                Path(place).mkdir(parents=True, exist_ok=True)
                if os.access(place, os.W_OK):
                    return Path(place)
            elif number and len(f"{place}/frpo-12345678") <= RAY_PATH_LIMIT:
                return Path(tempfile.mkdtemp(prefix="frpo-", dir=place))
        except OSError:
            continue
    raise SystemExit(
        f"no folder for Ray's sockets: {', '.join(places)} are too long for a path of {RAY_PATH_LIMIT} characters or cannot be "
        "written; set TMPDIR to a short folder"
    )


def make_data(console: Console) -> None:
    folder = BUILD / "data"
    if (folder / "train.parquet").exists() and (folder / "test.parquet").exists():
        console.print(f"[1/4] data     reusing {folder}")
        return
    console.print(f"[1/4] data     generating sums in {folder}")
    from ..data import cli as data

    status = data.main(["three_ways", "--local_save_dir", str(folder)])
    if status:
        raise SystemExit(status)


def make_model(console: Console) -> None:
    from . import ways_model

    console.print(f"[2/4] model    a tiny Qwen, warmed up by supervised learning, in {BUILD / 'model'}", soft_wrap=True)
    stamp = ways_model.build(BUILD / "model", BUILD / "data")
    if stamp.get("reused"):
        console.print("               up to date, reused")


def checkpoint_step(run: Path) -> int:
    """The step of the run's last checkpoint, 0 if there is none."""
    try:
        return int((run / "checkpoints" / "latest_checkpointed_iteration.txt").read_text())
    except (OSError, ValueError):
        return 0


def _status(rows: dict[int, dict]) -> str:
    text = []
    for label, key, form in (
        ("reward", "critic/score/mean", ".3f"),
        ("entropy", "actor/entropy", ".3f"),
        ("KL to ref", "frpo/kl_to_ref/k1", ".3f"),
    ):
        value = next((data[key] for data in reversed(list(rows.values())) if key in data), None)
        if value is not None:
            text.append(f"{label} {value:{form}}")
    return "   ".join(text) or "starting Ray, the trainer and the rollout server"


def train(run: Path, steps: int, overrides: list[str], console: Console, name: str = "") -> int:
    """Run verl's main_ppo and follow its metrics; returns its exit status."""
    done = checkpoint_step(run)
    command = [
        sys.executable, "-m", "verl.trainer.main_ppo", "+recipe=quickstart_cpu", f"run_dir={run}",
        f"trainer.total_training_steps={steps}", f"hydra.run.dir={run}/hydra", *overrides,
    ]  # fmt: skip
    shown = " ".join(["VERL_PLATFORM=cpu", "python", *command[1:]])
    start = f"resuming after step {done}" if done else "from the warm start"
    console.print(f"[3/4] training {name and name + ', '}{start}, with")
    console.print(f"               {shown}", highlight=False, markup=False, soft_wrap=True)
    run.mkdir(parents=True, exist_ok=True)
    log = run / "train.log"
    metrics = run / "metrics.jsonl"
    if metrics.exists() and not done:
        metrics.unlink()  # of a run that never reached a checkpoint
    before = metrics.stat().st_mtime_ns if metrics.exists() else -1
    sockets = ray_folder()
    columns = (
        TextColumn("               "),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    try:
        with open(log, "ab") as out:
            process = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment(sockets),
                preexec_fn=partial(die_with_parent, signal.SIGTERM),
            )
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task(_status({}), total=steps, completed=done)
            printed = done
            while process.poll() is None:
                time.sleep(0.5)
                if not metrics.exists() or metrics.stat().st_mtime_ns == before:
                    continue
                rows = read_metrics(metric_files(run))
                last = max(rows, default=done)
                progress.update(task, completed=last, description=_status(rows))
                if not console.is_terminal and last >= printed + 10:
                    printed = last
                    console.print(f"               step {last}/{steps}   {_status(rows)}")
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        console.print("stopped; the same command goes on from the last checkpoint")
        return 130
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
    if process.returncode:
        lines = log.read_text(errors="replace").splitlines()
        error = next((line for line in reversed(lines) if "Error" in line or "Exception" in line), "")
        console.print(f"[red]training stopped with status {process.returncode}[/red]; the whole output is in {log}")
        console.print(error.strip(), highlight=False, markup=False)
    return process.returncode


def method_of(overrides: list[str]) -> str:
    """The method that is typed beside the recipe; frpo if none is."""
    return next((o.removeprefix("method=") for o in reversed(overrides) if o.startswith("method=")), "frpo")


def plan(run: Path, overrides: list[str]) -> dict[str, tuple[Path, list[str]]]:
    """name -> (folder, overrides): FRPO and the same run without a KL term, or the one run of another method."""
    if method_of(overrides) != "frpo":
        return {"": (run, list(overrides))}
    first, baseline = RUNS
    without = run.with_name(f"{run.name}_no_kl")
    others = [o for o in overrides if not o.lstrip("+").startswith("algorithm.frpo.")]  # nothing reads these beside 0
    return {
        first: (run, [f"answers_dir={run}/answers", *RUNS[first], *overrides]),
        baseline: (without, [f"answers_dir={without}/answers", *others, *RUNS[baseline]]),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the four parts; the exit status is that of the part that failed, or 0."""
    parser = argparse.ArgumentParser(prog="python -m frpo_verl.quickstart", description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=20, help="training steps (20)")
    parser.add_argument(
        "--run", type=Path, help="folder of the run (runs/quickstart; with method=NAME, runs/quickstart_NAME)"
    )
    parser.add_argument("--fresh", action="store_true", help="throw the run's folder away and start over")
    parser.add_argument("overrides", nargs="*", help="overrides for main_ppo, such as algorithm.frpo.kl_coef=0.1")
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error(f"--steps {args.steps}: give a number of at least 1")
    if args.run is None:  # a method never resumes another's checkpoint
        method = method_of(args.overrides)
        args.run = Path("runs/quickstart" if method == "frpo" else f"runs/quickstart_{method}")
    console = Console()
    runs = plan(args.run, args.overrides)
    for run, _ in runs.values():
        if args.fresh and run.exists():
            shutil.rmtree(run)
    make_data(console)
    make_model(console)
    for name, (run, overrides) in runs.items():
        if checkpoint_step(run) >= args.steps:
            console.print(
                f"[3/4] training reusing {run}, finished at step {checkpoint_step(run)} (FRESH=1 starts over)"
            )
            continue
        status = train(run, args.steps, overrides, console, name)
        if status:
            return status
    console.print("[4/4] report")
    os.environ.setdefault("MPLCONFIGDIR", str((BUILD / "cache" / "matplotlib").absolute()))
    from ..report import cli

    names = [word for name in runs for word in ("--name", name)] if len(runs) > 1 else []
    picture = ["--out", str(args.run / "report.png")]
    return cli.main([*(str(run) for run, _ in runs.values()), *names, *picture])


if __name__ == "__main__":
    sys.exit(main())
