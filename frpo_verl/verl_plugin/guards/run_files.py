"""Needed until verl's `file` logger appends and its checkpoint tracker is renamed into place: files survive a kill and a resume."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ...files import write_atomically
from ..hooks import Call
from ..run import current_of_ours

PATH_VARIABLE = "VERL_FILE_LOGGER_PATH"  # verl's own: where its `file` logger writes


def keep_metrics(call: Call) -> Any:
    """Around verl's `FileLogger.__init__`: what an earlier start wrote moves from NAME.jsonl to NAME.K.jsonl, K from 1.

    The file of a recipe, and of a run with `report: true`, is `run_dir`/metrics.jsonl: project and experiment are free for
    the trackers that show them.
    """
    run = current_of_ours()
    if run is not None:
        own = run.of_recipe or run.get("report", False)
        if own and run.get("run_dir") is not None and not os.getenv(PATH_VARIABLE):
            os.makedirs(run.get("run_dir"), exist_ok=True)
            os.environ[PATH_VARIABLE] = str(Path(run.get("run_dir")) / "metrics.jsonl")
        root = Path(os.path.expanduser(os.getenv("VERL_FILE_LOGGER_ROOT", ".")))  # as verl's utils/tracking.py:534
        move_aside(Path(os.getenv(PATH_VARIABLE) or root / call["project_name"] / f"{call['experiment_name']}.jsonl"))
    return call()


def move_aside(path: Path) -> None:
    """Rename a file that holds something to the next free NAME.K.SUFFIX."""
    if not path.exists() or path.stat().st_size == 0:
        return
    earlier = re.compile(rf"{re.escape(path.stem)}\.(\d+){re.escape(path.suffix)}")
    taken = [int(match[1]) for file in path.parent.iterdir() if (match := earlier.fullmatch(file.name))]
    os.replace(path, path.with_name(f"{path.stem}.{max(taken, default=0) + 1}{path.suffix}"))


def mend_tracker(call: Call) -> Any:
    """Around verl's `find_latest_ckpt_path`: a tracker that a kill has left empty names the last complete checkpoint.

    That is one that holds `data.pt`, the last file that verl writes into it.
    """
    if call["path"] and current_of_ours() is not None:
        tracker = Path(call["path"]) / "latest_checkpointed_iteration.txt"
        if tracker.exists() and not tracker.read_text().strip().isdigit():
            names = [
                file.parent.name.removeprefix("global_step_") for file in tracker.parent.glob("global_step_*/data.pt")
            ]
            steps = [int(name) for name in names if name.isdigit()]
            if steps:
                write_atomically(tracker, str(max(steps)))
            else:
                tracker.unlink()
    return call()
