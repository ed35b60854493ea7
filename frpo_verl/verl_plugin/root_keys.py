"""Keys outside of the sections that only count beside others: each with its values and with what it counts, said once.

    a key counts in a run  <=>  every condition of its row holds

The checks refuse a key that does not count, and the guards that read a key ask the same row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..methods.ranges import Range
from ..methods.settings import ConfigError
from .run import Run

CORRECTION = "algorithm.rollout_correction"


@dataclass(frozen=True)
class Condition:
    """What a key counts with: whether a run has it, and how it is called."""

    holds: Callable[[Run], bool]
    text: str


@dataclass(frozen=True)
class Key:
    """A key of a run's configuration.

    Attributes:
        counts_with: all of these, else nothing reads it.
        off: the value that asks for nothing.
        default: where the key is absent or null.
        allowed: the range of a number, None for text and for verl's keys.
        meaning: of the number.
    """

    counts_with: tuple[Condition, ...] = ()
    off: Any = None
    default: Any = None
    allowed: Range | None = None
    meaning: str = ""


V1 = Condition(lambda run: run.v1, "verl's V1 trainer (verl.trainer.main_ppo with trainer.use_v1=true)")
MAIN_PPO = Condition(lambda run: run.v1 or run.trainer == "legacy", "verl.trainer.main_ppo, whose end it waits for")
SYNC = Condition(lambda run: run.trainer == "sync", "trainer.v1.trainer_mode=sync: another mode takes what is there")
UNFILTERED = Condition(
    lambda run: not run.get("algorithm.filter_groups.enable", False), "algorithm.filter_groups.enable=false"
)
TRAINS = Condition(lambda run: not run.get("trainer.val_only", False), "a training (trainer.val_only=false)")
REFERENCE = Condition(lambda run: run.has_reference, "a reference model, which a method with a KL loads")
RUN_DIR = Condition(lambda run: run.get("run_dir") is not None, "run_dir, where it is written")
ANSWERS_DIR = Condition(lambda run: run.get("answers_dir") is not None, "answers_dir")
ENGINE_LOG_PROBS = Condition(
    lambda run: run.get("actor_rollout_ref.rollout.calculate_log_probs", True),
    "actor_rollout_ref.rollout.calculate_log_probs=true: verl leaves the correction out",
)

ROOT_KEYS = {
    "run_dir": Key(),
    "report": Key((RUN_DIR, MAIN_PPO), off=False, default=False),
    "answers_dir": Key((V1, TRAINS, REFERENCE)),
    "answers_number": Key(
        (ANSWERS_DIR,), None, 4, Range(low=1, whole=True), "answers of a step that are kept for the report"
    ),
    "max_silence_s": Key(
        (V1,), 0, 3600.0, Range(low=0), "seconds without a new answer before the run stops; 0 waits for ever"
    ),
    "max_missing_answers": Key(
        (V1, SYNC, TRAINS, UNFILTERED),
        1,
        1.0,
        Range(0, 1),
        "share of a batch's answers that may be missing before the run stops",
    ),
}
VERLS_KEYS = {f"{CORRECTION}.{name}": Key((ENGINE_LOG_PROBS,)) for name in ("rollout_is", "rollout_rs")}


def counts(run: Run, key: str) -> bool:
    """Whether a root key counts in this run, set or not."""
    return all(condition.holds(run) for condition in ROOT_KEYS[key].counts_with)


def number(run: Run, key: str) -> float:
    """The number under a root key, its default where the key is absent or null.

    Raises ConfigError: it is no number of its range.
    """
    row = ROOT_KEYS[key]
    value = run.get(key, row.default)
    if isinstance(value, str):  # from an environment variable
        with contextlib.suppress(ValueError):
            value = float(value)
    if value not in (row.allowed or ()):
        raise ConfigError(f"{key}={value!r}: must be {row.allowed} ({row.meaning}); correct it")
    return value


def refusals(run: Run) -> Iterator[str]:
    """What is no value of its key, and what nothing in this run reads."""
    for key, row in {**ROOT_KEYS, **VERLS_KEYS}.items():
        if not row.counts_with:
            continue
        value = run.get(key)
        if row.allowed is not None:
            number(run, key)
        if isinstance(row.default, bool) and not isinstance(value, bool | None):
            yield f"{key}={value!r}: must be true or false"
        if value is None or value == row.off:
            continue
        for condition in row.counts_with:
            if not condition.holds(run):
                off = "null" if row.off is None else str(row.off).lower()
                yield f"{key}={value}: nothing reads it without {condition.text}; set that, or {key}={off}"
