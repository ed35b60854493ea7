"""The keys of ours at the root of a run's configuration; those that hold a number with default and range, said once."""

from __future__ import annotations

import contextlib

from ..ranges import Range
from ..settings import ConfigError
from .run import Run

NUMBERS = {
    "max_silence_s": (3600.0, Range(low=0), "seconds without a new answer before the run stops; 0 waits for ever"),
    "max_missing_answers": (1.0, Range(0, 1), "share of a batch's answers that may be missing before the run stops"),
    "answers_number": (4, Range(low=1, whole=True), "answers of a step that are kept for the report"),
}
ROOT_KEYS = ("run_dir", "report", "answers_dir", *NUMBERS)


def number(run: Run, key: str) -> float:
    """The number under a root key, its default where the key is absent or null.

    Raises:
        ConfigError: it is no number of its range.
    """
    default, allowed, meaning = NUMBERS[key]
    value = run.get(key, default)
    if isinstance(value, str):  # from an environment variable
        with contextlib.suppress(ValueError):
            value = float(value)
    if value not in allowed:
        raise ConfigError(f"{key}={value!r}: must be {allowed} ({meaning}); correct it")
    return value
