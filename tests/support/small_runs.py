"""The files of a small run as verl's trainer writes them: metrics and three validations."""

import itertools
import json
import random

N_PROBLEMS, N_SAMPLES = 12, 8


def write_dump(path, step, chance, seed=0, extra=None):
    """A validation dump as verl's trainer writes it; returns {input: number of correct samples}."""
    rng = random.Random(f"{seed}/{step}")
    right = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        for problem in range(N_PROBLEMS):
            for session in range(N_SAMPLES):
                acc = rng.random() < chance * 2 * (problem + 1) / (N_PROBLEMS + 1)
                question = f"{problem}+1="
                right[question] = right.get(question, 0) + acc
                row = {
                    "input": question, "output": "#### 1", "gts": str(problem + 1), "score": float(acc), "step": step,
                    "reward": float(acc), "acc": bool(acc), "pred": "1", "uid": f"p{problem}_{session}_0",
                    **(extra or {}),
                }  # fmt: skip
                file.write(json.dumps(row) + "\n")
    return right


def line(step, **data):
    return json.dumps({"step": step, "data": {name.replace("__", "/"): value for name, value in data.items()}}) + "\n"


def make_run(folder, steps=40, seed=0, gain=0.4, source="arithmetic"):
    """A run's folder with metrics and three validations."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "metrics.jsonl", "w", encoding="utf-8") as file:
        for step in range(steps + 1):
            done = step / steps
            data = {}
            if step:
                data |= {
                    "critic/score/mean": 0.2 + gain * done + rng.gauss(0, 0.04),
                    "actor/entropy": 0.3 - 0.2 * done + rng.gauss(0, 0.01),
                    "frpo/kl_to_ref/k1": 0.05 * done + rng.gauss(0, 0.001), "frpo/kl_to_ref/k3": 0.05 * done,
                    "response_length/mean": 11.5, "training/global_step": step,
                }  # fmt: skip
            if step % (steps // 2) == 0:
                chance = 0.2 + gain * done
                right = write_dump(folder / "validation" / f"{step}.jsonl", step, chance, seed)
                mean = sum(right.values()) / (N_PROBLEMS * N_SAMPLES)
                data[f"val-aux/{source}/reward/mean@{N_SAMPLES}"] = mean
                data[f"val-core/{source}/acc/mean@{N_SAMPLES}"] = mean
                data[f"val-core/{source}/acc/best@{N_SAMPLES}/mean"] = 0.9
            file.write(json.dumps({"step": step, "data": data}) + "\n")
    return folder


def dump_rows(problems=3, samples=2, uid=True, **changes):
    """Rows of a dump in which sample j answers j, which is right for problem j."""
    rows = []
    for i, j in itertools.product(range(problems), range(samples)):
        row = {"input": f"user\nWhat is {i}?\nassistant\n", "output": f"o{j}", "gts": str(i), "score": float(i == j)}
        row |= {"step": 5, "reward": float(i == j), "acc": i == j, "pred": str(j)} | changes
        rows.append(row | ({"uid": f"uuid{i}_{j}_0"} if uid else {}))
    return rows
