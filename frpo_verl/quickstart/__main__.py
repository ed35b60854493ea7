"""`python -m frpo_verl.quickstart`: data, a tiny model, main_ppo with adv_estimator=frpo and the same run without a KL.

Everything goes below the current folder: `build/quickstart` (data, model, caches) and the runs' folders. What exists is
reused: a finished run is only shown again, a longer `--steps` continues it, a killed one resumes. With another method
(`method=NAME`) there is one run, and the recipe's own settings.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from frpo_verl.files import write_atomically
from frpo_verl.processes import die_with_parent
from frpo_verl.report.collect import BEST_FILE, metric_files, read_metrics

from . import three_ways

BUILD = Path("build/quickstart")
MEAN = "algorithm.norm_adv_by_std_in_grpo=false"  # advantages r - mean: pass rate - beta * KL is what both runs ascend
MEASURE = ("algorithm.use_kl_in_reward=true", "algorithm.kl_ctrl.kl_coef=0")  # loads the reference, to measure by
RUNS = {"FRPO": (MEAN, "algorithm.frpo.kl_coef=0.3"), "no KL": (MEAN, "algorithm.frpo.kl_coef=0", *MEASURE)}
MEMORY_FOR_TWO = 12 * 2**30  # bytes
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


def ray_folder(number: int = 0) -> Path:
    """A folder for a run's Ray and its sockets: build/ray and a number if its path is short enough, else a new one in the first place that is.

    Raises:
        SystemExit: with one line, when every place is too long or cannot be written.
    """
    own = Path(f"build/ray{number or ''}").absolute()
    others = list(dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")))
    if len(str(own)) <= RAY_PATH_LIMIT:
        with suppress(OSError):
            own.mkdir(parents=True, exist_ok=True)
            if os.access(own, os.W_OK):
                return own
    for place in others:
        if len(f"{place}/frpo-12345678") <= RAY_PATH_LIMIT:
            with suppress(OSError):
                return Path(tempfile.mkdtemp(prefix="frpo-", dir=place))
    raise SystemExit(
        f"no folder for Ray's sockets: {', '.join([str(own), *others])} are too long for a path of {RAY_PATH_LIMIT} "
        "characters or cannot be written; set TMPDIR to a short folder"
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


def make_model(console: Console) -> dict:
    from . import ways_model

    console.print(f"[2/4] model    a tiny Qwen, warmed up by supervised learning, in {BUILD / 'model'}", soft_wrap=True)
    stamp = ways_model.build(BUILD / "model", BUILD / "data")
    if stamp.get("reused"):
        console.print("               up to date, reused")
    return stamp


def write_best(run: Path, stamp: dict, overrides: list[str]) -> None:
    """Leave the best possible objective of a run with FRPO in its folder, for the picture."""
    typed = [o.partition("=")[2] for o in overrides if o.lstrip("+").startswith("algorithm.frpo.kl_coef=")]
    if "held_out" in stamp and typed and float(typed[-1]) > 0:
        best = three_ways.best_objective(stamp["held_out"], float(typed[-1]))
        content = json.dumps({"kl_coef": float(typed[-1]), "best": round(best, 5)})
        write_atomically(run / BEST_FILE, content + "\n")


def checkpoint_step(run: Path) -> int:
    """The step of the run's last checkpoint, 0 if there is none."""
    try:
        return int((run / "checkpoints" / "latest_checkpointed_iteration.txt").read_text())
    except (OSError, ValueError):
        return 0


def _status(rows: dict[int, dict]) -> str:
    shown = {"reward": "critic/score/mean", "entropy": "actor/entropy", "KL to ref": "frpo/kl_to_ref/k1"}
    latest: dict[str, float] = {}
    for row in rows.values():
        latest |= row
    text = [f"{label} {latest[key]:.3f}" for label, key in shown.items() if key in latest]
    return "   ".join(text) or "starting Ray, the trainer and the rollout server"


