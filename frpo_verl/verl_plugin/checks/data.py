"""Runs that would end before, or beside, what was asked: rows, steps, validation, and the keys of the reward.

Rows are counted here where that is cheap (the footer of a parquet file), as a bound; the V1 trainer's own count, of what
its filters have left, is judged before any worker starts.
"""

from __future__ import annotations

import ast
import glob
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ...methods.names import nearest
from ..run import Run

REWARD, VALIDATION = "reward.custom_reward_function", "actor_rollout_ref.rollout.val_kwargs"
GROUPS = "algorithm.filter_groups"
ADDED = {"naive": (), "dapo": ("overlong_reward", "overlong")}  # what a reward manager puts beside a function's keys
OWN_ROWS = (
    "data.custom_cls.path",
    "data.datagen.path",
    "async_training",
)  # data of one's own, a stream without batches


def refusals(run: Run) -> Iterator[str]:
    """What the files, the validation's sampling and the reward's keys show before anything starts."""
    yield from _files(run)
    yield from _greedy(run)
    yield from _reward(run)
    rows = None if any(run.get(key) is not None for key in OWN_ROWS) else count_rows(run.get("data.train_files"))
    if rows is not None:
        most = int(run.get("data.train_max_samples", -1))
        yield from too_few_rows(run, min(rows, most) if most > 0 else rows)


def too_few_rows(run: Run, rows: int) -> Iterator[str]:
    """A run needs the rows of one batch, and as many passes over them as its steps take.

        steps of an epoch = floor(rows / data.train_batch_size),      steps <= trainer.total_epochs * steps of an epoch

    verl would divide by zero behind the first validation, or end in silence before its last one.

    Args:
        run: its configuration.
        rows: that there are, or at most.
    """
    batch, epochs = int(run.get("data.train_batch_size", 0)), int(run.get("trainer.total_epochs", 1))
    steps = run.get("trainer.total_training_steps")
    if batch < 1 or run.get("trainer.val_only", False):
        return
    if rows < batch:
        yield (
            f"data.train_batch_size={batch}: data.train_files have {rows} rows for it, less than one batch; set it to {rows} "
            "or less, or add rows"
        )
    if steps is not None and int(steps) > epochs * (rows // batch):
        yield (
            f"trainer.total_training_steps={steps}: trainer.total_epochs={epochs} ends the run after "
            f"{epochs * (rows // batch)} steps ({rows} rows in batches of {batch}), without its last validation and "
            f"checkpoint; set total_epochs={-(-int(steps) // (rows // batch))} or more, or fewer steps"
        )


def _paths(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(path) for path in value or []]


def count_rows(files: Any) -> int | None:
    """How many rows local parquet files have together; None if there is none, or one cannot be read here."""
    try:
        rows = [pq.read_metadata(os.path.expanduser(path)).num_rows for path in _paths(files)]
        return sum(rows) if rows else None
    except (OSError, ValueError):
        return None


def _files(run: Run) -> Iterator[str]:
    own = run.get("data.custom_cls.path") is not None  # a data set of the user's own reads the names as it likes
    for key in () if own else ("data.train_files", "data.val_files"):
        for path in _paths(run.get(key)):
            file = os.path.expanduser(path)
            if "://" not in file and not os.path.exists(file) and not glob.glob(file):  # verl reads patterns too
                yield f"{key}={path}: no such file; write it with `python -m frpo_verl data NAME` or correct it"
    model = str(run.get("actor_rollout_ref.model.path", ""))
    here = model.startswith(("/", "./", "../", "~")) or model.count("/") > 1
    if here and "://" not in model and not os.path.isdir(os.path.expanduser(model)):
        yield f"actor_rollout_ref.model.path={model}: no such folder; correct it or give a model hub name"


def _greedy(run: Run) -> Iterator[str]:
    """verl's agent loops read the temperature of a validation and nothing else: the switch beside it must say the same."""
    validates = run.get("trainer.val_before_train", True) or int(run.get("trainer.test_freq", -1)) > 0
    sample, heat = run.get(f"{VALIDATION}.do_sample"), run.get(f"{VALIDATION}.temperature")
    if validates and sample is not None and heat is not None and bool(sample) != (float(heat) > 0):
        does, cure, other = "sample", "temperature=0", "do_sample=true"
        if sample:
            does, cure, other = "take the likeliest tokens", "do_sample=false", "a temperature above 0"
        yield (
            f"{VALIDATION}.do_sample={str(bool(sample)).lower()} beside temperature={heat}: verl reads the temperature alone and "
            f"would {does}; set {cure} as well, or {other}"
        )


def _reward(run: Run) -> Iterator[str]:
    """A reward function gets its `reward_kwargs`, and is asked for the metric of `filter_groups`, with the first answer."""
    function = _reward_function(run)
    if function is None:
        return
    takes = function.args
    known = [argument.arg for argument in [*takes.args, *takes.kwonlyargs]]
    ours = run.get(f"{REWARD}.path").startswith("pkg://frpo_verl.")  # it refuses what it does not know
    for key, value in (run.section(f"{REWARD}.reward_kwargs") or {}).items():
        if (ours or takes.kwarg is None) and key not in known:
            yield (
                f"{REWARD}.reward_kwargs.{key}={value}: {function.name} has no such argument{nearest(key, known)}; known: "
                f"{', '.join(known[4:])}"
            )
    metric, returned = run.get(f"{GROUPS}.metric"), _returned(function)
    added = ADDED.get(str(run.get("reward.reward_manager.name", "naive")))
    own = run.get("trainer.v1.sampler.custom_sampler.path")  # a buffer of the user's own filters as it likes
    if not run.get(f"{GROUPS}.enable", False) or metric is None or returned is None or added is None or own is not None:
        return
    if metric not in ("reward", *returned, *added):
        yield (
            f"{GROUPS}.metric={metric}: {function.name} does not return it{nearest(metric, returned)}; set it to reward or to one "
            f"of {', '.join(returned)}"
        )


def _reward_function(run: Run) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The source of the run's reward function, which is not run; None where it cannot be found as a plain `def`."""
    path, name = str(run.get(f"{REWARD}.path", "")), run.get(f"{REWARD}.name", "compute_score")
    try:
        if path.startswith("pkg://"):
            spec = importlib.util.find_spec(path.removeprefix("pkg://").replace("/", "."))
            path = str(spec.origin) if spec is not None else ""
        tree = ast.parse(Path(path.removeprefix("file://")).read_text(encoding="utf-8"))
    except (OSError, ImportError, SyntaxError, ValueError):
        return None
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name == name]
    return found[0] if len(found) == 1 and not found[0].decorator_list else None


def _returned(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str] | None:
    """The keys of the dict that a function returns; None unless each of its returns is one that names them all."""
    keys: list[str] = []
    for value in (node.value for node in ast.walk(function) if isinstance(node, ast.Return)):
        if not isinstance(value, ast.Dict) or not all(isinstance(key, ast.Constant) for key in value.keys):
            return None
        keys += [key.value for key in value.keys if isinstance(key, ast.Constant)]  # type: ignore[misc]
    return list(dict.fromkeys(keys)) or None
