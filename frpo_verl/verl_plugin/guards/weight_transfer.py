"""Needed until verl bounds its weight transfer (verl#7366): a rollout engine that has died is named, not waited for.

verl hands new weights to vLLM bucket by bucket over ZMQ and waits for each answer without a limit
(workers/rollout/vllm_rollout/bucketed_weight_transfer.py).
"""

from __future__ import annotations

import contextlib
import math
import os
from typing import Any

from ...methods.settings import ConfigError
from ..hooks import Call
from ..run import current_of_ours
from .waiting import RESUME

LIMIT_VARIABLE = "FRPO_VERL_WEIGHT_TRANSFER_TIMEOUT_S"


class RolloutEngineGone(RuntimeError):
    """The rollout engine did not take the new weights, or has left out answers."""


def limit_seconds() -> float | None:
    """Seconds that one bucket of weights may wait for its answer, from the variable (600 by default); None for 0: for ever.

    Raises ConfigError: the variable is no number >= 0.
    """
    text = os.getenv(LIMIT_VARIABLE, "").strip() or "600"
    with contextlib.suppress(ValueError):
        if 0 <= (seconds := float(text)) < math.inf:
            return seconds or None
    raise ConfigError(f"{LIMIT_VARIABLE}={text!r}: must be a number of seconds >= 0 (0 waits for ever); correct it")


def open_socket(call: Call) -> Any:
    """verl's `_init_socket`; the socket of a run of ours gets the time limit, and closes with messages unsent."""
    import zmq

    result = call()
    if current_of_ours() is not None and (seconds := limit_seconds()) is not None:
        socket = call["self"].socket
        for option in (zmq.SNDTIMEO, zmq.RCVTIMEO):
            socket.setsockopt(option, max(1, round(1000 * seconds)))
        socket.setsockopt(zmq.LINGER, 0)
    return result


async def send_weights(call: Call) -> Any:
    """verl's `async_send_weights`, with a sentence in the place of a wait without end.

    Raises RolloutEngineGone: a bucket had no answer within the limit.
    """
    import zmq

    try:
        return await call()
    except zmq.Again as error:
        raise RolloutEngineGone(
            f"the rollout engine did not take the new weights within {limit_seconds():g} s: its process has most likely "
            f"ended (look above for the first error of vLLM; memory is the usual cause). {RESUME}; {LIMIT_VARIABLE}=N waits N "
            "seconds, 0 for ever"
        ) from error
