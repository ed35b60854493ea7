"""Things that go wrong inside a run: named in VERL_USE_EXTERNAL_MODULES, chosen by FRPO_FAULT, once a step is logged.

FRPO_FAULT is one of `LIES`, or `hold in PHASE`: the run stands still in that phase until the file `go` is there (at most
HOLD seconds), so that a kill meets it. FRPO_FAULT_DIR is the folder of the run, where the file `faulty` says that the
fault has come. Without FRPO_FAULT nothing is changed. `compute_score` is a reward function with faults of its own.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import time
from pathlib import Path

import wrapt

FAULT, FOLDER = os.getenv("FRPO_FAULT", ""), Path(os.getenv("FRPO_FAULT_DIR", "."))
HOLD = 60.0
MARK, GO, BEGUN = "faulty", "go", "begun"
SCORES = itertools.count(1)
VALIDATION_TEMPERATURE = 0.5  # how the rollout server tells the two kinds of batch apart
LIES = (
    "a reward that raises", "a reward that raises once", "a reward that hangs", "a reward that is a string",
    "a reward that is NaN", "NaN in a log-prob", "NaN in an advantage", "NaN in a weight",
    "no room for a checkpoint's optimizer", "no room for a checkpoint's last file",
)  # fmt: skip


REFERENCE = "NaN of the reference"  # what on_nonfinite: zero_row is for


def due() -> bool:
    """Whether this start of the run has a step behind it."""
    log, begun = FOLDER / "metrics.jsonl", FOLDER / BEGUN
    if not FAULT or not log.exists() or log.stat().st_size == 0:
        return False
    return not begun.exists() or log.stat().st_mtime > begun.stat().st_mtime  # else it is an earlier start's


def first() -> bool:
    """Whether this is the first fault of the run, in whatever process."""
    try:
        (FOLDER / MARK).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def once(fault: str) -> bool:
    return fault == FAULT and due() and first()


def hold(phase: str) -> None:
    """Stand still in a phase, so that a kill meets it."""
    if once(f"hold in {phase}"):
        end = time.monotonic() + HOLD
        while not (FOLDER / GO).exists() and time.monotonic() < end:
            time.sleep(0.05)


def spoilt(tensor):
    """A nested or padded tensor with NaN as the first value of its first row."""
    values = tensor.values() if tensor.is_nested else tensor.view(-1)
    values[0] = float("nan")
    return tensor


def replace(owner, name: str, make) -> None:
    """Put `make(original)` in the place of `owner.name`, with verl's marks of how a call is spread over the ranks."""
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(make(original)))


def in_the_trainer(module) -> None:
    def from_nested(original):
        return lambda *a, **k: spoilt(original(*a, **k)) if once("NaN in a log-prob") else original(*a, **k)

    calls = itertools.count(1)

    def of_the_reference(original):  # called for old_log_probs, entropy and ref_log_prob of each step
        def convert(*args, **kwargs):
            third = next(calls) % 3 == 0
            return spoilt(original(*args, **kwargs)) if third and once(REFERENCE) else original(*args, **kwargs)

        return convert

    def to_nested(original):
        return lambda *a, **k: spoilt(original(*a, **k)) if once("NaN in an advantage") else original(*a, **k)

    first_use = from_nested if FAULT != REFERENCE else of_the_reference
    replace(module, "response_from_nested", first_use)  # first used for old_log_probs
    replace(module, "response_to_nested", to_nested)  # first used for advantages


def in_the_worker(module) -> None:
    def train_mini_batch(original):
        def train(self, *args, **kwargs):
            hold("update")
            if FAULT == REFERENCE:
                note_left_out(kwargs["data"])
            if once("NaN in a weight"):
                parameter = next(self.engine.module.parameters())
                getattr(parameter, "_local_tensor", parameter).detach().view(-1)[0] = float("nan")
            return original(self, *args, **kwargs)

        return train

    replace(module.TrainingWorker, "train_mini_batch", train_mini_batch)


def note_left_out(data) -> None:
    """A line with the columns, as the actor trains on them, that hold a row of zeros, and whether all are finite."""
    columns = ("loss_mask", "response_mask", "ref_log_prob")
    empty = {name: [i for i, row in enumerate(data[name].unbind()) if not row.any()] for name in columns}
    finite = all(bool(data[name].values().isfinite().all()) for name in columns)
    with open(FOLDER / "left_out", "a") as file:
        file.write(f"{json.dumps(empty | {'finite': finite})}\n")


def in_the_server(module) -> None:
    def generate_batch(original):
        def generate(model, requests, *args, **kwargs):
            hold("validation" if requests[0].temperature == VALIDATION_TEMPERATURE else "generation")
            return original(model, requests, *args, **kwargs)

        return generate

    replace(module, "generate_batch", generate_batch)


def in_every_file(module) -> None:
    """torch.save: half of a checkpoint's files are written when the fault comes."""

    def save(original):
        def write(obj, file, *args, **kwargs):
            name = Path(file).name if isinstance(file, str | Path) else ""
            if name.startswith("optim_"):
                hold("checkpoint")
            full = name.startswith("optim_") and once("no room for a checkpoint's optimizer")
            if full or (name == "data.pt" and once("no room for a checkpoint's last file")):
                Path(file).symlink_to("/dev/full")  # each write fails as on a full disk; the next start removes it
            return original(obj, file, *args, **kwargs)

        return write

    replace(module, "save", save)


if FAULT:
    wrapt.register_post_import_hook(in_the_trainer, "verl.trainer.ppo.v1.trainer_base")
    wrapt.register_post_import_hook(in_the_worker, "verl.workers.engine_workers")
    wrapt.register_post_import_hook(in_the_server, "frpo_verl.verl_plugin.rollout_hf.server")
    wrapt.register_post_import_hook(in_every_file, "torch")


def kill_vllm() -> None:
    """SIGKILL to the vLLM engine among the processes that Ray started beside this one."""
    import psutil

    for process in psutil.Process().parent().children(recursive=True):
        if process.cmdline()[:1] == ["VLLM::EngineCore"]:
            process.kill()


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """The share of digits in an answer, until the fault comes."""
    if FAULT == "vLLM dies" and next(SCORES) == 24:  # in the second batch of 16, half of it is generated
        kill_vllm()
    text = solution_str.strip()
    score = sum(c.isdigit() for c in text) / max(1, len(text))
    hold({"train": "scoring", "val": "scoring for validation"}.get((extra_info or {}).get("split", ""), ""))
    if FAULT.startswith("a reward") and due():
        if FAULT == "a reward that raises" or once("a reward that raises once"):
            first()
            raise ZeroDivisionError("division by zero in the user's reward")
        if once("a reward that hangs"):
            time.sleep(100_000)
        if FAULT == "a reward that is a string":
            first()
            return "high"
        if once("a reward that is NaN"):
            score = float("nan")
    return {"score": score, "acc": score, "pred": text}