class Training:
    """A run of verl's main_ppo under way, and what its metrics say of it."""

    def __init__(self, name: str, run: Path, steps: int, overrides: list[str], console: Console, number: int = 0):
        self.run, self.steps, self.console, self.prefix = run, steps, console, f"{name:7}" if name else ""
        self.printed = self.done = checkpoint_step(run)
        command = [
            sys.executable, "-m", "verl.trainer.main_ppo", "+recipe=quickstart_cpu", f"run_dir={run}",
            f"trainer.total_training_steps={steps}", f"hydra.run.dir={run}/hydra", *overrides,
        ]  # fmt: skip
        shown = " ".join(["VERL_PLATFORM=cpu", "python", *command[1:]])
        start = f"resuming after step {self.done}" if self.done else "from the warm start"
        console.print(f"[3/4] training {name and name + ', '}{start}, with")
        console.print(f"               {shown}", highlight=False, markup=False, soft_wrap=True)
        run.mkdir(parents=True, exist_ok=True)
        self.log, self.metrics, self.sockets = run / "train.log", run / "metrics.jsonl", ray_folder(number)
        if self.metrics.exists() and not self.done:
            self.metrics.unlink()  # of a run that never reached a checkpoint
        self.seen = self._written()
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env=environment(self.sockets),
                preexec_fn=partial(die_with_parent, signal.SIGTERM),
            )  # fmt: skip

    def _written(self) -> int:
        return self.metrics.stat().st_mtime_ns if self.metrics.exists() else -1

    def look(self, progress: Progress, task: Any) -> None:
        """Show new metrics, if there are any."""
        if self._written() == self.seen:
            return
        self.seen = self._written()
        rows = read_metrics(metric_files(self.run))
        last = max(rows, default=self.done)
        progress.update(task, completed=last, description=self.prefix + _status(rows))
        if not self.console.is_terminal and last >= self.printed + 10:
            self.printed = last
            line = f"               step {last}/{self.steps}   {self.prefix}{_status(rows)}"
            self.console.print(line, soft_wrap=True)

    def stop(self) -> None:
        """End it, if it has not ended, and remove Ray's sockets."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        shutil.rmtree(self.sockets, ignore_errors=True)

    def explain(self) -> None:
        """Say why it stopped."""
        lines = self.log.read_text(errors="replace").splitlines()
        error = next((line for line in reversed(lines) if "Error" in line or "Exception" in line), "")
        status = self.process.returncode
        self.console.print(f"[red]training stopped with status {status}[/red]; the whole output is in {self.log}")
        self.console.print(error.strip(), highlight=False, markup=False)


def train(runs: dict[str, tuple[Path, list[str]]], steps: int, console: Console) -> int:
    """Run verl's main_ppo for all of them side by side; the status of the first that fails ends the others."""
    bar = (
        TextColumn("               "),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    trainings: list[Training] = []
    try:
        for number, (name, (run, overrides)) in enumerate(runs.items()):
            trainings.append(Training(name, run, steps, overrides, console, number))
        with Progress(
            *bar, TextColumn("{task.description}"), console=console, disable=not console.is_terminal
        ) as progress:
            tasks = [progress.add_task(t.prefix + _status({}), total=steps, completed=t.done) for t in trainings]
            while True:
                ended = [t.process.poll() is not None for t in trainings]  # before the look: the last one sees it all
                for training, task in zip(trainings, tasks, strict=True):
                    training.look(progress, task)
                failed = next((t for t in trainings if t.process.returncode), None)
                if failed or all(ended):
                    break
                time.sleep(0.5)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from the last checkpoint")
        return 130
    finally:
        for training in trainings:
            training.stop()
    if failed:
        failed.explain()
        return failed.process.returncode
    return 0


def side_by_side() -> bool:
    """Whether the machine holds two runs: two cores, and memory for both."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return len(os.sched_getaffinity(0)) > 1 and memory > MEMORY_FOR_TWO


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
    folder = "folder of the run (runs/quickstart; with method=NAME, runs/quickstart_NAME)"
    parser.add_argument("--run", type=Path, help=folder)
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
    stamp = make_model(console)
    missing = {}
    for name, (run, overrides) in runs.items():
        if checkpoint_step(run) < args.steps:
            missing[name] = (run, overrides)
            continue
        console.print(f"[3/4] training reusing {run}, finished at step {checkpoint_step(run)} (FRESH=1 starts over)")
    for some in [missing] if side_by_side() else [{name: run} for name, run in missing.items()]:
        status = train(some, args.steps, console) if some else 0
        if status:
            return status
    console.print("[4/4] report")
    for run, overrides in runs.values():
        write_best(run, stamp, overrides)
    os.environ.setdefault("MPLCONFIGDIR", str((BUILD / "cache" / "matplotlib").absolute()))
    from ..report import cli

    names = [word for name in runs for word in ("--name", name)] if len(runs) > 1 else []
    picture = ["--out", str(args.run / "report.png")]
    return cli.main([*(str(run) for run, _ in runs.values()), *names, *picture])


if __name__ == "__main__":
    sys.exit(main())
