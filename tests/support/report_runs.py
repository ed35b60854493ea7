"""Runs that never took place, in the files that verl and Hydra write, for the tests of the report."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

METHODS = {
    "grpo": {"algorithm": {"adv_estimator": "grpo"}},
    "frpo": {"algorithm": {"adv_estimator": "frpo", "frpo": {"kl_coef": 0.01, "placement": "future"}}},
    "frpo_local": {"algorithm": {"adv_estimator": "frpo", "frpo": {"kl_coef": 0.01, "placement": "local"}}},
    "rpg_rkl": {"algorithm": {"adv_estimator": "grpo"}, "actor_rollout_ref": {"actor": {"policy_loss": {"loss_mode": "rpg_rkl"}}}},
}  # fmt: skip
PHASES = {"gen": 9.0, "old_log_prob": 2.0, "ref": 2.0, "adv": 0.3, "update_actor": 5.0, "update_weights": 0.6}


def metrics(step: int, steps: int, rng: random.Random, strength: float) -> dict[str, float]:
    """The metrics of one training step, names and order as verl 0.9.1 writes them with this plugin."""
    done = 1 - math.exp(-3 * step / steps)
    kl = 0.04 * done * strength
    noise = rng.gauss
    out = {
        "actor/entropy": 0.6 - 0.3 * done + noise(0, 0.02), "training/rollout_probs_diff_mean": 4e-4,
        "rollout_corr/k3_kl": abs(noise(2e-4, 5e-5)), "actor/pg_clipfrac": abs(noise(0.02, 0.01)),
        "actor/frpo/policy_clip_frac/positive_advantage": abs(noise(0.03 * done, 0.01)),
        "actor/frpo/policy_clip_frac/negative_advantage": abs(noise(0.02 * done, 0.01)),
        "actor/grad_norm": abs(noise(0.5, 0.1)), "actor/perf/max_memory_allocated_gb": 41.0 + done,
        "actor/perf/cpu_memory_used_gb": 120.0 + 5 * done, "training/global_step": step,
        "critic/score/mean": min(1.0, max(0.0, 0.2 + 0.5 * done * strength + noise(0, 0.04))),
        "response_length/mean": 400 + 120 * done + noise(0, 12), "response_length/clip_ratio": abs(noise(0.05, 0.01)),
        "frpo/log_ratio_clip_frac": 0.0, "frpo/kl_coef": 0.02 - 0.01 * done, "frpo/kl_to_ref/k1": kl + noise(0, 2e-4),
        "frpo/kl_to_ref/k3": kl * 1.05, "frpo/kl_to_go/first_token/mean": 450 * kl,
        "frpo/sign_flip_frac": abs(noise(0.03, 0.01)), "frpo/regularizer_share": abs(noise(0.2, 0.03)),
        "frpo/zero_variance_groups": min(1.0, abs(noise(0.3, 0.05))),
    }  # fmt: skip
    for i in range(1, 5):
        out[f"frpo/kl_by_position/q{i}"] = kl * (0.4 + 0.3 * i) + noise(0, 2e-4)
        out[f"frpo/entropy_by_position/q{i}"] = (0.6 - 0.3 * done) * (1.3 - 0.1 * i) + noise(0, 0.02)
    for name, seconds in PHASES.items():
        out[f"timing_s/{name}"] = seconds * rng.uniform(0.9, 1.2)
    out["timing_s/step"] = sum(out[f"timing_s/{name}"] for name in PHASES) + 0.5
    out |= {f"critic/other_{i}/mean": rng.random() for i in range(40)}  # verl writes about ninety names a step
    return out


def write_metrics(folder: Path, rows: dict[int, dict]) -> Path:
    """A run's folder with a metrics file of these steps alone."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": step, "data": data}) + "\n" for step, data in rows.items()]
    (folder / "metrics.jsonl").write_text("".join(lines))
    return folder


