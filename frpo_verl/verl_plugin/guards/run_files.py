"""Needed until verl's `file` logger appends and its checkpoint tracker is renamed into place: files survive a kill and a resume."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from ...files import write_atomically
from ..hooks import arguments
from ..run import current_of_ours

PATH_VARIABLE = "VERL_FILE_LOGGER_PATH"  # verl's own: where its `file` logger writes


def keep_metrics(original: Callable, logger: object, args: tuple, kwargs: dict) -> None:
    """Before verl's `file` logger opens NAME.jsonl: move what an earlier start wrote aside, to NAME.K.jsonl, K from 1.

    The file of a recipe, and of a run with `report: true`, is `run_dir`/metrics.jsonl: project and experiment are free for
    the trackers that show them.
    """
    call, run = arguments(original, (logger, *args), kwargs, "project_name", "experiment_name"), current_of_ours()
    if call is None or run is None:
        return
    own = run.of_recipe or run.get("report", False)
    if own and run.get("run_dir") is not None and not os.getenv(PATH_VARIABLE):
        os.makedirs(run.get("run_dir"), exist_ok=True)
        os.environ[PATH_VARIABLE] = str(Path(run.get("run_dir")) / "metrics.jsonl")
    root = Path(os.path.expanduser(os.getenv("VERL_FILE_LOGGER_ROOT", ".")))  # as verl's utils/tracking.py:534
    path = Path(os.getenv(PATH_VARIABLE) or root / call["project_name"] / f"{call['experiment_name']}.jsonl")
    if not path.exists() or path.stat().st_size == 0:
        return
    earlier = re.compile(rf"{re.escape(path.stem)}\.(\d+){re.escape(path.suffix)}")
    taken = [int(match[1]) for file in path.parent.iterdir() if (match := earlier.fullmatch(file.name))]
    os.replace(path, path.with_name(f"{path.stem}.{max(taken, default=0) + 1}{path.suffix}"))


def mend_tracker(original: Callable, args: tuple, kwargs: dict) -> None:
    """Before verl looks for its latest checkpoint: rewrite a tracker that a kill has left empty.

    It then names the last complete checkpoint: one that holds `data.pt`, the last file that verl writes into it.
    """
    call = arguments(original, args, kwargs, "path")
    if call is None or not call["path"] or current_of_ours() is None:
        return
    tracker = Path(call["path"]) / "latest_checkpointed_iteration.txt"
    if not tracker.exists() or tracker.read_text().strip().isdigit():
        return
    complete = [file.parent.name.removeprefix("global_step_") for file in tracker.parent.glob("global_step_*/data.pt")]
    steps = [int(step) for step in complete if step.isdigit()]
    if steps:
        write_atomically(tracker, str(max(steps)))
    else:
        tracker.unlink()
