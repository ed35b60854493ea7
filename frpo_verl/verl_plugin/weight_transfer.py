"""A rollout engine that died is noticed: weights are taken within a time, and rows that are missing are counted.

verl hands new weights to vLLM bucket by bucket over ZMQ and waits for each answer without a limit
(workers/rollout/vllm_rollout/bucketed_weight_transfer.py). When the engine has died, the prompts that it failed are
dropped, the batch is filled up with synthetic rows, and the trainer then waits for ever in the next transfer.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..settings import ConfigError
from .run import current

LIMIT_VARIABLE = "FRPO_VERL_WEIGHT_TRANSFER_TIMEOUT_S"
DEFAULT_LIMIT = 600.0
PADDED, MISSING = "frpo/padded_rows_share", "frpo/missing_answers_share"
WARN_ABOVE = 0.1


class RolloutEngineGone(RuntimeError):
    """The rollout engine did not take the new weights."""


def limit_seconds() -> float | None:
    """Seconds that one bucket of weights may wait for its answer; None waits for ever.

    Returns:
        The number in FRPO_VERL_WEIGHT_TRANSFER_TIMEOUT_S, None for 0; 600 where it is not set.

    Raises:
        ConfigError: the variable is no number >= 0.
    """
    text = os.getenv(LIMIT_VARIABLE, "").strip()
    if not text:
        return DEFAULT_LIMIT
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ConfigError(f"{LIMIT_VARIABLE}={text!r}: must be a number of seconds >= 0 (0 waits for ever); correct it")
    return seconds or None


def bound_waiting(sender) -> None:
    """Give the socket of verl's BucketedWeightSender the time limit, and let it close with messages unsent."""
    import zmq

    seconds = limit_seconds()
    if seconds is None:
        return
    milliseconds = max(1, round(1000 * seconds))
    for option in (zmq.SNDTIMEO, zmq.RCVTIMEO):
        sender.socket.setsockopt(option, milliseconds)
    sender.socket.setsockopt(zmq.LINGER, 0)


def open_socket(original: Callable, sender: Any, args: tuple, kwargs: dict) -> Any:
    """verl's `_init_socket`, with the limit on the socket that it opens, for runs of ours."""
    result = original(sender, *args, **kwargs)
    run = current()
    if run is not None and run.ours:
        bound_waiting(sender)
    return result


async def send_weights(original, sender, *args, **kwargs):
    """verl's `async_send_weights`, with a sentence in the place of a wait without end.

    Raises:
        RolloutEngineGone: a bucket had no answer within the limit.
    """
    import zmq

    try:
        return await original(sender, *args, **kwargs)
    except zmq.Again as error:
        raise RolloutEngineGone(
            f"the rollout engine did not take the new weights within {limit_seconds():g} s: its process has most likely "
            "ended (look above for the first error of vLLM; memory is the usual cause). Start the same command again to "
            f"resume from the last checkpoint; {LIMIT_VARIABLE}=N waits N seconds, 0 for ever"
        ) from error


def missing_answers(keys: Sequence[str], tags: Sequence[Mapping], wanted: int | None) -> dict[str, float]:
    """Shares of a training batch that no rollout has written.

        padded rows = rows that verl made up / all rows,      missing answers = 1 - sessions / wanted, at least 0

    Args:
        keys: `{uid}_{session}_{output}` of each row.
        tags: verl's tag of each row; `is_padding` marks a synthetic one.
        wanted: answers that the step asked for (prompts times n), None where the trainer takes what is there.

    Returns:
        The two metrics by name; the second only with `wanted`.
    """
    padded = [bool(tag.get("is_padding", False)) for tag in tags]
    metrics = {PADDED: sum(padded) / max(1, len(padded))}
    if wanted:
        sessions = {key.rsplit("_", 1)[0] for key, synthetic in zip(keys, padded, strict=True) if not synthetic}
        metrics[MISSING] = max(0.0, 1.0 - len(sessions) / wanted)
    return metrics


def judge_missing_answers(metrics: Mapping[str, float], highest: float, key: str) -> str | None:
    """A warning for a batch with many answers missing, None for a whole one.

    Padding alone says nothing: verl also fills a whole batch up to a multiple of its ranks.

    Args:
        metrics: from `missing_answers`.
        highest: share above which the run stops, 1 never stops it.
        key: the setting that `highest` comes from, for the message.

    Raises:
        RolloutEngineGone: the share is above `highest`.
    """
    share = metrics.get(MISSING, 0.0)
    cause = "the rollout engine failed or dropped them (look above for its first error)"
    if share > highest:
        raise RolloutEngineGone(
            f"{share:.0%} of the answers in this batch are missing: {cause}; {key}={highest:g} stops the run here, raise it "
            "to go on"
        )
    return f"frpo_verl: {share:.0%} of the answers in this batch are missing: {cause}" if share > WARN_ABOVE else None
