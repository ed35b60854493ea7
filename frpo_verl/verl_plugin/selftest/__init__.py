"""Does verl still compute with the plugin what it did, and do the right numbers come out there?

Six toy rows go through verl's own functions in verl's own order, verl naming the columns. A version of verl whose sources
are unknown is judged by this, not by a hash. Not covered: real engines and sharding, the real TransferQueue, Ray workers
without the plugin, the asynchronous trainers.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable

import torch

from .. import metrics as pending
from .. import run
from . import driver, worker
from .toy import Mismatch, place_of

under_way = False

WORKER: dict[str, Callable[[], None]] = {
    "workers.utils.losses.ppo_loss": worker.loss_with_reference,
    "trainer.ppo.core_algos.agg_loss": worker.loss_of_tokens,
    "trainer.ppo.core_algos.kl_penalty_forward": worker.kl_of_the_loss,
    "workers.engine_workers.TrainingWorker.save_checkpoint": worker.broken_weights_refused,
}
ALL: dict[str, Callable[[], None]] = {
    "utils.config.validate_config": driver.settings_refused,
    "trainer.ppo.utils.need_reference_policy": driver.reference_wanted,
    "trainer.ppo.v1: PPOTrainer._compute_advantage": driver.v1_advantage,
    "trainer.ppo.v1: the responses and the tokenizer for steps": driver.v1_lines,
    "trainer.ppo.v1: compute_advantage of verl's own estimators": driver.other_estimators,
    "trainer.ppo: compute_advantage": driver.advantage_of_other_trainers,
    "trainer.ppo.metric_utils.bootstrap_metric": driver.bootstrap_digits,
    "trainer.ppo.v1.replay_buffer.ReplayBuffer": driver.answers_that_do_not_come,
    **WORKER,
}


@contextlib.contextmanager
def _undisturbed():
    """Leave random state, output and what the plugin knows of the process's run as they are."""
    before, kept = run.current(), pending.take()
    try:
        with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        run.forget() if before is None else run.remember(before.config)
        pending.take()
        pending.log(kept)


def run_selftest(checks: dict[str, Callable[[], None]] = ALL) -> list[str]:
    """One line for each place that does not do what it should: the place, what was expected, what came.

    Empty: passed, and also inside a self-test that is under way. It replaces four functions of transfer_queue for its
    length, so the driver's checks belong where no thread uses the queue yet.

    Args:
        checks: ALL or WORKER. A training worker runs WORKER: the rest imports the trainer.
    """
    global under_way
    if under_way:
        return []
    under_way = True
    failures = []
    try:
        with _undisturbed():
            for place, check in checks.items():
                try:
                    check()
                except Mismatch as mismatch:
                    failures.append(f"{place}: {mismatch}")
                except Exception as error:  # noqa: BLE001 - whatever verl does instead is the finding
                    text = " ".join(str(error).split())[:300]
                    failures.append(
                        f"{place}: expected the toy batch to pass, came {type(error).__name__}: {text}{place_of(error)}"
                    )
    finally:
        under_way = False
    return failures