def write_dump(file: Path, step: int, chance: float, rng: random.Random, problems: int, samples: int, **extra) -> float:
    """One validation dump; returns the share of right answers."""
    file.parent.mkdir(parents=True, exist_ok=True)
    right = 0
    with open(file, "w", encoding="utf-8") as out:
        for problem in range(problems):
            hard = 2 * (problem + 1) / (problems + 1)
            for sample in range(samples):
                correct = rng.random() < chance * hard
                right += correct
                pred = str(problem + 1 if correct else rng.randrange(5))
                row = {
                    "input": f"{problem}+1=", "output": f"{problem} and 1 make\n#### {pred}", "gts": str(problem + 1),
                    "score": float(correct), "step": step, "reward": float(correct), "acc": float(correct),
                    "pred": pred, "verify_timeout": 0.0, "verify_error": 0.0, "uid": f"p{problem}_{sample}_0",
                    **extra,
                }  # fmt: skip
                out.write(json.dumps(row) + "\n")
    return right / (problems * samples)


def write_configuration(folder: Path, method: str, seed: int) -> None:
    """What Hydra leaves in RUN/hydra/.hydra."""
    place = folder / "hydra" / ".hydra"
    place.mkdir(parents=True, exist_ok=True)
    config = {
        "run_dir": str(folder),
        "data": {
            "train_files": "data/train.parquet",
            "train_batch_size": 256,
            "max_response_length": 1024,
            "seed": seed,
        },
        "trainer": {"total_training_steps": 500, "validation_data_dir": "${run_dir}/validation", "nnodes": 1},
        "algorithm": dict(METHODS[method]["algorithm"]),
        "actor_rollout_ref": {
            "model": {"path": "Qwen/Qwen3-1.7B"},
            "rollout": {"n": 8, "name": "vllm"},
            "actor": {"optim": {"lr": 1e-6}, **METHODS[method].get("actor_rollout_ref", {}).get("actor", {})},
        },
    }  # JSON is YAML
    (place / "config.yaml").write_text(json.dumps(config))
    typed = [f"method={method}", f"run_dir={folder}", f"data.seed={seed}"]
    hydra = {"hydra": {"runtime": {"choices": {"recipe": "synthetic", "method": method}}, "overrides": {"task": typed}}}
    (place / "hydra.yaml").write_text(json.dumps(hydra))


def write_answers(folder: Path, step: int, rng: random.Random, tokens: int = 30) -> None:
    """RUN/answers/STEP.jsonl with two answers."""
    from frpo_verl.report.answers import Answer, write_answers

    answers = []
    for score in (1.0, 0.0):
        texts = [rng.choice(("so ", "we ", "add ", "12 ", "+ ", "7 ", "=\n", "the ", "answer ")) for _ in range(tokens)]
        ratios = [rng.gauss(0, 0.02) + (rng.random() < 0.1) * rng.gauss(0, 1) * step / 500 for _ in texts]
        answers.append(Answer(step, f"u{score}", score, texts, ratios, "What is 12 + 7?"))
    write_answers(folder / "answers", step, answers)


def write_run(
    folder: Path,
    method: str = "frpo",
    seed: int = 0,
    steps: int = 40,
    problems: int = 12,
    samples: int = 8,
    validations: int = 3,
    strength: float = 1.0,
) -> Path:
    """A run's folder with metrics, validations, configuration and answers."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"{method}/{seed}")
    strength *= {"grpo": 0.8, "frpo": 1.0, "frpo_local": 0.9, "rpg_rkl": 0.95}[method]
    marks = {round(i * steps / (validations - 1)) for i in range(validations)} if validations > 1 else {0}
    with open(folder / "metrics.jsonl", "w", encoding="utf-8") as file:
        for step in range(steps + 1):
            data = metrics(step, steps, rng, strength) if step else {}
            if step in marks:
                chance = 0.2 + 0.45 * strength * (1 - math.exp(-3 * step / steps))
                mean = write_dump(folder / "validation" / f"{step}.jsonl", step, chance, rng, problems, samples)
                data[f"val-aux/numbers/reward/mean@{samples}"] = mean
                data[f"val-aux/numbers/verify_timeout/mean@{samples}"] = 0.0
                data[f"val-aux/numbers/verify_error/mean@{samples}"] = 0.0
            if data:
                file.write(json.dumps({"step": step, "data": data}) + "\n")
    write_configuration(folder, method, seed)
    for step in (1, steps):
        write_answers(folder, step, rng)
    return folder
