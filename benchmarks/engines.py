"""Gradients of every method, and three steps of main_ppo, through verl's Megatron engine beside its FSDP2 engine.

    pip install -e '.[cpu,test,megatron-test]'
    python benchmarks/engines.py                 # writes docs/results/engines.json; a quarter of an hour on two cores
    python benchmarks/engines.py --no-main-ppo   # the gradients alone
    python benchmarks/engines.py --table         # prints what the JSON holds

On a CPU, in float32, with megatron-core's local layers and mbridge; a layout is tensor x pipeline parallel. See
tests/support/engines/ for what makes Megatron run there and how a gradient is read from the weights that verl exports.
"""

from __future__ import annotations

import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support")]

import records  # noqa: E402
from engines import launch, main_ppo, toy  # noqa: E402

LAYOUTS = {  # (tensor parallel, pipeline parallel, packed rows)
    "1x1 padded": (1, 1, False),
    "2x1 packed": (2, 1, True),
    "1x2 padded": (1, 2, False),
    "1x2 packed": (1, 2, True),
}
RUNS = {"FSDP2": ("fsdp2", 1, 1), "Megatron 1x1": ("megatron", 1, 1), "Megatron 2x1": ("megatron", 2, 1), "Megatron 1x2": ("megatron", 1, 2)}  # fmt: skip
SHOWN = ("critic/score/mean", "frpo/kl_to_ref/k3", "actor/grad_norm", "frpo/rollout_log_prob_diff_max")
PACKAGES = ("verl", "torch", "transformers", "megatron-core", "mbridge", "ray")
TRAINED = "Two ranks have two rollout servers, which sample other answers: compare 2x1 with 1x2, and 1x1 with FSDP2."


def timed(function, *args, **kwargs):
    begin = time.monotonic()
    return function(*args, **kwargs), time.monotonic() - begin


def gradients(work: Path, kind: str, cases: list[str], layouts: dict) -> dict:
    """For one model: a row for each case, and what each engine took."""
    model = toy.write_model(work / kind, kind)
    base, seconds = timed(launch.run_engine, "fsdp2", model, work / f"{kind}.pt", cases)
    cost = {"FSDP2": {"seconds": seconds, "memory_gb": base["peak_memory_gb"]}}
    rows = {}
    for layout, (tensor, pipeline, packed) in layouts.items():
        print(f"{kind}: Megatron {layout}", flush=True)
        found, seconds = timed(
            launch.run_engine, "megatron", model, work / f"{kind}_{layout}.pt", cases, tensor, pipeline, packed
        )
        cost[f"Megatron {layout}"] = {"seconds": seconds, "memory_gb": found["peak_memory_gb"]}
        for d in launch.compare(base, found):
            row = rows.setdefault(
                d.case,
                {"tensors": d.tensors, "largest_entry": d.largest_entry, "fsdp2": {"grad_norm": d.grad_norm[0], "loss": d.loss[0]}},
            )  # fmt: skip
            row[layout] = {"difference": d.gradient, "grad_norm": d.grad_norm[1], "loss": d.loss[1]}
    return {"cases": rows, "cost": cost}


def training(work: Path, steps: int) -> dict:
    inputs, result = main_ppo.make_inputs(work / "inputs"), {}
    for name, (engine, tensor, pipeline) in RUNS.items():
        print(f"main_ppo: {name}", flush=True)
        metrics, seconds, memory = main_ppo.train(
            inputs, work / name.replace(" ", "_"), engine, steps, tensor, pipeline
        )
        chosen = {step: {key: row[key] for key in SHOWN} for step, row in metrics.items()}
        result[name] = {"seconds": seconds, "memory_gb": memory, "steps": chosen}
    return result


def gradient_table(found: dict) -> str:
    layouts = [name.removeprefix("Megatron ") for name in found["cost"] if name != "FSDP2"]
    head = [
        "method",
        "largest entry",
        *(f"differs, {name}" for name in layouts),
        "norm FSDP2",
        f"norm Megatron {layouts[0]}",
    ]
    rows = [
        [
            case, f"{row['largest_entry']:.3f}", *(f"{row[name]['difference']:.1e}" for name in layouts),
            f"{row['fsdp2']['grad_norm']:.6f}", f"{row[layouts[0]]['grad_norm']:.6f}",
        ]
        for case, row in found["cases"].items()
    ]  # fmt: skip
    cost = [[name, f"{c['seconds']:.0f}", f"{c['memory_gb']:.1f}"] for name, c in found["cost"].items()]
    head_of_cost = ["engine, all methods", "seconds", "peak memory of a rank, GB"]
    return records.table(head, rows) + "\n" + records.table(head_of_cost, cost)


def page(result: dict) -> str:
    parts = [", ".join(f"{name} {version}" for name, version in result["versions"].items())]
    parts.append("`differs`: the largest difference of any entry of any weight's gradient from FSDP2's.")
    for kind in ("qwen3", "qwen3_moe"):
        parts += [kind, gradient_table(result[kind])]
    if "main_ppo" in result:
        rows = [
            [name, step, *(f"{run['steps'][step][key]:.6g}" for key in SHOWN), f"{run['seconds']:.0f}", f"{run['memory_gb']:.1f}"]
            for name, run in result["main_ppo"].items()
            for step in run["steps"]
        ]  # fmt: skip
        head = ["run", "step", *(f"`{key}`" for key in SHOWN), "seconds in all", "memory, GB"]
        parts += ["main_ppo, adv_estimator=frpo, rollout by transformers", TRAINED, records.table(head, rows)]
    return "\n\n".join(parts)


def main() -> None:
    parser = records.parser(__doc__, "docs/results")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--no-main-ppo", action="store_true")
    args = parser.parse_args()
    if args.table:
        return print(page(records.read(args.out / "engines.json")))
    if launch.missing_packages():
        parser.error(f"no {', '.join(launch.missing_packages())}: pip install -e '.[cpu,test,megatron-test]'")
    versions = {name: metadata.version(name) for name in PACKAGES}
    result: dict = {"command": "python benchmarks/engines.py", "versions": versions}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        result["qwen3"] = gradients(work, "qwen3", toy.cases(), LAYOUTS)
        result["qwen3_moe"] = gradients(work, "qwen3_moe", toy.MIXTURE, {"1x1 padded": (1, 1, False)})
        if not args.no_main_ppo:
            result["main_ppo"] = training(work, args.steps)
    records.write(args.out / "engines.json", result)


if __name__ == "__main__":
    main()
