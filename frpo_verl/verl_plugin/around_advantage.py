"""What the wraps of verl's advantage functions do: open a view of the batch, and report on it afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from .. import methods
from . import metrics, run
from .batch import STEP, Batch, current_batch, open_batch, open_source
from .columns import clean
from .guards import missing_answers
from .hooks import arguments


def _name(estimator: Any) -> str:
    return str(getattr(estimator, "value", estimator))


def compute(original: Callable, *args: Any, **kwargs: Any) -> Any:
    """Around verl's `compute_advantage`: the batch is at hand while the estimator runs."""
    call = arguments(original, args, kwargs, "data", "adv_estimator", "config")
    if call is None:
        return original(*args, **kwargs)
    if current_batch() is not None:  # verl's session rule, or our estimator asking for the outcome
        return _weighted(original(*args, **kwargs), call)
    with open_batch(call["data"], call["config"]) as view:
        if not view.run.ours:
            return original(*args, **kwargs)
        _check_once(view.run)
        with clean(view):
            data = _weighted(original(*args, **kwargs), call)
        metrics.after_advantage(view)
    return data


def compute_by_session(original: Callable, *args: Any, **kwargs: Any) -> Any:
    """Around the V1 trainer's function: the rows' keys and verl's rule for sessions are at hand too."""
    call = arguments(original, args, kwargs, "data", "batch_keys", "adv_estimator", "config")
    if call is None:
        return original(*args, **kwargs)
    with open_batch(call["data"], call["config"], row_keys=list(call["batch_keys"]), session_rule=original) as view:
        if not view.run.ours:
            return original(*args, **kwargs)
        _check_once(view.run)
        _refuse_sessions(view)
        with clean(view):
            data = original(*args, **kwargs)
        metrics.after_advantage(view)
    return data


def open_queue(original: Callable, trainer: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
    """Around `PPOTrainer._compute_advantage`: what the trainer left in its queue can be fetched."""
    seen = run.Run(trainer.config)
    if not seen.ours:
        return original(trainer, batch, *args, **kwargs)
    missing_answers.count(seen, batch)
    tokenizer, step = getattr(trainer, "tokenizer", None), getattr(trainer, "global_steps", None)
    last = getattr(trainer, "total_training_steps", None)  # counted by the trainer where the setting is null
    with open_source(batch.keys, batch.partition_id, tokenizer, step, last):
        result = original(trainer, batch, *args, **kwargs)
    if step is not None and getattr(seen.loss_settings, "changes", False):
        result.extra_info[STEP] = int(step)
    return result


def _weighted(data: Any, call: dict) -> Any:
    """The batch with f-GRPO's softmax weights in its advantages, where the run's own estimator has just made them."""
    view = current_batch()
    if view is not None and view.run.softmax_weights and _name(call["adv_estimator"]) == view.run.estimator_name:
        if view.run.estimator is None or view.run.estimator.with_loss is None:  # f_hal puts them in itself
            from .estimators import apply_softmax_weights

            apply_softmax_weights(data)
    return data


def _refuse_sessions(view: Batch) -> None:
    """A loss that reads the whole answer stops at an answer of several rows: a worker sees one row of it."""
    if not view.sessions:
        return
    for method, settings in view.run.chosen:
        if "one_row" in method.all_needs(settings):
            session = Counter(key.rsplit("_", 1)[0] for key in view.row_keys or ()).most_common(1)[0]
            raise RuntimeError(
                f"{methods.KINDS[method.kind]}={method.name} reads whole answers, and session {session[0]} has {session[1]} "
                "rows, of which a worker sees one at a time: use algorithm.adv_estimator=frpo with a loss by token, or an "
                "agent loop that returns one output"
            )


def _check_once(seen: run.Run) -> None:
    """A trainer that never called `validate_config` is checked at its first advantage."""
    known = run.current()
    if (known is None or known.config is not seen.config) and seen.get("trainer") is not None:
        from .checks import check_config

        check_config(seen.config)
        run.remember(seen.config)
