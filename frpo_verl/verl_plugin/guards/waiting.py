"""Needed until verl bounds its wait for answers (verl#7155): a run whose answers stop coming ends, and says who is gone.

verl's replay buffer looks for finished answers in a loop without an end (trainer/ppo/v1/replay_buffer.py): a reward
function that hangs, or an agent loop whose process has died, leaves prompts that never finish.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..hooks import Call
from ..root_keys import number
from ..run import current_of_ours

LIMIT_KEY = "max_silence_s"
ASK_EVERY = 30.0  # seconds of silence between two questions who is still there
ENDLESS = "agent_loop_worker"  # verl's name of the actors without which a prompt is never finished, nor failed
RESUME = "Start the same command again to resume from the last checkpoint"


class NoAnswers(RuntimeError):
    """No answer comes any more."""


def actors() -> set[str]:
    """The names of verl's actors that are alive."""
    import ray

    return set(ray.util.list_named_actors()) if ray.is_initialized() else set()


@dataclass
class Silence:
    """How long no answer has come, and who was there before."""

    limit: float  # seconds
    who: Callable[[], set[str]] = actors
    now: Callable[[], float] = time.monotonic
    rows: frozenset[str] = frozenset()  # keys of the answers that were there last
    since: float | None = None
    asked: float = 0.0
    before: frozenset[str] = frozenset()

    def gone(self) -> str:
        """Who has ended, as the beginning of a sentence; empty for nobody."""
        names = sorted(self.before - self.who())
        return f"{', '.join(names)} ended" if names else ""

    def look(self, rows: frozenset[str], prompts: int) -> None:
        """Take note of the answers that are there now, while `prompts` wait for one.

        Raises NoAnswers: none has come for `limit` seconds, or the process is gone that the prompts wait for.
        """
        if self.since is None or rows != self.rows:
            if self.since is None:
                self.before = frozenset(self.who())
            self.rows, self.since = rows, self.now()
            self.asked = self.since
            return
        silent = self.now() - self.since
        if silent < self.limit and self.now() - self.asked < ASK_EVERY:
            return
        self.asked = self.now()
        gone = self.gone()
        if silent >= self.limit or ENDLESS in gone:
            cause = f"{gone} (look above for why; memory is the usual cause)" if gone else ""
            raise NoAnswers(
                f"no answer has come for {silent:.0f} s ({prompts} prompts unfinished): "
                f"{cause or 'the reward function, the rollout engine or a tool hangs'}. {RESUME}; {LIMIT_KEY}=N waits N "
                "seconds, 0 for ever"
            )


def look(call: Call) -> Any:
    """Around verl's `_sync_metadata_from_transfer_queue`, which every look for answers begins with."""
    result, buffer, run = call(), call["self"], current_of_ours()
    if run is not None and hasattr(buffer, "partitions") and hasattr(buffer, "running_keys"):
        if not hasattr(buffer, "frpo_silence"):
            buffer.frpo_silence = Silence(number(run, LIMIT_KEY) or math.inf)
        waiting = sum(map(len, buffer.running_keys.values())) + sum(map(len, buffer.pending_keys.values()))
        buffer.frpo_silence.look(frozenset(key for rows in buffer.partitions.values() for key in rows), waiting)
    return result


def sample(call: Call) -> Any:
    """Around verl's `ReplayBuffer.sample`: a batch without one answer is said as what it is, in validation too.

    Raises NoAnswers: every prompt of the batch failed.
    """
    if current_of_ours() is None:
        return call()
    buffer, validates, cause = call["self"], call["partition_id"] == "val", None
    try:
        batch, metrics = call()
        if batch.keys or not validates:
            return batch, metrics
    except RuntimeError as error:
        if isinstance(error, NoAnswers) or buffer.partitions.get(call["partition_id"]):
            raise
        cause = error
    gone = buffer.frpo_silence.gone() if hasattr(buffer, "frpo_silence") else ""
    raise NoAnswers(
        f"every answer of step {call['global_steps']}'s {'validation' if validates else 'training'} batch failed: "
        f"{gone or 'the reward function or the rollout engine failed'} (the first `Error in _run_prompt` above names it). {RESUME}"
    ) from cause
