"""The scalars of verl's `tensorboard` logger."""

from __future__ import annotations

import logging
import os
from pathlib import Path

PLACES = ("events.out.tfevents.*", "*/events.out.tfevents.*", "*/*/events.out.tfevents.*")


def event_files(folder: Path) -> list[Path]:
    """Event files in the folder or up to two folders below it, the oldest first."""
    found = {file for place in PLACES for file in folder.glob(place) if file.is_file()}
    return sorted(found, key=lambda file: (file.stat().st_mtime_ns, file.name))


def read_events(files: list[Path]) -> tuple[dict[int, dict[str, float]], list[str]]:
    """(step -> its numbers, notes); a later file or record of a step wins. Needs the package `tensorboard`."""
    steps: dict[int, dict[str, float]] = {}
    if not files:
        return steps, []
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
        from tensorboard.util import tensor_util
    except ImportError:
        return steps, [f"{len(files)} TensorBoard event files not read: pip install tensorboard"]
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    notes = []
    for file in files:
        found = 0
        try:
            for event in LegacyEventFileLoader(str(file)).Load():
                for value in event.summary.value:
                    kind = value.WhichOneof("value")
                    if kind == "simple_value":
                        number = value.simple_value
                    elif kind == "tensor" and not value.tensor.tensor_shape.dim:
                        number = float(tensor_util.make_ndarray(value.tensor))
                    else:
                        continue
                    steps.setdefault(int(event.step), {})[value.tag] = float(number)
                    found += 1
        except Exception as error:  # a cut record raises whatever the decoder meets: DataLoss, DecodeError, OSError
            notes.append(f"{file.name}: read up to a broken record ({type(error).__name__})")
            continue
        if not found:
            notes.append(f"{file.name}: no number could be read from it")
    return dict(sorted(steps.items())), notes
