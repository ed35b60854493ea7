"""What benchmarks/gpu.py runs: seven sections, each a list of rows, each row a function."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support")]

import coverage  # noqa: E402
import e2e  # noqa: E402
import language_model as lm  # noqa: E402
import loss_speed  # noqa: E402
import study  # noqa: E402
import twins  # noqa: E402
from engines import launch, toy  # noqa: E402

from frpo_verl import twin  # noqa: E402
from frpo_verl.quickstart import ways_model  # noqa: E402

MODEL = Path("build/smollm2")
SEEDS = (1, 2, 3, 4, 5)
FIGURES = ("pass@1", "pass@16", "kl", "entropy")


@dataclass(frozen=True)
class Place:
    """Where it runs, how large, and where the files of the work go."""

    device: str
    tiny: bool
    work: Path

    @property
    def seeds(self) -> Sequence[int]:
        return SEEDS[:1] if self.tiny else SEEDS


Jobs = list[tuple[str, Callable[[], dict]]]  # (the row's name, what makes it)


@dataclass(frozen=True)
class Section:
    title: str
    share: float  # of the minutes
    jobs: Callable[[Place], Jobs]
    missing: Callable[[Place], str | None] = lambda place: None  # why it cannot run here
    by_seed: bool = False  # rows are "METHOD, seed N": the page has their means


# ----------------------------------------------------------------------------------------------------------- main_ppo


def main_ppo(place: Place, name: str, words: list[str]) -> dict:
    """Two steps of verl's trainer, a validation before and after, a checkpoint."""
    run = place.work / "runs" / name
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, "-m", "verl.trainer.main_ppo", *words, f"run_dir={run}", f"hydra.run.dir={run}/hydra"]
    on_gpu = {"VERL_PLATFORM": "", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"} if place.device == "cuda" else {}
    status, _ = e2e.execute(command, run, on_gpu, timeout=400 if place.device == "cuda" else 1800)
    steps = e2e.metrics(run)
    why = twins.trouble(status, steps, twins.REFERENCE, run)
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    if why:
        raise RuntimeError(why)
    first, last = steps[1], steps[2]
    return {
        "score": last["critic/score/mean"], "KL (k3) at step 1": first["frpo/kl_to_ref/k3"],
        "at step 2": last["frpo/kl_to_ref/k3"], "engine difference": last["frpo/rollout_log_prob_diff_max"],
        "seconds a step": last["timing_s/step"], "GPU memory, GB": last.get("perf/max_memory_reserved_gb"),
    }  # fmt: skip


def smoke(place: Place, layout: list[str], name: str) -> dict:
    ways_model.build(twin.MODEL, settings=ways_model.Settings(marked=True))
    twins.make_files(None)
    return main_ppo(place, name, [*twin.plan("smoke", []).command[2:], *layout])


def pretrained(place: Place) -> dict:
    if why := no_model(place):
        raise RuntimeError(why)
    few = ["data.train_batch_size=4", "actor_rollout_ref.actor.ppo_mini_batch_size=4", "data.val_max_samples=4",
           "actor_rollout_ref.rollout.n=4", "data.max_response_length=16", "layout=cpu"]  # fmt: skip
    words = ["+recipe=smollm2_135m", f"actor_rollout_ref.model.path={MODEL.absolute()}/model", "trainer.test_freq=2",
             f"data.train_files={MODEL}/gsm8k/train.parquet", f"data.val_files={MODEL}/gsm8k/test.parquet",
             "trainer.total_training_steps=2", "trainer.save_freq=2", "data.val_max_samples=32"]  # fmt: skip
    return main_ppo(place, "smollm2_135m", [*words, *(few if place.tiny else [])])


def trainer_jobs(place: Place) -> Jobs:
    layout = [] if place.device == "cpu" else ["layout=hf"]
    return [
        ("smoke twin", functools.partial(smoke, place, layout, "smoke")),
        ("SmolLM2-135M on GSM8K", functools.partial(pretrained, place)),
    ]


def no_model(place: Place) -> str | None:
    return None if (MODEL / "model/config.json").exists() else f"no {MODEL}/model: `make test-model` writes it"


def vllm_jobs(place: Place) -> Jobs:
    gpu = ["layout=hf", "actor_rollout_ref.rollout.name=vllm", "actor_rollout_ref.rollout.gpu_memory_utilization=0.3"]
    layout = ["layout=cpu_vllm"] if place.device == "cpu" else [*gpu, "actor_rollout_ref.rollout.enforce_eager=true"]
    return [("smoke twin, vLLM", functools.partial(smoke, place, layout, "smoke_vllm"))]


def no_vllm(place: Place) -> str | None:
    from frpo_verl.verl_plugin.cpu import vllm_cpu

    return None if vllm_cpu.installed() else "no vllm in this environment"


# ----------------------------------------------------------------------------------------------------- in one process


def seeded(place: Place, task: Callable[[], study.Study], runs: dict[str, Callable[[int], study.Run]]) -> Jobs:
    """The start, then every method of each seed."""

    def end(make: Callable[[int], study.Run], seed: int) -> dict:
        return figures(task().run(make(seed))["end"])

    jobs: Jobs = [("the start", lambda: figures(task().examine(task().reference)))]
    for seed in place.seeds:
        jobs += [(f"{name}, seed {seed}", functools.partial(end, make, seed)) for name, make in runs.items()]
    return jobs


def figures(end: dict) -> dict:
    return {name: end[name] for name in FIGURES if name in end}


SUMS = lm.Size()
WORDS = lm.Size(length=128, steps=10, test=32, part=2)
TINY = lm.Size(prompts=2, answers=4, length=6, steps=2, test=4, samples=16, part=1)


def language(data: str, size: lm.Size, place: Place) -> Jobs:
    size = TINY if place.tiny else size
    task = functools.cache(lambda: lm.LanguageModel(MODEL / "model", MODEL / data, size, place.device))
    beta = {method: 0.0 if method == "no KL" else lm.BETA for method in lm.METHODS}
    runs = {m: lambda seed, m=m: study.Run(m, beta[m], False, seed, size.steps, size.lr) for m in lm.METHODS}
    return seeded(place, task, runs)


def coverage_jobs(place: Place) -> Jobs:
    folder, small = place.work / "coverage", place.tiny
    large = {"hidden_size": 384, "n_layers": 8, "n_heads": 6, "n_kv_heads": 6, "head_dim": 64, "intermediate_size": 1536,
             "init_std": 0.04, "learning_rate": 1e-3, "warmup_steps": 100, "target": 0.8, "habit_steps": 120}  # fmt: skip
    shape = {} if small else large  # 19 million parameters
    steps, lr = (3, coverage.LR) if small else (coverage.STEPS, 1e-4)

    def model() -> dict:
        from frpo_verl.data import cli

        if cli.main(["coverage", "--local_save_dir", str(folder / "data")]):
            raise RuntimeError("no data")
        stamp = ways_model.build(folder / "model", folder / "data", ways_model.Settings(**shape), device=place.device)
        return {"parameters": stamp["parameters"], "warm-up, s": stamp["seconds"]}

    @functools.cache
    def task() -> coverage.Coverage:
        model()  # what is there is kept
        return coverage.Coverage(folder, place.device)

    runs = {
        m: lambda seed, m=m: coverage.Cell(m, 0.0 if m == "no KL" else 0.1, False, seed, steps, lr) for m in lm.METHODS
    }
    return [("the model", model), *seeded(place, task, runs)]


def gradient_jobs(place: Place) -> Jobs:
    def compare() -> dict:
        model = toy.write_model(place.work / "gradients/model")
        cases = toy.MIXTURE if place.tiny else toy.cases()
        found = [
            launch.run_engine(e, model, place.work / f"gradients/{e}.pt", cases, device=place.device)
            for e in ("fsdp2", "megatron")
        ]
        rows = launch.compare(*found)
        return {"methods": len(rows), "largest entry": max(r.largest_entry for r in rows),
                "largest difference": max(r.gradient for r in rows)}  # fmt: skip

    return [("FSDP2 against Megatron", compare)]


def no_megatron(place: Place) -> str | None:
    missing = launch.missing_packages()
    return f"no {', '.join(missing)}: pip install -e '.[megatron-test]'" if missing else None


def cost_jobs(place: Place) -> Jobs:
    def losses() -> dict:
        found = loss_speed.measure(*((8, 256, 3) if place.tiny else (64, 2048, 40)))
        ratios = {name: row["ratio"] for name, row in found.items() if "(" not in name}
        return {"of vanilla's time, least": min(ratios.values()), "most": max(ratios.values()),
                "which": max(ratios, key=ratios.__getitem__)}  # fmt: skip

    def advantage() -> dict:
        file, shape = place.work / "advantage.json", "64x256" if place.tiny else "1024x4096"
        command = [sys.executable, str(ROOT / "benchmarks/advantage_cost.py"), "--shape", shape, "--rounds", "5"]
        subprocess.run([*command, "--json", str(file)], check=True, capture_output=True, timeout=300)
        row = json.loads(file.read_text())["rows"]["frpo"]
        return {"ms": row["median_ms"], "of grpo": row["of_grpo"], "memory, tensors": row["tensors"]}

    return [("losses", losses), ("advantage, on the CPU", advantage)]


SECTIONS = {
    "trainer": Section("Two steps of verl's main_ppo", 0.15, trainer_jobs),
    "sums": Section("SmolLM2-135M on one-digit sums", 0.2, functools.partial(language, "sums", SUMS), no_model, True),
    "gsm8k": Section("SmolLM2-135M on GSM8K", 0.3, functools.partial(language, "gsm8k", WORDS), no_model, True),
    "coverage": Section("Coverage", 0.2, coverage_jobs, by_seed=True),
    "gradients": Section("Gradients", 0.05, gradient_jobs, no_megatron),
    "vllm": Section("vLLM", 0.05, vllm_jobs, no_vllm),
    "cost": Section("Cost", 0.05, cost_jobs),
}
