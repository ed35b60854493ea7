"""Seconds that a validation spends in verl's bootstrap, as verl computes it and as a run of the plugin's does.

    python benchmarks/validation_cost.py

Problems x answers with the five numbers and the `pred` of frpo_verl.rewards.math. Processor seconds of one thread. verl's own
are measured on up to 24 problems and multiplied (they are equal for every problem); the digits are compared on these.
"""

from __future__ import annotations

import random
import time

from omegaconf import OmegaConf
from verl.trainer.ppo import metric_utils

from frpo_verl.verl_plugin import hooks, run, validation

SIZES = ((128, 4), (530, 4), (1546, 16), (60, 64))
FEW = 24


def made_up(problems: int, answers: int) -> tuple[list[str], list[str], dict[str, list]]:
    """Sources, uids and what a reward says of every answer; each problem has a difficulty of its own."""
    rng, infos = (
        random.Random(0),
        {name: [] for name in ("reward", "score", "acc", "verify_timeout", "verify_error", "pred")},
    )
    for _ in range(problems):
        chance = rng.random()
        for _ in range(answers):
            right = rng.random() < chance
            row = (
                float(right),
                float(right),
                right,
                0.0,
                float(rng.random() < 0.01),
                "7" if right else str(rng.randint(0, 6)),
            )
            for values, value in zip(infos.values(), row, strict=True):
                values.append(value)
    uids = [str(i // answers) for i in range(problems * answers)]
    return ["math"] * len(uids), uids, infos


def seconds(problems: int, answers: int) -> tuple[float, dict]:
    data, began = made_up(problems, answers), time.process_time()
    found = metric_utils.process_validation_metrics(*data)
    return time.process_time() - began, {k: dict(v) for k, v in found["math"].items()}


def main() -> None:
    hooks.import_all()
    print("| problems x answers | verl, s | this plugin, s | times faster | digits |\n|---|---|---|---|---|")
    for problems, answers in SIZES:
        few = min(problems, FEW)
        run.forget()
        slow, expected = seconds(few, answers)
        slow *= problems / few
        run.remember(OmegaConf.create({"composed_by": "frpo_verl"}))
        same = seconds(few, answers)[1] == expected
        for cache in (validation._draws, validation._best_and_worst, validation._elected, validation._majority):
            cache.cache_clear()
        fast, _ = seconds(problems, answers)
        verdict = "equal" if same else "DIFFERENT"
        print(f"| {problems:,} x {answers} | {slow:.1f} | {fast:.2f} | {slow / fast:.0f} | {verdict} |", flush=True)


if __name__ == "__main__":
    main()
