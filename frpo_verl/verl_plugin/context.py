"""What verl has in its hand but does not pass on, kept for the length of a call.

`advantage_call` holds the batch while an estimator runs; `loss_call` holds the micro-batch while a policy loss runs;
`run_config` is the whole configuration of the run that this process trains.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass
class AdvantageCall:
    data: Any  # verl's DataProto
    batch_keys: list[str] | None = None  # "{uid}_{session}_{index}" of each row, in the V1 trainer
    multi_trajectories: Callable | None = None  # verl's own function for the outcome term of such a batch
    fetch: Callable[[list[str]], dict] | None = None  # more columns of the batch, padded, by name
    fetch_objects: Callable[[str], list] | None = None  # a column of Python objects
    tokenizer: Any = None


_advantage_call: ContextVar[AdvantageCall | None] = ContextVar("frpo_verl_advantage_call", default=None)
_trainer_call: ContextVar[dict] = ContextVar("frpo_verl_trainer_call", default={})  # noqa: B039 - never mutated
_loss_call: ContextVar[Any] = ContextVar("frpo_verl_loss_call", default=None)


@dataclass
class Process:
    """The state of this process: at most one run trains in it."""

    run_config: Any = None
    metrics: dict[str, float] = field(default_factory=dict)


PROCESS = Process()


def current_advantage_call() -> AdvantageCall | None:
    return _advantage_call.get()


def current_loss_call() -> Any:
    return _loss_call.get()


def trainer_facts() -> dict:
    return _trainer_call.get()


@contextmanager
def _setting(variable: ContextVar, value):
    token = variable.set(value)
    try:
        yield value
    finally:
        variable.reset(token)


def advantage_call(call: AdvantageCall):
    return _setting(_advantage_call, call)


def trainer_call(**facts):
    return _setting(_trainer_call, facts)


def loss_call(data):
    return _setting(_loss_call, data)


def log_metrics(metrics: dict[str, float]) -> None:
    """Keep metrics until verl next assembles its own (`compute_data_metrics`)."""
    PROCESS.metrics.update(metrics)


def take_metrics() -> dict[str, float]:
    metrics, PROCESS.metrics = PROCESS.metrics, {}
    return metrics
