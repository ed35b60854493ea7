"""Runs that would end before, or beside, what was asked: rows, steps, validation, and the keys of the reward.

Each error is one line: the key, its value, why, what to do. Data files are counted here where that is cheap (the footer
of a parquet file), as a bound; the V1 trainer's own count, of what its filters have left, is judged before any worker
starts.
"""

from __future__ import annotations

import ast
import glob
import importlib.util
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ...methods.names import nearest
from ...methods.settings import ConfigError
from ..run import Run, current

REWARD, VALIDATION = "reward.custom_reward_function", "actor_rollout_ref.rollout.val_kwargs"
OURS = "pkg://frpo_verl."
ADDED: dict[str, tuple[str, ...]] = {
    "naive": (),
    "dapo": ("overlong_reward", "overlong"),
}  # what verl's reward managers put beside a function's keys


def check_data(run: Run) -> None:
    """Refuse what the files, the validation's sampling and the reward's keys show before anything starts.

    Raises:
        ConfigError: on the first thing that is wrong.
    """
    _check_files(run)
    _check_greedy(run)
    _check_reward(run)
    own = (
        "data.custom_cls.path",
        "data.datagen.path",
        "async_training",
    )  # data of the user's own, a stream without batches
    rows = None if any(run.get(key) is not None for key in own) else count_rows(run.get("data.train_files"))
    if rows is not None:
        most = int(run.get("data.train_max_samples", -1))
        judge_rows(run, min(rows, most) if most > 0 else rows)


def judge_rows(run: Run, rows: int) -> None:
    """A run needs the rows of one batch, and as many passes over them as its steps take.

        steps of an epoch = floor(rows / data.train_batch_size),      steps <= trainer.total_epochs * steps of an epoch

    Args:
        run: its configuration.
        rows: that there are, or at most.

    Raises:
        ConfigError: verl would divide by zero behind the first validation, or end in silence before its last one.
    """
    batch, epochs = int(run.get("data.train_batch_size", 0)), int(run.get("trainer.total_epochs", 1))
    steps = run.get("trainer.total_training_steps")
    if batch < 1 or run.get("trainer.val_only", False):
        return
    if rows < batch:
        raise ConfigError(
            f"data.train_batch_size={batch}: data.train_files have {rows} rows for it, less than one batch; set it to {rows} "
            "or less, or add rows"
        )
    if steps is not None and int(steps) > epochs * (rows // batch):
        raise ConfigError(
            f"trainer.total_training_steps={steps}: trainer.total_epochs={epochs} ends the run after "
            f"{epochs * (rows // batch)} steps ({rows} rows in batches of {batch}), without its last validation and "
            f"checkpoint; set total_epochs={-(-int(steps) // (rows // batch))} or more, or fewer steps"
        )


def check_loaded_rows(trainer: Any) -> None:
    """After verl's `_init_dataloader`: the same with the rows that files, filters or a data set of one's own have left."""
    run = current()
    if run is not None and run.ours:
        judge_rows(run, len(trainer.train_dataset))


def count_rows(files: Any) -> int | None:
    """How many rows local parquet files have together; None if there is none, or one cannot be read here."""
    paths = [files] if isinstance(files, str) else list(files or [])
    try:
        rows = [pq.read_metadata(os.path.expanduser(str(path))).num_rows for path in paths]
        return sum(rows) if rows else None
    except (OSError, ValueError):
        return None


def _check_greedy(run: Run) -> None:
    """verl's agent loops read the temperature of a validation and nothing else: the switch beside it must say the same."""
    validates = run.get("trainer.val_before_train", True) or int(run.get("trainer.test_freq", -1)) > 0
    sample, heat = run.get(f"{VALIDATION}.do_sample"), run.get(f"{VALIDATION}.temperature")
    if validates and sample is not None and heat is not None and bool(sample) != (float(heat) > 0):
        cure = "do_sample=false" if sample else "temperature=0"
        raise ConfigError(
            f"{VALIDATION}.do_sample={str(bool(sample)).lower()} beside temperature={heat}: verl reads the temperature alone and "
            f"would {'take the likeliest tokens' if sample else 'sample'}; set {cure} as well, or "
            f"{'a temperature above 0' if sample else 'do_sample=true'}"
        )


def _check_reward(run: Run) -> None:
    """A reward function gets its `reward_kwargs`, and is asked for the metric of `filter_groups`, with the first answer."""
    function = _reward_function(run)
    if function is None:
        return
    takes = function.args
    known = [argument.arg for argument in [*takes.args, *takes.kwonlyargs]]
    closed = takes.kwarg is None or run.get(f"{REWARD}.path").startswith(OURS)  # ours refuses what it does not know
    for key, value in (run.section(f"{REWARD}.reward_kwargs") or {}).items():
        if closed and key not in known:
            raise ConfigError(
                f"{REWARD}.reward_kwargs.{key}={value}: {function.name} has no such argument{nearest(key, known)}; known: "
                f"{', '.join(known[4:])}"
            )
    groups = "algorithm.filter_groups"
    metric, returned = run.get(f"{groups}.metric"), _returned(function)
    added = ADDED.get(str(run.get("reward.reward_manager.name", "naive")))
    own = run.get("trainer.v1.sampler.custom_sampler.path")  # a buffer of the user's own filters as it likes
    if not run.get(f"{groups}.enable", False) or metric is None or returned is None or added is None or own is not None:
        return
    if metric not in ("reward", *returned, *added):
        raise ConfigError(
            f"{groups}.metric={metric}: {function.name} does not return it{nearest(metric, returned)}; set it to reward or to one "
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
    returns = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
    keys: list[str] = []
    for value in returns:
        if not isinstance(value, ast.Dict) or not all(isinstance(key, ast.Constant) for key in value.keys):
            return None
        keys += [key.value for key in value.keys if isinstance(key, ast.Constant)]  # type: ignore[misc]
    return list(dict.fromkeys(keys)) or None


def _check_files(run: Run) -> None:
    own = run.get("data.custom_cls.path") is not None  # a data set of the user's own reads the names as it likes
    for key in () if own else ("data.train_files", "data.val_files"):
        value = run.get(key)
        for path in [value] if isinstance(value, str) else list(value or []):
            file = os.path.expanduser(str(path))
            if "://" not in file and not os.path.exists(file) and not glob.glob(file):  # verl reads patterns too
                raise ConfigError(
                    f"{key}={path}: no such file; write it with `python -m frpo_verl data NAME` or correct it"
                )
    model = str(run.get("actor_rollout_ref.model.path", ""))
    here = model.startswith(("/", "./", "../", "~")) or model.count("/") > 1
    if here and "://" not in model and not os.path.isdir(os.path.expanduser(model)):
        raise ConfigError(f"actor_rollout_ref.model.path={model}: no such folder; correct it or give a model hub name")
