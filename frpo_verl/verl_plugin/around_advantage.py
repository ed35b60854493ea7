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
from .hooks import Call


def compute(call: Call) -> Any:
    """Around verl's `compute_advantage`: the batch is at hand while the estimator runs."""
    if current_batch() is not None:  # verl's session rule, or our estimator asking for the outcome
        return _weighted(call)
    return _advantages(call, _weighted)


def compute_by_session(call: Call) -> Any:
    """Around the V1 trainer's function: the rows' keys and verl's rule for sessions are at hand too."""
    return _advantages(call, Call.__call__, row_keys=list(call["batch_keys"]), session_rule=call.function)


def _advantages(call: Call, make: Callable[[Call], Any], **facts: Any) -> Any:
    with open_batch(call["data"], call["config"], **facts) as view:
        if not view.run.ours:
            return call()
        _check_once(view.run)
        _refuse_sessions(view)
        with clean(view):
            data = make(call)
        metrics.after_advantage(view)
    return data


def open_queue(call: Call) -> Any:
    """Around `PPOTrainer._compute_advantage`: what the trainer left in its queue can be fetched."""
    trainer, batch = call["self"], call["batch"]
    seen = run.Run(trainer.config)
    if not seen.ours:
        return call()
    missing_answers.count(seen, batch)
    tokenizer, step = getattr(trainer, "tokenizer", None), getattr(trainer, "global_steps", None)
    last = getattr(trainer, "total_training_steps", None)  # counted by the trainer where the setting is null
    with open_source(batch.keys, batch.partition_id, tokenizer, step, last):
        result = call()
    if step is not None and getattr(seen.loss_settings, "changes", False):
        result.extra_info[STEP] = int(step)
    return result


def _weighted(call: Call) -> Any:
    """The batch with f-GRPO's softmax weights in its advantages, where the run's own estimator has just made them."""
    data, view = call(), current_batch()
    if view is not None and view.run.softmax_weights and call["adv_estimator"] == view.run.estimator_name:
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
