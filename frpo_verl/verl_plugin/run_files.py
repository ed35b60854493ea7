"""Files that verl writes in place, made safe against a kill; for runs of ours only."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from ..files import write_atomically
from .hooks import arguments
from .run import current

PATH_VARIABLE = "VERL_FILE_LOGGER_PATH"  # verl's own: where its `file` logger writes


def _ours() -> bool:
    run = current()
    return run is not None and run.ours


def keep_metrics(original: Callable, logger: object, args: tuple, kwargs: dict) -> None:
    """Before verl's `file` logger opens its file: move what an earlier start of the run wrote aside.

    A recipe's file is `run_dir`/metrics.jsonl, so that project and experiment are free for the trackers that show them; so
    is that of a run with `report: true`.
    """
    call = arguments(original, (logger, *args), kwargs, "project_name", "experiment_name")
    run = current()
    if call is None or run is None or not run.ours:
        return
    own = (run.of_recipe or run.get("report", False)) and run.get("run_dir") is not None
    if own and not os.getenv(PATH_VARIABLE):
        os.makedirs(run.get("run_dir"), exist_ok=True)
        os.environ[PATH_VARIABLE] = str(Path(run.get("run_dir")) / "metrics.jsonl")
    rotate_metrics(call["project_name"], call["experiment_name"])


def mend_tracker(original: Callable, args: tuple, kwargs: dict) -> None:
    """Before verl looks for its latest checkpoint: rewrite a tracker that a kill has left empty."""
    call = arguments(original, args, kwargs, "path")
    if call is not None and _ours():
        repair_checkpoint_tracker(call["path"])


def metrics_path(project_name: str, experiment_name: str) -> Path:
    """Where verl's `file` logger writes (`utils/tracking.py:534`)."""
    explicit = os.getenv(PATH_VARIABLE)
    if explicit:
        return Path(explicit)
    return Path(os.path.expanduser(os.getenv("VERL_FILE_LOGGER_ROOT", "."))) / project_name / f"{experiment_name}.jsonl"


def rotate_metrics(project_name: str, experiment_name: str) -> None:
    """Move a non-empty metrics file NAME.jsonl aside to NAME.K.jsonl, K counting up from 1."""
    path = metrics_path(project_name, experiment_name)
    if not path.exists() or path.stat().st_size == 0:
        return
    taken = [
        int(match.group(1))
        for p in path.parent.iterdir()
        if (match := re.fullmatch(rf"{re.escape(path.stem)}\.(\d+){re.escape(path.suffix)}", p.name))
    ]
    os.replace(path, path.with_name(f"{path.stem}.{max(taken, default=0) + 1}{path.suffix}"))


def repair_checkpoint_tracker(folder: str | None) -> None:
    """Rewrite an unreadable `latest_checkpointed_iteration.txt` from the complete checkpoints beside it.

    A checkpoint is complete when it holds `data.pt`, the last file that verl writes into it.
    """
    if not folder:
        return
    tracker = Path(folder) / "latest_checkpointed_iteration.txt"
    if not tracker.exists() or tracker.read_text().strip().isdigit():
        return
    steps = [
        int(p.name.removeprefix("global_step_"))
        for p in Path(folder).glob("global_step_*")
        if (p / "data.pt").exists() and p.name.removeprefix("global_step_").isdigit()
    ]
    if steps:
        write_atomically(tracker, str(max(steps)))
    else:
        tracker.unlink()
